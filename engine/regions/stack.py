"""Stacks grow by themselves: an access below one, with nothing between, makes it longer (Linux: expand_stack)."""

from engine.address import VirtRange
from engine.constants import RLIM_INFINITY
from engine.errors import EAGAIN, EFAULT, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import GROWS_DOWN, LOCKED
from engine.regions.vma import Replacement, Vma, replace_all


def growable(owner: AddressSpace, address: int) -> Vma | None:
    """The stack right above `address`, if no region holds that."""
    if owner.vmas.find(address) is not None:
        return None  # held, though it may not be seen here
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
    far = owner.limits.stack != RLIM_INFINITY and vma.end - start > owner.limits.stack
    for each in (owner, *owner.peers):
        below = each.vmas.below(start)
        if below is None or below.flags & GROWS_DOWN or not below.access:
            continue
        if start - below.end < geometry.stack_guard_gap:
            return "no region" if far else f"stack guard gap above {below.range}"
    owner.before_write(vma)
    if far:
        return "no region"
    stack = owner.vmas.find(vma.start) or vma
    try:
        for peer in owner.peers:
            peer.refuse_held(EFAULT, VirtRange(start, stack.start))
        owner.require_room(stack.start - start, data=False)
        if stack.flags & LOCKED:
            owner.require_lockable(stack.start - start, EAGAIN)
    except EngineError as error:
        return error.detail
    pages = (stack.start - start) >> geometry.page_shift
    replacements = []
    for view in owner.views:
        there = view.vmas.find(stack.start) or stack
        longer = there._replace(start=start, offset=there.offset - pages)
        replacements.append(Replacement(view.vmas, start, there.end, (longer,), False, False))
        view.zap_on_undo(start, stack.start)
    replace_all(replacements)
    return None
