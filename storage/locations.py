"""Where every page lies: nodes of `NODE_PAGES` locations, in memory as far as they are needed.

A node is *dirty* when the log holds changes that its row does not have yet; dirty nodes stay in memory until a
checkpoint has written them. Clean nodes are kept up to `nodes_max` and read from their rows when they are missing,
so that memory is bounded whatever the store holds.

Threads: one thread at a time changes the map (the one that commits), any thread may `locate`. `lock` is held for
memory operations only, never across the disk.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from engine.invariant import InvariantError
from storage.chunks import Drop
from storage.format import NODE_PAGES, NODE_SHIFT, U64

NodeId = tuple[int, int]
"""Object id, node number."""


class NodeRows(Protocol):
    """The table `nodes` as one transaction sees it."""

    def read(self, object_id: int, number: int) -> U64 | None:
        """A node's locations, or None when it has no row."""

    def numbers(self, object_id: int, first: int, last: int) -> list[int]:
        """Numbers of the rows in [first, last], ascending."""

    def any(self, object_id: int) -> bool:
        """Whether the object has a row."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Pages of one object, ascending, and the locations they were given."""

    object_id: int
    pages: U64
    locations: U64


@dataclass(slots=True)
class Patch:
    """What one commit changes in the map: `loaded` nodes first, then drops, then places."""

    loaded: dict[NodeId, U64] = field(default_factory=dict)
    drops: list[Drop] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)


