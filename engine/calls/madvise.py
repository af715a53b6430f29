"""madvise(2), and the advice of the VAS patches' later tree (SEMANTICS 1.14)."""

from collections.abc import Callable
from typing import Final

from engine import constants as c
from engine.access import Access, attach_limit
from engine.address_space import AddressSpace
from engine.errors import EACCES, EINVAL, ENOMEM, EngineError
from engine.paging import free_lazily, page_out, read_ahead
from engine.union import Union
from engine.vm_flags import (
    DONT_COPY,
    DONT_DUMP,
    HUGEPAGE,
    LOCKED,
    NOHUGEPAGE,
    RAND_READ,
    SEQ_READ,
    VAS_PRIVATE,
)
from engine.vma import Vma

_FLAGS: Final = {
    c.MADV_NORMAL: (0, RAND_READ | SEQ_READ),
    c.MADV_RANDOM: (RAND_READ, SEQ_READ),
    c.MADV_SEQUENTIAL: (SEQ_READ, RAND_READ),
    c.MADV_DONTFORK: (DONT_COPY, 0),
    c.MADV_DOFORK: (0, DONT_COPY),
    c.MADV_DONTDUMP: (DONT_DUMP, 0),
    c.MADV_DODUMP: (0, DONT_DUMP),
    c.MADV_HUGEPAGE: (HUGEPAGE, NOHUGEPAGE),
    c.MADV_NOHUGEPAGE: (NOHUGEPAGE, HUGEPAGE),
    c.MADV_VAS_PRIVATE: (VAS_PRIVATE, 0),
    c.MADV_VAS_SHARED: (0, VAS_PRIVATE),
}
"""Advice that sets flags of regions: (those set, those taken away)."""
_HUGE: Final = frozenset({c.MADV_HUGEPAGE, c.MADV_NOHUGEPAGE, c.MADV_COLLAPSE})
_POPULATE: Final = frozenset({c.MADV_POPULATE_READ, c.MADV_POPULATE_WRITE})


def madvise(seen: Union, address: int, length: int, advice: int) -> None:
    """Follow `advice` for [address, address + length); at a hole ENOMEM, after both sides have followed it.

    EINVAL: unknown advice, not aligned, advice that a region there cannot follow; ENOMEM: a hole (POPULATE stops
    there); EACCES: it would change a space or a segment that is attached read-only.
    """
    geometry = seen.own.geometry
    if advice not in _FLAGS and advice not in _DEEDS and advice not in _POPULATE:
        raise EngineError(EINVAL, f"advice {advice}")
    if advice in _HUGE and not geometry.has_huge_pages:
        raise EngineError(EINVAL, f"{geometry.name} has no huge pages here")
    end = address + geometry.align_up(length)
    if not geometry.is_aligned(address) or address < 0 or length < 0 or end >= 1 << 64:
        raise EngineError(EINVAL, f"madvise of {length} bytes at {address:#x}", address=address)
    if not length:
        return
    seen.touch()
    if advice in _POPULATE:
        _populate(seen, address, end, advice)
        return
    position, hole = address, None
    for owner, vma in seen.owned_in(address, end):
        low, high = max(vma.start, address), min(vma.end, end)
        if low > position and hole is None:
            hole = position
        try:
            _follow(seen, owner, vma, low, high, advice)
        except EngineError as error:
            error.partial = low > address
            raise
        position = high
    if hole is not None or position < end:
        hole = position if hole is None else hole
        raise EngineError(ENOMEM, f"no region at {hole:#x}", partial=True, address=hole)


def _follow(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int, advice: int) -> None:
    deed = _DEEDS.get(advice)
    if deed is not None:
        deed(seen, owner, vma, low, high)
        return
    if advice == c.MADV_VAS_SHARED and owner is seen.space:
        raise EngineError(EINVAL, "a space's region is never part of a task's own memory", address=low)
    if advice == c.MADV_VAS_PRIVATE and owner is seen.space:
        return
    gained, lost = _FLAGS[advice]
    owner.change(vma, low, high, vma.access, vma.flags & ~lost | gained)


