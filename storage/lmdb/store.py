"""The store on LMDB: an append-only log of chunks, page maps that follow it, and rows for what has a name.

A commit appends the pages of a whole group as few chunks, preceded by a record of what the group drops; the page maps
in memory follow, and their rows are brought up to date later by a checkpoint. So a durable commit of n random pages is
n/63 large puts, not n scattered ones. See docs/format.md for the layout and for why replaying the log is safe.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

import lmdb
import numpy as np

from engine.changes import Change, Image
from storage.errors import StoreError, StoreFailed, StoreFull
from storage.failpoints import failpoint, killpoint
from storage.lmdb.catalog import put_rows, read_image
from storage.lmdb.changeset import ChangeSet, Owners, net_effect, objects_of
from storage.lmdb.headroom import Headroom
from storage.lmdb.housekeeping import BUSY, CLOSING, IDLE, NEVER, Chores, Housekeeper, Tuning
from storage.lmdb.locations import Patch, Placed
from storage.lmdb.measuring import measured
from storage.lmdb.merging import Merger
from storage.lmdb.meta_pages import take_back
from storage.lmdb.reader import Reader
from storage.lmdb.recovery import Recovered
from storage.lmdb.rewriting import Rewriter
from storage.lmdb.tables import NodeTable, Tables, Txn, named_errors
from storage.rows.chunks import (
    LOG_KEY,
    OVERFLOW_PAGE,
    Drop,
    chunk_cost,
    chunk_slots,
    encode_chunk,
    encode_drops,
)
from storage.rows.format import STATE_KEY, U64, Bytes, State, Superblock
from storage.rows.nodes import SLOT_BITS
from storage.statistics import Statistics

_log = logging.getLogger(__name__)

ROW_BYTES: Final = 512
"""What a row of the catalog takes, with its share of a page."""
CLOSING_STEPS_MAX: Final = 256
"""Checkpoint steps that closing takes; what is left is replayed at the next opening."""


@dataclass(slots=True)
class Staged:
    """What a write transaction did, for memory to follow once it is committed."""

    patch: Patch
    last_lsn: int
    drop_lsn: int | None = None
    chunks: list[tuple[int, int]] = field(default_factory=list)
    """(lsn, slots)."""


class Opening(Protocol):
    """Opens the environment again, for reading only if told so. Raises StoreUnusable."""

    def __call__(self, *, readonly: bool) -> lmdb.Environment: ...


class LmdbStore:
    """A `storage.store.Store`. Made by `storage.open_store`, which owns the directory's lock."""

    def __init__(
        self,
        tables: Tables,
        superblock: Superblock,
        found: Recovered,
        headroom: Headroom,
        opening: Opening,
        release: Callable[[], None],
        tuning: Tuning,
    ) -> None:
        self._tables = tables
        self._opening = opening
        self._superblock = superblock
        self._locations = found.locations
        self._live = found.live
        self._state = found.state
        self._last_lsn = found.last_lsn
        self._headroom = headroom
        self._release = release
        self._housekeeper = Housekeeper(tables, found, tuning)
        self._rewriter = Rewriter(tables, found, superblock.page_size, tuning)
        self._merger = Merger(tables, found, superblock.page_size, tuning)
        self._merges = False
        """Whether the last step of housekeeping merged layers: it takes turns with rewriting."""
        self._owners = Owners()
        self._closed = False
        self._behind = False
        """Whether something was committed that memory has not followed."""
        self._undecided: int | None = None
        """After a commit that failed at its end: the transaction before it, to which the file has to be taken back."""
        self._failing: StoreError | None = None
        self._size = 0
        """Bytes of the last write that was tried."""
        self._writing = threading.Lock()
        """Held by commit, maintain and close. Lock order: _writing > _committing > the map's own lock."""
        self._committing = threading.Lock()
        """Held from the commit of the write transaction until memory has followed it."""
        self._reader = Reader(
            tables,
            found.locations,
            self._committing,
            lambda object_id, page: self._owners.tell(object_id, page, superblock.page_size),
        )
        image = self.load()
        self._owners.spaces.update((record.vid, objects_of(record)) for record in image.spaces)
        self._owners.segments.update((record.sid, objects_of(record)) for record in image.segments)
        for owned in (*self._owners.spaces.values(), *self._owners.segments.values()):
            self._owners.objects.update(owned)

    # --- reading

    def load(self) -> Image:
        """See `Store.load`."""
        with named_errors("reading the records"), self._tables.read() as txn:
            return read_image(self._tables, txn, self._superblock, self._state)

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        """See `Store.fetch`."""
        return self._reader.fetch(object_id, pages)

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        """See `Store.stored_pages`."""
        return self._reader.stored_pages(object_id, first, count)

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        """See `Store.usage`."""
        return self._reader.usage(objects)

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        """See `Store.differing`."""
        return self._reader.differing(a, b, first, count)

    def pages_held(self, objects: Sequence[int]) -> int:
        """See `Store.pages_held`."""
        return self._reader.pages_held(objects)

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        """See `Store.pages_new`."""
        return self._reader.pages_new(object_id, pages)

    @property
    def tables(self) -> Tables:
        """To be read beside the store, in short transactions."""
        return self._tables

    def statistics(self) -> Statistics:
        """See `Store.statistics`."""
        with named_errors("reading statistics"):
            return measured(
                self._tables,
                self._locations.layers,
                self._live,
                tail_entries=self._housekeeper.tail_entries,
                last_lsn=self._last_lsn,
            )

    # --- writing

    @property
    def failing(self) -> StoreError | None:
        """See `Store.failing`."""
        return self._failing

    def probe(self) -> None:
        """See `Store.probe`."""
        with self._writing:
            self._require_open()
            if self._failing is not None:
                self._write(self._net_effect([]), NEVER, probing=True)

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        """See `Store.commit`."""
        with self._writing:
            self._require_open()
            group = self._net_effect(transactions)
            try:
                self._write(group, BUSY)
            except StoreFull:
                # Perhaps the chores took the room: a group that only deletes must go through on a full disk.
                if group.puts or group.receipt_bytes or not self._housekeeper.due(BUSY):
                    raise
                self._write(group, NEVER)

    def _net_effect(self, transactions: Sequence[Sequence[Change]]) -> ChangeSet:
        return net_effect(
            transactions, self._superblock.page_size, self._state, self._owners, self._locations.layers
        )

    def _write(self, group: ChangeSet, patience: int, *, probing: bool = False) -> None:
        """Commit a group and the chores that ride with it; memory follows. Keeps note of whether writing works."""
        needs_room = bool(group.puts or group.receipt_bytes or probing)
        try:
            if self._undecided is not None:
                self._take_back()
            self._write_group(group, patience, needs_room=needs_room, probing=probing)
        except StoreError as error:
            self._failing = error
            if self._undecided is not None:
                with suppress(StoreError):
                    self._take_back()
            raise
        if needs_room or not isinstance(self._failing, StoreFull):
            self._failing = None
        killpoint("commit.published")

    def _write_group(self, group: ChangeSet, patience: int, *, needs_room: bool, probing: bool) -> None:
        failpoint("commit.begin")
        size = self._size = self._size if probing else _size(group)
        self._headroom.secure(size, puts_pages=needs_room)
        with named_errors("committing", lacks_room=partial(self._headroom.lacks, size)):
            txn = self._tables.write()
            try:
                staged = self._stage(txn, group)
                chores = self._housekeeper.step(txn, self._last_lsn, patience)
                state = group.state
                if chores.checkpoint is not None:
                    state = replace(state, checkpoint=chores.checkpoint)
                if state != self._state or probing:
                    txn.put(STATE_KEY, state.encode(), db=self._tables.meta)
                failpoint("commit.housekept")
                with self._committing:
                    self._undecided = txn.id() - 1
                    txn.commit()
                    self._undecided, self._behind = None, True
                    killpoint("commit.synced")
                    self._follow(group, staged, chores, state)
                    self._behind = False
            except BaseException:
                txn.abort()
                raise

    def _take_back(self) -> None:
        """Settle that a commit that failed at its end never was, on the disk too, and begin with LMDB anew.

        Raises StoreFailed as long as the disk refuses; reading goes on even then, if it can.
        """
        transaction = self._undecided
        path, page_bytes = self._tables.path, self._headroom.page_bytes

        def as_before() -> lmdb.Environment:
            take_back(path, page_bytes, transaction or 0)
            failpoint("recover.taken_back")
            return self._opening(readonly=False)

        try:
            with named_errors("opening the store again"):
                self._tables.reopen(as_before)
        except StoreError as error:
            with named_errors("opening the store for reading"):
                self._tables.reopen(partial(self._opening, readonly=True))
            raise StoreFailed(f"the store can only be read: {error}") from error
        self._undecided = None
        _log.warning("a commit failed; the store is as before it")

    def _stage(self, txn: Txn, group: ChangeSet) -> Staged:
        """Write a group's rows and append its pages to the log."""
        ordered = {layer: sorted(contents) for layer, contents in sorted(group.puts.items()) if contents}
        puts = {layer: np.array(pages, np.uint64) for layer, pages in ordered.items()}
        rows = NodeTable(self._tables, txn)
        drops = [*self._hiding(group, puts, rows), *group.moved]
        staged = Staged(self._locations.prepare(drops, puts, rows), self._last_lsn)
        staged.patch.layers = group.layers
        if staged.patch.drops:
            staged.drop_lsn = staged.last_lsn = staged.last_lsn + 1
            _append(self._tables, txn, encode_drops(staged.last_lsn, staged.patch.drops))
        failpoint("commit.drops_put")
        if puts:
            contents = [group.puts[layer][page] for layer, pages in ordered.items() for page in pages]
            self._append_chunks(txn, staged, puts, contents)
        failpoint("commit.chunks_put")
        put_rows(self._tables, txn, group)
        failpoint("commit.rows_put")
        if group.moved:
            failpoint("merge.staged")
        return staged

    def _hiding(self, group: ChangeSet, puts: dict[int, U64], rows: NodeTable) -> Iterator[Drop]:
        """The drops of a group, such that nothing is seen through them."""
        for drop in group.drops:
            ancestors = [] if drop.is_whole else group.layers.ancestors(drop.layer)
            if ancestors:
                yield from self._locations.hiding(drop, ancestors, puts, rows)
            else:
                yield drop

    def _append_chunks(
        self, txn: Txn, staged: Staged, puts: dict[int, U64], contents: Sequence[Bytes]
    ) -> None:
        layers = np.repeat(np.array(list(puts), np.uint64), [len(pages) for pages in puts.values()])
        pages = np.concatenate(list(puts.values()))
        locations = np.empty(len(pages), np.uint64)
        slots_max = chunk_slots(self._superblock.page_size)
        for low in range(0, len(pages), slots_max):
            part = slice(low, min(low + slots_max, len(pages)))
            staged.last_lsn += 1
            _append(
                self._tables, txn, encode_chunk(staged.last_lsn, layers[part], pages[part], contents[part])
            )
            slots = part.stop - low
            staged.chunks.append((staged.last_lsn, slots))
            locations[part] = np.arange(slots, dtype=np.uint64) | np.uint64(staged.last_lsn << SLOT_BITS)
        low = 0
        for layer, own in puts.items():
            staged.patch.placed.append(Placed(layer, own, locations[low : low + len(own)]))
            low += len(own)

    def _follow(self, group: ChangeSet, staged: Staged, chores: Chores, state: State) -> None:
        """Bring memory up to what was committed."""
        self._housekeeper.done(chores)
        for lsn, slots in staged.chunks:
            self._live.add(lsn, slots, slots)
        self._live.release(self._locations.publish(staged.patch))
        entries = len(staged.patch.drops) + sum(slots for _, slots in staged.chunks)
        self._housekeeper.logged(entries, staged.drop_lsn)
        self._owners.update(group)
        self._last_lsn = staged.last_lsn
        self._state = state

    # --- housekeeping

    def maintain(self, *, urgent_only: bool = False) -> bool:
        """See `Store.maintain`."""
        patience = BUSY if urgent_only else IDLE
        with self._writing:
            self._require_open()
            if not urgent_only and self._failing is None:
                self._forget_dead_readers()
            group = self._moves(patience)
            if not group.moves and not self._housekeeper.due(patience):
                return self._merger.due(patience)
            failing, size = self._failing, self._size
            try:
                self._write(group, patience)
            except StoreFull:
                # A chore that finds no room says nothing of commits. Moving pages needs room first; forgetting hidden
                # ones and the other chores give it back.
                self._failing, self._size = failing, size
                if not group.moves:
                    raise
                group = self._net_effect([])
                with named_errors("reading page maps"), self._tables.read() as txn:
                    self._merger.forget(txn, group)
                if not group.moves and not self._housekeeper.due(patience):
                    raise
                self._write(group, patience)
            return any(
                due(patience)
                for due in (self._housekeeper.due, self._housekeeper.rewrite_due, self._merger.due)
            )

    def _forget_dead_readers(self) -> None:
        """Let no process that was killed while it read, a backup perhaps, hold on to pages."""
        with named_errors("looking for readers that died"):
            self._tables.env.reader_check()

    def rewrite(self, lsns: Sequence[int]) -> None:
        """Put the pages of these chunks that are in use again, so that the chunks can go. Raises as `commit`.

        A chunk in which a page in use is damaged stays as it is.
        """
        with self._writing:
            self._require_open()
            group = self._net_effect([])
            with named_errors("reading pages to move"), self._tables.read() as txn:
                group.puts = self._rewriter.gather_of(txn, lsns)
            if group.moves:
                self._write(group, BUSY)

    def has_chunk(self, lsn: int) -> bool:
        """Whether the log has this chunk."""
        return lsn in self._live

    def _moves(self, patience: int) -> ChangeSet:
        """Pages that are worth putting again: for a merge of layers or out of sparse chunks, by turns."""
        group = self._net_effect([])
        rewrites = self._housekeeper.rewrite_due(patience)
        self._merges = self._merger.due(patience) and not (rewrites and self._merges)
        if self._merges or rewrites:
            with named_errors("reading pages to move"), self._tables.read() as txn:
                if self._merges:
                    self._merger.gather(txn, group)
                else:
                    group.puts = self._rewriter.gather(txn)
        return group

    def close(self) -> None:
        """See `Store.close`. Writes a checkpoint, so that the next opening has little to replay."""
        with self._writing:
            if self._closed:
                return
            try:
                steps = 0
                while not self._behind and steps < CLOSING_STEPS_MAX and self._housekeeper.due(CLOSING):
                    self._write(self._net_effect([]), CLOSING)
                    steps += 1
            except StoreError as error:
                _log.warning("no checkpoint at closing: %s", error)
            finally:
                self._closed = True
                self._headroom.close()
                self._tables.env.close()
                self._release()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreFailed("the store is closed")
        if self._behind:
            raise StoreFailed("memory did not follow the last commit; open the store again")


def _size(group: ChangeSet) -> int:
    """Bytes that a group adds to the file, about; whole pages."""
    pages = sum(map(len, group.puts.values()))
    chunks = -(-pages // chunk_slots(group.page_size)) * chunk_cost(
        chunk_slots(group.page_size), group.page_size
    )
    tables = (
        group.space_rows,
        group.segment_rows,
        group.region_rows,
        group.birth_rows,
        group.root_rows,
        group.receipt_rows,
    )
    rows = sum(map(len, tables)) + len(group.layers.objects) + len(group.layers.parents)
    rows += len(group.drops) + len(group.moved)
    return (chunks - (-(rows * ROW_BYTES + group.receipt_bytes) // OVERFLOW_PAGE)) * OVERFLOW_PAGE


def _append(tables: Tables, txn: Txn, row: tuple[bytes, bytes]) -> None:
    """Put the last row of the log."""
    if not txn.put(*row, append=True, db=tables.log):
        raise StoreFailed(f"log row {LOG_KEY.unpack(row[0])[0]} is not the last one")
