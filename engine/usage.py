"""How much memory each region uses, counted as Linux does for smaps; the pages of all regions at once.

A task's private pages count as resident when they have a frame, and are shared by the tasks whose memory shows that
frame. Pages of shared memory, of spaces and of segments count when this view has an entry for them, and are shared by
the views that have one. What was written and is nowhere else yet is dirty: all volatile memory, and those pages of
persistent memory that the store does not have. The zero page counts nowhere.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.address_space import AddressSpace
from engine.frames import SWAPPED, ZERO_FRAME, Frames
from engine.memory_object import MemoryObject
from engine.page_map import LEAF_PAGES, LEAF_SHIFT, Leaf, PageNumbers
from engine.paged_memory import PagedMemory
from engine.union import Union
from engine.vma import Vma

Bytes = NDArray[np.int64]
"""One number for each region."""
OwnedRegions = Sequence[tuple[AddressSpace, Vma]]

_PSS_SHIFT: Final = 12
"""Shares are summed up in fractions of a byte, as Linux does, so that they add up."""
_NONE: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes by region; `pss` and its like divide each page by the number of its users."""

    rss: Bytes
    pss: Bytes
    pss_dirty: Bytes
    shared_clean: Bytes
    shared_dirty: Bytes
    private_clean: Bytes
    private_dirty: Bytes
    referenced: Bytes
    anonymous: Bytes
    lazy_free: Bytes
    anon_huge: Bytes
    swap: Bytes
    swap_pss: Bytes


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages that use memory, in parallel arrays: their region, how many use them, and what they are."""

    region: NDArray[np.int64]
    users: NDArray[np.int64]
    dirty: NDArray[np.bool_]
    lazy: NDArray[np.bool_]

    @staticmethod
    def joined(parts: Sequence["Pages"]) -> "Pages":
        """All of them."""
        none = Pages(_NONE, _NONE, _NONE.astype(np.bool_), _NONE.astype(np.bool_))
        every = [none, *parts]
        return Pages(
            np.concatenate([part.region for part in every]),
            np.concatenate([part.users for part in every]),
            np.concatenate([part.dirty for part in every]),
            np.concatenate([part.lazy for part in every]),
        )


def usage(union: Union, regions: OwnedRegions, volatile: Callable[[], Iterable[PagedMemory]]) -> Usage:
    """Of regions that `union` shows; `volatile` names all memory that may share frames with it."""
    shift, page, count = union.own.geometry.page_shift, union.page_size, len(regions)
    private: list[tuple[int, Frames]] = []
    shared: dict[MemoryObject, list[tuple[int, PageNumbers]]] = {}
    referenced, huge = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for number, (owner, vma) in enumerate(regions):
        pages = (vma.end - vma.start) >> shift
        seen, frames = union.table.frames_in(vma.start >> shift, pages)
        seen = seen[frames != ZERO_FRAME]
        referenced[number] = len(seen)
        if vma.obj is not union.own.memory or owner is not union.own:
            if len(seen):
                shown = seen - (vma.start >> shift) + vma.offset
                shared.setdefault(vma.obj, []).append((number, shown))
            continue
        entries = _entries(vma.obj, vma.offset, pages)
        if len(entries):
            private.append((number, entries))
            huge[number] = vma.obj.pages.huge_pages(vma.offset, pages)
    own, swapped = _private(union.own.memory, private, volatile)
    resident = Pages.joined([own, *(_shared(obj, shown, shift) for obj, shown in shared.items())])
    only_private = np.bincount(own.region, minlength=count)
    return _summed(resident, swapped, page, count, referenced * page, only_private * page, huge * page)


def _summed(
    resident: Pages, swapped: Pages, page: int, count: int, referenced: Bytes, anonymous: Bytes, huge: Bytes
) -> Usage:
    several, dirty = resident.users > 1, resident.dirty

    def total(where: NDArray[np.bool_]) -> Bytes:
        return np.bincount(resident.region[where], minlength=count) * page

    def share(pages: Pages, where: NDArray[np.bool_]) -> Bytes:
        parts = (page << _PSS_SHIFT) // pages.users[where]
        summed = np.bincount(pages.region[where], weights=parts, minlength=count)
        return summed.astype(np.int64) >> _PSS_SHIFT

    everything = np.ones(len(dirty), np.bool_)
    return Usage(
        rss=total(everything),
        pss=share(resident, everything),
        pss_dirty=share(resident, dirty),
        shared_clean=total(several & ~dirty),
        shared_dirty=total(several & dirty),
        private_clean=total(~several & ~dirty),
        private_dirty=total(~several & dirty),
        referenced=referenced,
        anonymous=anonymous,
        lazy_free=total(resident.lazy),
        anon_huge=huge,
        swap=np.bincount(swapped.region, minlength=count) * page,
        swap_pss=share(swapped, np.ones(len(swapped.region), np.bool_)),
    )


def _entries(obj: MemoryObject, first: int, count: int) -> Frames:
    """The entries of a range that use a frame or a slot of the swap area."""
    found = []
    for number in obj.pages.present(first, count):
        entries = obj.pages.leaf(number)
        if entries is not None:
            start = number << LEAF_SHIFT
            part = entries[max(first - start, 0) : min(first + count - start, LEAF_PAGES)]
            found.append(part[(part > ZERO_FRAME) | (part <= SWAPPED)])
    return np.concatenate(found) if found else _NONE


def _private(
    memory: MemoryObject,
    regions: Sequence[tuple[int, Frames]],
    volatile: Callable[[], Iterable[PagedMemory]],
) -> tuple[Pages, Pages]:
    """Resident pages and swapped ones of a task's own memory."""
    entries = np.concatenate([_NONE, *(part for _, part in regions)])
    region = np.repeat([number for number, _ in regions], [len(part) for _, part in regions]).astype(np.int64)
    framed = entries > ZERO_FRAME
    frames, slots = entries[framed], SWAPPED - entries[~framed]
    pool = memory.pool
    if len(slots) or _may_be_shared(memory, frames):
        by_frame, by_slot = _users(volatile(), len(pool.refs), int(slots.max(initial=-1)) + 1)
        users, slot_users = by_frame[frames], by_slot[slots]
    else:
        users, slot_users = np.ones(len(frames), np.int64), _NONE
    lazy = pool.lazy[frames]
    flags = np.zeros(len(slots), np.bool_)
    return Pages(region[framed], users, ~lazy, lazy), Pages(region[~framed], slot_users, flags, flags)


