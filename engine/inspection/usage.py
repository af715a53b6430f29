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

from engine.memory.frames import SWAPPED, ZERO_FRAME, Frames
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, Leaf, PageNumbers
from engine.memory.page_table import EVERYTHING
from engine.memory.paged_memory import PagedMemory
from engine.regions.address_space import AddressSpace
from engine.regions.vma import Vma
from engine.union import Union

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
class Totals:
    """Bytes: private memory in frames, other memory that is mapped, private memory in the swap area."""

    anonymous: int
    shared: int
    swapped: int


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
    starts = _column(vma.start >> shift for _, vma in regions)
    pages = _column(vma.end >> shift for _, vma in regions) - starts
    vpns, frames = union.table.frames_in(0, EVERYTHING)
    vpns = vpns[frames != ZERO_FRAME]
    low, high = np.searchsorted(vpns, starts), np.searchsorted(vpns, starts + pages)
    anonymous, huge = np.zeros(count, np.int64), np.zeros(count, np.int64)
    resident, swapped, private = [], [], _NONE
    for memory in own_memory(union):
        own = np.array([number for number, (_, vma) in enumerate(regions) if vma.obj is memory], np.int64)
        here, aside = _private(memory, regions, own, pages, volatile)
        resident.append(here)
        swapped.append(aside)
        private = np.union1d(private, own)
        anonymous += np.bincount(here.region, minlength=count)
        for number in own.tolist():
            if pages[number] >= LEAF_PAGES:
                huge[number] = memory.pages.huge_pages(regions[number][1].offset, int(pages[number]))
    shared: dict[PagedMemory, list[tuple[int, PageNumbers]]] = {}
    for number in np.setdiff1d(np.flatnonzero(high > low), private).tolist():
        vma = regions[number][1]
        shown = vpns[low[number] : high[number]] - starts[number] + vma.offset
        shared.setdefault(vma.obj, []).append((number, shown))
    every = Pages.joined([*resident, *(_shared(obj, shown, shift) for obj, shown in shared.items())])
    return _summed(
        every, Pages.joined(swapped), page, count, (high - low) * page, anonymous * page, huge * page
    )


def totals(union: Union, regions: OwnedRegions) -> Totals:
    """Bytes of all regions together, without asking who shares them."""
    page, shift = union.page_size, union.own.geometry.page_shift
    entries = np.concatenate([_entries(memory)[1] for memory in own_memory(union)])
    resident = int(np.count_nonzero(entries > ZERO_FRAME))
    mapped = 0
    for _, vma in regions:
        if not union.own.owns(vma.obj):
            frames = union.table.frames_in(vma.start >> shift, (vma.end - vma.start) >> shift)[1]
            mapped += int(np.count_nonzero(frames != ZERO_FRAME))
    return Totals(resident * page, mapped * page, (len(entries) - resident) * page)


def own_memory(union: Union) -> list[MemoryObject]:
    """The task's private memory: what its views share, and what this one has alone."""
    own = union.own
    return [own.memory] if own.private is None else [own.memory, own.private]


def _column(numbers: Iterable[int]) -> Bytes:
    return np.fromiter(numbers, np.int64)


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


def _entries(memory: PagedMemory) -> tuple[PageNumbers, Frames]:
    """The pages that use a frame or a slot of the swap area, ascending, and their entries."""
    pages, found = [_NONE], [_NONE]
    for number, leaf in sorted(memory.pages.table.leaves.items()):
        here = np.flatnonzero((leaf.entries > ZERO_FRAME) | (leaf.entries <= SWAPPED))
        pages.append(here + (number << LEAF_SHIFT))
        found.append(leaf.entries[here])
    return np.concatenate(pages), np.concatenate(found)


def _private(
    memory: PagedMemory,
    regions: OwnedRegions,
    own: NDArray[np.int64],
    pages: Bytes,
    volatile: Callable[[], Iterable[PagedMemory]],
) -> tuple[Pages, Pages]:
    """Resident pages and swapped ones of the regions `own`, which show a task's own memory."""
    known, entries = _entries(memory)
    first = _column(regions[number][1].offset for number in own.tolist())
    low, high = np.searchsorted(known, first), np.searchsorted(known, first + pages[own])
    region = np.repeat(own, high - low)
    skipped = np.repeat(low - np.concatenate([[0], np.cumsum(high - low)[:-1]])[: len(low)], high - low)
    entries = entries[np.arange(len(region)) + skipped]
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


def _may_be_shared(memory: PagedMemory, frames: Frames) -> bool:
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


def _shared(obj: PagedMemory, shown: Sequence[tuple[int, PageNumbers]], shift: int) -> Pages:
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
