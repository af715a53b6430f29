"""What is read before it is used, and what may be thrown away, on advice."""

from typing import Final

import numpy as np

from engine.address import PageIndex
from engine.errors import PagesNeeded
from engine.memory.frames import STORED, SWAPPED, ZERO_FRAME
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT

WILLNEED_PART: Final = 8
"""Of all frames, one in so many may be asked for by one advice."""
READ_AHEAD_PAGES: Final = 16
"""A page that is fetched from the store brings its successors with it, so many in all."""


def read_ahead(obj: MemoryObject, first: int, count: int) -> None:
    """Read the pages of [first, first + count) that are swapped out; PagesNeeded for those in the store only.

    Not more than a part of all frames, from the range's start on: what was read last must not push out what was first.
    """
    wanted: list[PageIndex] = []
    count = min(count, max(obj.pool.capacity // WILLNEED_PART, 1))
    for number in obj.leaves_in_store(first, count):
        room = obj.pool.free_count - len(wanted)
        if room <= 0:
            break
        start = max(first, number << LEAF_SHIFT)
        stop = min(first + count, (number + 1) << LEAF_SHIFT)
        entries = obj.pages.entries(start, stop - start)
        if np.count_nonzero(entries <= SWAPPED) <= room:
            entries = obj.swap_in(start, entries)
        stored = np.flatnonzero(entries == STORED)[:room]
        wanted.extend(PageIndex(start + position) for position in stored.tolist())
    if wanted:
        raise PagesNeeded(obj.store_id, wanted, obj.epoch, obj, ((first, count),))


def with_successors(obj: MemoryObject, need: PagesNeeded, last: int) -> PagesNeeded:
    """`need`, and the pages that follow its last one up to page `last`, as far as they are in the store only.

    Nothing is added when frames are so short that others would have to go.
    """
    page = need.pages[-1]
    room = min(READ_AHEAD_PAGES - 1, last - page, obj.pool.free_count - len(need.pages))
    if room <= 0:
        return need
    entries = obj.pages.entries(page + 1, room)
    here = np.flatnonzero(entries != STORED)
    count = int(here[0]) if len(here) else room
    return need.widened([*need.pages, *range(page + 1, page + 1 + count)])


def free_lazily(obj: MemoryObject, first: int, count: int) -> None:
    """Pages of [first, first + count) may be taken when frames run short, until they are written again.

    Memory that the store remembers, or that others share, is kept.
    """
    if obj.persistent:
        return
    pool, journal = obj.pool, obj.journal
    for number in obj.pages.present(first, count):
        if not obj.pages.is_exclusive(number):
            continue
        start = number << LEAF_SHIFT
        low, high = max(first - start, 0), first + count - start
        entries = obj.pages.entries(start, LEAF_PAGES)[low:high]
        frames = entries[entries > ZERO_FRAME]
        frames = frames[(pool.refs[frames] == 1) & ~pool.lazy[frames]]
        pool.lazy[frames] = True
        pool.stamps[frames] = journal.serial
        journal.undo(pool.lazy.__setitem__, frames, False)
    obj.zap(first, count)
