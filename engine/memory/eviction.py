"""Letting go of frames whose bytes the store has: a clock over the leaves of persistent memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.memory.fault import owned_frames
from engine.memory.frames import STORED, ZERO_FRAME
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from engine.memory.paged_memory import PagedMemory


@dataclass(slots=True)
class Sweep:
    """One look over much memory: what clones share is looked at once.

    `held_twice`: also let go of frames that leaves of clones hold besides; they are freed by the last one.
    """

    held_twice: bool = False
    seen: set[int] = field(default_factory=set)

    def knows(self, shared: object) -> bool:
        """Whether this table or leaf was looked at before; from now on it was."""
        known = id(shared) in self.seen
        self.seen.add(id(shared))
        return known


def evict(
    memory: PagedMemory, wanted: int, sweep: Sweep | None = None, first: int = 0, count: int = 1 << 62
) -> int:
    """Free about `wanted` clean frames of persistent memory, of pages [first, first + count); how many were freed.

    The clock's hand is a leaf: each call goes on where the last one stopped, so that what was just fetched is the last
    to go. Pages of a leaf that clones share leave all of them.
    """
    sweep = sweep or Sweep()
    pool, pages = memory.pool, memory.pages
    free = pool.free_count
    if not memory.persistent or (pages.table.refs > 1 and sweep.knows(pages.table)):
        return 0
    everywhere = count >= 1 << 62
    numbers = pages.numbers_from(memory.hand) if everywhere else pages.present(first, count)
    for number in numbers:
        if pool.free_count - free >= wanted:
            break
        if everywhere:
            memory.hand = number + 1
        leaf = pages.table.leaves[number]
        if leaf.refs > 1 and sweep.knows(leaf):
            continue
        entries, start = leaf.entries, number << LEAF_SHIFT
        clean = entries > ZERO_FRAME if sweep.held_twice else owned_frames(entries, pool.refs)
        clean[: max(first - start, 0)] = False
        clean[max(first + count - start, 0) :] = False
        if not clean.any():
            continue
        sharers = [each for each in memory.family if each.pages.table.leaves.get(number) is leaf]
        _keep(clean, number, sharers)
        victims = entries[clean]
        if len(victims):
            entries[clean] = STORED
            for sharer in sharers:
                sharer.zap(start, LEAF_PAGES)
                sharer.epoch += 1
            pool.release(victims)
    return pool.free_count - free


def _keep(clean: NDArray[np.bool_], number: int, sharers: Sequence[PagedMemory]) -> None:
    """Unmark the pages of a leaf that somebody who shares it has written, locked, or needs at the moment."""
    start = number << LEAF_SHIFT
    for sharer in sharers:
        for first, count in sharer.in_use():
            clean[max(first - start, 0) : max(first + count - start, 0)] = False
        for low, high in sharer.pins.of_leaf(number):
            clean[low:high] = False
        if sharer.dirty:
            clean[[page - start for page in range(start, start + LEAF_PAGES) if page in sharer.dirty]] = False
