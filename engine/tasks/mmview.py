"""Views: several address spaces of one task that are kept in step, but for what is unshared (mmview).

A thread chooses its view. Shared memory is one memory object that every view shows; regions that were unshared before
the first view was made are private to each view from the moment it is made, copy-on-write. Views are about the task's
own regions; a thread inside an attached space stays in it when it migrates.
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from engine.constants import (
    MMVIEW_CREATE,
    MMVIEW_CURRENT,
    MMVIEW_DELETE,
    MMVIEW_MIGRATE,
    MMVIEW_SHARE,
    MMVIEW_SWITCH_BASE,
    MMVIEW_UNSHARE,
    VIEWS_MAX,
)
from engine.errors import EACCES, EBUSY, EINVAL, ENOMEM, EPERM, EngineError
from engine.memory.frames import ABSENT
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from engine.regions.address_space import AddressSpace
from engine.regions.copying import new_view
from engine.regions.vm_flags import UNSHARED
from engine.regions.vma import Vma
from engine.tasks.task import VIEWS, Task, Thread, View, add_view


def mmview(thread: Thread, op: int, *args: int) -> int:
    """The call of the new interface. What further numbers say is ignored.

    EINVAL: unknown operation, a number is missing; EBUSY: the task uses slots; else those of the operation.
    """
    operation, count = _OPERATIONS.get(op, (None, 0))
    if operation is None or len(args) < count:
        if operation is None:
            raise EngineError(EINVAL, f"{op} is no operation of mmview (0 to {MMVIEW_SWITCH_BASE})")
        raise EngineError(EINVAL, f"operation {op} of mmview takes {count} numbers")
    return operation(thread, *args[:count])


def create(thread: Thread) -> int:
    """A copy of the thread's view, kept in step with all others; its id. EBUSY: the task uses slots; ENOMEM."""
    task = _task_of(thread)
    if len(task.views) >= VIEWS_MAX:
        raise EngineError(ENOMEM, f"task {task.pid} has {VIEWS_MAX} views")
    before = task.kind, task.next_view

    def put_back() -> None:
        task.kind, task.next_view = before

    view = add_view(task, task.next_view, new_view(thread.view.space))
    task.space.journal.undo(put_back)
    task.kind, task.next_view = VIEWS, view.id + 1
    thread.note("view.created", view=view.id)
    return view.id


def delete(thread: Thread, number: int, *, errno_of_base: str = EPERM) -> int:
    """Delete a view: nobody comes in any more, and it goes with the last thread in it.

    EINVAL: unknown, or deleted before; EPERM: the base.
    """
    task = _task_of(thread)
    view = _existing(task, number)
    if view is task.base:
        raise EngineError(errno_of_base, f"view {number} is the base")
    view.deleted = True
    task.space.journal.undo(setattr, view, "deleted", False)
    task.forget_if_unused(view)
    thread.note("view.deleted", view=number)
    return 0


def current(thread: Thread) -> int:
    """The id of the thread's view."""
    _task_of(thread)
    return thread.view.id


def migrate(thread: Thread, number: int) -> int:
    """Be in another view; the former one's id. EINVAL: unknown, or deleted."""
    view, left = _existing(_task_of(thread), number), thread.view.id
    if view is not thread.view:
        thread.migrate(view)
        thread.note("view.switched", view=number)
    return left


def migrate_or_ask(thread: Thread, number: int) -> int:
    """`migrate` of the old interface: a negative number asks for the current view's id."""
    return current(thread) if number < 0 else migrate(thread, number)


def unshare(thread: Thread, address: int, length: int) -> int:
    """Let each view that is made from now on have its own copy of the pages touched, and rights of its own.

    Holes do not matter. EPERM: there are several views; EINVAL: not aligned, no length, beyond the user's range, no
    region; EACCES: MAP_SHARED; ENOMEM: too many regions.
    """
    space, regions = _only_view(thread, address, length)
    for vma in regions:
        if vma.shared:
            raise EngineError(EACCES, f"{vma.range} is mapped MAP_SHARED", address=vma.start)
    if space.private is None:
        space.private = MemoryObject(space.memory.pool, space.journal)
        space.journal.undo(setattr, space, "private", None)
    _show_instead(space, regions, space.private, UNSHARED)
    thread.note("view.unshared", start=address, end=address + length)
    return 0


