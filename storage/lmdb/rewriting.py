"""Rewriting of sparse chunks: their live pages are put again, unchanged, into full ones, and they die by that."""

import logging
from collections.abc import Iterable

import numpy as np

from storage.errors import RowDamaged
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.recovery import Recovered
from storage.lmdb.tables import NodeTable, Tables, Txn, find_chunk
from storage.rows.chunks import Chunk, chunk_cost, chunk_slots
from storage.rows.format import Bytes
from storage.rows.nodes import SLOT_BITS

_log = logging.getLogger(__name__)


class Rewriter:
    """Chooses the pages to put again. Used by the committing thread alone."""

    def __init__(self, tables: Tables, found: Recovered, page_size: int, tuning: Tuning) -> None:
        self._tables = tables
        self._locations = found.locations
        self._live = found.live
        self._page_size = page_size
        self._step_pages = tuning.step_chunks * chunk_slots(page_size)
        self._damaged: set[int] = set()

    def gather_of(self, txn: Txn, lsns: Iterable[int]) -> dict[int, dict[int, Bytes]]:
        """Live pages of these chunks, by layer and page, but of those in which a live page is damaged."""
        pages: dict[int, dict[int, Bytes]] = {}
        for lsn in lsns:
            for layer, page, content in self._read(txn, lsn)[1]:
                pages.setdefault(layer, {})[page] = content
        return pages

    def _read(self, txn: Txn, lsn: int) -> tuple[int, list[tuple[int, int, bytes]]]:
        """Slots of a chunk, and (layer, page, content) of its live pages; no slots when it is damaged, for good."""
        try:
            chunk = find_chunk(self._tables, txn, lsn)
            if chunk is None:
                raise RowDamaged("it is missing")
            return chunk.slots, self._live_pages(txn, lsn, chunk)
        except RowDamaged as damage:
            self._damaged.add(lsn)
            _log.error("chunk %d is damaged and stays as it is: %s", lsn, damage)
            return 0, []

    def gather(self, txn: Txn) -> dict[int, dict[int, Bytes]]:
        """Live pages of the sparsest chunks, by layer and page; empty when putting them again would gain nothing."""
        pages: dict[int, dict[int, Bytes]] = {}
        gathered = cost = 0
        for lsn in self._live.sparsest(self._step_pages, self._damaged):
            if gathered >= self._step_pages:
                break
            slots, own = self._read(txn, lsn)
            cost += chunk_cost(slots, self._page_size) if slots else 0
            for layer, page, content in own:
                pages.setdefault(layer, {})[page] = content
            gathered += len(own)
        full = chunk_slots(self._page_size)
        new_cost = gathered // full * chunk_cost(full, self._page_size)
        if gathered % full:
            new_cost += chunk_cost(gathered % full, self._page_size)
        return pages if new_cost < cost else {}

    def _live_pages(self, txn: Txn, lsn: int, chunk: Chunk) -> list[tuple[int, int, bytes]]:
        """(layer, page, content) of the slots that are still some page's location."""
        rows = NodeTable(self._tables, txn)
        live: list[tuple[int, int, bytes]] = []
        for layer in np.unique(chunk.layers).tolist():
            slots = np.flatnonzero(chunk.layers == layer)
            slots = slots[np.argsort(chunk.pages[slots])]
            current = self._locations.current(layer, chunk.pages[slots], rows)
            own = slots.astype(np.uint64) | np.uint64(lsn << SLOT_BITS)
            for slot in slots[current == own].tolist():
                page = int(chunk.pages[slot])
                live.append((layer, page, chunk.content(slot, layer, page)))
        return live
