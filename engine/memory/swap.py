"""The slots of a swap area, counted as frames are: by the leaves and the undo records that name them.

A page map's entry of a page that was put aside is SWAPPED minus its slot. A slot that has come back for one of its users
remembers the frame for the others, and holds a reference to it (Linux: the swap cache): what was shared stays so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import EIO, EngineError
from engine.invariant import invariant
from engine.memory.frames import ABSENT, SWAPPED, FramePool, Frames
from engine.ports import SwapArea

RESERVED_PART: Final = 64
"""Of all slots, one in so many is kept for exchanges."""


class Slots:
    """Free and used slots (Linux: swap_map). `capacity` and `used` are in pages; `failures` counts refused stores."""

    __slots__ = (
        "_area",
        "_cache",
        "_exchanging",
        "_free",
        "_fresh",
        "_reserve",
        "capacity",
        "failures",
        "refs",
        "used",
    )

    def __init__(self, area: SwapArea | None) -> None:
        self._area = area
        self.capacity = area.capacity if area is not None else 0
        self._reserve = min(self.capacity // RESERVED_PART + 1, self.capacity)
        self._exchanging = False
        self.refs = np.zeros(self.capacity, np.int32)
        self.used = 0
        self.failures = 0
        self._fresh = 0
        self._free: list[int] = []
        self._cache: dict[int, int] = {}

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Pages leave for others to come back: for that a few slots are kept, so that nothing stays out for ever."""
        self._exchanging = True
        try:
            yield
        finally:
            self._exchanging = False

    def hold(self, entries: Frames) -> None:
        """One more reference for each slot among `entries`, which are unique."""
        self.refs[SWAPPED - entries[entries <= SWAPPED]] += 1

    def release(self, entries: Frames) -> Frames:
        """Drop one reference of each slot among `entries`; slots without references become free.

        The frames that freed slots remembered: the caller drops the slots' references to them.
        """
        slots = SWAPPED - entries[entries <= SWAPPED]
        if not len(slots):
            return slots
        self.refs[slots] -= 1
        counts = self.refs[slots]
        invariant(int(counts.min()) >= 0, "I19: a swap slot was released more often than held")
        dead = slots[counts == 0].tolist()
        self._free.extend(dead)
        self.used -= len(dead)
        return np.array([self._cache.pop(slot) for slot in dead if slot in self._cache], np.int64)

    def cached(self) -> tuple[Frames, Frames]:
        """Remembered frames, and the entries of the slots that remember them."""
        frames = np.fromiter(self._cache.values(), np.int64, len(self._cache))
        return frames, SWAPPED - np.fromiter(self._cache.keys(), np.int64, len(self._cache))

    def forget(self, entries: Frames) -> None:
        """The slots of `entries` remember their frames no more; the caller has dropped the references."""
        for slot in (SWAPPED - entries).tolist():
            del self._cache[slot]

    def store(self, data: memoryview, refs: NDArray[np.int64]) -> Frames:
        """Put pages aside, which so many references name; their entries. Fewer, or none, when there is no room."""
        page_size = len(data) // len(refs) if len(refs) else 0
        room = self.capacity if self._exchanging else self.capacity - self._reserve
        count = max(min(len(refs), room - self.used), 0)
        if not count or self._area is None:
            return np.empty(0, np.int64)
        fresh = max(count - len(self._free), 0)
        slots = sorted(self._free[len(self._free) - (count - fresh) :])
        slots.extend(range(self._fresh, self._fresh + fresh))
        try:
            self._area.store(slots, data[: count * page_size])
        except OSError:
            self.failures += 1
            return np.empty(0, np.int64)
        del self._free[len(self._free) - (count - fresh) :]
        self._fresh += fresh
        self.used += count
        taken = np.array(slots, np.int64)
        self.refs[taken] = refs[:count]
        return SWAPPED - taken

    def bring_in(self, pool: FramePool, entries: Frames, *, to_write: bool) -> Frames:
        """Frames with the bytes of swapped pages, one reference each for the caller, who gives up those of the slots.

        `to_write`: they are the caller's own, and are not remembered. EIO: the swap area cannot be read; ENOMEM.
        """
        slots = (SWAPPED - entries).tolist()
        frames = np.array([self._cache.get(slot, ABSENT) for slot in slots], np.int64)
        known, absent = np.flatnonzero(frames), np.flatnonzero(frames == ABSENT)
        if len(absent):
            block = np.frombuffer(self.load(entries[absent]), np.uint8)
            fresh = pool.allocate(len(absent), zeroed=False)
            pool.pages[fresh] = block.reshape(len(fresh), pool.page_size)
            frames[absent] = fresh
            shared = absent[(self.refs[SWAPPED - entries[absent]] > 1) & (not to_write)]
            self._cache.update((slots[position], frames.item(position)) for position in shared.tolist())
            pool.refs[frames[shared]] += 1
        pool.refs[frames[known]] += 1
        return frames

    def load(self, entries: Frames) -> bytes:
        """The bytes of swapped pages, in order. EIO."""
        if self._area is None:
            raise EngineError(EIO, "there is no swap area")
        try:
            return self._area.load((SWAPPED - entries).tolist())
        except OSError as error:
            raise EngineError(EIO, f"the swap area cannot be read: {error.strerror}") from error

    def describe(self) -> str:
        """For the message of an error."""
        return f"{self.used} of {self.capacity} pages of swap used"

    def free_slots(self) -> set[int]:
        """Every free slot; for `check`."""
        return set(self._free) | set(range(self._fresh, self.capacity))
