"""Where every page lies: nodes of `NODE_PAGES` locations by layer, in memory as far as they are needed.

A node is *dirty* when the log holds changes that its row does not have yet; dirty nodes stay in memory until a
checkpoint has written them. Clean nodes are kept up to `nodes_max` and read from their rows when they are missing,
so that memory is bounded whatever the store holds.

Threads: one thread at a time changes the map, the one that commits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from storage.lmdb.layers import LayerChange
from storage.lmdb.lookup import Lookup, NodeId, NodeRows, offsets, runs
from storage.rows.chunks import Drop
from storage.rows.format import NODE_PAGES, NODE_SHIFT, U64
from storage.rows.nodes import HOLE


@dataclass(frozen=True, slots=True)
class Placed:
    """Pages of one layer, ascending, and the locations they were given."""

    layer: int
    pages: U64
    locations: U64


@dataclass(slots=True)
class Patch:
    """What one commit changes in the map: `loaded` nodes first, then drops, then places, at last the tree of layers."""

    loaded: dict[NodeId, U64] = field(default_factory=dict)
    drops: list[Drop] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    layers: LayerChange | None = None


class LocationMap(Lookup):
    """The map as the committing thread changes it."""

    def hiding(
        self, drop: Drop, ancestors: Sequence[int], puts: Mapping[int, U64], rows: NodeRows
    ) -> list[Drop]:
        """A drop of pages of a layer with `ancestors`, which are hidden where one has, or is to get, a node."""
        first, last = drop.first >> NODE_SHIFT, (drop.first + drop.count - 1) >> NODE_SHIFT
        below: set[int] = set()
        for layer in ancestors:
            below.update(rows.numbers(layer, first, last), self._held(layer, first, last))
            if layer in puts:
                numbers = np.unique(puts[layer] >> np.uint64(NODE_SHIFT)).tolist()
                below.update(number for number in numbers if first <= number <= last)
        own = {*rows.numbers(drop.layer, first, last), *self._held(drop.layer, first, last)} - below
        parts: list[Drop] = []
        for numbers, hides in ((own, False), (below, True)):
            for low, high in stretches(numbers):
                start = max(drop.first, low << NODE_SHIFT)
                end = min(drop.first + drop.count, high << NODE_SHIFT)
                parts.append(Drop(drop.layer, start, end - start, hides))
        return parts

    def prepare(self, drops: Sequence[Drop], puts: Mapping[int, U64], rows: NodeRows) -> Patch:
        """Load what `publish` will need for these drops and for puts of pages (ascending, by layer).

        Drops of nothing are left out of the patch. Raises ValueError when a put names a layer that is gone.
        """
        patch = Patch()
        for drop in drops:
            if drop.layer not in self.dead and self._prepare_drop(drop, patch, rows):
                patch.drops.append(drop)
        for layer, pages in puts.items():
            if layer in self.dead:
                raise ValueError(f"PutPages names object {layer}, which is gone")
            for number, _, _ in runs(pages):
                self._load(layer, number, patch, rows)
        return patch

    def _prepare_drop(self, drop: Drop, patch: Patch, rows: NodeRows) -> bool:
        if drop.is_whole:
            return drop.layer in self._nodes or rows.any(drop.layer)
        first, last = drop.first >> NODE_SHIFT, (drop.first + drop.count - 1) >> NODE_SHIFT
        numbers = range(first, last + 1) if drop.hides else rows.numbers(drop.layer, first, last)
        for number in numbers:
            self._load(drop.layer, number, patch, rows)
        return bool(numbers) or bool(self._held(drop.layer, first, last))

    def _load(self, layer: int, number: int, patch: Patch, rows: NodeRows) -> None:
        if number in self._nodes.get(layer, {}) or (layer, number) in patch.loaded:
            return
        node = rows.read(layer, number)
        patch.loaded[layer, number] = np.zeros(NODE_PAGES, np.uint64) if node is None else node

    def publish(self, patch: Patch) -> list[U64]:
        """Make a committed patch visible. Returns the locations that belong to no page any more."""
        released: list[U64] = []
        with self._lock:
            for (layer, number), node in patch.loaded.items():
                self._nodes.setdefault(layer, {})[number] = node
                self._clean[layer, number] = None
            for drop in patch.drops:
                if drop.is_whole:
                    self._bury(drop.layer)
                else:
                    self._clear(drop, released)
            released += [self._place(placed) for placed in patch.placed]
            changes: list[Drop | Placed] = [*patch.drops, *patch.placed]
            self._overlay.moved(change.layer for change in changes)
            if patch.layers is not None and not patch.layers.is_empty:
                self._overlay.moved(patch.layers.parents)
                self.layers.follow(patch.layers)
            self._evict()
        return released

    def _place(self, placed: Placed) -> U64:
        """Returns the entries that were replaced, 0 where there was none."""
        nodes = self._nodes[placed.layer]
        replaced = np.empty(len(placed.pages), np.uint64)
        at = offsets(placed.pages)
        for number, low, high in runs(placed.pages):
            node = nodes[number]
            if high - low == 1:  # scattered pages: indexing by an array costs ten times as much
                position = at[low]
                replaced[low] = node[position]
                node[position] = placed.locations[low]
            else:
                positions = at[low:high]
                replaced[low:high] = node[positions]
                node[positions] = placed.locations[low:high]
            self._soil(placed.layer, number)
        self._count(placed.layer, len(replaced) - int(np.count_nonzero(replaced)))
        return replaced

    def _bury(self, layer: int) -> None:
        nodes = self._nodes.pop(layer, {})
        for number in nodes:
            self._clean.pop((layer, number), None)
            self._dirty.discard((layer, number))
        self.dead[layer] = nodes
        self.layers.entries.pop(layer, None)

    def _clear(self, drop: Drop, released: list[U64]) -> None:
        end = drop.first + drop.count
        first, last = drop.first >> NODE_SHIFT, (end - 1) >> NODE_SHIFT
        for number in self._held(drop.layer, first, last):
            base = number << NODE_SHIFT
            part = self._nodes[drop.layer][number][max(drop.first - base, 0) : min(end - base, NODE_PAGES)]
            had = int(np.count_nonzero(part))
            if had or drop.hides:
                released.append(part.copy())
                part[:] = HOLE if drop.hides else 0
                self._count(drop.layer, (len(part) if drop.hides else 0) - had)
                self._soil(drop.layer, number)

    def _count(self, layer: int, more: int) -> None:
        if more:
            entries = self.layers.entries
            entries[layer] = entries.get(layer, 0) + more

    def _soil(self, layer: int, number: int) -> None:
        self._dirty.add((layer, number))
        self._clean.pop((layer, number), None)

    def _evict(self) -> None:
        while self._clean and len(self._clean) + len(self._dirty) > self._nodes_max:
            layer, number = next(iter(self._clean))
            del self._clean[layer, number]
            nodes = self._nodes[layer]
            del nodes[number]
            if not nodes:
                del self._nodes[layer]
            self.epoch += 1

    # --- the checkpoint

    def dirty(self) -> list[NodeId]:
        """Nodes that the log alone knows the state of, ascending."""
        return sorted(self._dirty)

    def dirty_count(self) -> int:
        """How many nodes are dirty."""
        return len(self._dirty)

    def dirty_node(self, layer: int, number: int) -> U64 | None:
        """The content of a dirty node; None when it is not dirty any more."""
        return self._nodes[layer][number] if (layer, number) in self._dirty else None

    def cleaned(self, node_ids: Iterable[NodeId]) -> None:
        """The rows of these dirty nodes have been committed as they are now.

        Nothing leaves memory before the next `publish`, whose patch may have been prepared already.
        """
        with self._lock:
            for node_id in node_ids:
                self._dirty.discard(node_id)
                self._clean[node_id] = None

    def exhumed(self, nodes: Iterable[NodeId], buried: Iterable[int]) -> None:
        """These nodes of dead layers were given back; nothing is left of the `buried` ones."""
        with self._lock:
            for layer, number in nodes:
                self.dead[layer].pop(number, None)
            for layer in buried:
                self.epoch += 1
                del self.dead[layer]

    def walk(self) -> Iterator[tuple[int, int, U64]]:
        """(layer, node number, locations) of every node in memory."""
        for layer, nodes in self._nodes.items():
            for number, node in nodes.items():
                yield layer, number, node

    def admit(self, layer: int, number: int, node: U64) -> None:
        """While opening: a node as its row has it, counted, and kept if there is room."""
        self._count(layer, int(np.count_nonzero(node)))
        if len(self._clean) + len(self._dirty) < self._nodes_max:
            self._nodes.setdefault(layer, {})[number] = node
            self._clean[layer, number] = None


def stretches(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """[low, high) of numbers that follow each other."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
