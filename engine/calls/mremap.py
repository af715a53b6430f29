"""mremap(2): shrink, grow where it is, or move; with MREMAP_DONTUNMAP what was moved stays mapped, empty.

In the order of Linux 6.18's mm/mremap.c; only a failure half way of a move over several regions keeps what was done.
"""

from dataclasses import dataclass

from engine.address import VirtRange
from engine.calls.mmap import munmap
from engine.constants import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, WORD
from engine.errors import EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOMEM, EPERM, Collision, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.limited import is_data
from engine.regions.moving import SPARE_REGIONS, extend, move
from engine.regions.placement import find_free
from engine.regions.vm_flags import LOCKED
from engine.regions.vma import Vma
from engine.union import Union


@dataclass(frozen=True, slots=True)
class Remap:
    """One call's wish, in whole pages: `old` bytes at `address` become `new` bytes, at `target` if that is implied."""

    address: int
    old: int
    new: int
    flags: int
    target: int

    @property
    def target_implied(self) -> bool:
        """Whether the region moves in any case."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))


def mremap(
    seen: Union, old_addr: int, old_size: int, new_size: int, flags: int = 0, new_addr: int = 0
) -> int:
    """Give the memory at `old_addr` another size or place; its new address. An old size of 0 shows shared memory twice.

    EINVAL: alignment, sizes, flags, overlapping ranges; EFAULT: no region, or more than one to grow; ENOMEM: no room
    and MREMAP_MAYMOVE not given, or a limit; EAGAIN: the limit of locked memory; EBUSY: a segment; EEXIST: the target
    is another owner's; EACCES: the space is attached read-only; EPERM: the target is below the user's range.
    """
    align = seen.own.geometry.align_up
    wish = Remap(old_addr, align(old_size) & WORD, align(new_size) & WORD, flags, new_addr)
    _require_valid(seen, wish, old_size)
    _require_spare_regions(seen, wish)
    seen.touch()
    if flags & MREMAP_FIXED and wish.old == wish.new:
        return _move_all(seen, wish)
    owner, vma = _source(seen, wish)
    if not wish.target_implied and wish.new <= wish.old:
        if wish.new < wish.old:
            munmap(seen, old_addr + wish.new, wish.old - wish.new)
        return old_addr
    _require_growth(owner, vma, wish)
    if wish.target_implied:
        return _move_to(seen, owner, vma, wish)
    grown = _grow_in_place(seen, owner, vma, wish)
    if grown is not None:
        return grown
    if not flags & MREMAP_MAYMOVE:
        raise EngineError(
            ENOMEM, f"{vma.range} has no room to grow and may not move", address=old_addr + wish.old
        )
    return _move(seen, owner, vma, wish, find_free(owner, 0, wish.new).start)


def _require_valid(seen: Union, wish: Remap, old_size: int) -> None:
    geometry, flags = seen.own.geometry, wish.flags
    reason = None
    if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP):
        reason = f"flags {flags:#x}"
    elif not geometry.is_aligned(wish.address) or wish.address < 0 or old_size < 0:
        reason = f"{old_size} bytes at {wish.address:#x}"
    elif not 0 < wish.new <= geometry.user_end:
        reason = f"new size {wish.new}"
    elif wish.target_implied:
        if not 0 <= wish.target <= geometry.user_end - wish.new or not geometry.is_aligned(wish.target):
            reason = f"new address {wish.target:#x}"
        elif not flags & MREMAP_MAYMOVE:
            reason = "MREMAP_FIXED and MREMAP_DONTUNMAP need MREMAP_MAYMOVE"
        elif flags & MREMAP_DONTUNMAP and wish.old != wish.new:
            reason = "MREMAP_DONTUNMAP keeps the size"
        elif wish.address < wish.target + wish.new and wish.target < (wish.address + wish.old) & WORD:
            reason = "the old and the new place overlap"
    if reason is not None:
        raise EngineError(EINVAL, reason, address=wish.address)


def _require_spare_regions(seen: Union, wish: Remap) -> None:
    """ENOMEM so near the greatest number of regions that a move could stop half way."""
    limit = seen.own.limits.map_count
    if wish.target_implied and len(seen.own.vmas) + 2 >= limit - SPARE_REGIONS:
        raise EngineError(ENOMEM, f"{len(seen.own.vmas)} of at most {limit} regions exist")


def _source(seen: Union, wish: Remap) -> tuple[AddressSpace, Vma]:
    found = seen.find(wish.address)
    if found is None:
        raise EngineError(EFAULT, f"no region at {wish.address:#x}", address=wish.address)
    owner, vma = found
    _require_movable(seen, owner, vma, wish)
    return owner, vma


def _require_movable(seen: Union, owner: AddressSpace, vma: Vma, wish: Remap) -> None:
    if owner is seen.space:
        seen.require_write("mremap")
    if vma.sid:
        wanted = VirtRange(wish.address, wish.address + max(wish.old, wish.new))
        raise Collision(EBUSY, wanted, vma.range, owner.holder(vma))


def _require_growth(owner: AddressSpace, vma: Vma, wish: Remap) -> None:
    """What Linux checks of a region before it grows or moves."""
    if not wish.old and (not vma.shared or owner.vid):
        raise EngineError(EINVAL, "only shared memory of a task can be shown twice", address=wish.address)
    if min(wish.old, wish.new) > vma.end - wish.address:
        raise EngineError(EFAULT, f"{vma.range} ends before the old size does", address=vma.end)
    growth = wish.new - wish.old
    if growth <= 0:
        return
    if vma.flags & LOCKED:
        owner.require_lockable(growth, EAGAIN)
    owner.require_room(growth, data=is_data(vma))


def _grow_in_place(seen: Union, owner: AddressSpace, vma: Vma, wish: Remap) -> int | None:
    """Make the region longer if it ends with the old size and room follows; its address."""
    end = wish.address + wish.new
    if wish.address + wish.old != vma.end or end > owner.geometry.user_end:
        return None
    if any(each.vmas.overlapping(vma.end, end) for each in (owner, *owner.peers)):
        return None
    owner.touch_neighbours()
    extend(owner, vma, end)
    if vma.flags & LOCKED:
        seen.populate_range(vma.end, end)
    return wish.address


def _move_all(seen: Union, wish: Remap) -> int:
    """Move every region in the old range, and the gaps between them, to the target (Linux: remap_move)."""
    end = wish.address + wish.old
    position, moved = wish.address, False
    while position < end:
        found = seen.first_in(position, end)
        if found is None and moved:
            break
        if found is None or (not moved and found[1].start > position):
            raise EngineError(EFAULT, f"no region at {position:#x}", address=position)
        owner, vma = found
        start, stop = max(vma.start, position), min(vma.end, end)
        piece = Remap(start, stop - start, stop - start, wish.flags, wish.target + start - wish.address)
        try:
            _require_movable(seen, owner, vma, piece)
            _move_to(seen, owner, vma, piece)
        except EngineError as error:
            error.partial = moved or error.partial
            raise
        position, moved = stop, True
    return wish.target


def _move_to(seen: Union, owner: AddressSpace, vma: Vma, wish: Remap) -> int:
    """Move to the implied target; with MREMAP_FIXED it is emptied first, else it is a hint."""
    if wish.flags & MREMAP_DONTUNMAP:
        owner.require_room(wish.old, data=is_data(vma))
    if not wish.flags & MREMAP_FIXED:
        target = find_free(owner, wish.target, wish.new).start
        if target < owner.geometry.user_start:
            raise EngineError(EPERM, f"{target:#x} is below the user's range", address=target)
        return _move(seen, owner, vma, wish, target)
    if wish.target < owner.geometry.user_start:
        raise EngineError(EPERM, f"{wish.target:#x} is below the user's range", address=wish.target)
    owner.touch_neighbours()
    owner.refuse_peers(EEXIST, VirtRange(wish.target, wish.target + wish.new))
    owner.unmap(wish.target, wish.target + wish.new)
    try:
        return _move_shrunk(seen, owner, wish)
    except EngineError as error:
        error.partial = not owner.vid  # a task's target stays empty, as on Linux; a space's comes back
        raise


def _move_shrunk(seen: Union, owner: AddressSpace, wish: Remap) -> int:
    """Move what is left after its end was cut off, to the place that was emptied for it."""
    source = owner.vmas.find(wish.address)
    if source is None:
        raise EngineError(EFAULT, f"no region at {wish.address:#x}", address=wish.address)
    if wish.new < wish.old:
        munmap(seen, wish.address + wish.new, wish.old - wish.new)
        wish = Remap(wish.address, wish.new, wish.new, wish.flags, wish.target)
        source = owner.vmas.find(wish.address) or source
    return _move(seen, owner, source, wish, wish.target)


def _move(seen: Union, owner: AddressSpace, vma: Vma, wish: Remap, target: int) -> int:
    """Move to where room is."""
    stays = bool(wish.flags & MREMAP_DONTUNMAP)
    move(owner, vma, wish.address, wish.old, target, wish.new, stays=stays)
    if vma.flags & LOCKED and wish.new > wish.old:
        seen.populate_range(target + wish.old, target + wish.new)
    return target