class LocationMap:
    """Page -> location, for every object."""

    def __init__(self, nodes_max: int) -> None:
        self._nodes_max = nodes_max
        self._lock = threading.Lock()
        self._objects: dict[int, dict[int, U64]] = {}
        self._dirty: set[NodeId] = set()
        self._clean: dict[NodeId, None] = {}
        self.epoch = 0
        """Grows whenever something leaves memory, so that its row alone counts from then on."""
        self.dead: dict[int, dict[int, U64]] = {}
        """Objects that are gone but whose rows are still there, with the nodes that were in memory."""

    def locate(self, object_id: int, pages: U64, rows: NodeRows, epoch: int) -> U64 | None:
        """The location of each of `pages` (ascending page indexes), 0 for absent ones.

        `epoch` must have been read before the transaction of `rows` was begun. None: something has left memory since,
        so that its row, as `rows` sees it, may be too old.
        """
        locations = np.zeros(len(pages), np.uint64)
        missing: list[tuple[int, int, int]] = []
        with self._lock:
            if object_id in self.dead:
                return locations
            nodes = self._objects.get(object_id, {})
            for number, low, high in runs(pages):
                node = nodes.get(number)
                if node is None:
                    missing.append((number, low, high))
                else:
                    locations[low:high] = node[offsets(pages[low:high])]
            if missing and epoch != self.epoch:
                return None
        for number, low, high in missing:
            row = rows.read(object_id, number)
            if row is not None:
                locations[low:high] = row[offsets(pages[low:high])]
        return locations

    def existing(self, object_id: int, first: int, count: int, rows: NodeRows, epoch: int) -> U64 | None:
        """Which of the pages [first, first + count) have a location, ascending. `epoch` and None as in `locate`."""
        low, high = first >> NODE_SHIFT, (first + count - 1) >> NODE_SHIFT
        with self._lock:
            if object_id in self.dead:
                return np.empty(0, np.uint64)
            if epoch != self.epoch:
                return None
            nodes = self._objects.get(object_id, {})
            found = {number: np.flatnonzero(nodes[number]) for number in self._held(object_id, low, high)}
        numbers = rows.numbers(object_id, low, high)
        for number in numbers:
            if number not in found:
                row = rows.read(object_id, number)
                if row is not None:
                    found[number] = np.flatnonzero(row)
        parts = [
            found[number].astype(np.uint64) + np.uint64(number << NODE_SHIFT) for number in sorted(found)
        ]
        pages = np.concatenate([np.empty(0, np.uint64), *parts])
        return pages[(pages >= first) & (pages < first + count)]

    # --- the committing thread

    def current(self, object_id: int, pages: U64, rows: NodeRows) -> U64:
        """`locate` for the committing thread, under which nothing moves."""
        locations = self.locate(object_id, pages, rows, self.epoch)
        if locations is None:
            raise InvariantError("a node left memory while nothing was committed")
        return locations

    def prepare(self, drops: Sequence[Drop], puts: Mapping[int, U64], rows: NodeRows) -> Patch:
        """Load what `publish` will need for these drops and for puts of pages (ascending, by object).

        Drops of nothing are left out of the patch. Raises ValueError when a put names an object that is gone.
        """
        patch = Patch()
        for drop in drops:
            if drop.object_id not in self.dead and self._prepare_drop(drop, patch, rows):
                patch.drops.append(drop)
        for object_id, pages in puts.items():
            if object_id in self.dead:
                raise ValueError(f"PutPages names object {object_id}, which is gone")
            for number, _, _ in runs(pages):
                self._load(object_id, number, patch, rows)
        return patch

    def _prepare_drop(self, drop: Drop, patch: Patch, rows: NodeRows) -> bool:
        if drop.is_whole:
            return drop.object_id in self._objects or rows.any(drop.object_id)
        first, last = drop.first >> NODE_SHIFT, (drop.first + drop.count - 1) >> NODE_SHIFT
        numbers = rows.numbers(drop.object_id, first, last)
        for number in numbers:
            self._load(drop.object_id, number, patch, rows)
        return bool(numbers) or bool(self._held(drop.object_id, first, last))

    def _load(self, object_id: int, number: int, patch: Patch, rows: NodeRows) -> None:
        if number in self._objects.get(object_id, {}) or (object_id, number) in patch.loaded:
            return
        node = rows.read(object_id, number)
        patch.loaded[object_id, number] = np.zeros(NODE_PAGES, np.uint64) if node is None else node

    def _held(self, object_id: int, first: int, last: int) -> list[int]:
        nodes = self._objects.get(object_id, {})
        if last - first < len(nodes):
            return [number for number in range(first, last + 1) if number in nodes]
        return [number for number in nodes if first <= number <= last]

    def publish(self, patch: Patch) -> list[U64]:
        """Make a committed patch visible. Returns the locations that belong to no page any more."""
        released: list[U64] = []
        with self._lock:
            for (object_id, number), node in patch.loaded.items():
                self._objects.setdefault(object_id, {})[number] = node
                self._clean[object_id, number] = None
            for drop in patch.drops:
                if drop.is_whole:
                    self._bury(drop.object_id)
                else:
                    self._clear(drop, released)
            released += [self._place(placed) for placed in patch.placed]
            self._evict()
        return released

    def _place(self, placed: Placed) -> U64:
        """Returns the locations that were replaced, 0 where there was none."""
        nodes = self._objects[placed.object_id]
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
            self._soil(placed.object_id, number)
        return replaced

    def _bury(self, object_id: int) -> None:
        nodes = self._objects.pop(object_id, {})
        for number in nodes:
            self._clean.pop((object_id, number), None)
            self._dirty.discard((object_id, number))
        self.dead[object_id] = nodes

    def _clear(self, drop: Drop, released: list[U64]) -> None:
        end = drop.first + drop.count
        first, last = drop.first >> NODE_SHIFT, (end - 1) >> NODE_SHIFT
        for number in self._held(drop.object_id, first, last):
            base = number << NODE_SHIFT
            part = self._objects[drop.object_id][number][
                max(drop.first - base, 0) : min(end - base, NODE_PAGES)
            ]
            if part.any():
                released.append(part.copy())
                part[:] = 0
                self._soil(drop.object_id, number)

    def _soil(self, object_id: int, number: int) -> None:
        self._dirty.add((object_id, number))
        self._clean.pop((object_id, number), None)

    def _evict(self) -> None:
        while self._clean and len(self._clean) + len(self._dirty) > self._nodes_max:
            object_id, number = next(iter(self._clean))
            del self._clean[object_id, number]
            nodes = self._objects[object_id]
            del nodes[number]
            if not nodes:
                del self._objects[object_id]
            self.epoch += 1

    # --- the checkpoint

    def dirty(self) -> list[NodeId]:
        """Nodes that the log alone knows the state of, ascending."""
        return sorted(self._dirty)

    def dirty_count(self) -> int:
        """How many nodes are dirty."""
        return len(self._dirty)

    def dirty_node(self, object_id: int, number: int) -> U64 | None:
        """The content of a dirty node; None when it is not dirty any more."""
        return self._objects[object_id][number] if (object_id, number) in self._dirty else None

    def cleaned(self, node_ids: Iterable[NodeId]) -> None:
        """The rows of these dirty nodes have been committed as they are now.

        Nothing leaves memory before the next `publish`, whose patch may have been prepared already.
        """
        with self._lock:
            for node_id in node_ids:
                self._dirty.discard(node_id)
                self._clean[node_id] = None

    def exhumed(self, nodes: Iterable[NodeId], buried: Iterable[int]) -> None:
        """These nodes of dead objects were given back; nothing is left of the `buried` ones."""
        with self._lock:
            for object_id, number in nodes:
                self.dead[object_id].pop(number, None)
            for object_id in buried:
                self.epoch += 1
                del self.dead[object_id]

    def walk(self) -> Iterator[tuple[int, int, U64]]:
        """(object, node number, locations) of every node in memory."""
        for object_id, nodes in self._objects.items():
            for number, node in nodes.items():
                yield object_id, number, node

    def admit(self, object_id: int, number: int, node: U64) -> None:
        """While opening: a node as its row has it, kept if there is room."""
        if len(self._clean) + len(self._dirty) < self._nodes_max:
            self._objects.setdefault(object_id, {})[number] = node
            self._clean[object_id, number] = None


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
