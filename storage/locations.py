"""Where every page lies: nodes of `NODE_PAGES` locations by layer, in memory as far as they are needed.

A node is *dirty* when the log holds changes that its row does not have yet; dirty nodes stay in memory until a
checkpoint has written them. Clean nodes are kept up to `nodes_max` and read from their rows when they are missing,
so that memory is bounded whatever the store holds.

Threads: one thread at a time changes the map (the one that commits), any thread may `locate`. `lock` is held for
memory operations only, never across the disk.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from storage.chunks import Drop
from storage.format import NODE_PAGES, NODE_SHIFT, U64
from storage.layers import LayerChange, Layers
from storage.nodes import HOLE
from storage.overlay import GROUND, NOTHING, Overlay, laid_over, together, without_holes

NodeId = tuple[int, int]
"""Layer, node number."""


class NodeRows(Protocol):
    """The table `nodes` as one transaction sees it."""

    def read(self, layer: int, number: int) -> U64 | None:
        """A node's locations, or None when it has no row."""

    def numbers(self, layer: int, first: int, last: int) -> list[int]:
        """Numbers of the rows in [first, last], ascending."""

    def from_number(self, layer: int, first: int) -> Iterator[int]:
        """Numbers of the layer's rows from `first` on, ascending."""

    def any(self, layer: int) -> bool:
        """Whether the layer has a row."""


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


class Located(NamedTuple):
    """Where pages lie: their locations, 0 for absent ones, and the layers that have them."""

    locations: U64
    layer: int
    layers: U64 | None = None
    """None: all of them `layer`."""


@dataclass(slots=True)
class Stack:
    """Copies of one node of a layer and its ancestors, nearest first, None where it is not in memory."""

    nodes: list[tuple[int, U64 | None]] = field(default_factory=list)
    rest: U64 = field(default_factory=lambda: GROUND)
    """What the overlay knows of what lies below."""

    @property
    def is_whole(self) -> bool:
        """Whether no row is needed."""
        return all(node is not None for _, node in self.nodes)


