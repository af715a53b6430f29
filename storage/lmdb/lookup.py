"""Looking up where pages lie: in the nodes in memory, in rows, and through the tree of layers.

Threads: any thread may `locate` and ask for what is `existing`. `lock` is held for memory operations only, never across
the disk.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from storage.lmdb.layers import Layers
from storage.lmdb.overlay import GROUND, NOTHING, Overlay, laid_over, together, without_holes
from storage.rows.format import NODE_PAGES, NODE_SHIFT, U64
from storage.rows.nodes import HOLE

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


class Lookup:
    """Page -> location, for every layer and, through the tree of layers, for every object. `LocationMap` changes it."""

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

    def _held(self, layer: int, first: int, last: int) -> list[int]:
        nodes = self._nodes.get(layer, {})
        if last - first < len(nodes):
            return [number for number in range(first, last + 1) if number in nodes]
        return [number for number in nodes if first <= number <= last]

    def pages_held(self, objects: Iterable[int]) -> int:
        """Entries of all layers that the objects reach, each layer once."""
        with self._lock:
            reached: set[int] = set()
            for object_id in objects:
                for layer in self.layers.ancestry(self.layers.layer_of(object_id)):
                    if layer in reached:
                        break
                    reached.add(layer)
            entries = self.layers.entries
            return sum(entries.get(layer, 0) for layer in reached)

    def pages_new(self, object_id: int, pages: U64, rows: NodeRows, epoch: int) -> int | None:
        """How many of `pages` (ascending) would be new entries of a layer. `epoch` and None as in `locate`."""
        with self._lock:
            layer = self.layers.layer_of(object_id)
            if not layer or self.layers.references(layer) > 1:
                return len(pages)
            entries, missing = self._locate_held(layer, pages)
            if missing and epoch != self.epoch:
                return None
        for number, low, high in missing:
            row = rows.read(layer, number)
            if row is not None:
                entries[low:high] = row[offsets(pages[low:high])]
        return len(pages) - int(np.count_nonzero(entries))

    # --- while nothing is published

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
