"""Huge pages: a leaf of a task's private memory whose pages are one run of frames (Linux: transparent huge pages).

A region advised HUGEPAGE gets them at the first write into a range that nothing was written to; MADV_COLLAPSE makes them
of pages that exist. Whatever changes a part of one splits it, which nobody can tell from its bytes.
"""

import numpy as np

from engine.errors import EINVAL, ENOMEM, EngineError
from engine.memory.frames import ABSENT, SWAPPED, ZERO_FRAME
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from engine.memory.paged_memory import PagedMemory
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import HUGEPAGE
from engine.regions.vma import Vma


def may_be_huge(owner: AddressSpace, vma: Vma) -> bool:
    """Whether a region's memory may be in huge pages: a task's private memory that is no image's, where there are any."""
    own = owner.owns(vma.obj) and not owner.vid and not vma.obj.store_id
    return own and not vma.shared and owner.geometry.has_huge_pages


def whole_leaves(first: int, count: int) -> range:
    """Numbers of the leaves that lie wholly in pages [first, first + count)."""
    return range(-(-first >> LEAF_SHIFT), (first + count) >> LEAF_SHIFT)


def promote(owner: AddressSpace, vma: Vma, page: int) -> bool:
    """Before the write of a page: let a huge page hold it and its surroundings, if nothing was written there yet."""
    if not vma.flags & HUGEPAGE or not may_be_huge(owner, vma):
        return False
    number = page >> LEAF_SHIFT
    if number not in whole_leaves(vma.offset, (vma.end - vma.start) >> owner.geometry.page_shift):
        return False
    entries = vma.obj.pages.leaf(number)
    if entries is not None and bool(((entries != ABSENT) & (entries != ZERO_FRAME)).any()):
        return False
    frames = vma.obj.huge_frames()
    if frames is None:
        return False
    vma.obj.collapse(number, frames)
    return True


def collapse(obj: PagedMemory, number: int) -> None:
    """Let one huge page hold the pages of a leaf. EINVAL: it has none; ENOMEM: no run of frames."""
    if obj.pages.is_huge(number):
        return
    entries = obj.pages.leaf(number)
    if entries is None or not bool(((entries > ZERO_FRAME) | (entries <= SWAPPED)).any()):
        raise EngineError(EINVAL, f"no page of leaf {number} exists")
    obj.swap_in(number << LEAF_SHIFT, np.array(entries))
    frames = obj.huge_frames()
    if frames is None:
        raise EngineError(ENOMEM, f"no run of {LEAF_PAGES} free page frames")
    obj.collapse(number, frames)
