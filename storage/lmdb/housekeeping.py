"""Bounded chores that ride in commits or fill idle moments: releasing dropped layers, deleting obsolete log rows,
writing the checkpoint, and choosing sparse chunks to rewrite.

A step works in a write transaction and reports what it did; memory follows only after that transaction was committed
(`done`). All of it is recomputed at opening, so a crash loses no chore.
"""

import logging
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from storage.errors import RowDamaged
from storage.lmdb.lookup import NodeId
from storage.lmdb.recovery import Recovered
from storage.lmdb.tables import NodeTable, Tables, Txn
from storage.rows.chunks import LOG_KEY
from storage.rows.format import U64
from storage.rows.nodes import NODE_KEY, decode_node, encode_node

_log = logging.getLogger(__name__)

CLOSING: Final = 0
IDLE: Final = 1
BUSY: Final = 4
NEVER: Final = 1 << 62
"""How patient housekeeping is: a chore is put off until this many times what makes it worth while has gathered."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How much may gather, and how much one step does. Tests make these small."""

    nodes_max: int = 65536
    """Nodes of the page maps kept in memory, about 2 KiB each; one covers 256 pages."""
    tail_entries: int = 4096
    """Pages and drops in the log behind the checkpoint that are worth writing one in an idle moment."""
    obsolete_rows: int = 16
    """Dead chunks, and drop records before the checkpoint, that are worth deleting."""
    slack_pages: int = 1024
    """LMDB pages that chunks may waste, beside a third of what is live, before sparse ones are rewritten."""
    step_rows: int = 64
    """Rows that one step writes or deletes."""
    step_chunks: int = 4
    """Full chunks that one step of rewriting makes."""


@dataclass(slots=True)
class Chores:
    """What the housekeeping of one transaction did."""

    released: list[U64] = field(default_factory=list)
    exhumed: list[NodeId] = field(default_factory=list)
    buried: set[int] = field(default_factory=set)
    removed: list[int] = field(default_factory=list)
    forgotten: int = 0
    passed: int = 0
    cleaned: list[NodeId] = field(default_factory=list)
    checkpoint: int | None = None


@dataclass(slots=True)
class Round:
    """A checkpoint under way. When all of `nodes` are written and all `dying` layers released, the nodes contain
    the log up to `until`."""

    until: int
    nodes: deque[NodeId]
    dying: set[int]
    entries: int = 0
    """Entries that the log gained since the round began."""


