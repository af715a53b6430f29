"""msync(2)."""

from engine.constants import MS_ASYNC, MS_INVALIDATE, MS_SYNC, WORD
from engine.errors import EBUSY, EINVAL, ENOMEM, EngineError
from engine.regions.vm_flags import LOCKED
from engine.union import Union


def msync(seen: Union, address: int, length: int, flags: int) -> None:
    """Make earlier relaxed writes durable, at once: of [address, address + length), of everything seen for length 0.

    EINVAL: not aligned, unknown or contradicting flags; ENOMEM: a hole in the range, whose other parts are synced;
    EBUSY: MS_INVALIDATE of locked memory.
    """
    geometry = seen.own.geometry
    both = MS_ASYNC | MS_SYNC
    unknown = flags & ~(both | MS_INVALIDATE)
    if not geometry.is_aligned(address) or length < 0 or unknown or flags & both == both:
        raise EngineError(
            EINVAL, f"msync of {length} bytes at {address:#x}, flags {flags:#x}", address=address
        )
    size = geometry.align_up(length) & WORD
    if length and not size:
        return
    seen.touch()
    end = address + size if length else geometry.user_end
    if end > WORD:
        raise EngineError(ENOMEM, f"{length} bytes at {address:#x} wrap", address=address)
    shift = geometry.page_shift
    position, hole = address, None
    for vma in seen.overlapping(address, end):
        if vma.start > position and hole is None:
            hole = position
        if length and flags & MS_INVALIDATE and vma.flags & LOCKED:
            raise EngineError(EBUSY, f"{vma.range} is locked", partial=True, address=vma.start)
        low, high = max(vma.start, address), min(vma.end, end)
        vma.obj.flush(vma.page_of(low, shift), (high - low) >> shift)
        seen.own.journal.touch(vma.obj)
        position = vma.end
    if position < end and hole is None:
        hole = position
    if length and hole is not None:
        raise EngineError(ENOMEM, f"no region at {hole:#x}", partial=True, address=hole)
