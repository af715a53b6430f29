"""Tasks, their threads, and the spaces they have attached."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.address_space import AddressSpace
from engine.credentials import Credentials
from engine.errors import EINVAL, EPERM, ESRCH, EngineError
from engine.journal import Journal
from engine.limits import Limits, limits_for
from engine.memory.frames import FramePool
from engine.memory.memory_object import MemoryObject
from engine.program import empty_space, new_program
from engine.registry import require_name
from engine.union import Counters, Union
from engine.views import AttachmentStatus, TaskStatus, ThreadStatus

LEASE_MIN_S = 1
LEASE_MAX_S = 86400


@dataclass(slots=True, eq=False)
class Thread:
    """What the thread sees is `union`; `active` is the id of the space it is in, 0 for the original."""

    tid: int
    task: "Task"
    union: Union
    active: int = 0

    def switch(self, vid: int) -> None:
        """See space `vid` beside the task's own regions, or the task's own alone for 0. EINVAL: not attached."""
        task = self.task
        held = task.attachments.get(vid)
        if held is not None:
            union = held.union
        elif vid == 0:
            union = task.original
        else:
            task.space.journal.touch(task.space)
            raise EngineError(EINVAL, f"task {task.pid} does not have space {vid} attached")
        journal = task.space.journal
        if journal.current is not None:
            journal.undo(self._put_back, self.active, self.union)
            journal.touch(task.space)
            if held is not None:
                journal.touch(held.space)
        self.active = vid
        self.union = union
        task.counters.switches += 1

    def _put_back(self, active: int, union: Union) -> None:
        self.active = active
        self.union = union


@dataclass(slots=True, eq=False)
class Attachment:
    """A space as one task has it (struct att_vas)."""

    task: "Task"
    vid: int
    space: AddressSpace
    type: int
    lazy: bool
    union: Union
    holders: list["Attachment"]
    """Everybody who has the space, this attachment too while it is linked."""

    def link(self) -> None:
        """Make both owners know each other, so that collisions are seen and translations dropped."""
        self.task.attachments[self.vid] = self
        self.holders.append(self)
        self.task.space.peers.append(self.space)
        self.space.peers.append(self.task.space)
        self.task.space.unions.append(self.union)
        self.space.unions.append(self.union)

    def unlink(self) -> None:
        """The reverse of `link`. Nobody tells a union that is not linked what changed, so it forgets everything."""
        del self.task.attachments[self.vid]
        self.holders.remove(self)
        self.task.space.peers.remove(self.space)
        self.space.peers.remove(self.task.space)
        self.task.space.unions.remove(self.union)
        self.space.unions.remove(self.union)
        self.union.table.drop()


@dataclass(slots=True, eq=False)
class Task:
    """A program that uses spaces. `original` is its own address space as its threads see it."""

    pid: int
    name: str
    cred: Credentials
    lease_s: float
    space: AddressSpace
    original: Union
    counters: Counters
    hard_limits: Limits
    """What only root may raise the task's limits above."""
    threads: dict[int, Thread] = field(default_factory=dict)
    attachments: dict[int, Attachment] = field(default_factory=dict)

    def thread(self, tid: int | None) -> Thread:
        """A thread by id, the main thread for None or 0. ESRCH."""
        thread = self.threads.get(tid or self.pid)
        if thread is None:
            raise EngineError(ESRCH, f"task {self.pid} has no thread {tid}")
        return thread

    def status(self) -> TaskStatus:
        """What everybody may know."""
        tables = [self.original.table, *(attachment.union.table for attachment in self.attachments.values())]
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


