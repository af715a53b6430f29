"""Stacks grow by themselves: an access below one, with nothing between, makes it longer (Linux: expand_stack)."""

from engine.address import VirtRange
from engine.address_space import AddressSpace
from engine.constants import RLIM_INFINITY
from engine.errors import EAGAIN, EFAULT, EngineError
from engine.vm_flags import GROWS_DOWN, LOCKED
from engine.vma import Vma


def growable(owner: AddressSpace, address: int) -> Vma | None:
    """The stack right above `address`, which no region holds."""
    above = owner.vmas.above(address)
    return above if above is not None and above.flags & GROWS_DOWN else None


def grow(owner: AddressSpace, vma: Vma, address: int) -> str | None:
    """Make the stack `vma` reach down to the page of `address`; why it may not, or None.

    A region that can be accessed keeps a gap above it free; limits are those of the stack, of the address space and of
    locked memory.
    """
    geometry = owner.geometry
    start = address & -geometry.page_size
    if start < geometry.user_start:
        return "below the user's range"
    limit = owner.limits.stack
    if limit != RLIM_INFINITY and vma.end - start > limit:
        return "no region"
    gap = geometry.stack_guard_gap
    for each in (owner, *owner.peers):
        below = each.vmas.below(start)
        if below is not None and not below.flags & GROWS_DOWN and below.access and start - below.end < gap:
            return f"stack guard gap above {below.range}"
    try:
        for peer in owner.peers:
            peer.refuse_held(EFAULT, VirtRange(start, vma.start))
        owner.require_room(vma.start - start, data=False)
        if vma.flags & LOCKED:
            owner.require_lockable(vma.start - start, EAGAIN)
    except EngineError as error:
        return error.detail
    owner.before_write(vma)
    grown = owner.vmas.find(vma.start)
    if grown is None:
        return "no region"
    pages = (vma.start - start) >> geometry.page_shift
    longer = grown._replace(start=start, offset=grown.offset - pages)
    owner.vmas.replace(start, grown.end, (longer,), join_left=False, join_right=False)
    owner.zap_on_undo(start, grown.start)
    return None
