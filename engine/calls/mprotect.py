"""mprotect(2)."""

from engine.access import Access, attach_limit
from engine.constants import PROT_ALL, PROT_GROWSDOWN, PROT_GROWSUP, PROT_SEM, WORD
from engine.errors import EACCES, EINVAL, ENOMEM, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import ACCOUNT, GROWS_DOWN, LOCK_FLAGS, LOCKED, NORESERVE, UNSHARED
from engine.regions.vma import Vma
from engine.union import Union


def mprotect(seen: Union, address: int, length: int, prot: int) -> None:
    """Give [address, address + length) other rights. What lies before the first failure stays changed.

    What views do not share changes in the thread's own view only. EINVAL: not aligned, unknown rights; ENOMEM: a hole,
    too many regions, the limit of data; EACCES: a region of a space or a segment that is attached read-only, or a
    range that views share in part.
    """
    geometry = seen.own.geometry
    if not geometry.is_aligned(address) or length < 0 or address < 0:
        raise EngineError(EINVAL, f"mprotect of {length} bytes at {address:#x}", address=address)
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP:
        raise EngineError(EINVAL, f"prot {prot:#x}: memory grows one way")
    if length == 0:
        return
    size = geometry.align_up(length) & WORD
    end = address + size
    if not size or end > WORD:
        raise EngineError(ENOMEM, f"{length} bytes at {address:#x} wrap", address=address)
    if prot & ~(PROT_ALL | PROT_SEM | grows):
        raise EngineError(EINVAL, f"prot {prot:#x}")
    seen.touch()
    start = _stack_start(seen, address, end) if grows == PROT_GROWSDOWN else address
    if grows == PROT_GROWSUP and seen.find(address) is not None:
        raise EngineError(EINVAL, "no memory grows upwards here", address=address)
    access = Access(prot & PROT_ALL)
    _refuse_mixture(seen, start, end)
    position = start
    while position < end:
        partial = position > start
        found = seen.find(position)
        if found is None:
            raise EngineError(ENOMEM, f"no region at {position:#x}", partial=partial, address=position)
        owner, vma = found
        stop = min(vma.end, end)
        try:
            _require_rights(seen, owner, vma, access)
            _change(seen, owner, vma, position, stop, access)
        except EngineError as error:
            error.partial = partial or error.partial
            error.data["address"] = position
            raise
        position = stop


def _stack_start(seen: Union, address: int, end: int) -> int:
    vma = seen.own.vmas.find(address) or seen.own.vmas.above(address)
    if vma is None or vma.start >= end:
        raise EngineError(ENOMEM, f"no region at {address:#x}", address=address)
    if not vma.flags & GROWS_DOWN:
        raise EngineError(EINVAL, f"{vma.range} is no stack", address=address)
    return vma.start


def _require_rights(seen: Union, owner: AddressSpace, vma: Vma, access: Access) -> None:
    if owner is seen.space and not seen.limit & Access.WRITE:
        raise EngineError(EACCES, "the space is attached read-only")
    if vma.sid and access & ~attach_limit(vma.type):
        raise EngineError(EACCES, f"segment {vma.sid} is attached read-only")


def _require_data(owner: AddressSpace, vma: Vma, length: int) -> None:
    """ENOMEM at the limit of data; it is not looked at when as much more would pass that of the address space, too."""
    if owner.has_room(length):
        for view in (owner,) if vma.flags & UNSHARED else owner.views:
            view.require_data(length)


def _refuse_mixture(seen: Union, start: int, end: int) -> None:
    """EACCES when the range has shared parts and unshared ones: rights of these are the view's alone (mmview)."""
    if seen.own.private is None:
        return
    kinds = {vma.flags & UNSHARED for vma in seen.overlapping(start, end)}
    if len(kinds) > 1:
        raise EngineError(EACCES, f"{start:#x}-{end:#x} is shared between views in part", address=start)


def _change(seen: Union, owner: AddressSpace, vma: Vma, start: int, end: int, access: Access) -> None:
    """Linux's mprotect_fixup: becoming writable is counted, and no longer being so may be forgotten."""
    flags, gained, lost = vma.flags, 0, 0
    writable = bool(access & Access.WRITE)
    if writable and not vma.access & Access.WRITE and not vma.shared and not flags & GROWS_DOWN:
        _require_data(owner, vma, end - start)
    if not owner.vid and access != vma.access:
        if not writable and flags & ACCOUNT and not vma.shared and not vma.anon:
            lost = ACCOUNT
        elif (
            writable
            and not vma.shared
            and not vma.access & Access.WRITE
            and not flags & (ACCOUNT | NORESERVE)
        ):
            gained = ACCOUNT
    owner.change(vma, start, end, access, gained, lost)
    if writable and flags & LOCK_FLAGS == LOCKED and not vma.shared and not vma.access & Access.WRITE:
        seen.populate_range(start, end)
