"""Physical memory: page frames in one array, with reference counts and runs of free frames."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from engine.errors import ENOMEM, EngineError
from engine.geometry import Geometry
from engine.invariant import invariant

if TYPE_CHECKING:
    from engine.memory.swap import Slots

Frames = NDArray[np.int64]
"""Frame numbers, or entries of a page map: ABSENT, STORED or a frame number."""

ABSENT: Final = 0
"""Page-map entry of a page that reads as zeros and has no frame."""
STORED: Final = -1
"""Page-map entry of a page whose bytes are in the store only."""
SWAPPED: Final = -2
"""Page-map entries from here down: SWAPPED - slot, a page whose bytes are in the swap area."""
ZERO_FRAME: Final = 1
"""The shared zero page: mapped read-only wherever memory was read before it was written. Not counted."""
_FIRST: Final = 2
_RUNS_MAX: Final = 1024
LEAVES_MIN: Final = 4096
LEAVES_PART: Final = 4
"""Page maps may take as much memory as one in so many frames; sparse use of much address space is not for nothing."""


def runs(frames: Frames) -> list[tuple[int, int, int]]:
    """Split into runs of consecutive frames: (position in `frames`, first frame, count)."""
    if len(frames) == 1:
        return [(0, frames.item(0), 1)]
    breaks = (frames[1:] - frames[:-1] != 1).nonzero()[0]
    if not len(breaks):
        return [(0, frames.item(0), len(frames))]
    starts = [0, *(breaks + 1).tolist()]
    ends = [*starts[1:], len(frames)]
    return [(a, frames.item(a), b - a) for a, b in zip(starts, ends, strict=True)]


class FramePool:
    """`capacity` frames of one page each. Memory of the host is used only for frames that were ever written.

    `refs[frame]` counts the page-map leaves and undo records that hold the frame (I5). `lazy` marks frames whose bytes
    may be thrown away (MADV_FREE). `slots` are those of the swap area, whose references are counted alike.
    `leaves` counts those of all page maps, each about a frame's worth of the host's memory.
    `stamps[frame]` is the serial of the last transaction that allocated or wrote it: while that is open, its undo
    records name the frame by number, and the frame must stay where it is (`Journal.oldest_open`).
    """

    __slots__ = (
        "_count_leaves",
        "_free",
        "_fresh",
        "_reclaim",
        "_runs_max",
        "capacity",
        "free_count",
        "geometry",
        "lazy",
        "leaves",
        "leaves_max",
        "memory",
        "page_size",
        "pages",
        "refs",
        "slots",
        "stamps",
    )

    def __init__(self, geometry: Geometry, capacity: int, slots: "Slots | None" = None) -> None:
        self.geometry = geometry
        self.page_size = geometry.page_size
        self.capacity = capacity
        flat = np.zeros((capacity + _FIRST) * self.page_size, np.uint8)
        self.memory = flat.data
        self.pages = flat.reshape(capacity + _FIRST, self.page_size)
        self.refs = np.zeros(capacity + _FIRST, np.int32)
        self.stamps = np.zeros(capacity + _FIRST, np.int64)
        self.lazy = np.zeros(capacity + _FIRST, np.bool_)
        self.slots = slots
        self._fresh = _FIRST
        self._free: list[tuple[int, int]] = []
        self._runs_max = _RUNS_MAX
        self.free_count = capacity
        self._reclaim: Callable[[int], object] = lambda wanted: None
        self.leaves = 0
        self.leaves_max = max(LEAVES_MIN, capacity // LEAVES_PART)
        self._count_leaves: Callable[[], int] = lambda: self.leaves

    def on_shortage(self, reclaim: Callable[[int], object]) -> None:
        """Install what tries to free `wanted` frames when the pool runs dry."""
        self._reclaim = reclaim

    def on_leaf_shortage(self, count_leaves: Callable[[], int]) -> None:
        """Install what counts the leaves that exist: those that nobody cleared are gone, too."""
        self._count_leaves = count_leaves

    def charge_leaf(self) -> None:
        """One page-map leaf more. ENOMEM: there are too many for this machine."""
        if self.leaves >= self.leaves_max:
            self.leaves = self._count_leaves()
        if self.leaves >= self.leaves_max:
            raise EngineError(ENOMEM, f"page maps have {self.leaves} leaves, {self.leaves_max} are allowed")
        self.leaves += 1

    def reserve(self, count: int) -> None:
        """Try to have `count` frames free; may evict, which `allocate` never does."""
        if count > self.free_count:
            self._reclaim(count - self.free_count)

    def refuse(self, count: int) -> NoReturn:
        """ENOMEM: `count` frames are not to be had."""
        swap = self.slots.describe() if self.slots is not None else "there is no swap"
        raise EngineError(
            ENOMEM,
            f"{count} page frames wanted, {self.free_count} of {self.capacity} free; {swap}",
            length=count * self.page_size,
        )

    def allocate(self, count: int, *, zeroed: bool) -> Frames:
        """`count` frames with one reference each, consecutive where possible. ENOMEM: the resident limit."""
        if count > self.free_count:
            self.refuse(count)
        self.free_count -= count
        if count == 1 and not self._free:
            self._fresh += 1
            self.refs[self._fresh - 1] = 1
            return np.array((self._fresh - 1,), np.int64)
        parts: list[Frames] = [] if count else [np.empty(0, np.int64)]
        wanted = count
        while wanted and self._free:
            first, length = self._free.pop()
            taken = min(length, wanted)
            if taken < length:
                self._free.append((first + taken, length - taken))
            wanted -= taken
            part = np.arange(first, first + taken)
            if zeroed:
                self.pages[first : first + taken] = 0
            parts.append(part)
        if wanted:
            parts.append(np.arange(self._fresh, self._fresh + wanted))
            self._fresh += wanted
        frames = np.concatenate(parts) if len(parts) != 1 else parts[0]
        self.refs[frames] = 1
        return frames

    def allocate_one(self, *, zeroed: bool) -> int:
        """`allocate` of one frame."""
        if not self.free_count or not self._free:
            return self.allocate(1, zeroed=zeroed).item(0)
        self.free_count -= 1
        frame, length = self._free.pop()
        if length > 1:
            self._free.append((frame + 1, length - 1))
        if zeroed:
            self.pages[frame] = 0
        self.refs[frame] = 1
        return frame

    def allocate_run(self, count: int) -> Frames | None:
        """`count` consecutive frames of zeros, with one reference each; None when there is no such run."""
        for position in range(len(self._free) - 1, -1, -1):
            first, length = self._free[position]
            if length >= count:
                self._free[position : position + 1] = (
                    [(first + count, length - count)] if length > count else []
                )
                self.pages[first : first + count] = 0
                break
        else:
            first = self._fresh
            if first + count > self.capacity + _FIRST:
                return None
            self._fresh += count
        self.free_count -= count
        self.refs[first : first + count] = 1
        return np.arange(first, first + count)

    def hold(self, entries: Frames) -> None:
        """One more reference for each frame among `entries`, which are unique but for the zero frame."""
        self.refs[entries[entries >= _FIRST]] += 1
        if self.slots is not None and self.slots.used:
            self.slots.hold(entries)

    def release(self, entries: Frames) -> None:
        """Drop one reference of each frame among `entries`; frames without references become free."""
        if self.slots is not None and self.slots.used:
            forgotten = self.slots.release(entries)
            if len(forgotten):
                self.release(forgotten)
        frames = entries[entries >= _FIRST]
        if not len(frames):
            return
        counts = self.refs[frames] - 1
        self.refs[frames] = counts
        if counts.min() < 0:
            invariant(False, "I5: a frame was released more often than held")
        dead = frames[counts == 0]
        if len(dead):
            self.lazy[dead] = False
            self.free_count += len(dead)
            dead.sort()
            self._free.extend((first, count) for _, first, count in runs(dead))
            if len(self._free) > self._runs_max:
                self._coalesce()

    def release_one(self, frame: int) -> None:
        """`release` of one frame that is counted."""
        count = self.refs.item(frame) - 1
        if count < 0:
            invariant(False, "I5: a frame was released more often than held")
        self.refs[frame] = count
        if not count:
            self.lazy[frame] = False
            self.free_count += 1
            self._free.append((frame, 1))
            if len(self._free) > self._runs_max:
                self._coalesce()

    def copy(self, source: int, target: int) -> None:
        """Make the bytes of frame `target` those of `source`."""
        self.pages[target] = self.pages[source]

    def _coalesce(self) -> None:
        merged: list[tuple[int, int]] = []
        for first, count in sorted(self._free):
            if merged and merged[-1][0] + merged[-1][1] == first:
                merged[-1] = (merged[-1][0], merged[-1][1] + count)
            else:
                merged.append((first, count))
        self._free = merged
        self._runs_max = max(_RUNS_MAX, 2 * len(merged))

    def free_frames(self) -> set[int]:
        """Every free frame; for `check`."""
        recycled = {frame for first, count in self._free for frame in range(first, first + count)}
        return recycled | set(range(self._fresh, self.capacity + _FIRST))

    def read(self, frames: Frames, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` bytes into the first of `frames`, in order."""
        if len(frames) == 1:
            start = frames.item(0) * self.page_size + offset
            return self.memory[start : start + length].tobytes()
        pieces = []
        for position, first, count in runs(frames):
            low = max(position * self.page_size, offset)
            high = min((position + count) * self.page_size, offset + length)
            base = (first - position) * self.page_size
            pieces.append(self.memory[base + low : base + high])
        return pieces[0].tobytes() if len(pieces) == 1 else b"".join(pieces)

    def write(self, frames: Frames, offset: int, data: memoryview) -> None:
        """Store `data` from `offset` bytes into the first of `frames`, in order."""
        if len(frames) == 1:
            start = frames.item(0) * self.page_size + offset
            self.memory[start : start + len(data)] = data
            return
        for position, first, count in runs(frames):
            low = max(position * self.page_size, offset)
            high = min((position + count) * self.page_size, offset + len(data))
            base = (first - position) * self.page_size
            self.memory[base + low : base + high] = data[low - offset : high - offset]

    def restore(self, start: int, before: bytes) -> None:
        """Put bytes back that were at byte `start` of all memory."""
        self.memory[start : start + len(before)] = before
