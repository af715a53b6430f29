"""brk(2)."""

from engine.access import READ_WRITE
from engine.address import VirtRange
from engine.constants import RLIM_INFINITY
from engine.errors import ENOMEM, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.placement import gap_start
from engine.regions.vm_flags import ACCOUNT
from engine.regions.vma import Vma


def brk(owner: AddressSpace, address: int) -> int:
    """The new break, or the present one when `address` is below the heap's start. ENOMEM: the break stays.

    One page above the heap stays free. Growth merges with the heap below only, as Linux's does.
    """
    owner.touch_neighbours()
    heap = owner.brk
    if address < heap.start:
        return heap.now
    page = owner.geometry.align_up
    old_end, new_end = page(heap.now), page(address)
    limit = owner.limits.data
    if address > heap.top or (limit != RLIM_INFINITY and address - heap.start > limit):
        raise EngineError(
            ENOMEM, f"the heap cannot pass {min(heap.top, heap.start + limit):#x}", address=address
        )
    if new_end > old_end:
        _grow(owner, old_end, new_end)
    elif new_end < old_end:
        lowest = next(iter(owner.vmas.overlapping(new_end, old_end)), None)
        if lowest is None:
            raise EngineError(ENOMEM, f"no region at {new_end:#x}", address=new_end)
        owner.unmap(new_end, old_end)
    before = heap.now
    heap.now = address
    owner.journal.undo(lambda: setattr(heap, "now", before))
    return address


def _grow(owner: AddressSpace, start: int, end: int) -> None:
    page_size = owner.geometry.page_size
    owner.refuse_collision(ENOMEM, VirtRange(start, end))
    for each in (owner, *owner.peers):
        above = each.vmas.above(end)
        if above is not None and gap_start(each, above) < end + page_size:
            wanted = VirtRange(start, end + page_size)
            raise EngineError(
                ENOMEM,
                f"{wanted}, the heap and one free page, meets {above.range} of {each.holder(above)}",
                address=end,
                wanted=wanted,
                held=above.range,
                holder=each.holder(above),
            )
    owner.require_room(end - start, data=True)
    if len(owner.vmas) > owner.limits.map_count:
        raise EngineError(ENOMEM, f"more than {owner.limits.map_count} regions")
    shift = owner.geometry.page_shift
    grown = Vma(start, end, READ_WRITE, owner.memory, start >> shift, flags=ACCOUNT)
    owner.map(grown, join_left=start > owner.brk.start, join_right=False)
