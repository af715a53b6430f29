"""Merging of layers: where one layer alone stands on another, and no object does, the two become one.

Pages and holes of the smaller side are put again under the other's id, a few nodes at a time, and each step is a
commit after which every object reads as before. When a side has nothing left, it goes and the other takes its place.
"""

import logging
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from storage.errors import RowDamaged, StoreFailed
from storage.lmdb.changeset import ChangeSet
from storage.lmdb.comparing import LAST_NODE
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.locations import stretches
from storage.lmdb.recovery import Recovered
from storage.lmdb.tables import NodeTable, Tables, Txn, find_chunk
from storage.rows.chunks import WHOLE_LAYER, Chunk, Drop, chunk_slots
from storage.rows.format import NODE_PAGES, NODE_SHIFT, U64, Bytes
from storage.rows.nodes import HOLE, SLOT_BITS, SLOT_MASK

_log = logging.getLogger(__name__)

SAMPLE: Final = 256
"""Pairs that a choice looks at, at most."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two layers of which one goes: `source`, whose entries pass to `target`."""

    upper: int
    lower: int
    source: int
    entries: int
    """Of the source."""

    @property
    def target(self) -> int:
        """The layer that stays."""
        return self.upper if self.source == self.lower else self.lower


class Merger:
    """Chooses layers and the entries to move. Used by the committing thread alone."""

    def __init__(self, tables: Tables, found: Recovered, page_size: int, tuning: Tuning) -> None:
        self._tables = tables
        self._locations = found.locations
        self._layers = found.locations.layers
        self._step_pages = tuning.step_chunks * chunk_slots(page_size)
        self._step_nodes = tuning.step_rows
        self._damaged: set[int] = set()
        self._at = (0, 0)
        """The layer that the last step took entries from, and the node after the last one."""

    def due(self, patience: int) -> bool:
        """Whether so many layers could go that a step is worth taking."""
        return len(self._layers.single) - len(self._damaged & self._layers.single.keys()) >= max(patience, 1)

    def gather(self, txn: Txn, group: ChangeSet) -> None:
        """Add the next step to a group that is empty otherwise."""
        pair = self._choose()
        if pair is None:
            return
        try:
            self._move(txn, group, pair)
        except (RowDamaged, StoreFailed) as damage:
            self._damaged.add(pair.lower)
            group.puts.clear()
            group.moved.clear()
            _log.error("layers %d and %d stay apart: %s", pair.upper, pair.lower, damage)

    def forget(self, txn: Txn, group: ChangeSet) -> None:
        """Add to a group that is empty otherwise what needs no room: lower layers forget what the upper one hides."""
        rows = NodeTable(self._tables, txn)
        for lower in islice(self._layers.single, SAMPLE):
            (upper,) = self._layers.above[lower]
            for number, node in self._locations.nodes(upper, 0, LAST_NODE, rows).items():
                hidden = (node != 0) & (self._locations.node(lower, number, rows) != 0)
                for low, high in stretches(np.flatnonzero(hidden).tolist()):
                    group.moved.append(Drop(lower, (number << NODE_SHIFT) + low, high - low))
                if len(group.moved) >= self._step_nodes:
                    return

    def _choose(self) -> _Pair | None:
        lowers = (layer for layer in self._layers.single if layer not in self._damaged)
        return min(map(self._pair, islice(lowers, SAMPLE)), key=lambda pair: pair.entries, default=None)

    def _pair(self, lower: int) -> _Pair:
        """Which of the two goes.

        What the upper layer hides costs nothing to move, so that a lower one of up to twice the size goes first.
        """
        (upper,) = self._layers.above[lower]
        above, below = self._layers.entries.get(upper, 0), self._layers.entries.get(lower, 0)
        return _Pair(upper, lower, lower, below) if below <= 2 * above else _Pair(upper, lower, upper, above)

    def _move(self, txn: Txn, group: ChangeSet, pair: _Pair) -> None:
        rows = NodeTable(self._tables, txn)
        source = pair.source
        # The more pairs wait, the more each step moves, so that no load can outrun it.
        waiting = len(self._layers.single)
        first = self._at[1] if self._at[0] == source else 0
        numbers = self._locations.nodes_from(source, first, waiting * self._step_nodes, rows)
        if not numbers and first:
            numbers = self._locations.nodes_from(source, 0, waiting * self._step_nodes, rows)
        left, room = pair.entries, waiting * self._step_pages
        contents: dict[int, Bytes] = {}
        for number in numbers:
            node = self._locations.node(source, number, rows)
            kept = self._locations.node(pair.target, number, rows)
            moved = (node != 0) & (kept == 0) if source == pair.lower else node != 0
            pages = np.flatnonzero(moved & (node > SLOT_MASK)).astype(np.uint64)
            self._read(txn, source, number, node, pages, contents)
            if node.any():
                self._drop_holes(group, pair, number, moved & (node == HOLE))
                group.moved.append(Drop(source, number << NODE_SHIFT, NODE_PAGES))
            left -= int(np.count_nonzero(node))
            room -= len(pages)
            self._at = (source, number + 1)
            if room <= 0:
                break
        if contents:
            group.puts[pair.target] = contents
        if not left:
            group.moved = [drop for drop in group.moved if drop.layer != source]
            group.moved.append(Drop(source, 0, WHOLE_LAYER))
            group.layers.join(pair.upper, pair.lower, gone=source)

    def _drop_holes(self, group: ChangeSet, pair: _Pair, number: int, holes: np.ndarray) -> None:
        """The target takes over holes: as holes if something lies below both layers, else by forgetting its own pages."""
        hides = pair.lower in self._layers.parents
        if not hides and pair.source == pair.lower:
            return
        for low, high in stretches(np.flatnonzero(holes).tolist()):
            first = (number << NODE_SHIFT) + low
            group.moved.append(Drop(pair.target, first, high - low, hides))

    def _read(
        self, txn: Txn, layer: int, number: int, node: U64, positions: U64, contents: dict[int, Bytes]
    ) -> None:
        """The bytes of pages of a node. Raises RowDamaged."""
        chunk: Chunk | None = None
        chunk_lsn = 0
        for location, position in sorted(zip(node[positions].tolist(), positions.tolist(), strict=True)):
            lsn, page = location >> SLOT_BITS, (number << NODE_SHIFT) + position
            if lsn != chunk_lsn:
                chunk, chunk_lsn = find_chunk(self._tables, txn, lsn), lsn
            if chunk is None:
                raise RowDamaged(f"chunk {lsn} is missing")
            contents[page] = chunk.content(location & SLOT_MASK, layer, page)