class Housekeeper:
    """Chooses and does the chores. Used by the committing thread alone."""

    def __init__(self, tables: Tables, found: Recovered, tuning: Tuning) -> None:
        self._tables = tables
        self._locations = found.locations
        self._live = found.live
        self._tuning = tuning
        self._drop_lsns = list(found.drop_lsns)
        self._checkpoint = found.state.checkpoint
        self._tail = found.tail_entries
        self._round: Round | None = None

    @property
    def tail_entries(self) -> int:
        """Pages and drops in the log behind the checkpoint."""
        return self._tail

    def due(self, patience: int) -> bool:
        """Whether a step has something to do."""
        due = (self._release_due, self._delete_due, self._checkpoint_due)
        return any(is_due(patience) for is_due in due)

    def rewrite_due(self, patience: int) -> bool:
        """Whether sparse chunks waste too much."""
        live = self._live.live_cost()
        return self._live.cost - live > (live / 3 + self._tuning.slack_pages) * patience

    def _release_due(self, patience: int) -> bool:
        return len(self._locations.dead) >= max(patience, 1)

    def _delete_due(self, patience: int) -> bool:
        obsolete = len(self._live.dead) + bisect_right(self._drop_lsns, self._checkpoint)
        return obsolete >= (self._tuning.obsolete_rows if patience else 1) and patience != NEVER

    def _checkpoint_due(self, patience: int) -> bool:
        waiting = max(self._tail, self._locations.dirty_count())
        if self._round is not None and patience <= 1:
            return True
        return waiting >= max(self._tuning.tail_entries * patience, 1)

    # --- in the transaction

    def step(self, txn: Txn, last_lsn: int, patience: int) -> Chores:
        """Do a bounded part of what is due. `last_lsn` ends the log as it was before this transaction."""
        chores = Chores()
        if self._release_due(patience):
            self._release_dead(txn, chores)
        if self._delete_due(patience):
            self._delete_rows(txn, chores)
        if self._checkpoint_due(patience):
            self._write_checkpoint(txn, last_lsn, chores)
        return chores

    def _release_dead(self, txn: Txn, chores: Chores) -> None:
        """Delete node rows of layers that are gone, and give back what those nodes point to."""
        table = NodeTable(self._tables, txn)
        room = self._tuning.step_rows
        for layer, held in self._locations.dead.items():
            rows = table.rows(layer, room)
            for number, row in rows.items():
                self._release(chores, layer, number, held.get(number), row)
                txn.delete(NODE_KEY.pack(layer, number), db=self._tables.nodes)
            room -= len(rows)
            rowless = list(islice((number for number in held if number not in rows), room))
            for number in rowless:
                self._release(chores, layer, number, held[number], b"")
            room -= len(rowless)
            if not room:
                return
            chores.buried.add(layer)

    def _release(self, chores: Chores, layer: int, number: int, node: U64 | None, row: bytes) -> None:
        try:
            released = decode_node(NODE_KEY.pack(layer, number), row) if node is None else node
            chores.released.append(released)
        except RowDamaged as damage:
            _log.warning("node %d of layer %d, which is gone, is damaged: %s", number, layer, damage)
        chores.exhumed.append((layer, number))

    def _delete_rows(self, txn: Txn, chores: Chores) -> None:
        """Delete chunks without a live page, and drop records that the checkpoint contains."""
        for lsn in islice(self._live.dead, self._tuning.step_rows):
            txn.delete(LOG_KEY.pack(lsn, self._live.slots(lsn)), db=self._tables.log)
            chores.removed.append(lsn)
        chores.forgotten = min(bisect_right(self._drop_lsns, self._checkpoint), self._tuning.step_rows)
        for lsn in self._drop_lsns[: chores.forgotten]:
            txn.delete(LOG_KEY.pack(lsn, 0), db=self._tables.log)

    def _write_checkpoint(self, txn: Txn, last_lsn: int, chores: Chores) -> None:
        """Write nodes as they are now. The last step of a round records how far the log is contained in them."""
        if self._round is None:
            self._round = Round(last_lsn, deque(self._locations.dirty()), set(self._locations.dead))
        current = self._round
        # The more nodes are dirty, the more each step writes, so that no load can outrun it.
        room = max(self._tuning.step_rows, self._locations.dirty_count() // self._tuning.step_rows)
        for layer, number in islice(current.nodes, room):
            chores.passed += 1
            node = self._locations.dirty_node(layer, number)
            if node is None:
                # Its row may be as old as the last round: it has to be deleted before this one can end.
                current.dying.update({layer} & self._locations.dead.keys())
                continue
            key = NODE_KEY.pack(layer, number)
            if node.any():
                txn.put(key, encode_node(key, node), db=self._tables.nodes)
            else:
                txn.delete(key, db=self._tables.nodes)
            chores.cleaned.append((layer, number))
        dying = current.dying & self._locations.dead.keys() - chores.buried
        if chores.passed == len(current.nodes) and not dying:
            chores.checkpoint = current.until

    # --- after it was committed

    def done(self, chores: Chores) -> None:
        """Let memory follow."""
        if chores.exhumed or chores.buried:
            self._live.release(chores.released)
            self._locations.exhumed(chores.exhumed, chores.buried)
        self._live.remove(chores.removed)
        del self._drop_lsns[: chores.forgotten]
        if chores.cleaned:
            self._locations.cleaned(chores.cleaned)
        if self._round is not None:
            for _ in range(chores.passed):
                self._round.nodes.popleft()
        if self._round is not None and chores.checkpoint is not None:
            self._checkpoint = chores.checkpoint
            self._tail = self._round.entries
            self._round = None

    def logged(self, entries: int, drop_lsn: int | None) -> None:
        """The log gained pages and drops; the drops are in the record `drop_lsn`."""
        self._tail += entries
        if self._round is not None:
            self._round.entries += entries
        if drop_lsn is not None:
            self._drop_lsns.append(drop_lsn)