class Tasks:
    """All tasks of a machine, which start with `limits`. Pids and tids come from one counter and are not reused."""

    def __init__(self, pool: FramePool, journal: Journal, first_pid: int, limits: Limits) -> None:
        self._limits = limits
        self._pool = pool
        self._journal = journal
        self._next = first_pid
        self._tasks: dict[int, Task] = {}
        self.on_detach: list[Callable[[Attachment], None]] = []
        """Told of each attachment that was released, in the transaction that did it."""

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, pid: int) -> Task:
        """ESRCH: no such task."""
        task = self._tasks.get(pid)
        if task is None:
            raise EngineError(ESRCH, f"no task {pid}")
        return task

    def require(self, cred: Credentials, pid: int) -> Task:
        """A task that the caller may act on. ESRCH; EPERM: of another uid, and the caller is not root."""
        task = self._tasks.get(pid) or self.get(pid)
        if cred.uid != task.cred.uid and not cred.is_root:
            raise EngineError(EPERM, f"task {pid} belongs to uid {task.cred.uid}")
        return task

    def thread_of(self, cred: Credentials, pid: int, tid: int | None) -> Thread:
        """A thread of a task that the caller may act on. ESRCH, EPERM; ESRCH: no such thread."""
        task = self._tasks.get(pid)
        if task is None or cred.uid != task.cred.uid:
            task = self.require(cred, pid)
        return task.threads.get(tid or pid) or task.thread(tid)

    def spawn(self, cred: Credentials, name: str | None, lease_s: float) -> Task:
        """A new task with the regions of a small program. EINVAL: name or lease. `lease_s` is in seconds."""
        if name is not None:
            require_name(name)
        if not LEASE_MIN_S <= lease_s <= LEASE_MAX_S:
            raise EngineError(EINVAL, f"a lease of {lease_s} s is not {LEASE_MIN_S} to {LEASE_MAX_S} s")
        pid = self._new_id()
        space = new_program(pid, MemoryObject(self._pool, self._journal), limits_for(cred, self._limits))
        task = self._add(pid, name or f"task-{pid}", cred, lease_s, space)
        self._journal.note("task.spawned", pid=pid, uid=cred.uid, name=task.name)
        return task

    def fork(self, cred: Credentials, pid: int, tid: int | None) -> Task:
        """fork(2): a copy-on-write copy of the original address space; no attachment is inherited, active_vas is 0."""
        parent = self.require(cred, pid)
        parent.thread(tid)
        pid = self._new_id()
        child = empty_space(pid, parent.space.memory.clone(), parent.space.limits)
        child.bottom_up = parent.space.bottom_up
        parent.space.copy_into(child)
        task = self._add(pid, parent.name, parent.cred, parent.lease_s, child)
        task.hard_limits = parent.hard_limits
        self._journal.note("task.forked", pid=pid, uid=task.cred.uid, name=task.name, parent=parent.pid)
        return task

    def exec(self, cred: Credentials, pid: int) -> None:
        """execve(2): a fresh map and one thread; attachments are dropped. Nothing of the old program stays."""
        task = self.require(cred, pid)
        self._drop_attachments(task)
        old_space, old_union, old_threads = task.space, task.original, task.threads
        space = new_program(pid, MemoryObject(self._pool, self._journal), old_space.limits)

        def put_back() -> None:
            task.space, task.original, task.threads = old_space, old_union, old_threads
            old_union.table.drop()  # its frames may have been swapped out unheard

        self._journal.undo(put_back)
        task.space, task.original = space, Union(space, task.counters)
        space.unions.append(task.original)
        task.threads = {pid: Thread(pid, task, task.original)}
        old_space.release()
        self._journal.note("task.exec", pid=pid, uid=task.cred.uid, name=task.name)

    def new_thread(self, cred: Credentials, pid: int, tid: int | None) -> int:
        """clone(CLONE_VM): the new thread starts in the original address space, whatever its creator is in."""
        task = self.require(cred, pid)
        task.thread(tid)
        thread = Thread(self._new_id(), task, task.original)
        task.threads[thread.tid] = thread
        self._journal.undo(lambda: task.threads.pop(thread.tid))
        self._journal.note("thread.started", pid=pid, tid=thread.tid, uid=task.cred.uid)
        return thread.tid

    def exit_thread(self, cred: Credentials, pid: int, tid: int) -> None:
        """End a thread; the main thread ends by exiting the task. EINVAL."""
        task = self.require(cred, pid)
        thread = task.thread(tid)
        if thread.tid == pid:
            if len(task.threads) > 1:
                raise EngineError(EINVAL, "the main thread cannot end before the others: exit the task")
            self.exit(cred, pid)
            return
        del task.threads[thread.tid]
        self._journal.undo(lambda: task.threads.update({thread.tid: thread}))
        self._journal.note("thread.exited", pid=pid, tid=tid, uid=task.cred.uid)

    def exit(self, cred: Credentials, pid: int) -> None:
        """Everything the task holds is released, always."""
        task = self.require(cred, pid)
        self._drop_attachments(task)
        del self._tasks[pid]

        def put_back() -> None:
            self._tasks[pid] = task
            task.original.table.drop()  # its frames may have been swapped out unheard

        self._journal.undo(put_back)
        task.space.release()
        self._journal.note("task.exited", pid=pid, uid=task.cred.uid, name=task.name)

    def prlimit(self, cred: Credentials, pid: int, resource: str, value: int | None) -> int:
        """prlimit(2): set a limit unless `value` is None; the former one. EINVAL; EPERM: raised above the hard limit.

        That is what the task began with, or what root set last.
        """
        task = self.require(cred, pid)
        before = task.space.limits
        former = before.of(resource)
        if value is not None:
            limits = before.with_limit(resource, value)
            if value > task.hard_limits.of(resource) and not cred.is_root:
                raise EngineError(EPERM, f"only root raises {resource} above {task.hard_limits.of(resource)}")
            space, hard = task.space, task.hard_limits
            space.limits = limits
            if cred.is_root:
                task.hard_limits = hard.with_limit(resource, value)

            def put_back() -> None:
                space.limits, task.hard_limits = before, hard

            self._journal.undo(put_back)
        return former

    def detach(self, attachment: Attachment) -> None:
        """Release one attachment."""
        attachment.unlink()
        self._journal.note("space.detached", vid=attachment.vid, pid=attachment.task.pid)
        self._journal.touch(attachment.task.space)
        self._journal.touch(attachment.space)
        self._journal.undo(attachment.link)
        for told in self.on_detach:
            told(attachment)

    def _drop_attachments(self, task: Task) -> None:
        for thread in task.threads.values():
            thread.switch(0)
        for attachment in list(task.attachments.values()):
            self.detach(attachment)

    def _add(self, pid: int, name: str, cred: Credentials, lease_s: float, space: AddressSpace) -> Task:
        counters = Counters()
        original = Union(space, counters)
        space.unions.append(original)
        task = Task(pid, name, cred, lease_s, space, original, counters, space.limits)
        task.threads[pid] = Thread(pid, task, original)
        self._tasks[pid] = task
        self._journal.undo(lambda: self._tasks.pop(pid))
        return task

    def _new_id(self) -> int:
        self._next += 1
        return self._next - 1
