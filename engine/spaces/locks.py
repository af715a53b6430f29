"""Reader/writer locks of lockable spaces and segments, taken and released by vas_switch.

Locks are derived, not kept: a task holds the lock of a lockable space while one of its threads is inside, and that of a
lockable segment while one is inside a space that has it; shared when it may only read there, else exclusive. So whatever
takes a thread out of a space releases what it held: switch, exit, a lease that runs out.

Who has to wait stands in one queue. A switch needs all locks of its target at once, and nothing is held half way. Nobody
overtakes an earlier waiter whose locks conflict with his; a task that holds a lock already needs no turn for it. A wait
that could never end, because those waited for wait themselves, is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.constants import LOCKABLE
from engine.errors import EAGAIN, EBUSY, ESRCH, EngineError
from engine.journal import Journal
from engine.spaces.lock_scene import Lock, Scene, Users, Window
from engine.spaces.segments import Segment, Segments
from engine.spaces.spaces import Space, Spaces
from engine.tasks.task import Attachment, Task, Thread
from engine.tasks.tasks import Tasks


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue: `thread` waits to get into space `vid`. It is in the queue while `number` is not 0."""

    thread: Thread | None = None
    vid: int = 0
    number: int = 0
    closed: bool = False
    """Whoever held it has gone: it never comes back into the queue."""


@dataclass(frozen=True, slots=True)
class LockUser:
    """A thread that holds a lock or waits for it: inside, or on its way into, space `vid`."""

    pid: int
    tid: int
    vid: int
    exclusive: bool


@dataclass(frozen=True, slots=True)
class LockStatus:
    """One lock: `kind` and id of what is locked, who holds it, and who waits for it in the order of their turns."""

    kind: str
    id: int
    holders: tuple[LockUser, ...]
    waiters: tuple[LockUser, ...]


