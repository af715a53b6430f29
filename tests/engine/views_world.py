"""A task with views or slots, for tests: every step is checked, every refused call must leave everything as it was."""

from engine import constants as c
from engine.check import check
from engine.tasks.task import Task
from tests.engine.host import Host

CREATE, DELETE, CURRENT, MIGRATE = c.MMVIEW_CREATE, c.MMVIEW_DELETE, c.MMVIEW_CURRENT, c.MMVIEW_MIGRATE
UNSHARE, SHARE, SWITCH_BASE = c.MMVIEW_UNSHARE, c.MMVIEW_SHARE, c.MMVIEW_SWITCH_BASE


class World:
    """A task with `pages` pages in the arena, and its threads. Addresses are told in pages from the arena's start."""

    def __init__(self, host: Host, pages: int = 6) -> None:
        self.host = host
        self.pid = host.task()
        if pages:
            host.map_at(self.pid, 0, pages)

    @property
    def task(self) -> Task:
        return self.host.machine.tasks_table.get(self.pid)

    def do(self, call: str, *args: object, tid: int | None = None) -> int:
        try:
            value: int = self.host.do(call, self.pid, tid, *args)
        finally:
            self.check()
        return value

    def check(self) -> None:
        problems = list(check(self.host.machine))
        assert problems == []

    def refused(self, call: str, *args: object, tid: int | None = None) -> str:
        """The errno of a call that must change nothing."""
        before = self.state()
        errno = self.host.refused(call, self.pid, tid, *args)
        self.check()
        assert self.state() == before
        return errno

    def view(self, op: int, *args: int, tid: int | None = None) -> int:
        return self.do("mmview", op, *args, tid=tid)

    def at(self, page: int) -> int:
        return self.host.base + page * self.host.page

    def length(self, pages: int) -> int:
        return pages * self.host.page

    def write(self, page: int, data: bytes, tid: int | None = None) -> None:
        self.do("write", self.at(page), data, tid=tid)

    def read(self, page: int, tid: int | None = None, length: int = 1) -> bytes:
        value: bytes = self.host.do("read", self.pid, tid, self.at(page), length)
        self.check()
        return value

    def unshare(self, first: int, last: int) -> None:
        self.view(UNSHARE, self.at(first), self.length(last - first))

    def thread(self, view: int | None = None) -> int:
        """A new thread, in the main thread's view or in another."""
        tid: int = self.host.do("thread", self.pid)
        if view is not None:
            self.view(MIGRATE, view, tid=tid)
        return tid

    def in_new_view(self) -> int:
        """A new thread in a new view."""
        return self.thread(self.view(CREATE))

    def in_new_slot(self, tid: int | None = None) -> int:
        """A new thread in a new slot, a copy of the one that `tid` is in."""
        made: int = self.host.do("thread", self.pid, tid)
        self.do("switch_as", self.do("new_as", tid=tid), tid=made)
        return made

    def maps(self, tid: int | None = None) -> str:
        text: str = self.host.do("maps_text", self.pid, tid)
        return text

    def arena(self, tid: int | None = None) -> list[tuple[int, int, str]]:
        """The regions in the arena of the thread's view: in pages, and their rights."""
        geometry, base, page = self.host.geometry, self.host.base, self.host.page
        space = self.task.thread(tid).view.space
        return [
            ((vma.start - base) // page, (vma.end - base) // page, str(vma.access))
            for vma in space.vmas.overlapping(base, geometry.arena_end)
        ]

    def state(self) -> object:
        """Everything about the task that a refused call must leave as it was."""
        task = self.task
        views = [
            (number, view.deleted, view.space.brk.now, [vma[:3] + vma[4:] for vma in view.space.vmas])
            for number, view in sorted(task.views.items())
        ]
        threads = [(tid, thread.view.id, thread.active) for tid, thread in task.threads.items()]
        return views, threads, task.base.id, task.kind, task.next_view, len(task.attachments)
