"""Reading pages and page maps beside the thread that commits."""

import threading
from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np

from storage.errors import RowDamaged, StoreFailed
from storage.lmdb.comparing import differing, usage
from storage.lmdb.lookup import Lookup
from storage.lmdb.tables import NodeTable, Tables, find_chunk, named_errors
from storage.rows.chunks import Chunk
from storage.rows.format import NODE_SHIFT, U64
from storage.rows.nodes import SLOT_BITS, SLOT_MASK


class Reader:
    """What a store answers from any thread. `committing` is held while memory follows a commit.

    `tell` says for people which page of an object it is.
    """

    def __init__(
        self,
        tables: Tables,
        locations: Lookup,
        committing: threading.Lock,
        tell: Callable[[int, int], str],
    ) -> None:
        self._tables = tables
        self._locations = locations
        self._committing = committing
        self._tell = tell

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        """See `Store.fetch`."""
        wanted = np.unique(np.array(pages, np.uint64))
        if not len(wanted):
            return {}
        with named_errors("reading pages"):
            found = self._read(object_id, wanted, alone=False)
            if found is None:
                # A commit was between its transaction and its memory, or has moved what was looked up: wait for it.
                with self._committing:
                    found = self._read(object_id, wanted, alone=True)
        return found or {}

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        """See `Store.stored_pages`."""
        with named_errors("reading the page map"):
            found = self._existing(object_id, first, count)
            if found is None:
                with self._committing:
                    found = self._existing(object_id, first, count)
        if found is None:
            raise StoreFailed(f"the page map of object {object_id} does not come to rest")
        return [int(page) for page in found.tolist()]

    def _existing(self, object_id: int, first: int, count: int) -> U64 | None:
        epoch = self._locations.epoch
        with self._tables.read() as txn:
            return self._locations.existing(object_id, first, count, NodeTable(self._tables, txn), epoch)

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        """See `Store.usage`."""
        logical = shared = 0
        first: int | None = 0
        while first is not None:  # no commit waits for longer than one part takes
            with named_errors("reading page maps"), self._committing, self._tables.read() as txn:
                rows = NodeTable(self._tables, txn)
                more, of_them, first = usage(self._locations, objects, first, rows)
            logical, shared = logical + more, shared + of_them
        return logical, shared

    def pages_held(self, objects: Sequence[int]) -> int:
        """See `Store.pages_held`."""
        return self._locations.pages_held(objects)

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        """See `Store.pages_new`."""
        wanted = np.array(pages, np.uint64)
        with named_errors("reading the page map"):
            found = self._pages_new(object_id, wanted)
            if found is None:
                with self._committing:
                    found = self._pages_new(object_id, wanted)
        if found is None:
            raise StoreFailed(f"the page map of object {object_id} does not come to rest")
        return found

    def _pages_new(self, object_id: int, pages: U64) -> int | None:
        epoch = self._locations.epoch
        with self._tables.read() as txn:
            return self._locations.pages_new(object_id, pages, NodeTable(self._tables, txn), epoch)

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        """See `Store.differing`."""
        pages: list[int] = []
        low: int | None = first >> NODE_SHIFT
        high = (first + count - 1) >> NODE_SHIFT
        while low is not None:
            with named_errors("reading page maps"), self._committing, self._tables.read() as txn:
                found, low = differing(self._locations, (a, b), low, high, NodeTable(self._tables, txn))
            pages += found
        return [page for page in pages if first <= page < first + count]

    def _read(self, object_id: int, pages: U64, *, alone: bool) -> dict[int, bytes] | None:
        """The pages that exist. None when map and transaction may not belong together, unless `alone`."""
        epoch = self._locations.epoch
        with self._tables.read() as txn:
            located = self._locations.locate(object_id, pages, NodeTable(self._tables, txn), epoch)
            if located is None:
                return None
            locations, layer, layers = located
            present = np.flatnonzero(locations)
            order = present[np.argsort(locations[present])]
            owners = repeat(layer, len(order)) if layers is None else layers[order].tolist()
            found: dict[int, bytes] = {}
            chunk: Chunk | None = None
            chunk_lsn = 0
            for page, location, own in zip(
                pages[order].tolist(), locations[order].tolist(), owners, strict=True
            ):
                lsn, slot = location >> SLOT_BITS, location & SLOT_MASK
                try:
                    if lsn != chunk_lsn:
                        chunk, chunk_lsn = find_chunk(self._tables, txn, lsn), lsn
                    if chunk is None:
                        if not alone:
                            return None
                        raise RowDamaged(f"chunk {lsn} is missing")
                    found[page] = chunk.content(slot, own, page)
                except RowDamaged as damage:
                    raise StoreFailed(
                        f"page {page} of object {object_id} is damaged: {damage}{self._tell(object_id, page)}",
                        object_id=object_id,
                        page=page,
                    ) from damage
            return found
