"""What a core file shows: regions collected at one moment, and their bytes later, piece by piece.

Volatile memory is held by a copy-on-write clone, so its bytes are those of that moment whatever is stored meanwhile.
Of the persistent memory of spaces and segments only the regions and which pages exist are of that moment: each read
gives what is there when it is made.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.access import Access
from engine.address import PageIndex
from engine.credentials import Credentials
from engine.errors import EINVAL, EngineError
from engine.geometry import Geometry
from engine.inspection import core_file
from engine.inspection.core_file import Layout, Process, Regions, runs_of
from engine.memory.frames import ABSENT, STORED, ZERO_FRAME
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_SHIFT, PageMap
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import DONT_DUMP
from engine.regions.vma import Vma
from engine.spaces.spaces import Space
from engine.union import Union

Pages = NDArray[np.int64]
"""Page indexes of an object."""
_NONE: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Pages [first, first + count) of an object; only the store knows which of them exist."""

    object_id: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class _Held:
    """One object: where its bytes are read, its page map as it was, and the regions that show it: (number, first page)."""

    memory: MemoryObject
    pages: PageMap
    windows: list[tuple[int, int]]


MayRead = Callable[[MemoryObject], bool]
"""Whether persistent memory may be read now; a core file is read for long."""


def while_attached(union: Union, exists: MayRead) -> MayRead:
    """What a thread sees of its space, as long as that is attached and shows it."""
    space = union.space

    def may_read(obj: MemoryObject) -> bool:
        attached = space is not None and any(other is union for other in space.unions)
        return attached and exists(obj) and space is not None and _shows(space, obj)

    return may_read


def while_readable(space: Space, cred: Credentials, exists: MayRead) -> MayRead:
    """A space's own regions, as long as it exists, shows them, and its mode lets the caller read."""

    def may_read(obj: MemoryObject) -> bool:
        return bool(space.owner.rights_of(cred) & Access.READ) and exists(obj) and _shows(space.memory, obj)

    return may_read


def _shows(space: AddressSpace, obj: MemoryObject) -> bool:
    return obj is space.memory or space.vmas.shows(obj)


class CoreImage:
    """Made by the machine; to be released when the file is written, or nobody wants it any more."""

    def __init__(
        self,
        geometry: Geometry,
        process: Process,
        regions: Iterable[tuple[Vma, Access]],
        name_of: Callable[[Vma], str],
        may_read: MayRead,
        images: "list[CoreImage]",
    ) -> None:
        """Regions that are marked as not to be dumped are left out. EINVAL: the geometry has no core files.

        `may_read` is asked again before persistent memory is read. The image is among `images`, those that hold memory, until it is released.
        """
        target = core_file.target_of(geometry)
        if target is None:
            raise EngineError(EINVAL, f"there are no core files of {geometry.name}")
        self._geometry = geometry
        self._target = target
        self._process = process
        self._may_read = may_read
        self._held: dict[MemoryObject, _Held] = {}
        self._windows: list[tuple[_Held, int]] = []
        shown = [(vma, access) for vma, access in regions if not vma.flags & DONT_DUMP]
        names = []
        for number, (vma, _) in enumerate(shown):
            held = self._held.get(vma.obj) or self._hold(vma.obj)
            held.windows.append((number, vma.offset))
            self._windows.append((held, vma.offset))
            name = name_of(vma)
            if name:
                names.append((number, name, vma.offset if vma.shared else 0))
        bounds = np.array([(vma.start, vma.end, access) for vma, access in shown], np.int64).reshape(-1, 3)
        self._regions = Regions(bounds[:, 0], bounds[:, 1], bounds[:, 2], names)
        self._images = images
        images.append(self)

    def volatile(self) -> list[MemoryObject]:
        """The clones that it holds."""
        return [held.memory for held in self._held.values() if not held.memory.persistent]

    def unknown(self) -> list[Unknown]:
        """What the store must be asked before `layout` can be made."""
        found = []
        for held in self._held.values():
            if held.memory.store_id:
                first, end = self._shown_by(held)
                low = int(first.min())
                found.append(Unknown(held.memory.store_id, low, int(end.max()) - low))
        return found

    def layout(self, stored: Mapping[int, Sequence[int]]) -> Callable[[], Layout]:
        """A calculation, for any thread, of the file; `stored`: by object id the pages that exist in the store."""
        regions, pages = [_NONE], [_NONE]
        for held in self._held.values():
            known = np.array(stored.get(held.memory.store_id, ()), np.int64)
            present = _in_memory(held.pages)
            if len(known):
                present = np.union1d(present, known[held.pages.gather(known) == STORED])
            first, end = self._shown_by(held)
            for number, low, high, start in zip(
                [number for number, _ in held.windows],
                np.searchsorted(present, first).tolist(),
                np.searchsorted(present, end).tolist(),
                first.tolist(),
                strict=True,
            ):
                if low < high:
                    regions.append(np.full(high - low, number, np.int64))
                    pages.append(present[low:high] - start)
            if held.memory.persistent:
                held.pages.clear()
        geometry, target, process, bounds = self._geometry, self._target, self._process, self._regions

        def calculate() -> Layout:
            region, page = np.concatenate(regions), np.concatenate(pages)
            order = np.lexsort((page, region))
            return core_file.layout(geometry, target, process, bounds, runs_of(region[order], page[order]))

        return calculate

    def read(self, number: int, first: int, count: int) -> bytes:
        """Pages of region `number`, counted from its start. PagesNeeded; zeros for memory that is gone, or may not be read any more."""
        held, start = self._windows[number]
        memory, page_size = held.memory, self._geometry.page_size
        if not memory.persistent:
            entries = memory.pages.entries(start + first, count)
            memory.require(
                [PageIndex(start + first + at) for at in np.flatnonzero(entries == STORED).tolist()]
            )
            return memory.peek(entries)
        if not self._may_read(memory):
            return bytes(count * page_size)
        return memory.read((start + first) * page_size, count * page_size)

    def release(self) -> None:
        """Give back what is held. Idempotent; `read` is of no use afterwards."""
        for held in self._held.values():
            held.pages.clear()
            if not held.memory.persistent:
                held.memory.release()
        self._forget()

    def undo(self) -> None:
        """The image was never made; the clones that it holds take themselves back."""
        for held in self._held.values():
            held.pages.clear()
        self._forget()

    def _forget(self) -> None:
        self._held.clear()
        if self in self._images:
            self._images.remove(self)

    def _shown_by(self, held: _Held) -> tuple[Pages, Pages]:
        """First and end page of an object in each of its regions."""
        numbers, first = np.array(held.windows, np.int64).T
        bytes_of = self._regions.ends[numbers] - self._regions.starts[numbers]
        return first, first + (bytes_of >> self._geometry.page_shift)

    def _hold(self, obj: MemoryObject) -> _Held:
        obj.journal.touch(obj)
        if obj.persistent:
            held = _Held(obj, obj.pages.copy(), [])
            obj.journal.undo(held.pages.clear)
        else:
            memory = obj.clone()
            held = _Held(memory, memory.pages, [])
        self._held[obj] = held
        return held


def _in_memory(pages: PageMap) -> Pages:
    """The pages whose bytes are not in a store only, and are not the shared zero page."""
    found = [_NONE]
    for number, leaf in sorted(pages.table.leaves.items()):
        entries = leaf.entries
        here = np.flatnonzero((entries != ABSENT) & (entries != STORED) & (entries != ZERO_FRAME))
        found.append(here + (number << LEAF_SHIFT))
    return np.concatenate(found)
