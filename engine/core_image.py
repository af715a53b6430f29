"""What a core file shows: regions collected at one moment, and their bytes later, piece by piece.

Volatile memory is held by a copy-on-write clone, so its bytes are those of that moment whatever is stored meanwhile.
Of the persistent memory of spaces and segments only the regions and which pages exist are of that moment: each read
gives what is there when it is made.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import core_file
from engine.access import Access
from engine.core_file import Layout, Part, Process, runs_of
from engine.errors import EINVAL, EngineError
from engine.frames import ABSENT, STORED, SWAPPED, ZERO_FRAME
from engine.geometry import Geometry
from engine.memory_object import MemoryObject
from engine.page_map import LEAF_SHIFT, PageMap
from engine.vm_flags import DONT_DUMP
from engine.vma import Vma

Pages = NDArray[np.int64]
"""Page indexes of an object, ascending."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Pages [first, first + count) of an object; only the store knows which of them exist."""

    object_id: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class _Held:
    """One object: where its bytes are read, and its page map as it was."""

    memory: MemoryObject
    pages: PageMap


@dataclass(frozen=True, slots=True)
class _Window:
    """One region, which shows `held` from page `first` on."""

    start: int
    end: int
    access: Access
    held: _Held
    first: int
    count: int
    name: str
    offset: int


class CoreImage:
    """Made by the machine; to be released when the file is written, or nobody wants it any more."""

    def __init__(
        self,
        geometry: Geometry,
        process: Process,
        regions: Iterable[tuple[Vma, Access]],
        name_of: Callable[[Vma], str],
        is_alive: Callable[[MemoryObject], bool],
        images: "list[CoreImage]",
    ) -> None:
        """Regions that are marked as not to be dumped are left out. EINVAL: the geometry has no core files.

        The image is among `images`, those that hold memory, until it is released.
        """
        target = core_file.target_of(geometry)
        if target is None:
            raise EngineError(EINVAL, f"there are no core files of {geometry.name}")
        self._geometry = geometry
        self._target = target
        self._process = process
        self._is_alive = is_alive
        self._held: dict[MemoryObject, _Held] = {}
        self._windows = [
            self._window(vma, access, name_of(vma)) for vma, access in regions if not vma.flags & DONT_DUMP
        ]
        self._images = images
        images.append(self)

    def volatile(self) -> list[MemoryObject]:
        """The clones that it holds."""
        return [held.memory for held in self._held.values() if not held.memory.persistent]

    def unknown(self) -> list[Unknown]:
        """What the store must be asked before `layout` can be made."""
        ends: dict[int, tuple[int, int]] = {}
        for window in self._windows:
            if window.held.memory.persistent:
                first, end = window.first, window.first + window.count
                low, high = ends.get(window.held.memory.object_id, (first, end))
                ends[window.held.memory.object_id] = min(low, first), max(high, end)
        return [Unknown(object_id, low, high - low) for object_id, (low, high) in ends.items()]

    def layout(self, stored: Mapping[int, Sequence[int]]) -> Callable[[], Layout]:
        """A calculation, for any thread, of the file; `stored`: by object id the pages that exist in the store."""
        in_store: dict[int, Pages] = {}
        for held in self._held.values():
            known = np.array(stored.get(held.memory.object_id, ()), np.int64)
            in_store[held.memory.object_id] = known[held.pages.gather(known) == STORED]
        parts = [_part(window, in_store[window.held.memory.object_id]) for window in self._windows]
        for held in self._held.values():
            if held.memory.persistent:
                held.pages.clear()
        geometry, target, process = self._geometry, self._target, self._process
        return lambda: core_file.layout(geometry, target, process, parts)

    def read(self, number: int, first: int, count: int) -> bytes:
        """Pages of region `number`, counted from its start. PagesNeeded; zeros for memory that is gone."""
        window, page_size = self._windows[number], self._geometry.page_size
        memory = window.held.memory
        if not memory.persistent:
            return _bytes_of(memory, window.first + first, count)
        if not self._is_alive(memory):
            return bytes(count * page_size)
        return memory.read((window.first + first) * page_size, count * page_size)

    def release(self) -> None:
        """Give back what is held. Idempotent; `read` is of no use afterwards."""
        for held in self._held.values():
            held.pages.clear()
        self._held.clear()
        if self in self._images:
            self._images.remove(self)

    def _window(self, vma: Vma, access: Access, name: str) -> _Window:
        count = (vma.end - vma.start) >> self._geometry.page_shift
        offset = vma.offset if vma.shared or vma.sid else 0
        return _Window(vma.start, vma.end, access, self._hold(vma.obj), vma.offset, count, name, offset)

    def _hold(self, obj: MemoryObject) -> _Held:
        held = self._held.get(obj)
        if held is None:
            obj.journal.touch(obj)
            if obj.persistent:
                held = _Held(obj, obj.pages.copy())
                obj.journal.undo(held.pages.clear)
            else:
                memory = obj.clone()
                held = _Held(memory, memory.pages)
            self._held[obj] = held
        return held


def _bytes_of(memory: MemoryObject, first: int, count: int) -> bytes:
    """Pages of volatile memory, from frames and the swap area; nothing is brought in or put aside for it. EIO."""
    pool = memory.pool
    entries = memory.pages.entries(first, count)
    block = np.zeros((count, pool.page_size), np.uint8)
    framed, swapped = entries > ZERO_FRAME, entries <= SWAPPED
    block[framed] = pool.pages[entries[framed]]
    if pool.slots is not None and swapped.any():
        block[swapped] = np.frombuffer(pool.slots.load(entries[swapped]), np.uint8).reshape(
            -1, pool.page_size
        )
    return block.tobytes()


def _part(window: _Window, in_store: Pages) -> Part:
    low, high = np.searchsorted(in_store, (window.first, window.first + window.count)).tolist()
    present = _in_memory(window.held.pages, window.first, window.count)
    if low < high:
        present = np.union1d(present, in_store[low:high])
    runs = runs_of(present - window.first)
    return Part(window.start, window.end, window.access, runs, window.name, window.offset)


def _in_memory(pages: PageMap, first: int, count: int) -> Pages:
    """The pages of a range whose bytes are not in a store only, and are not the shared zero page."""
    found: list[Pages] = [np.empty(0, np.int64)]
    for number in pages.present(first, count):
        entries = pages.leaf(number)
        if entries is not None:
            here = np.flatnonzero((entries != ABSENT) & (entries != STORED) & (entries != ZERO_FRAME))
            found.append(here + (number << LEAF_SHIFT))
    joined = np.concatenate(found)
    return joined[(joined >= first) & (joined < first + count)]
