"""Regions that get longer or move (mremap), in every view of a task or in none."""

from collections.abc import Iterable

from engine.errors import ENOMEM, EngineError
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from engine.regions.address_space import AddressSpace, Placed, map_all
from engine.regions.vm_flags import LOCK_FLAGS
from engine.regions.vma import Replacement, Vma, replace_all

SPARE_REGIONS = 3
"""A move may split regions at both ends of both places."""


def extend(owner: AddressSpace, vma: Vma, end: int) -> None:
    """Let the region `vma`, above which nothing is, end at `end`. ENOMEM: too many regions."""
    shift = owner.geometry.page_shift
    placed = []
    for view in owner.views:
        last = view.vmas.find(vma.end - 1) or vma
        offset = last.page_of(vma.end, shift)
        piece = last._replace(start=vma.end, end=end, offset=offset, forked=False)
        above = view.vmas.find(end)
        joins = above is not None and piece.merges_with(above, shift)  # also if a parent has these pages
        if above is not None and joins:
            piece = piece.merged_with(above)
        placed.append(Placed(view, piece, join_right=not joins))  # one neighbour on each side, as on Linux
    map_all(placed)


def move(
    owner: AddressSpace, vma: Vma, address: int, old: int, target: int, new: int, *, stays: bool
) -> None:
    """Move `old` bytes of `vma` from `address` to `target`, where `new` bytes are shown and nothing is yet.

    `stays`: what was moved stays mapped, without its pages. ENOMEM: too many regions, too many leaves; PagesNeeded.
    """
    shift = owner.geometry.page_shift
    page, count, place = vma.page_of(address, shift), old >> shift, target >> shift
    moving = _own_memory(owner, vma) if count else []
    for memory in moving[1:]:
        _reserve(memory, page, count, place)
    placed: list[Placed] = []
    for view in owner.views:
        there = _moved(view, address, old, target, new)
        if len(view.vmas) + len(there) - 1 >= view.vmas.limit - SPARE_REGIONS:
            raise EngineError(ENOMEM, f"a move needs {SPARE_REGIONS} regions more than there may be")
        placed += there
    map_all(placed)
    for memory in moving:
        memory.move(page, count, place)
    for view in owner.views:
        view.zap(address, address + old)
    if stays:
        _leave_empty(owner, address, old, target)
    elif old:
        owner.unmap(address, address + old)


def _moved(view: AddressSpace, address: int, old: int, target: int, new: int) -> list[Placed]:
    """What shows the moved memory at its new place; the last region has what the memory grows by."""
    shift = view.geometry.page_shift
    shown = view.vmas.find(address)
    parts = (
        view.parts(address, address + old) if old else [shown.part(address, address, shift)] if shown else []
    )
    placed = []
    for number, part in enumerate(parts):
        start = target + part.start - address
        end = target + new if number == len(parts) - 1 else start + part.end - part.start
        there = part._replace(start=start, end=end)
        if view.owns(part.obj):
            place = start >> shift
            moved = part.offset + part.moved - place if part.anon else 0
            there = there._replace(offset=place, moved=moved)
        placed.append(Placed(view, there))
    return placed


def _own_memory(owner: AddressSpace, vma: Vma) -> list[MemoryObject]:
    """Whose pages move: what the views share, or what each has of its own."""
    if vma.obj is owner.memory:
        return [owner.memory]
    if vma.obj is owner.private:
        return [view.private for view in owner.views if view.private is not None]
    return []


def _reserve(memory: MemoryObject, first: int, count: int, to: int) -> None:
    """Make the leaves at the new place, so that no move is refused when others have moved."""
    for number in memory.pages.present(first, count):
        start = max(first, number << LEAF_SHIFT)
        stop = min(first + count, (number << LEAF_SHIFT) + LEAF_PAGES)
        memory.writable_entries(start + to - first, stop - start)


def _leave_empty(owner: AddressSpace, address: int, length: int, target: int) -> None:
    """What was moved stays mapped without its pages, no longer locked; as if never written if all of it moved."""
    end = address + length
    replace_all(
        [
            Replacement(
                view.vmas, left.start, left.end, (_emptied(left, address, end, target),), False, False
            )
            for view, left in _left(owner.views, address, end)
        ]
    )


def _left(views: Iterable[AddressSpace], address: int, end: int) -> list[tuple[AddressSpace, Vma]]:
    return [(view, vma) for view in views for vma in view.vmas.overlapping(address, end)]


def _emptied(left: Vma, address: int, end: int, target: int) -> Vma:
    kept = left._replace(flags=left.flags & ~LOCK_FLAGS)
    whole = address <= left.start and left.end <= end
    if whole and not left.start <= target < left.end:
        kept = kept._replace(anon=0, forked=False)
    return kept