class Locks:
    """The locks of one machine. `on_change` is told when the turn of a waiter may have come; it must not change anything."""

    def __init__(self, journal: Journal, tasks: Tasks, spaces: Spaces, segments: Segments) -> None:
        self._journal = journal
        self._tasks = tasks
        self.spaces = spaces
        self.segments = segments
        self._queue: dict[int, Ticket] = {}
        self._last = 0
        self.on_change: list[Callable[[], None]] = []
        self.needed = False
        """Whether there is or was anything lockable."""
        segments.admit = self.refuse_window
        spaces.registry.on_lockable = self._arm
        segments.registry.on_lockable = self._arm

    def __len__(self) -> int:
        """Waiters."""
        return len(self._queue)

    def _arm(self) -> None:
        self.needed = True

    # -- calls ---------------------------------------------------------------------------------------------------

    def require(self, thread: Thread, vid: int) -> None:
        """Before a thread that has no place in the queue enters space `vid`. EAGAIN: a lock is held, or others wait for it."""
        if self.spaces.registry.is_lockable(vid) or self.segments.registry.has_lockable:
            blocker = self._blocker(thread, vid, None)
            if blocker is not None:
                raise _refusal(EAGAIN, vid, *blocker)

    def is_free(self, thread: Thread, vid: int, ticket: Ticket | None = None) -> bool:
        """Whether a thread may enter space `vid` now, at its ticket's place or behind everybody.

        So it is if the space is not attached: the switch itself refuses that.
        """
        return self._blocker(thread, vid, ticket) is None

    def queue(self, thread: Thread, vid: int, ticket: Ticket) -> None:
        """Give a thread the last place. EBUSY: it waits already, or those it would wait for wait for it."""
        if any(other.thread is thread for other in self._queue.values()):
            raise EngineError(
                EBUSY, f"thread {thread.tid} waits for a lock already", holder=f"thread {thread.tid}"
            )
        self._last += 1
        ticket.thread, ticket.vid, ticket.number = thread, vid, self._last
        self._enter(ticket)
        cycle = self._scene().cycle(thread, thread.task.attachments[vid])
        if cycle is not None:
            self._remove(ticket)
            raise _refusal(EBUSY, vid, *cycle, why=", which waits for this thread")
        self._journal.undo(self._remove, ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give a place up; who stands behind it may have the turn. Nothing if it has none."""
        ticket.closed = True
        if ticket.number:
            self._remove(ticket)
            self._stir()

    def granted(self, ticket: Ticket) -> None:
        """The ticket's thread is inside: its place is given up, unless that is undone."""
        number = ticket.number
        self._remove(ticket)
        self._journal.undo(self._return, ticket, number)

    def thread_of(self, ticket: Ticket) -> Thread:
        """The thread that waits. ESRCH: it or its task has ended."""
        thread = ticket.thread
        if thread is None:
            raise EngineError(ESRCH, "nobody waits")
        if not _lives(self._tasks.get(thread.task.pid), thread):
            raise EngineError(ESRCH, f"thread {thread.tid} ended while it waited")
        return thread

    def holder(self, ticket: Ticket) -> str | None:
        """Who is in the way of a waiter; None if nobody is."""
        entrance = _entrance(ticket)
        blocker = None if entrance is None else self._blocker(entrance[0], ticket.vid, ticket)
        return None if blocker is None else f"task {blocker[1].task.pid}"

    def ready(self) -> list[Ticket]:
        """Waiters whose turn it is, or who wait in vain, in their order."""
        scene, earlier = self._scene(), Users()
        found = []
        for ticket in self._queue.values():
            entrance = _entrance(ticket)
            if entrance is None:
                found.append(ticket)
                continue
            thread, wanted = entrance[0], scene.wanted(entrance[1])
            if scene.blocker(thread, wanted, earlier) is None:
                found.append(ticket)
            earlier.add(thread, wanted)
        return found

    def status(self, vid: int) -> tuple[LockStatus, ...]:
        """The locks of a space: its own first, then those of its segments by id. EINVAL: unknown."""
        space = self.spaces.registry.get(vid)
        self._journal.touch(space.memory)
        scene = self._scene()
        locks = [Lock("space", vid)] if space.sharing == LOCKABLE else []
        locks += sorted(Lock("segment", segment.sid) for segment, _ in scene.lockable_segments(space))
        waiting = [(thread, held.vid, scene.wanted(held)) for thread, held in self.waiting()]
        return tuple(
            LockStatus(
                lock.kind,
                lock.id,
                tuple(_user(thread, thread.active, writes) for thread, writes in scene.holders(lock)),
                tuple(_user(thread, to, wanted[lock]) for thread, to, wanted in waiting if lock in wanted),
            )
            for lock in locks
        )

    def refuse_window(self, space: Space, segment: Segment, type: int) -> None:
        """Before a segment is attached to a space in use. EBUSY: those inside could not all have its lock, or would wait forever."""
        if segment.sharing != LOCKABLE or not space.attached:
            return
        scene = self._scene(Window(space.vid, segment, type))
        lock = Lock("segment", segment.sid)
        holders = scene.holders(lock)
        pids = {owner.thread.task.pid for owner in holders}
        writer = next((owner.thread.task.pid for owner in holders if owner.exclusive), None)
        if writer is not None and len(pids) > 1:
            raise EngineError(
                EBUSY,
                f"segment {segment.sid} is lockable, and tasks {sorted(pids)} would hold its lock at once",
                holder=f"task {writer}",
            )
        for thread, held in self.waiting():
            cycle = scene.cycle(thread, held)
            if cycle is not None:
                raise _refusal(
                    EBUSY, held.vid, *cycle, why=f"; thread {thread.tid} would wait for it without end"
                )
        self._journal.undo(self._stir)

    def conflicts(self) -> Iterator[str]:
        """I21: locks that two tasks hold although one of them is exclusive. Nothing when all is well."""
        scene = self._scene()
        locks = [Lock("space", space.vid) for space in self.spaces.registry if space.sharing == LOCKABLE]
        locks += [
            Lock("segment", segment.sid) for segment in self.segments.registry if segment.sharing == LOCKABLE
        ]
        for lock in locks:
            holders = scene.holders(lock)
            pids = {owner.thread.task.pid for owner in holders}
            if len(pids) > 1 and any(owner.exclusive for owner in holders):
                yield f"I21: the lock of {lock.kind} {lock.id} is held by tasks {sorted(pids)}, and exclusively"

    # -- the queue -----------------------------------------------------------------------------------------------

    def _scene(self, window: Window | None = None) -> Scene:
        return Scene(self.spaces, self.segments, self.waiting, window)

    def _blocker(self, thread: Thread, vid: int, ticket: Ticket | None) -> tuple[Lock, Thread] | None:
        held = thread.task.attachments.get(vid)
        if held is None or not self._is_guarded(self.spaces.registry.get(vid)):
            return None
        scene = self._scene()
        wanted = scene.wanted(held)
        if not wanted:
            return None
        earlier = Users()
        for other, entrance in self.waiting(before=ticket):
            earlier.add(other, scene.wanted(entrance))
        blocker = scene.blocker(thread, wanted, earlier)
        if blocker is None:
            self._journal.undo(self._stir)
        return blocker

    def waiting(self, before: Ticket | None = None) -> Iterator[tuple[Thread, Attachment]]:
        """Who waits for what, in order, as far as it can still be had; those in front of `before`, or all."""
        for ticket in self._queue.values():
            if ticket is before:
                return
            entrance = _entrance(ticket)
            if entrance is not None:
                yield entrance

    def _is_guarded(self, space: Space) -> bool:
        """Whether a space may have a lock."""
        if space.sharing == LOCKABLE:
            return True
        return self.segments.registry.has_lockable and any(vma.sid for vma in space.memory.vmas.of_others())

    def _enter(self, ticket: Ticket) -> None:
        if not self._queue:
            self._tasks.on_leave.append(self._left)
            self._tasks.on_detach.append(self._detached)
        self._queue[ticket.number] = ticket

    def _return(self, ticket: Ticket, number: int) -> None:
        if ticket.closed:
            return
        ticket.number = number
        self._enter(ticket)
        self._queue = dict(sorted(self._queue.items()))

    def _remove(self, ticket: Ticket) -> None:
        if self._queue.pop(ticket.number, None) is None:
            return
        ticket.number = 0
        if not self._queue:
            self._tasks.on_leave.remove(self._left)
            self._tasks.on_detach.remove(self._detached)

    def _left(self, _: int) -> None:
        self._stir()

    def _detached(self, _: Attachment) -> None:
        self._journal.defer(self._stir)

    def _stir(self) -> None:
        if self._queue:
            for told in self.on_change:
                told()


def _entrance(ticket: Ticket) -> tuple[Thread, Attachment] | None:
    """Who waits, and for which space as the task has it; None if that is over."""
    thread = ticket.thread
    if thread is None or not _lives(thread.task, thread):
        return None
    held = thread.task.attachments.get(ticket.vid)
    return None if held is None else (thread, held)


def _lives(task: Task, thread: Thread) -> bool:
    """Whether a task that has not ended still has the thread; one that has ended has nothing attached."""
    return task.threads.get(thread.tid) is thread


def _user(thread: Thread, vid: int, exclusive: bool) -> LockUser:
    return LockUser(thread.task.pid, thread.tid, vid, exclusive)


def _refusal(errno: str, vid: int, lock: Lock, other: Thread, why: str = "") -> EngineError:
    pid = other.task.pid
    return EngineError(
        errno,
        f"space {vid}: task {pid} has the lock of {lock.kind} {lock.id}, or a turn before{why}",
        holder=f"task {pid}",
    )
