"""What leaves page frames, what comes back, and what may be thrown away, on advice."""

import numpy as np

from engine.address import PageIndex
from engine.errors import PagesNeeded
from engine.frames import STORED
from engine.memory_object import MemoryObject


def read_ahead(obj: MemoryObject, first: int, count: int) -> None:
    """Ask for the pages of [first, first + count) that are in the store only, as many as free frames can take."""
    for number in obj.pages.present(first, count):
        del number
    entries = obj.pages.entries(first, count)
    stored = np.flatnonzero(entries == STORED)[: obj.pool.free_count]
    if len(stored):
        raise PagesNeeded(obj.object_id, [PageIndex(first + p) for p in stored.tolist()], obj.epoch)


def page_out(obj: MemoryObject, first: int, count: int) -> None:
    """Give up the frames of [first, first + count) whose bytes can be had again."""


def free_lazily(obj: MemoryObject, first: int, count: int) -> None:
    """Pages of [first, first + count) may be taken when frames run short, until they are written again."""
