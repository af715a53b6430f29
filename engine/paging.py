"""What leaves page frames, what comes back, and what may be thrown away, on advice."""

import numpy as np

from engine.address import PageIndex
from engine.errors import PagesNeeded
from engine.frames import STORED
from engine.memory_object import MemoryObject
from engine.page_map import LEAF_SHIFT


def read_ahead(obj: MemoryObject, first: int, count: int) -> None:
    """Ask for the pages of [first, first + count) that are in the store only, as many as free frames can take."""
    wanted: list[PageIndex] = []
    room = obj.pool.free_count
    for number in obj.leaves_in_store(first, count):
        if len(wanted) >= room:
            break
        start = max(first, number << LEAF_SHIFT)
        stop = min(first + count, (number + 1) << LEAF_SHIFT)
        stored = np.flatnonzero(obj.pages.entries(start, stop - start) == STORED)
        wanted.extend(PageIndex(start + position) for position in stored.tolist())
    if wanted:
        raise PagesNeeded(obj.object_id, wanted[:room], obj.epoch)


def page_out(obj: MemoryObject, first: int, count: int) -> None:
    """Give up the frames of [first, first + count) whose bytes can be had again."""


def free_lazily(obj: MemoryObject, first: int, count: int) -> None:
    """Pages of [first, first + count) may be taken when frames run short, until they are written again."""
