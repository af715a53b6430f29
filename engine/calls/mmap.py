"""mmap(2) and munmap(2)."""

from engine.access import Access
from engine.constants import (
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_STACK,
    MAP_TYPE,
)
from engine.errors import EAGAIN, EINVAL, EPERM, EngineError
from engine.memory.memory_object import MemoryObject
from engine.regions.address_space import AddressSpace
from engine.regions.placement import place
from engine.regions.vm_flags import ACCOUNT, GROWS_DOWN, LOCKED, NOHUGEPAGE, NORESERVE
from engine.regions.vma import Vma
from engine.union import Union


def mmap(seen: Union, address: int, length: int, prot: int, flags: int) -> int:
    """Map `length` bytes of zeros; the address. Inside a space the region is the space's.

    EINVAL, EEXIST, ENOMEM, EPERM as `placement.place`; EINVAL: flags; EPERM, EAGAIN: the limit of locked memory;
    ENOMEM: the limit of the address space or of data; EACCES: the space is attached read-only.
    """
    owner = seen.owner_of_new("mmap")
    owner.touch_neighbours()
    wanted = place(owner, address, length, flags)
    if flags & MAP_LOCKED and not seen.own.limits.locked:
        raise EngineError(EPERM, "this task may not lock memory")
    if flags & MAP_LOCKED and not owner.vid:
        owner.require_lockable(wanted.length, EAGAIN)
    if flags & MAP_TYPE not in (MAP_PRIVATE, MAP_SHARED) or not flags & MAP_ANONYMOUS:
        raise EngineError(
            EINVAL, f"flags {flags:#x}: one of MAP_PRIVATE and MAP_SHARED, and MAP_ANONYMOUS, are needed"
        )
    shared = flags & MAP_TYPE == MAP_SHARED
    if shared and flags & MAP_GROWSDOWN:
        raise EngineError(EINVAL, "shared memory does not grow")
    access = Access(prot & Access.ALL)
    data = bool(access & Access.WRITE) and not shared and not flags & MAP_GROWSDOWN
    _require_room(owner, wanted.start, wanted.end, data=data)
    memory, offset = owner.memory, wanted.start >> owner.geometry.page_shift
    if shared and not owner.vid:
        pages = wanted.length >> owner.geometry.page_shift
        memory, offset = MemoryObject(owner.memory.pool, owner.journal, length=pages), 0
    owner.unmap(wanted.start, wanted.end)
    kept = region_flags(owner, flags, access, shared=shared)
    owner.map(Vma(wanted.start, wanted.end, access, memory, offset, shared=shared, flags=kept))
    if flags & (MAP_POPULATE | MAP_LOCKED):
        seen.populate_range(wanted.start, wanted.end)
    return wanted.start


def munmap(seen: Union, address: int, length: int) -> None:
    """Drop whatever lies there, of either owner; holes do not matter.

    EINVAL: not aligned, no length, past the user's range; EACCES: the space is attached read-only; EBUSY: a segment
    lies there; ENOMEM: the split would make too many regions.
    """
    geometry = seen.own.geometry
    end = address + geometry.align_up(length)
    if not geometry.is_aligned(address) or length <= 0 or address < 0 or end > geometry.user_end:
        raise EngineError(EINVAL, f"munmap of {length} bytes at {address:#x}", address=address)
    seen.touch()
    space = seen.space
    if space is None:
        seen.own.unmap(address, end)
        return
    if space.vmas.overlapping(address, end):
        seen.require_write("munmap")
        space.refuse_segments(address, end)
        space.unmap(address, end)
    for vma in seen.own.vmas.overlapping(address, end):
        if seen.shows(vma):
            seen.own.unmap(max(vma.start, address), min(vma.end, end))


def region_flags(owner: AddressSpace, flags: int, access: Access, *, shared: bool) -> int:
    """The flags of a new region. A space's have none: nobody would know them after a restart."""
    if owner.vid:
        return 0
    kept = LOCKED if flags & MAP_LOCKED else 0
    if flags & MAP_STACK and owner.geometry.has_huge_pages:
        kept |= NOHUGEPAGE
    if flags & MAP_NORESERVE:
        kept |= NORESERVE
    elif access & Access.WRITE and not shared:
        kept |= ACCOUNT
    return kept | GROWS_DOWN if flags & MAP_GROWSDOWN else kept


def _require_room(owner: AddressSpace, start: int, end: int, *, data: bool) -> None:
    """ENOMEM; what was to be replaced is then split at the edges, as on Linux."""
    held = owner.vmas.overlapping(start, end)
    replaced = sum(min(vma.end, end) - max(vma.start, start) for vma in held)
    try:
        owner.require_room(end - start - replaced, data=data)
    except EngineError as error:
        owner.cut(start)
        owner.cut(end)
        error.partial = True
        raise
