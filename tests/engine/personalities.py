"""All personalities on one machine: tasks, threads, views, slots, spaces, clones, images and forks in any order.

The model knows nothing of regions or frames. A page is a cell; who shares a page holds the same cell, who copies it
holds another one with the same bytes. After each step `check()` walks the machine; bytes and errnos are compared.
Frames are short and there is a swap area, so that pages also leave and come back on the way.
"""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.check import check
from engine.constants import (
    MMVIEW_CREATE,
    MMVIEW_DELETE,
    MMVIEW_MIGRATE,
    MMVIEW_SHARE,
    MMVIEW_SWITCH_BASE,
    MMVIEW_UNSHARE,
)
from engine.credentials import ROOT
from engine.errors import EngineError, PagesNeeded
from engine.geometry import X86_64
from tests.engine.host import FIXED, NOREPLACE, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.model_personalities import Cell, Pages, SpaceModel, TaskModel, copied

PAGE = X86_64.page_size
PAGES = 6
"""A task's pages lie below the arena, a space's in it, as many of each."""
TASK_START = X86_64.arena_start - (1 << 30)
TASKS_MAX, SPACES_MAX, VIEWS_MAX, THREADS_MAX = 3, 4, 4, 3


class Personalities(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.host = Host(frames=64, swap=512)
        self.tasks: dict[int, TaskModel] = {}
        self.spaces: dict[int, SpaceModel] = {}
        self.names = 0

    # -- choosing ------------------------------------------------------------------------------------------------

    def task(self, data: st.DataObject) -> tuple[int, TaskModel]:
        if not self.tasks:
            self.spawn()
        pid = data.draw(st.sampled_from(sorted(self.tasks)))
        return pid, self.tasks[pid]

    def thread(self, data: st.DataObject) -> tuple[int, TaskModel, int]:
        pid, task = self.task(data)
        return pid, task, data.draw(st.sampled_from(sorted(task.threads)))

    def space(self, data: st.DataObject) -> int:
        if not self.spaces:
            self.create()
        return data.draw(st.sampled_from(sorted(self.spaces)))

    def one_of(self, data: st.DataObject, usual: Iterable[int], others: Iterable[int]) -> int:
        """One of the usual ones, now and then one of the others."""
        chosen = sorted(usual)
        if not chosen or data.draw(st.integers(0, 5)) == 0:
            chosen = sorted(others)
        return data.draw(st.sampled_from(chosen))

    def expect(self, errno: str, call: str, *args: object) -> None:
        assert self.host.refused(call, *args) == errno, (call, args)

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    # -- tasks and threads ---------------------------------------------------------------------------------------

    @rule()
    def spawn(self) -> None:
        if len(self.tasks) < TASKS_MAX:
            pid = self.host.task()
            self.tasks[pid] = TaskModel({0: {}}, {pid: [0, 0]})

    @rule(data=st.data())
    def start_thread(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        if len(task.threads) < THREADS_MAX:
            task.threads[self.host.do("thread", pid, tid)] = [task.threads[tid][0], 0]

    @rule(data=st.data())
    def exit_thread(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        if tid == pid and len(task.threads) > 1:
            self.expect("EINVAL", "exit_thread", pid, tid)
        elif tid == pid:
            self.host.do("exit_thread", pid, tid)
            del self.tasks[pid]
        else:
            self.host.do("exit_thread", pid, tid)
            del task.threads[tid]
            task.reap()

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        if len(self.tasks) < TASKS_MAX:
            child = self.host.do("fork", pid, tid).pid
            pages = copied(task.views[task.threads[tid][0]])
            self.tasks[child] = TaskModel({0: pages}, {child: [0, 0]}, unshared=set(task.unshared))

    @rule(data=st.data())
    def exec(self, data: st.DataObject) -> None:
        pid, _ = self.task(data)
        if data.draw(st.integers(0, 2)):
            return
        self.host.do("exec", pid)
        self.tasks[pid] = TaskModel({0: {}}, {pid: [0, 0]})

    # -- memory of tasks -----------------------------------------------------------------------------------------

    @rule(data=st.data(), first=st.integers(0, PAGES - 1), count=st.integers(1, 3), shared=st.booleans())
    def map(self, data: st.DataObject, first: int, count: int, shared: bool) -> None:
        pid, task, tid = self.thread(data)
        view, vid = task.threads[tid]
        if vid:
            return
        pages = range(first, min(first + count, PAGES))
        flags = FIXED | (SHARED_MAP if shared else PRIVATE)
        self.host.do("mmap", pid, tid, TASK_START + first * PAGE, len(pages) * PAGE, RW, flags)
        for page in pages:
            cell = Cell(shared=shared)
            for each in self.in_step(task, view):
                each[page] = cell
            task.unshared.discard(page)

    @rule(data=st.data(), first=st.integers(0, PAGES - 1), count=st.integers(1, 3))
    def unmap(self, data: st.DataObject, first: int, count: int) -> None:
        pid, task, tid = self.thread(data)
        pages = range(first, min(first + count, PAGES))
        self.host.do("munmap", pid, tid, TASK_START + first * PAGE, len(pages) * PAGE)
        for page in pages:
            for each in self.in_step(task, task.threads[tid][0]):
                each.pop(page, None)
            if task.kind != "slots":
                task.unshared.discard(page)

    @rule(data=st.data(), page=st.integers(0, PAGES - 1), to=st.integers(0, PAGES - 1))
    def move(self, data: st.DataObject, page: int, to: int) -> None:
        pid, task, tid = self.thread(data)
        view = task.threads[tid][0]
        cells = task.views[view]
        if page == to or page not in cells or task.threads[tid][1]:
            return
        old, new = TASK_START + page * PAGE, TASK_START + to * PAGE
        self.host.do("mremap", pid, tid, old, PAGE, PAGE, 3, new)
        for each in self.in_step(task, view):
            each[to] = each.pop(page)
        task.unshared.discard(to)
        if page in task.unshared:
            task.unshared.discard(page)
            task.unshared.add(to)

    @rule(data=st.data(), page=st.integers(0, PAGES - 1), byte=st.integers(1, 255))
    def write(self, data: st.DataObject, page: int, byte: int) -> None:
        pid, task, tid = self.thread(data)
        cell = task.views[task.threads[tid][0]].get(page)
        where = TASK_START + page * PAGE
        if cell is None:
            self.expect("EFAULT", "write", pid, tid, where, bytes([byte]))
        else:
            self.host.do("write", pid, tid, where, bytes([byte]) * PAGE if byte & 1 else bytes([byte]))
            cell.byte = byte

    @staticmethod
    def in_step(task: TaskModel, view: int) -> list[Pages]:
        """What a mapping made in `view` changes."""
        return [task.views[view]] if task.kind == "slots" else list(task.views.values())

    # -- mmview --------------------------------------------------------------------------------------------------

    @rule(data=st.data(), first=st.integers(0, PAGES - 1), count=st.integers(1, 3), share=st.booleans())
    def unshare(self, data: st.DataObject, first: int, count: int, share: bool) -> None:
        pid, task, tid = self.thread(data)
        pages = [page for page in range(first, min(first + count, PAGES)) if page in task.views[task.base]]
        call = (
            "mmview",
            pid,
            tid,
            MMVIEW_SHARE if share else MMVIEW_UNSHARE,
            TASK_START + first * PAGE,
            count * PAGE,
        )
        if task.kind == "slots":
            self.expect("EBUSY", *call)
        elif len(task.views) > 1:
            self.expect("EPERM", *call)
        elif not pages:
            self.expect("EINVAL", *call)
        elif not share and any(task.views[task.base][page].shared for page in pages):
            self.expect("EACCES", *call)
        else:
            self.host.do(*call)
            changed = {page for page in pages if not task.views[task.base][page].shared}
            task.unshared = task.unshared - changed if share else task.unshared | changed

    @rule(data=st.data(), enter=st.booleans())
    def create_view(self, data: st.DataObject, enter: bool) -> None:
        pid, task, tid = self.thread(data)
        if task.kind == "slots":
            self.expect("EBUSY", "mmview", pid, tid, MMVIEW_CREATE)
        elif len(task.views) < VIEWS_MAX:
            view = self.host.do("mmview", pid, tid, MMVIEW_CREATE)
            assert view == task.next_view
            source = task.views[task.threads[tid][0]]
            task.views[view] = {
                page: replace(cell) if page in task.unshared else cell for page, cell in source.items()
            }
            task.kind, task.next_view = "views", view + 1
            if enter:
                self.host.do("mmview", pid, tid, MMVIEW_MIGRATE, view)
                task.threads[tid][0] = view
                task.reap()

    @rule(data=st.data())
    def migrate(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        view = self.one_of(data, task.views, range(9))
        if task.kind == "slots":
            self.expect("EBUSY", "mmview", pid, tid, MMVIEW_MIGRATE, view)
        elif view not in task.views or view in task.deleted:
            self.expect("EINVAL", "mmview", pid, tid, MMVIEW_MIGRATE, view)
        else:
            assert self.host.do("mmview", pid, tid, MMVIEW_MIGRATE, view) == task.threads[tid][0]
            task.threads[tid][0] = view
            task.reap()

    @rule(data=st.data())
    def delete_view(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        view = self.one_of(data, task.views, range(9))
        if task.kind == "slots":
            self.expect("EBUSY", "mmview", pid, tid, MMVIEW_DELETE, view)
        elif view not in task.views or view in task.deleted:
            self.expect("EINVAL", "mmview", pid, tid, MMVIEW_DELETE, view)
        elif view == task.base:
            self.expect("EPERM", "mmview", pid, tid, MMVIEW_DELETE, view)
        else:
            self.host.do("mmview", pid, tid, MMVIEW_DELETE, view)
            task.deleted.add(view)
            task.reap()

    @rule(data=st.data())
    def switch_base(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        view = task.threads[tid][0]
        if task.kind == "slots":
            self.expect("EBUSY", "mmview", pid, tid, MMVIEW_SWITCH_BASE)
        elif view in task.deleted:
            self.expect("EINVAL", "mmview", pid, tid, MMVIEW_SWITCH_BASE)
        else:
            assert self.host.do("mmview", pid, tid, MMVIEW_SWITCH_BASE) == view
            task.base = view

    # -- multias -------------------------------------------------------------------------------------------------

    @rule(data=st.data(), enter=st.booleans())
    def new_slot(self, data: st.DataObject, enter: bool) -> None:
        pid, task, tid = self.thread(data)
        if task.kind == "views":
            self.expect("EBUSY", "new_as", pid, tid)
        elif len(task.views) < VIEWS_MAX:
            slot = self.host.do("new_as", pid, tid)
            assert slot == len(task.views)
            task.views[slot] = copied(task.views[task.threads[tid][0]])
            task.kind = "slots"
            if enter:
                self.host.do("switch_as", pid, tid, slot)
                task.threads[tid][0] = slot

    @rule(data=st.data())
    def switch_slot(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        slot = self.one_of(data, task.views, range(-1, 17))
        if task.kind == "views":
            self.expect("EBUSY", "switch_as", pid, tid, slot)
        elif task.kind != "slots" or slot not in task.views:
            self.expect("ENOENT", "switch_as", pid, tid, slot)
        else:
            self.host.do("switch_as", pid, tid, slot)
            task.threads[tid][0] = slot

    # -- spaces --------------------------------------------------------------------------------------------------

    @rule()
    def create(self) -> None:
        if len(self.spaces) < SPACES_MAX:
            self.spaces[self.host.space(self.name())] = SpaceModel({})

    @rule(data=st.data())
    def attach(self, data: st.DataObject) -> None:
        (pid, task), vid = self.task(data), self.space(data)
        space = self.spaces[vid]
        kind = 0 if space.snapshot else 2
        if vid in task.attached:
            self.host.do("vas_attach", pid, vid, kind)
        elif space.image:
            self.expect("EFAULT", "vas_attach", pid, vid, kind)
        else:
            self.host.do("vas_attach", pid, vid, kind)
            task.attached[vid] = not space.snapshot

    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        pid, task = self.task(data)
        vid = self.one_of(data, task.attached, [self.space(data)])
        if vid not in task.attached:
            self.expect("EINVAL", "vas_detach", pid, vid)
        elif any(active == vid for _, active in task.threads.values()):
            self.expect("EBUSY", "vas_detach", pid, vid)
        else:
            self.host.do("vas_detach", pid, vid)
            del task.attached[vid]

    @rule(data=st.data(), home=st.booleans())
    def switch(self, data: st.DataObject, home: bool) -> None:
        pid, task, tid = self.thread(data)
        vid = 0 if home else self.one_of(data, task.attached, [self.space(data)])
        if vid and vid not in task.attached:
            self.expect("EINVAL", "vas_switch", pid, tid, vid)
        else:
            self.host.do("vas_switch", pid, tid, vid)
            task.threads[tid][1] = vid

    @rule(data=st.data(), page=st.integers(0, PAGES - 1))
    def map_inside(self, data: st.DataObject, page: int) -> None:
        pid, task, tid = self.thread(data)
        vid = task.threads[tid][1]
        call = ("mmap", pid, tid, self.host.base + page * PAGE, PAGE, RW, PRIVATE | NOREPLACE)
        if not vid:
            return
        if not task.attached[vid]:
            self.expect("EACCES", *call)
        elif page in self.spaces[vid].pages:
            self.expect("EEXIST", *call)
        else:
            self.host.do(*call)
            self.spaces[vid].pages[page] = Cell()

    @rule(data=st.data(), page=st.integers(0, PAGES - 1), byte=st.integers(1, 255))
    def write_inside(self, data: st.DataObject, page: int, byte: int) -> None:
        pid, task, tid = self.thread(data)
        vid = task.threads[tid][1]
        cell = self.spaces[vid].pages.get(page) if vid else None
        call = ("write", pid, tid, self.host.base + page * PAGE, bytes([byte]) * PAGE)
        if cell is None or not task.attached[vid]:
            self.expect("EFAULT", *call)
        else:
            self.host.do(*call)
            cell.byte = byte

    @rule(data=st.data(), snapshot=st.booleans())
    def clone(self, data: st.DataObject, snapshot: bool) -> None:
        vid = self.space(data)
        if len(self.spaces) < SPACES_MAX:
            source = self.spaces[vid]
            copy = self.host.do("vas_snapshot" if snapshot else "vas_clone", vid, self.name())
            pages = {page: Cell(cell.byte) for page, cell in source.pages.items()}
            self.spaces[copy] = SpaceModel(pages, snapshot, source.image)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        vid = self.space(data)
        if any(vid in task.attached for task in self.tasks.values()):
            self.expect("EBUSY", "vas_delete", vid)
        else:
            self.host.do("vas_delete", vid)
            del self.spaces[vid]

    # -- images --------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        pid, task, tid = self.thread(data)
        if len(self.spaces) < SPACES_MAX:
            vid = self.host.do("vas_fork", pid, tid, self.name())
            pages = task.views[task.threads[tid][0]]
            self.spaces[vid] = SpaceModel({page: Cell(cell.byte) for page, cell in pages.items()}, image=True)

    @rule(data=st.data())
    def run_image(self, data: st.DataObject) -> None:
        (pid, _), vid = self.task(data), self.space(data)
        space = self.spaces[vid]
        if not space.image:
            self.expect("EINVAL", "vas_exec", pid, vid)
        else:
            self.host.do("vas_exec", pid, vid)
            pages = {page: Cell(cell.byte) for page, cell in space.pages.items()}
            self.tasks[pid] = TaskModel({0: pages}, {pid: [0, 0]})

    # -- everything ----------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3)) == 0:
            self.host.restart()
            self.tasks.clear()

    @rule(data=st.data())
    def undone(self, data: st.DataObject) -> None:
        """Several calls in one transaction that is taken back."""
        pid, _, tid = self.thread(data)
        machine = self.host.machine
        with machine.transaction() as txn:
            root = ROOT
            for call in (
                lambda: machine.mmview(root, pid, tid, MMVIEW_CREATE),
                lambda: machine.new_as(root, pid, tid),
                lambda: machine.munmap(root, pid, tid, TASK_START, PAGES * PAGE),
                lambda: machine.mmap(root, pid, tid, TASK_START, PAGE, RW, PRIVATE | FIXED),
                lambda: machine.write(root, pid, tid, TASK_START, b"undone"),
                lambda: machine.fork(root, pid, tid),
                lambda: machine.vas_switch(root, pid, tid, 0),
                lambda: machine.exec(root, pid),
            ):
                try:
                    call()
                except EngineError:
                    continue
                except PagesNeeded:
                    break
        txn.rollback()

    @invariant()
    def everything_is_sound(self) -> None:
        assert list(check(self.host.machine)) == []

    @invariant()
    def every_thread_sees_its_bytes(self) -> None:
        for pid, task in self.tasks.items():
            for tid, (view, vid) in task.threads.items():
                self.compare(pid, tid, TASK_START, task.views[view])
                self.compare(pid, tid, self.host.base, self.spaces[vid].pages if vid else {})
                assert self.host.do("active_vas", pid, tid) == vid

    def compare(self, pid: int, tid: int, start: int, cells: Pages) -> None:
        for page in range(PAGES):
            where = start + page * PAGE
            if page in cells:
                assert self.host.do("read", pid, tid, where, 1)[0] == cells[page].byte, (pid, tid, page)
            else:
                self.expect("EFAULT", "read", pid, tid, where, 1)
