"""mlock(2), munlock(2) and mincore(2)."""

import numpy as np

from engine.constants import MLOCK_ONFAULT, RLIM_INFINITY, WORD
from engine.errors import EINVAL, ENOMEM, EPERM, EngineError, PageFault
from engine.memory.frames import ABSENT
from engine.regions.vm_flags import LOCK_FLAGS, LOCK_ON_FAULT, LOCKED
from engine.union import Union


def mlock(seen: Union, address: int, length: int, flags: int = 0) -> None:
    """Keep pages resident; MLOCK_ONFAULT: from their first use on. The address is rounded down to its page.

    Pages of a space or a segment become resident, but are not kept so.

    EINVAL: flags, a range that wraps; EPERM: no memory may be locked; ENOMEM: the limit, a hole (what lies before it is
    locked), or memory that cannot be accessed.
    """
    if flags & ~MLOCK_ONFAULT:
        raise EngineError(EINVAL, f"flags {flags:#x}")
    limit = seen.own.limits.locked
    if not limit:
        raise EngineError(EPERM, "this task may not lock memory")
    start, end = _range(seen, address, length)
    if limit != RLIM_INFINITY:
        fresh = (end - start) - sum(
            min(vma.end, end) - max(vma.start, start)
            for vma in seen.overlapping(start, end)
            if vma.flags & LOCKED
        )
        seen.own.require_lockable(fresh, ENOMEM)
    _refuse_wrap(start, end)
    on_fault = LOCK_ON_FAULT if flags & MLOCK_ONFAULT else 0
    _set(seen, start, end, LOCKED | on_fault)
    if not on_fault and start < end:
        try:
            seen.populate_range(start, end, strict=True)
        except PageFault as fault:
            raise EngineError(ENOMEM, fault.detail, partial=True, address=fault.address) from fault


def munlock(seen: Union, address: int, length: int) -> None:
    """Undo mlock. EINVAL: a range that wraps; ENOMEM: a hole, what lies before it is unlocked."""
    start, end = _range(seen, address, length)
    _refuse_wrap(start, end)
    _set(seen, start, end, 0)


def mincore(seen: Union, address: int, length: int) -> bytes:
    """One byte for each page: 1 when it is resident. EINVAL: not aligned; ENOMEM: a hole, or past the user's range."""
    geometry = seen.own.geometry
    if not geometry.is_aligned(address) or address < 0:
        raise EngineError(EINVAL, f"mincore at {address:#x}", address=address)
    end = address + geometry.align_up(length)
    if length < 0 or end > geometry.user_end:
        raise EngineError(ENOMEM, f"{length} bytes at {address:#x} are not the user's", address=address)
    seen.touch()
    shift = geometry.page_shift
    told: list[bytes] = []
    for _, vma, low, high in seen.parts(address, end):
        seen.own.journal.touch(vma.obj)
        entries = vma.obj.pages.entries(vma.page_of(low, shift), (high - low) >> shift)
        told.append((entries > ABSENT).astype(np.uint8).tobytes())
    return b"".join(told)


def _range(seen: Union, address: int, length: int) -> tuple[int, int]:
    geometry = seen.own.geometry
    start = address & -geometry.page_size
    end = start + (geometry.align_up(length + address - start) & WORD)
    if address < 0 or length < 0:
        raise EngineError(EINVAL, f"{length} bytes at {address:#x}", address=address)
    return start, end


def _refuse_wrap(start: int, end: int) -> None:
    if end > WORD:
        raise EngineError(EINVAL, f"{end - start} bytes from {start:#x} wrap", address=start)


def _set(seen: Union, start: int, end: int, lock: int) -> None:
    seen.touch()
    for owner, vma, low, high in seen.parts(start, end):
        if owner.vid:
            continue  # it has many users, none of whom decides for the others
        try:
            owner.change(vma, low, high, vma.access, lock, LOCK_FLAGS)
        except EngineError as error:
            error.partial = error.partial or low > start
            raise
