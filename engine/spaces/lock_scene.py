"""Who holds and who wants the locks of spaces and segments at one moment, and who is in whose way."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from engine.constants import LOCKABLE, O_RDONLY, O_RDWR
from engine.spaces.segments import Segment, Segments
from engine.spaces.spaces import Space, Spaces
from engine.tasks.task import Attachment, Task, Thread


class Lock(NamedTuple):
    """What is locked: a space or a segment, by its id."""

    kind: Literal["space", "segment"]
    id: int


Wanted = dict[Lock, bool]
"""The locks of a space as one task has it; True: exclusive."""


Waiting = Callable[[], Iterator[tuple[Thread, Attachment]]]
"""Tells who waits for what, in the order of their turns."""


class Owner(NamedTuple):
    """A thread that holds or wants a lock."""

    thread: Thread
    exclusive: bool


class Window(NamedTuple):
    """A segment that is about to be attached to a space."""

    vid: int
    segment: Segment
    type: int


class Users:
    """Tasks that hold or want locks: of each lock the readers and the writers, each with one of its threads."""

    __slots__ = ("_readers", "_writers")

    def __init__(self) -> None:
        self._readers: dict[Lock, dict[Task, Thread]] = {}
        self._writers: dict[Lock, dict[Task, Thread]] = {}

    def add(self, thread: Thread, wanted: Wanted) -> None:
        """A thread, and the locks that it holds or wants."""
        for lock, exclusive in wanted.items():
            users = self._writers if exclusive else self._readers
            users.setdefault(lock, {}).setdefault(thread.task, thread)

    def has(self, lock: Lock, task: Task) -> bool:
        """Whether the task is one of them."""
        return task in self._readers.get(lock, ()) or task in self._writers.get(lock, ())

    def conflict(self, lock: Lock, task: Task, *, exclusive: bool) -> Thread | None:
        """A thread of another task that does not go with `task` having the lock."""
        for users in (self._writers, self._readers) if exclusive else (self._writers,):
            for other, thread in users.get(lock, {}).items():
                if other is not task:
                    return thread
        return None


class Scene:
    """Who is where at one moment, looked up once. `waiting` tells who waits for what; `window`: as if it were there."""

    def __init__(
        self, spaces: Spaces, segments: Segments, waiting: Waiting, window: Window | None = None
    ) -> None:
        self._spaces = spaces
        self._segments = segments
        self._waiting = waiting
        self._window = window
        self._wanted: dict[Attachment, Wanted] = {}
        self._holders: dict[Lock, list[Owner]] = {}
        self._held = Users()

    def wanted(self, held: Attachment) -> Wanted:
        """The locks of an attached space."""
        wanted = self._wanted.get(held)
        if wanted is None:
            space = self._spaces.registry.get(held.vid)
            writes = held.type != O_RDONLY
            wanted = {Lock("space", held.vid): writes} if space.sharing == LOCKABLE else {}
            for segment, type in self.lockable_segments(space):
                wanted[Lock("segment", segment.sid)] = writes and type != O_RDONLY
            self._wanted[held] = wanted
        return wanted

    def lockable_segments(self, space: Space) -> Iterator[tuple[Segment, int]]:
        """The lockable segments in a space, and the types with which they are attached."""
        segments = self._segments.registry
        for vma in space.memory.vmas.of_others():
            if vma.sid and segments.get(vma.sid).sharing == LOCKABLE:
                yield segments.get(vma.sid), vma.type
        if self._window is not None and self._window.vid == space.vid:
            yield self._window.segment, self._window.type

    def holders(self, lock: Lock) -> list[Owner]:
        """Threads that hold a lock."""
        holders = self._holders.get(lock)
        if holders is None:
            holders = self._holders[lock] = [
                Owner(thread, held.type != O_RDONLY and type != O_RDONLY)
                for space, type in self._places(lock)
                for held in space.attached
                for thread in held.task.threads.values()
                if thread.active == space.vid
            ]
            for thread, exclusive in holders:
                self._held.add(thread, {lock: exclusive})
        return holders

    def blocker(self, thread: Thread, wanted: Wanted, earlier: Users) -> tuple[Lock, Thread] | None:
        """A lock that a thread may not have now, and who is in its way: a holder, or one who waits since `earlier`."""
        task = thread.task
        for lock, exclusive in wanted.items():
            self.holders(lock)
            other = self._held.conflict(lock, task, exclusive=exclusive)
            if other is None and not self._held.has(lock, task):
                other = earlier.conflict(lock, task, exclusive=exclusive)
            if other is not None:
                return lock, other
        return None

    def cycle(self, thread: Thread, held: Attachment) -> tuple[Lock, Thread] | None:
        """Whether a waiting thread waits for itself in the end: through whom, and for which lock; None if not."""
        inside = thread.task.attachments.get(thread.active)
        if inside is None or not self.wanted(inside):
            return None  # it is in nobody's way
        waiting = {other: (place, entrance) for place, (other, entrance) in enumerate(self._waiting())}
        open_ends = [(step, step) for step in self._waits_for(thread, held, waiting)]
        seen: set[Thread] = set()
        while open_ends:
            first, (_, other) = open_ends.pop()
            if other is thread:
                return first
            if other not in seen and other in waiting:
                seen.add(other)
                open_ends += [(first, step) for step in self._waits_for(other, waiting[other][1], waiting)]
        return None

    def _waits_for(
        self, thread: Thread, held: Attachment, waiting: dict[Thread, tuple[int, Attachment]]
    ) -> Iterator[tuple[Lock, Thread]]:
        """Each lock that a waiting thread lacks, with each thread that has to move before it gets that."""
        task, place = thread.task, waiting[thread][0]
        for lock, exclusive in self.wanted(held).items():
            for other, writes in self.holders(lock):
                if other.task is not task and (exclusive or writes):
                    yield lock, other
            if self._held.has(lock, task):
                continue
            for other, (earlier, entrance) in waiting.items():
                if earlier >= place:
                    break
                theirs = self.wanted(entrance)
                if lock in theirs and other.task is not task and (exclusive or theirs[lock]):
                    yield lock, other

    def _places(self, lock: Lock) -> Iterable[tuple[Space, int]]:
        """Spaces in which a thread holds the lock, each with the type that limits it there."""
        if lock.kind == "space":
            return [(self._spaces.registry.get(lock.id), O_RDWR)]
        segment = self._segments.registry.get(lock.id)
        spaces = [self._spaces.registry.get(mapper.vid) for mapper in segment.obj.mappers]
        places = [(space, space.memory.vmas.windows(segment.obj)[0].type) for space in spaces]
        if self._window is not None and self._window.segment is segment:
            places.append((self._spaces.registry.get(self._window.vid), self._window.type))
        return places
