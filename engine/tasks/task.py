"""A task, its threads, its views, and the spaces it has attached, as they refer to each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from engine.credentials import Credentials
from engine.errors import EINVAL, ESRCH, EngineError
from engine.regions.address_space import AddressSpace
from engine.regions.limits import Limits
from engine.union import Counters, Union
from engine.views import AttachmentStatus, TaskStatus, ThreadStatus

VIEWS: Final = "views"
SLOTS: Final = "slots"


@dataclass(slots=True, eq=False)
class View:
    """One of a task's own address spaces: a view of mmview, a slot of multias, or the only one.

    `unions` are what a thread in it sees, by the id of the attached space it is in; 0: outside every one. `deleted`:
    nobody may come in, and it goes when the last thread has left.
    """

    id: int
    space: AddressSpace
    unions: dict[int, Union]
    deleted: bool = False

    @property
    def union(self) -> Union:
        """What a thread in it sees outside every attached space."""
        return self.unions[0]


@dataclass(slots=True, eq=False)
class Thread:
    """What the thread sees is `union`: that of its `view` and of `active`, the space it is in (0: none)."""

    tid: int
    task: "Task"
    view: View
    union: Union
    active: int = 0

    def switch(self, vid: int) -> None:
        """See space `vid` beside the view's own regions, or those alone for 0. EINVAL: not attached."""
        task, view = self.task, self.view
        union = view.unions.get(vid)
        if union is None:
            view.space.journal.touch(task.space)
            raise EngineError(EINVAL, f"task {task.pid} does not have space {vid} attached")
        journal = union.own.journal
        if journal.current is not None:
            journal.undo(self._put_back, view, self.active, self.union)
            journal.touch(task.base.space)
            if union.space is not None:
                journal.touch(union.space)
        if self.active and task.on_leave:
            self.tell_left()
        self.active = vid
        self.union = union
        task.counters.switches += 1

    def migrate(self, view: View) -> None:
        """Be in another view, and in the same space as before. A deleted view goes with its last thread."""
        task, left = self.task, self.view
        journal = task.space.journal
        journal.undo(self._put_back, left, self.active, self.union)
        journal.touch(task.space)
        self.view = view
        self.union = view.unions[self.active]
        task.forget_if_unused(left)

    def tell_left(self) -> None:
        """It is no longer in the space that it was in."""
        for told in self.task.on_leave:
            self.view.space.journal.defer(told, self.active)

    def note(self, kind: str, **members: int) -> None:
        """Tell who follows the machine what the thread did."""
        task = self.task
        task.space.journal.note(kind, pid=task.pid, tid=self.tid, uid=task.cred.uid, **members)

    def _put_back(self, view: View, active: int, union: Union) -> None:
        self.view = view
        self.active = active
        self.union = union


@dataclass(slots=True, eq=False)
class Attachment:
    """A space as one task has it (struct att_vas). `unions` has one union for each view, by the view's id."""

    task: "Task"
    vid: int
    space: AddressSpace
    type: int
    lazy: bool
    holders: list["Attachment"]
    """Everybody who has the space, this attachment too while it is linked."""
    unions: dict[int, Union] = field(default_factory=dict)

    @property
    def union(self) -> Union:
        """What a thread inside the space sees in the base view."""
        return self.unions[self.task.base.id]

    def link(self) -> None:
        """Make both owners know each other, so that collisions are seen and translations dropped."""
        self.task.attachments[self.vid] = self
        self.holders.append(self)
        for view in self.task.views.values():
            self.join(view)

    def unlink(self) -> None:
        """The reverse of `link`."""
        del self.task.attachments[self.vid]
        self.holders.remove(self)
        for view in self.task.views.values():
            self.part(view)

    def join(self, view: View) -> None:
        """Let the space be seen in one view, too."""
        union = self.unions.get(view.id)
        if union is None:
            union = Union(view.space, self.task.counters, self.space, self.type)
            self.unions[view.id] = union
        view.unions[self.vid] = union
        view.space.peers.append(self.space)
        self.space.peers.append(view.space)
        view.space.unions.append(union)
        self.space.unions.append(union)

    def part(self, view: View) -> None:
        """The reverse of `join`. Nobody tells a union that is not linked what changed, so it forgets everything."""
        union = view.unions.pop(self.vid)
        view.space.peers.remove(self.space)
        self.space.peers.remove(view.space)
        view.space.unions.remove(union)
        self.space.unions.remove(union)
        union.table.drop()

    def forget(self, view: View) -> None:
        """The view is gone for good."""
        self.unions.pop(view.id, None)

    def part_for_good(self, view: View) -> None:
        """Take `join` back."""
        self.part(view)
        self.forget(view)


