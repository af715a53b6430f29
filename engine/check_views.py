"""The rules about a task's views; a part of `check`."""

from collections.abc import Iterator

from engine.constants import SLOTS_MAX
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import ACCOUNT, LOCK_FLAGS, UNSHARED
from engine.tasks.task import SLOTS, VIEWS, Task


def check_views(task: Task) -> Iterator[str]:
    """I21 to I23: views are kept in step, and are those that threads are in or may come into."""
    yield from _check_numbers(task)
    groups = [[space] for space in task.spaces()] if task.kind == SLOTS else [task.spaces()]
    for group in groups:
        for space in group:
            if set(map(id, space.views)) != set(map(id, group)) or len(space.views) != len(group):
                yield f"I21: {space.label} has {len(group)} views, {len(space.views)} are kept in step"
            yield from _check_in_step(group[0], space)
    privates = [id(space.private) for space in task.spaces() if space.private is not None]
    if len(set(privates)) != len(privates):
        yield f"I22: two views of task {task.pid} have the same pages of unshared regions"


def _check_numbers(task: Task) -> Iterator[str]:
    used = {id(thread.view) for thread in task.threads.values()}
    for number, view in task.views.items():
        if view.id != number or (task.kind == VIEWS and number >= task.next_view):
            yield f"I23: view {view.id} of task {task.pid} is known as {number}, the next is {task.next_view}"
        if view.deleted and (view is task.base or id(view) not in used):
            yield f"I23: view {number} of task {task.pid} is deleted, but the base or used by nobody"
    if not used <= set(map(id, task.views.values())) or task.views.get(task.base.id) is not task.base:
        yield f"I23: a thread of task {task.pid}, or its base, is in a view that does not exist"
    if (len(task.views) > 1 and not task.kind) or (task.kind == SLOTS and len(task.views) > SLOTS_MAX):
        yield f"I23: task {task.pid} has {len(task.views)} views of kind {task.kind!r}"


def _check_in_step(first: AddressSpace, other: AddressSpace) -> Iterator[str]:
    """I21, I22: what two views show at each place agrees, but for rights of what is unshared, and for locks."""
    if first.memory is not other.memory or first.brk is not other.brk or first.limits != other.limits:
        yield f"I21: views of {first.label} have memories, heaps or limits of their own"
    unshared = [vma for vma in other.vmas if vma.flags & UNSHARED]
    for vma in other.vmas:
        if (vma.obj is other.private) != bool(vma.flags & UNSHARED):
            yield f"I22: {vma.range} of {other.label} shows other memory than its flags say"
    if (other.private is not None) != bool(unshared):
        yield f"I22: a view of {other.label} has pages of its own, but no unshared region, or the reverse"
    mine, theirs = _in_step(first), _in_step(other)
    if mine != theirs:
        yield f"I21: views of {first.label} differ: {sorted(set(mine) ^ set(theirs), key=str)[:4]}"


def _in_step(owner: AddressSpace) -> list[tuple[object, ...]]:
    """Regions as every view must show them, joined where they are alike."""
    told: list[tuple[object, ...]] = []
    for vma in owner.vmas:
        own = bool(vma.flags & UNSHARED)
        flags = vma.flags & ~LOCK_FLAGS & ~(ACCOUNT if own else 0)
        place = vma.offset - (vma.start >> owner.geometry.page_shift)
        rights = None if own else (vma.access, vma.obj, bool(vma.anon), vma.forked, vma.moved)
        kind = (flags, vma.shared, vma.grows_down, rights, place)
        if told and told[-1][1] == vma.start and told[-1][2:] == kind:
            told[-1] = (told[-1][0], vma.end, *kind)
        else:
            told.append((vma.start, vma.end, *kind))
    return told
