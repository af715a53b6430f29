"""A call that fails, wherever it fails, changes nothing; what was asked again after fetching is done once."""

import contextlib
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError, PageFault, PagesNeeded
from engine.geometry import TOY, X86_64, Geometry
from engine.journal import Journal
from engine.memory.frames import FramePool
from engine.regions.vma import VmaMap
from tests.engine.conftest import MakeHost
from tests.engine.host import FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.lockstep import regions


def crowded(make_host: MakeHost, geometry: Geometry = X86_64, frames: int = 64) -> tuple[Host, int, int]:
    """A task inside a space with two pages of its own, then two of a segment, then two of its own: "before"."""
    host = make_host(geometry, frames)
    pid, vid = host.inside(pages=2)
    host.do("vas_seg_attach", vid, host.segment(pages=2, at=2), 2)
    host.do("mmap", pid, None, host.base + 4 * host.page, 2 * host.page, RW, PRIVATE | FIXED)
    host.do("write", pid, None, host.base + host.page, b"before" * (2 * host.page // 6))
    return host, pid, vid


def everything(host: Host) -> object:
    """All that can be seen and all that is kept, apart from what a failure may leave: ids used, faults counted."""
    machine, page = host.machine, host.page
    memory: list[bytes | str] = []
    for told in machine.tasks(ROOT):
        union = machine.require_task(ROOT, told.pid)
        memory.append(machine.maps_text(ROOT, told.pid))
        views = [union.original, *(held.union for held in union.attachments.values())]
        for view in views:
            for vma, _ in view.regions():
                entries = vma.obj.pages.entries(vma.offset, min((vma.end - vma.start) // page, 64))
                memory.append(
                    b"".join(machine.pool.pages[max(entry, 0)].tobytes() for entry in entries.tolist())
                )
    attributes = machine.vas_list(ROOT), machine.vas_seg_list(ROOT)
    tasks = [(told.pid, told.threads, told.attachments) for told in machine.tasks(ROOT)]
    heaps = [task.space.brk.now for task in machine.tasks_table]
    marks = [regions(task.space) for task in machine.tasks_table]
    limits = [task.space.limits for task in machine.tasks_table]
    return attributes, tasks, heaps, marks, limits, memory, machine.pool.free_count


def page_by_page(host: Host, pid: int) -> list[bytes]:
    """The six pages; one at a time, since there may be room for no more."""
    return [host.do("read", pid, None, host.base + number * host.page, host.page) for number in range(6)]


def test_a_fault_in_any_region_stores_nothing_and_names_the_first_byte(make_host: MakeHost) -> None:
    host, pid, _ = crowded(make_host)
    page = host.page
    for broken, length in ((5, 6), (3, 6), (2, 5)):
        host.do("mprotect", pid, None, host.base + broken * page, page, 1)
        before, changes = everything(host), host.store.load()
        with pytest.raises(PageFault) as fault:
            host.do("write", pid, None, host.base + 7, b"y" * (length * page))
        assert fault.value.address == host.base + broken * page
        assert everything(host) == before
        assert (host.changes, host.store.load()) == ([], changes)


def test_a_store_beyond_the_last_region_names_its_end(make_host: MakeHost) -> None:
    host, pid, _ = crowded(make_host)
    before = everything(host)
    with pytest.raises(PageFault) as fault:
        host.do("write", pid, None, host.base, b"y" * (6 * host.page + 1))
    assert fault.value.address == host.base + 6 * host.page
    assert everything(host) == before


def test_a_store_that_runs_out_of_frames_stores_nothing(make_host: MakeHost) -> None:
    """Six pages in three regions of two objects; from no frame to just enough."""
    for frames in count(2):
        host, pid, _ = crowded(make_host, TOY, frames)
        host.do("write", pid, None, 0x10, b"pinned")
        before = page_by_page(host, pid)
        if host.refused("write", pid, None, host.base, b"y" * (6 * host.page)) == "":
            break
        assert host.changes == []
        assert page_by_page(host, pid) == before
    assert frames == 7
    assert host.do("read", pid, None, host.base, 6 * host.page) == b"y" * (6 * host.page)


def test_a_store_that_lacks_pages_half_way_is_made_once(make_host: MakeHost) -> None:
    host, pid, vid = crowded(make_host)
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    host.do("seg_read", 1, 0, 1)
    first, data = host.base + 2 * host.page + 1, b"y" * (3 * host.page)
    with pytest.raises(PagesNeeded) as need, host.machine.transaction():
        host.machine.write(ROOT, pid, None, first, data)
    assert need.value.pages == [host.base // host.page + 5]
    assert host.machine.seg_read(ROOT, 1, 0, 3) != b"\0yy"
    host.do("write", pid, None, first, data)
    assert host.do("read", pid, None, first, len(data)) == data
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    assert host.do("read", pid, None, first, len(data)) == data


class FailNth:
    """Lets a method fail the n-th time it is called."""

    def __init__(self, n: int) -> None:
        self.left = n

    def install(self, patch: pytest.MonkeyPatch, kind: type, name: str) -> None:
        real = getattr(kind, name)

        def failing(*args: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise EngineError("ENOMEM", f"{name} fails")
            return real(*args, **named)

        patch.setattr(kind, name, failing)


Script = Callable[[Host, int, int], object]


def write(host: Host, pid: int, vid: int) -> None:
    host.machine.write(ROOT, pid, None, host.base + 3, b"y" * (5 * host.page))


def map_over(host: Host, pid: int, vid: int) -> None:
    host.machine.mmap(ROOT, pid, None, host.base, host.page, 1, SHARED_MAP | FIXED)


def unmap(host: Host, pid: int, vid: int) -> None:
    host.machine.munmap(ROOT, pid, None, 0, host.base + 2 * host.page)


def protect(host: Host, pid: int, vid: int) -> None:
    host.machine.mprotect(ROOT, pid, None, host.base, 6 * host.page, 1)


def grow(host: Host, pid: int, vid: int) -> None:
    heap = host.machine.brk(ROOT, pid, None)
    host.machine.brk(ROOT, pid, None, heap + host.page)
    host.machine.write(ROOT, pid, None, heap, b"y")
    host.machine.brk(ROOT, pid, None, heap)


def by_offset(host: Host, pid: int, vid: int) -> None:
    host.machine.seg_write(ROOT, 1, 3, b"y" * host.page)


def new_segment(host: Host, pid: int, vid: int) -> None:
    start = host.base + 7 * host.page
    sid = host.machine.vas_seg_create(ROOT, "new", start, start + host.page, 0o600)
    host.machine.vas_seg_attach(ROOT, vid, sid, 2)
    host.machine.write(ROOT, pid, None, start, b"y")


def new_space(host: Host, pid: int, vid: int) -> None:
    new = host.machine.vas_create(ROOT, "new", 0o600)
    host.machine.vas_attach(ROOT, pid, new, 2, False)
    host.machine.vas_switch(ROOT, pid, None, new)
    host.machine.mmap(ROOT, pid, None, host.base, host.page, RW, PRIVATE | FIXED)
    host.machine.write(ROOT, pid, None, host.base, b"y")


def fork(host: Host, pid: int, vid: int) -> None:
    where = host.base + 6 * host.page
    host.machine.vas_switch(ROOT, pid, None, 0)
    host.machine.mmap(ROOT, pid, None, where, host.page, RW, SHARED_MAP | FIXED)
    host.machine.write(ROOT, pid, None, where, b"y")
    child = host.machine.fork(ROOT, pid).pid
    host.machine.write(ROOT, child, None, where, b"z")
    host.machine.write(ROOT, child, None, host.geometry.user_end - 1, b"z")
    host.machine.vas_switch(ROOT, pid, None, vid)


def chown(host: Host, pid: int, vid: int) -> None:
    host.machine.vas_setattr(ROOT, vid, 0o600, 5, 5)
    host.machine.vas_seg_setattr(ROOT, 1, 0, 5, 5)


def run_another_program(host: Host, pid: int, vid: int) -> None:
    host.machine.exec(ROOT, pid)
    host.machine.write(ROOT, pid, None, host.geometry.user_end - 1, b"y")


def end_of_all(host: Host, pid: int, vid: int) -> None:
    host.machine.exit(ROOT, pid)
    host.machine.vas_seg_detach(ROOT, vid, 1)
    host.machine.vas_seg_delete(ROOT, 1)
    host.machine.vas_delete(ROOT, vid)


def move(host: Host, pid: int, vid: int) -> None:
    page, base = host.page, host.base
    host.machine.mremap(ROOT, pid, None, base, 2 * page, 2 * page, 3, base + 6 * page)
    host.machine.mremap(ROOT, pid, None, base + 6 * page, 2 * page, page, 0)
    host.machine.mremap(ROOT, pid, None, base + 6 * page, page, 2 * page, 0)
    host.machine.write(ROOT, pid, None, base + 6 * page, b"y" * (2 * page))
    host.machine.mremap(ROOT, pid, None, base + 6 * page, page, page, 7, base)


def grow_a_stack(host: Host, pid: int, vid: int) -> None:
    stack = host.geometry.user_end - host.geometry.stack_size
    host.machine.write(ROOT, pid, None, stack - 3, b"growth")
    host.machine.mlock(ROOT, pid, None, stack, host.page)
    host.machine.mprotect(ROOT, pid, None, stack, host.page, 1)


def advise(host: Host, pid: int, vid: int) -> None:
    machine, data = host.machine, host.data
    machine.write(ROOT, pid, None, data, b"data")
    for advice in (1, 10, 18, 8, 21, 4):
        machine.madvise(ROOT, pid, None, data, host.page, advice)
    machine.madvise(ROOT, pid, None, host.base, 2 * host.page, 4)
    machine.madvise(ROOT, pid, None, host.base + 2 * host.page, host.page, 9)
    machine.mlock(ROOT, pid, None, host.base, host.page)


def limit(host: Host, pid: int, vid: int) -> None:
    host.machine.prlimit(ROOT, pid, "map_count", 6)
    host.machine.prlimit(ROOT, pid, "stack", 1)
    host.machine.vas_switch(ROOT, pid, None, 0)
    host.machine.mprotect(ROOT, pid, None, host.data, host.page, 0)


SCRIPTS: list[Script] = [
    write, map_over, by_offset, new_segment, new_space, fork, chown, grow, protect, unmap,
    advise, move, grow_a_stack, limit, run_another_program, end_of_all,
]  # fmt: skip


def named(thing: object) -> str:
    return getattr(thing, "__name__", str(thing))


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
@pytest.mark.parametrize(
    ("kind", "name"), [(FramePool, "allocate"), (VmaMap, "replace"), (Journal, "change")], ids=named
)
def test_whatever_fails_inside_is_undone(
    make_host: MakeHost, kind: type, name: str, geometry: Geometry, script: Script
) -> None:
    """The n-th use of something fails, for n = 1, 2, … until the calls succeed."""
    host, pid, vid = crowded(make_host, geometry)
    before = everything(host)
    for n in count(1):
        failed = False
        with pytest.MonkeyPatch.context() as patch:
            FailNth(n).install(patch, kind, name)
            try:
                with host.machine.transaction() as txn:
                    script(host, pid, vid)
            except EngineError as error:
                failed = "fails" in error.detail
        txn.rollback()  # also what a partial failure keeps, and what succeeded
        assert everything(host) == before
        assert list(check(host.machine)) == []
        if not failed:
            break


def test_a_failed_commit_takes_back_all_that_waited_newest_first(make_host: MakeHost) -> None:
    host, pid, vid = crowded(make_host)
    before, waiting = everything(host), []
    for script in SCRIPTS:
        with contextlib.suppress(EngineError), host.machine.transaction() as txn:
            script(host, pid, vid)
        waiting.append(txn)
        assert list(check(host.machine, pending=True)) == []
    assert sum(bool(txn.changes) for txn in waiting) >= 8
    for txn in reversed(waiting):
        txn.rollback()
    assert everything(host) == before