def share(thread: Thread, address: int, length: int) -> int:
    """The reverse of `unshare`; what is shared already stays so. EPERM, EINVAL, ENOMEM as there."""
    space, regions = _only_view(thread, address, length)
    _show_instead(space, [vma for vma in regions if not vma.shared], space.memory, 0)
    thread.note("view.shared", start=address, end=address + length)
    return 0


def switch_base(thread: Thread) -> int:
    """Let the thread's view be the base, so that the former one can be deleted; its id. EINVAL: it is deleted."""
    task, view = _task_of(thread), thread.view
    if view.deleted:
        raise EngineError(EINVAL, f"view {view.id} is deleted")
    before = task.base
    if view is not before:
        journal = view.space.journal
        journal.undo(setattr, task, "base", before)
        journal.touch(before.space)
        journal.touch(view.space)
        task.base = view
        thread.note("view.base", view=view.id)
    return view.id


_OPERATIONS: Final[dict[int, tuple[Callable[..., int], int]]] = {
    MMVIEW_CREATE: (create, 0),
    MMVIEW_DELETE: (delete, 1),
    MMVIEW_CURRENT: (current, 0),
    MMVIEW_MIGRATE: (migrate, 1),
    MMVIEW_UNSHARE: (unshare, 2),
    MMVIEW_SHARE: (share, 2),
    MMVIEW_SWITCH_BASE: (switch_base, 0),
}
"""Each with the number of its arguments."""


def _task_of(thread: Thread) -> Task:
    """The thread's task. EBUSY: it uses slots."""
    task = thread.task
    task.space.journal.touch(task.space)
    if task.kind not in ("", VIEWS):
        raise EngineError(EBUSY, f"task {task.pid} uses slots (new_as)")
    return task


def _existing(task: Task, number: int) -> View:
    view = task.views.get(number)
    if view is None:
        raise EngineError(EINVAL, f"task {task.pid} has no view {number}")
    if view.deleted:
        raise EngineError(EINVAL, f"view {number} of task {task.pid} is deleted")
    return view


def _only_view(thread: Thread, address: int, length: int) -> tuple[AddressSpace, list[Vma]]:
    """The task's only view, and its regions' parts in whole pages of the range. EPERM, EINVAL."""
    task = _task_of(thread)
    if len(task.views) > 1:
        raise EngineError(EPERM, f"task {task.pid} has {len(task.views)} views")
    space, geometry = task.space, task.space.geometry
    end = address + geometry.align_up(length)
    if not geometry.is_aligned(address) or address < 0 or length <= 0 or end > geometry.user_end:
        raise EngineError(EINVAL, f"{length} bytes at {address:#x}", address=address)
    regions = space.parts(address, end)
    if not regions:
        raise EngineError(EINVAL, f"no region in {length} bytes at {address:#x}", address=address)
    return space, regions


def _show_instead(space: AddressSpace, regions: Iterable[Vma], memory: MemoryObject, flag: int) -> None:
    """Let private regions show their pages in `memory` from now on."""
    shift = space.geometry.page_shift
    for vma in regions:
        source = vma.obj
        if source is not memory:
            flags = vma.flags & ~UNSHARED | flag
            _hand_over(source, memory, vma.offset, (vma.end - vma.start) >> shift)
            space.show_instead(vma, vma._replace(obj=memory, flags=flags))


def _hand_over(source: MemoryObject, target: MemoryObject, first: int, count: int) -> None:
    """Move pages to the same place in other memory. Costs what is resident. PagesNeeded; ENOMEM: too many leaves."""
    if source.store_id:
        source.require_resident(first, count)
    for start, number in _spans(source, first, count):
        target.writable_entries(start, number)
    _move_entries(source, target, first, count)
    source.journal.undo(_move_entries, target, source, first, count)
    if source.store_id:
        source.discard(first, count)  # what the store has there is no longer shown


def _move_entries(source: MemoryObject, target: MemoryObject, first: int, count: int) -> None:
    """The references of their frames move with them."""
    for start, number in _spans(source, first, count):
        entries = source.pages.entries(start, number)
        if entries.any():
            source.pages.set_entries(start, np.full(number, ABSENT, np.int64))
            target.pages.set_entries(start, entries)
    source.zap(first, count)
    target.zap(first, count)


def _spans(memory: MemoryObject, first: int, count: int) -> list[tuple[int, int]]:
    """What exists of pages [first, first + count), leaf by leaf: (first page, number of pages)."""
    spans = []
    for number in memory.pages.present(first, count):
        start = max(first, number << LEAF_SHIFT)
        spans.append((start, min(first + count, (number << LEAF_SHIFT) + LEAF_PAGES) - start))
    return spans
