"""All tasks: spawn, fork, exec, exit, threads, limits."""

from collections.abc import Callable, Iterator

from engine.constants import TASKS_MAX, THREADS_MAX
from engine.credentials import Credentials
from engine.errors import EAGAIN, EINVAL, EPERM, ESRCH, EngineError
from engine.journal import Journal
from engine.memory.frames import FramePool
from engine.memory.memory_object import MemoryObject
from engine.names import require_name
from engine.ownership import Owned
from engine.regions.address_space import AddressSpace
from engine.regions.copying import copy_into
from engine.regions.limits import Limits, limits_for
from engine.tasks.program import empty_space, new_program
from engine.tasks.task import Attachment, Task, Thread, View
from engine.union import Counters, Union

__all__ = ["LEASE_MAX_S", "LEASE_MIN_S", "Attachment", "Task", "Tasks", "Thread", "View"]

LEASE_MIN_S = 1
LEASE_MAX_S = 86400


class Tasks:
    """All tasks of a machine, which start with `limits`. Pids and tids come from one counter and are not reused."""

    def __init__(self, pool: FramePool, journal: Journal, first_pid: int, limits: Limits) -> None:
        self._limits = limits
        self._pool = pool
        self._journal = journal
        self._next = first_pid
        self._tasks: dict[int, Task] = {}
        self.owned: Owned[Task] = Owned(journal, "task")
        self.on_leave: list[Callable[[int], object]] = []
        """Told of each space that a thread is no longer in (switch, exit, exec; 0: none), once that cannot be undone."""
        self.on_detach: list[Callable[[Attachment], None]] = []
        """Told of each attachment that was released, in the transaction that did it."""
        self._ended = Counters()
        """Of the tasks that have exited."""

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def faults(self) -> tuple[int, int]:
        """Minor and major faults since the start, in pages, of all tasks that there are and were."""
        counted = [self._ended, *(task.counters for task in self._tasks.values())]
        return sum(one.minor_faults for one in counted), sum(one.major_faults for one in counted)

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
        return task.threads.get(pid if tid is None else tid) or task.thread(tid)

    def spawn(self, cred: Credentials, name: str | None, lease_s: float) -> Task:
        """A new task with the regions of a small program. EINVAL: name or lease, in seconds; EAGAIN: too many tasks."""
        if name is not None:
            require_name(name)
        if not LEASE_MIN_S <= lease_s <= LEASE_MAX_S:
            raise EngineError(EINVAL, f"a lease of {lease_s} s is not {LEASE_MIN_S} to {LEASE_MAX_S} s")
        self._require_room()
        pid = self._new_id()
        space = new_program(pid, MemoryObject(self._pool, self._journal), limits_for(cred, self._limits))
        task = self._add(pid, name or f"task-{pid}", cred, lease_s, space)
        self._journal.note("task.spawned", pid=pid, uid=cred.uid, name=task.name)
        return task

    def fork(self, cred: Credentials, pid: int, tid: int | None) -> Task:
        """fork(2): a copy-on-write copy of the view that the caller is in, as the child's only one.

        No attachment is inherited, active_vas is 0. ESRCH, EPERM; EAGAIN: too many tasks.
        """
        parent = self.require(cred, pid)
        copied = parent.thread(tid).view.space
        self._require_room()
        pid = self._new_id()
        child = empty_space(pid, copied.memory.clone(), copied.limits)
        copy_into(copied, child)
        task = self._add(pid, parent.name, parent.cred, parent.lease_s, child)
        task.hard_limits = parent.hard_limits
        self._journal.note("task.forked", pid=pid, uid=task.cred.uid, name=task.name, parent=parent.pid)
        return task

    def exec(self, cred: Credentials, pid: int) -> None:
        """execve(2): a fresh map and one thread; attachments are dropped. Nothing of the old program stays."""
        task = self.require(cred, pid)
        memory = MemoryObject(self._pool, self._journal)
        self.become(task, new_program(pid, memory, task.space.limits))

    def become(self, task: Task, space: AddressSpace) -> None:
        """Let `space` be all that the task has: no attachment, no other view, and the main thread only."""
        self._drop_attachments(task)
        before = task.base, task.views, task.threads, task.kind, task.next_view

        def put_back() -> None:
            task.base, task.views, task.threads, task.kind, task.next_view = before
            _forget_translations(task)

        self._journal.undo(put_back)
        task.base = view = self._new_view(space, task.counters)
        task.views = {view.id: view}
        task.threads = {task.pid: Thread(task.pid, task, view, view.union)}
        task.kind, task.next_view = "", 1
        for old in before[1].values():
            old.space.release()
        self._journal.note("task.exec", pid=task.pid, uid=task.cred.uid, name=task.name)

    def new_thread(self, cred: Credentials, pid: int, tid: int | None) -> int:
        """clone(CLONE_VM): the new thread starts in its creator's view, outside every space. EAGAIN: the task has too many."""
        task = self.require(cred, pid)
        view = task.thread(tid).view
        if len(task.threads) >= THREADS_MAX:
            raise EngineError(EAGAIN, f"task {pid} has {THREADS_MAX} threads")
        thread = Thread(self._new_id(), task, view, view.union)
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
        thread.tell_left()
        del task.threads[thread.tid]
        self._journal.undo(lambda: task.threads.update({thread.tid: thread}))
        task.forget_if_unused(thread.view)
        self._journal.note("thread.exited", pid=pid, tid=tid, uid=task.cred.uid)

    def exit(self, cred: Credentials, pid: int) -> None:
        """Everything the task holds is released, always."""
        task = self.require(cred, pid)
        self._drop_attachments(task)
        self._erase(task)
        self._ended.add(task.counters)

        def put_back() -> None:
            self._ended.add(task.counters, -1)
            self._insert(task)
            _forget_translations(task)

        self._journal.undo(put_back)
        for space in task.spaces():
            space.release()
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
            hard = task.hard_limits
            _limit(task, limits)
            if cred.is_root:
                task.hard_limits = hard.with_limit(resource, value)

            def put_back() -> None:
                _limit(task, before)
                task.hard_limits = hard

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
        self._journal.touch(task.space)
        for thread in task.threads.values():
            if thread.active:
                thread.switch(0)
            elif self.on_leave:
                thread.tell_left()
        for attachment in list(task.attachments.values()):
            self.detach(attachment)

    def _add(self, pid: int, name: str, cred: Credentials, lease_s: float, space: AddressSpace) -> Task:
        counters = Counters()
        view = self._new_view(space, counters)
        task = Task(pid, name, cred, lease_s, view, counters, space.limits, self.on_leave, {view.id: view})
        task.threads[pid] = Thread(pid, task, view, view.union)
        self._insert(task)
        self._journal.undo(self._erase, task)
        return task

    def _insert(self, task: Task) -> None:
        self._tasks[task.pid] = task
        self.owned.add(task.cred.uid, task.pid, task)

    def _erase(self, task: Task) -> None:
        del self._tasks[task.pid]
        self.owned.remove(task.cred.uid, task.pid)

    def _new_view(self, space: AddressSpace, counters: Counters) -> View:
        """The first view of a task."""
        union = Union(space, counters)
        space.unions.append(union)
        return View(0, space, {0: union})

    def _require_room(self) -> None:
        if len(self._tasks) >= TASKS_MAX:
            raise EngineError(EAGAIN, f"there are {TASKS_MAX} tasks")

    def _new_id(self) -> int:
        self._next += 1
        return self._next - 1


def _forget_translations(task: Task) -> None:
    """The task was gone for a while: its frames may have been swapped out unheard."""
    for view in task.views.values():
        view.union.table.drop()


def _limit(task: Task, limits: Limits) -> None:
    for space in task.spaces():
        space.limits = limits
