"""madvise(2), and the advice of the VAS patches' later tree (SEMANTICS 1.14)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine import constants as c
from engine.access import Access, attach_limit
from engine.errors import EACCES, EAGAIN, EINVAL, ENOMEM, EngineError
from engine.memory.paging import free_lazily, read_ahead
from engine.memory.reclaim import Range, Reclaim
from engine.regions.address_space import AddressSpace
from engine.regions.huge import collapse, may_be_huge, whole_leaves
from engine.regions.vm_flags import (
    DONT_COPY,
    DONT_DUMP,
    HUGEPAGE,
    LOCKED,
    NOHUGEPAGE,
    RAND_READ,
    SEQ_READ,
    VAS_PRIVATE,
)
from engine.regions.vma import Vma
from engine.union import Union

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


def madvise(seen: Union, address: int, length: int, advice: int, reclaim: Reclaim) -> None:
    """Follow `advice` for [address, address + length); at a hole ENOMEM, after both sides have followed it.

    EINVAL: unknown advice, not aligned, advice that a region there cannot follow; ENOMEM: a hole (POPULATE stops
    there); EAGAIN: too many regions; EACCES: it would change a space or a segment that is attached read-only.
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
    paged_out: list[Range] = []
    for owner, vma in seen.owned_in(address, end):
        low, high = max(vma.start, address), min(vma.end, end)
        if low > position and hole is None:
            hole = position
        try:
            _follow(Part(seen, owner, vma, low, high, paged_out), advice)
        except EngineError as error:
            error.partial = error.partial or low > address
            raise
        position = high
    if paged_out:
        reclaim.page_out(paged_out)
    if hole is not None or position < end:
        hole = position if hole is None else hole
        raise EngineError(ENOMEM, f"no region at {hole:#x}", partial=True, address=hole)


@dataclass(frozen=True, slots=True)
class Part:
    """What of one region the advice is about: [low, high)."""

    seen: Union
    owner: AddressSpace
    vma: Vma
    low: int
    high: int
    paged_out: list[Range]
    """What is to be paged out, when all parts are known."""

    @property
    def first(self) -> int:
        """The first page, of the region's memory object."""
        return self.vma.page_of(self.low, self.owner.geometry.page_shift)

    @property
    def count(self) -> int:
        """Pages."""
        return (self.high - self.low) >> self.owner.geometry.page_shift

    def refuse(self, flag: int, what: str) -> None:
        """EINVAL when the region has the flag."""
        if self.vma.flags & flag:
            raise EngineError(EINVAL, f"{self.vma.range} is {what}", address=self.low)

    def require_change(self, what: str) -> None:
        """EACCES when bytes of a space or a segment that is attached read-only would change."""
        if self.owner is self.seen.space:
            self.seen.require_write(what)
        if self.vma.sid and not attach_limit(self.vma.type) & Access.WRITE:
            raise EngineError(EACCES, f"segment {self.vma.sid} is attached read-only", address=self.low)


def _follow(part: Part, advice: int) -> None:
    deed = _DEEDS.get(advice)
    if deed is not None:
        deed(part)
        return
    owner, vma = part.owner, part.vma
    if owner is part.seen.space and advice == c.MADV_VAS_SHARED:
        raise EngineError(EINVAL, "a space's region is never part of a task's own memory", address=part.low)
    if owner.vid:
        return  # a hint: a space keeps no flags, since nobody would know them after a restart
    gained, lost = _FLAGS[advice]
    try:
        owner.change(vma, part.low, part.high, vma.access, gained, lost)
    except EngineError as error:
        raise EngineError(EAGAIN, error.detail, partial=error.partial, address=part.low) from error


def _discard(part: Part) -> None:
    """DONTNEED: private memory reads as zeros from now on; shared memory keeps its bytes."""
    part.refuse(LOCKED, "locked")
    _discard_locked(part)


def _discard_locked(part: Part) -> None:
    if part.vma.shared:
        part.owner.zap(part.low, part.high)
        return
    part.require_change("MADV_DONTNEED")
    part.vma.obj.discard(part.first, part.count)


def _free(part: Part) -> None:
    """FREE: private memory may be taken when frames run short, until it is written again."""
    part.refuse(LOCKED, "locked")
    if part.vma.shared:
        raise EngineError(EINVAL, f"{part.vma.range} is shared", address=part.low)
    part.require_change("MADV_FREE")
    free_lazily(part.vma.obj, part.first, part.count)


def _remove(part: Part) -> None:
    """REMOVE: shared memory reads as zeros from now on, for everybody."""
    part.refuse(LOCKED, "locked")
    if not part.vma.shared:
        raise EngineError(EINVAL, f"{part.vma.range} is private", address=part.low)
    part.require_change("MADV_REMOVE")
    part.vma.obj.discard(part.first, part.count)


def _fetch(part: Part) -> None:
    """WILLNEED: what is in the store or swapped out is read now."""
    read_ahead(part.vma.obj, part.first, part.count)


def _page_out(part: Part) -> None:
    """PAGEOUT: what can be had again from the store or from swap leaves its frames now."""
    part.refuse(LOCKED, "locked")
    part.paged_out.append(Range(part.vma.obj, part.first, part.count))


def _cool(part: Part) -> None:
    """COLD: locked memory is not; other memory goes first anyway if it was not written for long."""
    part.refuse(LOCKED, "locked")


def _collapse(part: Part) -> None:
    """COLLAPSE: every huge page that fits into the part holds its pages from now on.

    EINVAL: memory that is not a task's private, was never written or is not to be in huge pages; none fits into the
    region, or none could begin or end in the part; nothing there. ENOMEM: no run of frames.
    """
    owner, vma = part.owner, part.vma
    part.refuse(NOHUGEPAGE, "not to be in huge pages")
    pages = (vma.end - vma.start) >> owner.geometry.page_shift
    leaves = whole_leaves(part.first, part.count)
    fits = whole_leaves(vma.offset, pages) and leaves.start <= leaves.stop
    if not may_be_huge(owner, vma) or not vma.anon or not fits:
        raise EngineError(EINVAL, f"{vma.range} cannot be in huge pages there", address=part.low)
    for number in leaves:
        collapse(vma.obj, number)


def _populate(seen: Union, start: int, end: int, advice: int) -> None:
    wanted = Access.WRITE if advice == c.MADV_POPULATE_WRITE else Access.READ
    for owner, vma, low, high in seen.parts(start, end):
        if not seen.rights(vma, owner) & wanted:
            raise EngineError(EINVAL, f"{vma.range} is {vma.access}", partial=low > start, address=low)
        try:
            seen.fault_in(owner, vma, low, high, wanted)
        except EngineError as error:
            error.partial = error.partial or low > start
            raise


_DEEDS: Final[dict[int, Callable[[Part], None]]] = {
    c.MADV_WILLNEED: _fetch,
    c.MADV_DONTNEED: _discard,
    c.MADV_FREE: _free,
    c.MADV_REMOVE: _remove,
    c.MADV_COLD: _cool,
    c.MADV_PAGEOUT: _page_out,
    c.MADV_DONTNEED_LOCKED: _discard_locked,
    c.MADV_COLLAPSE: _collapse,
}
"""Advice that does something with pages."""
