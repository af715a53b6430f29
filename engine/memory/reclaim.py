"""Frees frames of volatile memory when they run short: lazily freed pages first, then those written longest ago.

What leaves is looked for over all volatile memory at once, so that memory which several tasks still share after a fork
can go too: a frame goes when every reference to it is a leaf's. Nobody can tell afterwards but by the time it takes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.journal import Journal
from engine.memory.eviction import evict
from engine.memory.frames import ABSENT, SWAPPED, ZERO_FRAME, FramePool, Frames
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, Leaf
from engine.memory.paged_memory import PagedMemory
from engine.memory.swap import Slots

BATCH: Final = 32
"""At least one of so many frames is freed at once, since looking for victims costs what is resident."""
PAGE_OUT_PART: Final = 8
"""Of all frames, one in so many may be paged out by one advice."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Range:
    """Pages [first, first + count) of one object."""

    obj: PagedMemory
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class User:
    """A leaf, and the objects that show it with its number in each."""

    leaf: Leaf
    shown: list[tuple[PagedMemory, int]]


class Reclaim:
    """Frees frames of volatile memory: `volatile` names every object that may have any."""

    def __init__(
        self,
        pool: FramePool,
        slots: Slots,
        journal: Journal,
        volatile: Callable[[], Iterable[PagedMemory]],
    ) -> None:
        self._pool = pool
        self._slots = slots
        self._journal = journal
        self._volatile = volatile

    def free(self, wanted: int) -> int:
        """Free about `wanted` frames, more when that costs nothing; how many.

        Frames that an open transaction has written stay: undo records name them.
        """
        return self._sweep(max(wanted, self._pool.capacity // BATCH), None)

    def page_out(self, ranges: Sequence[Range]) -> int:
        """Free the frames of these pages, as far as nobody else holds them (MADV_PAGEOUT).

        At most a part of all frames at a time: it is a hint, and others wait meanwhile.
        """
        budget = max(self._pool.capacity // PAGE_OUT_PART, 1)
        freed = 0
        for held in ranges:
            if held.obj.persistent and freed < budget:
                freed += evict(held.obj, min(held.count, budget - freed), None, held.first, held.count)
        volatile = [held for held in ranges if not held.obj.persistent]
        if volatile and freed < budget:
            freed += self._sweep(budget - freed, volatile)
        return freed

    def _sweep(self, wanted: int, within: Sequence[Range] | None) -> int:
        users = self._users()
        if not users:
            return 0
        pool = self._pool
        block = np.stack([user.leaf.entries for user in users])
        counts = np.bincount(block[block > ZERO_FRAME], minlength=len(pool.refs))
        remembered, slots = self._slots.cached()
        held = counts.copy()
        held[remembered] += 1
        movable = (held == pool.refs) & (pool.stamps < self._journal.oldest_open)
        movable[: ZERO_FRAME + 1] = False
        movable[np.maximum(block[self._staying(users, within)], ABSENT)] = False
        freed = self._forget(users, remembered, slots, movable, counts)
        movable[remembered] = False
        movable &= counts > 0
        lazy = np.flatnonzero(movable & pool.lazy)
        freed += self._substitute(users, lazy, np.zeros(len(lazy), np.int64))
        movable[lazy] = False
        left = np.flatnonzero(movable)
        oldest = left[np.argsort(pool.stamps[left], kind="stable")][: max(wanted - freed, 0)]
        if len(oldest):
            entries = self._slots.store(pool.pages[oldest].reshape(-1).data, counts[oldest])
            freed += self._substitute(users, oldest[: len(entries)], entries)
        return freed

    def _forget(
        self, users: list[User], frames: Frames, entries: Frames, movable: Mask, counts: Frames
    ) -> int:
        """Free the frames that slots remember: their bytes are in the swap area still."""
        going = movable[frames]
        frames, entries = frames[going], entries[going]
        if len(frames):
            self._slots.refs[SWAPPED - entries] += counts[frames]
            self._slots.forget(entries)
        return self._substitute(users, frames, entries)

    def _substitute(self, users: list[User], gone: Frames, entries: Frames) -> int:
        """Put `entries` where the frames `gone` are, in every leaf, and free the frames."""
        if not len(gone):
            return 0
        pool = self._pool
        instead = np.full(len(pool.refs), -1, np.int64)
        instead[gone] = np.arange(len(gone))
        for user in users:
            leaf = user.leaf
            where = instead[np.maximum(leaf.entries, ABSENT)]
            hit = np.flatnonzero((where >= 0) & (leaf.entries > ZERO_FRAME))
            if len(hit):
                leaf.entries[hit] = entries[where[hit]]
                leaf.huge = False
                for obj, number in user.shown:
                    obj.zap(number << LEAF_SHIFT, LEAF_PAGES)
        pool.refs[gone] = 1
        pool.release(gone)
        return len(gone)

    def _staying(self, users: list[User], within: Sequence[Range] | None) -> Mask:
        """Places in leaves whose pages stay: a locked region shows them, or they are not `within`."""
        staying = np.full((len(users), LEAF_PAGES), within is not None, np.bool_)
        rows: dict[int, dict[int, int]] = {}
        objects: dict[int, PagedMemory] = {}
        for row, user in enumerate(users):
            for obj, number in user.shown:
                objects[id(obj)] = obj
                rows.setdefault(id(obj), {})[number] = row
        for held in within or ():
            _mark(staying, rows.get(id(held.obj), {}), held.first, held.count, False)
        for key, obj in objects.items():
            for first, count in obj.locked_pages():
                _mark(staying, rows[key], first, count, True)
        return staying

    def _users(self) -> list[User]:
        """Every leaf of volatile memory once, with the objects that show it and its number there."""
        found: dict[int, User] = {}
        for obj in self._volatile():
            for number, leaf in obj.pages.table.leaves.items():
                found.setdefault(id(leaf), User(leaf, [])).shown.append((obj, number))
        return list(found.values())


def _mark(mask: Mask, rows: dict[int, int], first: int, count: int, value: bool) -> None:
    """Set pages [first, first + count) of one object, whose leaf `number` is row `rows[number]`."""
    low, high = first >> LEAF_SHIFT, (first + count - 1) >> LEAF_SHIFT
    if high - low < len(rows):
        numbers = [number for number in range(low, high + 1) if number in rows]
    else:
        numbers = [number for number in rows if low <= number <= high]
    for number in numbers:
        start = number << LEAF_SHIFT
        mask[rows[number], max(first - start, 0) : max(first + count - start, 0)] = value
