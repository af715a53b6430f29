"""Copies of a task's address space: a child's (fork), a slot's (multias), a view's (mmview)."""

from dataclasses import replace

from engine.memory.memory_object import MemoryObject
from engine.regions.address_space import VIEW_WEIGHT, AddressSpace
from engine.regions.vm_flags import DONT_COPY, LOCK_FLAGS
from engine.regions.vma import Vma


def copy_into(source: AddressSpace, child: AddressSpace) -> None:
    """fork(2): give the empty `child`, whose memory is a clone of the source's, the same regions, unshared ones so.

    Locks are not inherited, nor is what was advised DONTFORK. What was written is from now on the source's too.
    """
    shift = source.geometry.page_shift
    _clone_private(source, child)
    copies: list[Vma] = []
    for vma in source.vmas:
        obj = _counterpart(source, vma.obj, child)
        if obj is not vma.obj and (vma.flags & DONT_COPY or not vma.anon):
            obj.discard(vma.offset, (vma.end - vma.start) >> shift)
        if not vma.flags & DONT_COPY:
            copies.append(_copied(vma, obj, child))
    child.fill(copies)
    if child.private is not None and not child.vmas.shows(child.private):
        child.private.release()
        child.private = None
    child.bottom_up = source.bottom_up
    child.brk = replace(source.brk)


def new_view(source: AddressSpace) -> AddressSpace:
    """A view of the same task, kept in step from now on. Unshared regions are copied as by a fork. ENOMEM.

    Locks are not inherited; what was advised DONTFORK is there.
    """
    source.require_regions(len(source.vmas) + VIEW_WEIGHT, VIEW_WEIGHT)
    journal = source.journal
    view = AddressSpace(source.geometry, source.memory, source.label, source.places, limits=source.limits)
    journal.undo(source.memory.mappers.remove, view)
    _clone_private(source, view)
    view.continue_anons(source)
    view.fill([_copied(vma, _counterpart(source, vma.obj, view), view) for vma in source.vmas])
    view.bottom_up, view.brk = source.bottom_up, source.brk
    source.views.append(view)
    journal.undo(source.views.remove, view)
    view.views = source.views
    return view


def _clone_private(source: AddressSpace, child: AddressSpace) -> None:
    if source.private is not None:
        child.private = source.private.clone()


def _counterpart(source: AddressSpace, obj: MemoryObject, child: AddressSpace) -> MemoryObject:
    """What a copy shows instead."""
    if obj is source.memory:
        return child.memory
    return child.private if obj is source.private and child.private is not None else obj


def _copied(vma: Vma, obj: MemoryObject, child: AddressSpace) -> Vma:
    """A region of a copy; one that shows a clone knows that its pages may also be another's."""
    flags = vma.flags & ~LOCK_FLAGS
    if obj is vma.obj:
        return vma if flags == vma.flags else vma._replace(flags=flags)
    anon = child.new_anon() if vma.anon else 0
    return vma._replace(obj=obj, flags=flags, anon=anon, forked=bool(anon))