def _may_be_shared(memory: MemoryObject, frames: Frames) -> bool:
    table = memory.pages.table
    return (
        table.refs > 1
        or any(leaf.refs > 1 for leaf in table.leaves.values())
        or bool(len(frames) and memory.pool.refs[frames].max() > 1)
    )


def _users(objects: Iterable[PagedMemory], frames: int, slots: int) -> tuple[Frames, Frames]:
    """How many of `objects` show each frame, and each slot below `slots`; leaves and tables that are shared count so."""
    leaves: dict[int, tuple[Leaf, int]] = {}
    for obj in objects:
        for leaf in obj.pages.table.leaves.values():
            leaves[id(leaf)] = (leaf, leaves.get(id(leaf), (leaf, 0))[1] + 1)
    by_frame, by_slot = np.zeros(frames, np.int64), np.zeros(slots, np.int64)
    for leaf, times in leaves.values():
        entries = leaf.entries
        by_frame[entries[entries > ZERO_FRAME]] += times
        there = SWAPPED - entries[entries <= SWAPPED]
        by_slot[there[there < slots]] += times
    return np.maximum(by_frame, 1), np.maximum(by_slot, 1)


def _shared(obj: MemoryObject, shown: Sequence[tuple[int, PageNumbers]], shift: int) -> Pages:
    """Pages of memory that views map, with the number of views."""
    mapped = [_NONE]
    for mapper in obj.mappers:
        if isinstance(mapper, AddressSpace):
            for vma in mapper.vmas:
                if vma.obj is obj:
                    mapped.extend(_mapped(mapper, vma, shift))
    every, counts = np.unique(np.concatenate(mapped), return_counts=True)
    region = np.repeat([number for number, _ in shown], [len(pages) for _, pages in shown]).astype(np.int64)
    pages = np.concatenate([part for _, part in shown])
    users = counts[np.searchsorted(every, pages)]
    if obj.persistent:
        dirty = np.isin(pages, np.fromiter(obj.dirty, np.int64, len(obj.dirty)))
    else:
        dirty = np.ones(len(pages), np.bool_)
    return Pages(region, users, dirty, np.zeros(len(pages), np.bool_))


def _mapped(owner: AddressSpace, vma: Vma, shift: int) -> Iterable[PageNumbers]:
    """For each view of `owner` the pages of the region's memory that it has entries for."""
    first, count = vma.start >> shift, (vma.end - vma.start) >> shift
    for union in owner.unions:
        pages, frames = union.table.frames_in(first, count)
        yield pages[frames != ZERO_FRAME] - first + vma.offset