class LocationMap:
    """Page -> location, for every layer; and, through the tree of layers, for every object."""

    def __init__(self, nodes_max: int) -> None:
        self._nodes_max = nodes_max
        self._lock = threading.Lock()
        self._nodes: dict[int, dict[int, U64]] = {}
        self._dirty: set[NodeId] = set()
        self._clean: dict[NodeId, None] = {}
        self._overlay = Overlay(max(nodes_max // 8, 1))
        self.layers = Layers()
        self.epoch = 0
        """Grows whenever something leaves memory, so that its row alone counts from then on."""
        self.dead: dict[int, dict[int, U64]] = {}
        """Layers that are gone but whose rows are still there, with the nodes that were in memory."""

    def locate(self, object_id: int, pages: U64, rows: NodeRows, epoch: int) -> Located | None:
        """Where each of an object's `pages` (ascending page indexes) lies.

        `epoch` must have been read before the transaction of `rows` was begun. None: something has left memory since,
        so that its row, as `rows` sees it, may be too old.
        """
        with self._lock:
            layer = self.layers.layer_of(object_id)
            if layer not in self.layers.parents:
                locations, missing = self._locate_held(layer, pages)
                if missing and epoch != self.epoch:
                    return None
                stacks = []
            else:
                stacks = [(run, self._stack(layer, run[0])) for run in runs(pages)]
                moves = self._overlay.moves
                if epoch != self.epoch and not all(stack.is_whole for _, stack in stacks):
                    return None
        if not stacks:
            return Located(self._locate_rows(layer, pages, rows, locations, missing), layer)
        found = np.empty((2, len(pages)), np.uint64)
        for (number, low, high), stack in stacks:
            found[:, low:high] = self._laid_together(stack, number, rows, moves)[:, offsets(pages[low:high])]
        return Located(without_holes(found[0]), layer, found[1])

    def _locate_held(self, layer: int, pages: U64) -> tuple[U64, list[tuple[int, int, int]]]:
        """Locations from a layer's nodes in memory, and the runs whose nodes are not there. Holds the lock."""
        locations = np.zeros(len(pages), np.uint64)
        missing: list[tuple[int, int, int]] = []
        if layer and layer not in self.dead:
            nodes = self._nodes.get(layer, {})
            for number, low, high in runs(pages):
                node = nodes.get(number)
                if node is None:
                    missing.append((number, low, high))
                else:
                    locations[low:high] = node[offsets(pages[low:high])]
        return locations, missing

    def _locate_rows(
        self, layer: int, pages: U64, rows: NodeRows, locations: U64, missing: list[tuple[int, int, int]]
    ) -> U64:
        for number, low, high in missing:
            row = rows.read(layer, number)
            if row is not None:
                locations[low:high] = row[offsets(pages[low:high])]
        return without_holes(locations)

    def _stack(self, layer: int, number: int) -> Stack:
        """What is in memory of a node of a layer and its ancestors. Holds the lock."""
        stack = Stack()
        for below in self.layers.ancestry(layer):
            known = self._overlay.get(below, number) if stack.nodes else None
            if known is not None:
                stack.rest = known
                break
            node = self._nodes.get(below, {}).get(number)
            stack.nodes.append((below, None if node is None else node.copy()))
        return stack

    def _laid_together(self, stack: Stack, number: int, rows: NodeRows, moves: int) -> U64:
        """What the layers of a stack say together; what is below the first is kept for later."""
        nodes = [
            (layer, rows.read(layer, number) if node is None else node)
            for layer, node in reversed(stack.nodes)
        ]
        below = stack.rest
        if len(nodes) > 1:
            below = together(nodes[:-1], below)
            with self._lock:
                self._overlay.keep([layer for layer, _ in nodes[-2::-1]], number, below, moves)
        return together(nodes[-1:], below)

    def existing(self, object_id: int, first: int, count: int, rows: NodeRows, epoch: int) -> U64 | None:
        """Which of the pages [first, first + count) have a location, ascending. `epoch` and None as in `locate`."""
        low, high = first >> NODE_SHIFT, (first + count - 1) >> NODE_SHIFT
        with self._lock:
            if epoch != self.epoch:
                return None
            chain = [layer for layer in self.layers.chain(object_id) if layer not in self.dead]
            held = [self._held_nodes(layer, low, high) for layer in chain]
        found: dict[int, U64] = {}
        for layer, nodes in zip(reversed(chain), reversed(held), strict=True):
            with_rows(nodes, layer, low, high, rows)
            for number, node in nodes.items():
                found[number] = laid_over(node, found.get(number, NOTHING))
        parts = [
            np.flatnonzero(found[number] > HOLE).astype(np.uint64) + np.uint64(number << NODE_SHIFT)
            for number in sorted(found)
        ]
        pages = np.concatenate([np.empty(0, np.uint64), *parts])
        return pages[(pages >= first) & (pages < first + count)]

    def _held_nodes(self, layer: int, low: int, high: int) -> dict[int, U64]:
        """Copies of the nodes [low, high] of a layer that are in memory. Holds the lock."""
        return {number: self._nodes[layer][number].copy() for number in self._held(layer, low, high)}

    # --- the committing thread

    def current(self, layer: int, pages: U64, rows: NodeRows) -> U64:
        """What one layer says of pages (ascending), for the committing thread, under which nothing moves."""
        if layer in self.dead:
            return np.zeros(len(pages), np.uint64)
        entries = np.empty(len(pages), np.uint64)
        for number, low, high in runs(pages):
            entries[low:high] = self.node(layer, number, rows)[offsets(pages[low:high])]
        return entries

    def node(self, layer: int, number: int, rows: NodeRows) -> U64:
        """A node as it is now, for the committing thread. Not to be changed."""
        node = self._nodes.get(layer, {}).get(number)
        if node is None:
            node = rows.read(layer, number)
        return NOTHING if node is None else node

    def nodes(self, layer: int, low: int, high: int, rows: NodeRows) -> dict[int, U64]:
        """The nodes [low, high] of a layer by number, while nothing is published. Not to be changed."""
        nodes = {number: self._nodes[layer][number] for number in self._held(layer, low, high)}
        with_rows(nodes, layer, low, high, rows)
        return nodes

    def nodes_from(self, layer: int, first: int, count: int, rows: NodeRows) -> list[int]:
        """The numbers of up to `count` nodes of a layer from `first` on, ascending; some may have no entry."""
        held = sorted(number for number in self._nodes.get(layer, {}) if number >= first)[:count]
        return sorted({*held, *islice(rows.from_number(layer, first), count)})[:count]

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

    def _held(self, layer: int, first: int, last: int) -> list[int]:
        nodes = self._nodes.get(layer, {})
        if last - first < len(nodes):
            return [number for number in range(first, last + 1) if number in nodes]
        return [number for number in nodes if first <= number <= last]

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
            self._overlay.moved(drop.layer for drop in patch.drops)
            self._overlay.moved(placed.layer for placed in patch.placed)
            if patch.layers is not None:
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


def runs(pages: U64) -> Iterator[tuple[int, int, int]]:
    """Split ascending pages, at least one, by node: (node number, low, high) with pages[low:high] in that node."""
    numbers = pages >> np.uint64(NODE_SHIFT)
    if numbers[0] == numbers[-1]:
        return iter([(int(numbers[0]), 0, len(pages))])
    cuts = (np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()
    lows = [0, *cuts]
    return zip(numbers[lows].tolist(), lows, [*cuts, len(pages)], strict=True)


def offsets(pages: U64) -> U64:
    """Positions of pages in their node."""
    return pages & np.uint64(NODE_PAGES - 1)


def with_rows(nodes: dict[int, U64], layer: int, low: int, high: int, rows: NodeRows) -> None:
    """Add the nodes [low, high] of a layer that have a row, and were not in memory."""
    for number in rows.numbers(layer, low, high):
        if number not in nodes:
            row = rows.read(layer, number)
            if row is not None:
                nodes[number] = row


def stretches(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """[low, high) of numbers that follow each other."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
