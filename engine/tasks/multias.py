"""Slots: up to sixteen address spaces of one task, each a copy-on-write copy of another (multias).

Nothing keeps them in step: what is to be shared must be MAP_SHARED before. Slots belong to the task, and each thread is
in one of them.
"""

from engine.constants import SLOTS_MAX
from engine.errors import EBUSY, ENOENT, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.copying import copy_into
from engine.tasks.program import empty_space
from engine.tasks.task import SLOTS, VIEWS, Task, Thread, add_view


def new_as(thread: Thread) -> int:
    """A copy of the address space that the thread is in, as by fork, in the first free slot; its number.

    ENOENT: all slots are used; EBUSY: the task uses views; ENOMEM.
    """
    task = _task_of(thread)
    number = next((number for number in range(SLOTS_MAX) if number not in task.views), None)
    if number is None:
        raise EngineError(ENOENT, f"task {task.pid} uses all {SLOTS_MAX} slots")
    before = task.kind
    task.space.journal.undo(setattr, task, "kind", before)
    task.kind = SLOTS
    add_view(task, number, _copy(task, thread.view.space))
    thread.note("slot.created", slot=number)
    return number


def switch_as(thread: Thread, number: int) -> None:
    """Be in another slot, or stay. ENOENT: no such slot, or none at all; EBUSY: the task uses views."""
    task = _task_of(thread)
    view = task.views.get(number)
    if view is None or task.kind != SLOTS:
        raise EngineError(ENOENT, f"task {task.pid} has no slot {number}")
    if view is not thread.view:
        thread.migrate(view)
        thread.note("slot.switched", slot=number)


def _task_of(thread: Thread) -> Task:
    task = thread.task
    task.space.journal.touch(task.space)
    if task.kind == VIEWS:
        raise EngineError(EBUSY, f"task {task.pid} uses views (mmview)")
    return task


def _copy(task: Task, source: AddressSpace) -> AddressSpace:
    copy = empty_space(task.pid, source.memory.clone(), source.limits)
    copy_into(source, copy)
    return copy
