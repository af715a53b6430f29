"""Where a mapping goes: fixed places, hints, and the search for a free range (Linux: get_unmapped_area).

Below a stack a gap is kept free for its growth. It keeps mappings that may go anywhere out, fixed ones it does not.
"""

from engine.address import VirtRange
from engine.constants import MAP_FIXED, MAP_FIXED_NOREPLACE
from engine.errors import EEXIST, EINVAL, ENOMEM, EPERM, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import GROWS_DOWN
from engine.regions.vma import Vma


def place(owner: AddressSpace, address: int, length: int, flags: int) -> VirtRange:
    """The range of a new mapping, in whole pages; checked in the order of Linux's do_mmap.

    EINVAL: no length, a fixed address that is not aligned; ENOMEM: no room; EPERM: below the user's range; EEXIST:
    NOREPLACE and something is there, or a fixed range that another owner or a segment holds.
    """
    geometry = owner.geometry
    if length <= 0:
        raise EngineError(EINVAL, f"length {length}")
    size = geometry.align_up(length)
    fixed = bool(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
    if size > geometry.user_end or (fixed and not 0 <= address <= geometry.user_end - size):
        raise EngineError(
            ENOMEM, f"{size} bytes at {address:#x} do not fit below {geometry.user_end:#x}", address=address
        )
    if len(owner.vmas) > owner.limits.map_count:
        raise EngineError(ENOMEM, f"more than {owner.limits.map_count} regions")
    if not fixed:
        hint = address & -geometry.page_size
        return find_free(owner, max(hint, geometry.user_start) if hint > 0 else 0, size)
    if not geometry.is_aligned(address):
        raise EngineError(EINVAL, f"address {address:#x} is not page aligned", address=address)
    if address < geometry.user_start:
        raise EngineError(EPERM, f"the user range starts at {geometry.user_start:#x}", address=address)
    wanted = VirtRange(address, address + size)
    if flags & MAP_FIXED_NOREPLACE:
        owner.refuse_collision(EEXIST, wanted)
    owner.refuse_peers(EEXIST, wanted)
    return wanted


def find_free(owner: AddressSpace, hint: int, size: int) -> VirtRange:
    """A free range of `size` bytes: at `hint` (0: none) if it is free there, else where the search finds one. ENOMEM.

    The search goes top down; only then, since it passes over what lies near a stack's gap, bottom up.
    """
    end = hint + size
    may_be_there = hint > 0 and end <= owner.geometry.user_end
    if may_be_there and not _overlapping(owner, hint, end) and _stack_room(owner, end) is None:
        return VirtRange(hint, end)
    searches = (_upwards,) if owner.bottom_up else (_downwards, _upwards)
    for search in searches:
        for low, high in owner.places:
            found = search(owner, low, high, size)
            if found is not None:
                return VirtRange(found, found + size)
    raise EngineError(ENOMEM, f"no free range of {size} bytes", length=size)


def gap_start(owner: AddressSpace, vma: Vma) -> int:
    """Where the room of a region of `owner` starts: for a stack below its first byte."""
    return vma.start - owner.geometry.stack_guard_gap if vma.flags & GROWS_DOWN else vma.start


def _downwards(owner: AddressSpace, low: int, high: int, size: int) -> int | None:
    end = high
    while end - size >= low:
        blockers = _overlapping(owner, end - size, end)
        if blockers:
            end = min(vma.start for vma in blockers)
            continue
        stack_room = _stack_room(owner, end)
        if stack_room is None:
            return end - size
        end = stack_room[0]
    return None


def _upwards(owner: AddressSpace, low: int, high: int, size: int) -> int | None:
    start = low
    while start + size <= high:
        blockers = _overlapping(owner, start, start + size)
        if blockers:
            start = max(vma.end for vma in blockers)
            continue
        stack_room = _stack_room(owner, start + size)
        if stack_room is None:
            return start
        start = stack_room[1]
    return None


def _overlapping(owner: AddressSpace, start: int, end: int) -> list[Vma]:
    """Of the owner and each peer the highest region in [start, end)."""
    found = (each.vmas.last_overlapping(start, end) for each in (owner, *owner.peers))
    return [vma for vma in found if vma is not None]


def _stack_room(owner: AddressSpace, end: int) -> tuple[int, int] | None:
    """The room (start, end) of the next region at or above `end`, if it is a stack whose gap reaches below `end`.

    Only the next region counts, as on Linux: a stack further up does not.
    """
    nexts = [(vma.start, each, vma) for each in (owner, *owner.peers) if (vma := each.vmas.above(end))]
    if not nexts:
        return None
    _, each, vma = min(nexts, key=lambda found: found[0])
    room = gap_start(each, vma)
    return (room, vma.end) if room < end else None