def _discard(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """DONTNEED: private memory reads as zeros from now on; shared memory keeps its bytes."""
    if vma.flags & LOCKED:
        raise EngineError(EINVAL, f"{vma.range} is locked", address=low)
    _discard_locked(seen, owner, vma, low, high)


def _discard_locked(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    if vma.shared:
        owner.zap(low, high)
        return
    _require_change(seen, owner, "MADV_DONTNEED")
    shift = owner.geometry.page_shift
    vma.obj.discard(vma.page_of(low, shift), (high - low) >> shift)


def _free(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """FREE: private memory may be taken when frames run short, until it is written again."""
    if vma.shared or vma.flags & LOCKED:
        raise EngineError(EINVAL, f"{vma.range} is {'shared' if vma.shared else 'locked'}", address=low)
    _require_change(seen, owner, "MADV_FREE")
    shift = owner.geometry.page_shift
    free_lazily(vma.obj, vma.page_of(low, shift), (high - low) >> shift)


def _remove(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """REMOVE: shared memory reads as zeros from now on, for everybody."""
    if vma.flags & LOCKED or not vma.shared:
        raise EngineError(EINVAL, f"{vma.range} is {'locked' if vma.shared else 'private'}", address=low)
    _require_change(seen, owner, "MADV_REMOVE")
    if vma.sid and not attach_limit(vma.type) & Access.WRITE:
        raise EngineError(EACCES, f"segment {vma.sid} is attached read-only", address=low)
    shift = owner.geometry.page_shift
    vma.obj.discard(vma.page_of(low, shift), (high - low) >> shift)


def _fetch(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """WILLNEED: what is in the store or swapped out is read now."""
    shift = owner.geometry.page_shift
    read_ahead(vma.obj, vma.page_of(low, shift), (high - low) >> shift)


def _page_out(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """PAGEOUT: what can be had again from the store or from swap leaves its frames now."""
    _refuse_locked(seen, owner, vma, low, high)
    shift = owner.geometry.page_shift
    page_out(vma.obj, vma.page_of(low, shift), (high - low) >> shift)


def _refuse_locked(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """COLD: nothing but that locked memory is not cold."""
    if vma.flags & LOCKED:
        raise EngineError(EINVAL, f"{vma.range} is locked", address=low)


def _collapse(seen: Union, owner: AddressSpace, vma: Vma, low: int, high: int) -> None:
    """COLLAPSE: make huge pages of what lies in [low, high), aligned to them."""
    raise EngineError(EINVAL, "not yet", address=low)


def _require_change(seen: Union, owner: AddressSpace, what: str) -> None:
    if owner is seen.space:
        seen.require_write(what)


def _populate(seen: Union, start: int, end: int, advice: int) -> None:
    wanted = Access.WRITE if advice == c.MADV_POPULATE_WRITE else Access.READ
    for owner, vma, low, high in seen.parts(start, end):
        if not seen.rights(vma, owner) & wanted:
            raise EngineError(EINVAL, f"{vma.range} is {vma.access}", partial=low > start, address=low)
        seen.fault_in(owner, vma, low, high, wanted)


_Deed = Callable[[Union, AddressSpace, Vma, int, int], None]
_DEEDS: Final[dict[int, _Deed]] = {
    c.MADV_WILLNEED: _fetch,
    c.MADV_DONTNEED: _discard,
    c.MADV_FREE: _free,
    c.MADV_REMOVE: _remove,
    c.MADV_COLD: _refuse_locked,
    c.MADV_PAGEOUT: _page_out,
    c.MADV_DONTNEED_LOCKED: _discard_locked,
    c.MADV_COLLAPSE: _collapse,
}
"""Advice that does something with the pages of one region's part."""