@dataclass(slots=True, eq=False)
class Task:
    """A program that uses spaces. Its threads are each in one of its `views`; `base` is the one that others mean.

    `kind` tells whether the views are those of mmview or the slots of multias; "" while there was never more than one.
    `next_view` is the id of the next view. `on_leave` is told which space a thread is no longer in.
    """

    pid: int
    name: str
    cred: Credentials
    lease_s: float
    base: View
    counters: Counters
    hard_limits: Limits
    """What only root may raise the task's limits above."""
    on_leave: list[Callable[[int], object]]
    views: dict[int, View] = field(default_factory=dict)
    kind: str = ""
    next_view: int = 1
    threads: dict[int, Thread] = field(default_factory=dict)
    attachments: dict[int, Attachment] = field(default_factory=dict)

    @property
    def space(self) -> AddressSpace:
        """The address space of the base view."""
        return self.base.space

    @property
    def original(self) -> Union:
        """What a thread in the base view sees outside every attached space."""
        return self.base.union

    def thread(self, tid: int | None) -> Thread:
        """A thread by id, the main thread for None. ESRCH."""
        thread = self.threads.get(self.pid if tid is None else tid)
        if thread is None:
            raise EngineError(ESRCH, f"task {self.pid} has no thread {tid}")
        return thread

    def spaces(self) -> list[AddressSpace]:
        """Of all views."""
        return [view.space for view in self.views.values()]

    def layouts(self) -> list[AddressSpace]:
        """Address spaces that may use different ranges: each slot. Views all use the same ones."""
        return self.spaces() if self.kind == SLOTS else [self.base.space]

    def unions(self) -> Iterator[Union]:
        """Everything that its threads could see."""
        for view in self.views.values():
            yield from view.unions.values()

    def forget_if_unused(self, view: View) -> None:
        """Give a deleted view back that no thread is in any more."""
        if not view.deleted or any(thread.view is view for thread in self.threads.values()):
            return
        journal = view.space.journal
        attachments = list(self.attachments.values())
        del self.views[view.id]
        for held in attachments:
            held.part(view)
        view.union.table.drop()

        def put_back() -> None:
            self.views[view.id] = view
            for held in attachments:
                held.join(view)
            view.union.table.drop()  # its frames may have been swapped out unheard

        for held in attachments:
            journal.defer(held.forget, view)
        journal.undo(put_back)
        journal.touch(self.space)
        view.space.release()

    def status(self) -> TaskStatus:
        """What everybody may know."""
        tables = [union.table for union in self.unions()]
        return TaskStatus(
            self.pid,
            self.pid,
            self.cred.uid,
            self.cred.gids,
            self.name,
            self.lease_s,
            tuple(ThreadStatus(thread.tid, thread.active) for thread in self.threads.values()),
            tuple(AttachmentStatus(a.vid, a.type, a.lazy) for a in self.attachments.values()),
            {
                "minor_faults": self.counters.minor_faults,
                "major_faults": self.counters.major_faults,
                "switches": self.counters.switches,
                "page_table_entries": sum(table.present() for table in tables),
                "page_table_entries_built": sum(table.built for table in tables),
            },
        )


def add_view(task: Task, number: int, space: AddressSpace) -> View:
    """One more view of a task; the spaces that it has attached are seen there, too."""
    journal = space.journal
    union = Union(space, task.counters)
    space.unions.append(union)
    view = View(number, space, {0: union})
    journal.touch(task.space)
    for each in task.spaces():
        journal.touch(each)
    task.views[number] = view
    journal.undo(task.views.pop, number)
    for held in task.attachments.values():
        held.join(view)
        journal.undo(held.part_for_good, view)
        if not held.lazy:
            held.unions[number].populate()
    return view
