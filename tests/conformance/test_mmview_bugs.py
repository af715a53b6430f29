"""mmview and the rest of memory management; and what the source's change log says was once wrong there."""

import io
from typing import Any

from elftools.elf.elffile import ELFFile

from everspace import (
    MADV_COLLAPSE,
    MADV_HUGEPAGE,
    MADV_PAGEOUT,
    MMVIEW_CREATE,
    MMVIEW_MIGRATE,
    MMVIEW_SWITCH_BASE,
    MMVIEW_UNSHARE,
)
from tests.conformance.support.calls import PAGE, Calls
from tests.conformance.support.memory import ANON, RW, SHARED_ANON, at, counters, put
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

HUGE = 512
MAP_FIXED = 0x10


def unshare(task: Calls, page: int, count: int = 1) -> None:
    task.mmview(MMVIEW_UNSHARE, at(page), count * PAGE)


def into_new_view(task: Calls) -> int:
    view = task.mmview(MMVIEW_CREATE)
    task.mmview(MMVIEW_MIGRATE, view)
    return view


def smaps(world: World, task: Calls, page: int) -> dict[str, str]:
    """The fields of the region that begins at a page of the window, as `task`'s thread has it."""
    query = "" if task.tid == task.pid else f"?tid={task.tid}"
    text = world.http("owner").call("GET", f"/v1/proc/{task.pid}/smaps{query}").text
    fields: dict[str, str] = {}
    found = False
    for line in text.splitlines():
        if line.split()[0].count("-") == 1 and ":" not in line.split()[0]:
            found = line.startswith(f"{at(page):x}-")
        elif found:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    assert fields, text
    return fields


@row("MMVIEW-BUG-RETRY-1")
def test_a_fault_that_has_to_wait_for_its_page_is_finished(world: World) -> None:
    """Once, a retried fault that began in the base dropped the lock: here a page comes back from swap meanwhile."""
    task = world.owner
    put(task, 0, 4)
    task.write(at(0), b"swapped" * 500)
    thread = task.thread()
    into_new_view(thread)
    for reader in (thread, task):
        task.madvise(at(0), 4 * PAGE, MADV_PAGEOUT)
        assert task.mincore(at(0), PAGE) == b"\0"
        assert reader.read(at(0), 7) == b"swapped"
        reader.write(at(0), b"swapped")
    assert task.read(at(0), 3500) == thread.read(at(0), 3500) == b"swapped" * 500


@row("MMVIEW-BUG-ANON-SHARED-1")
def test_a_shared_anonymous_mapping_is_one_in_all_views(world: World) -> None:
    """Once, each view got a file of its own."""
    task = world.owner
    threads = [task.thread(), task.thread()]
    for thread in threads:
        into_new_view(thread)
    put(threads[0], 0, 2, flags=SHARED_ANON | MAP_FIXED)
    threads[1].write(at(0), b"one")
    assert [each.read(at(0), 3) for each in (task, *threads)] == [b"one"] * 3
    child = world.adopt(task.fork())
    child.write(at(1), b"child")
    assert [each.read(at(1), 5) for each in (task, *threads)] == [b"child"] * 3


@row("MMVIEW-BUG-ZAP-1")
def test_no_view_keeps_a_page_that_the_base_replaced(world: World) -> None:
    """After fork the base's pages are copied on write: every view must see the copy, none the page before it."""
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"before")
    threads = [task.thread(), task.thread()]
    for thread in threads:
        into_new_view(thread)
        assert thread.read(at(0), 6) == b"before"
    child = world.adopt(task.fork())
    task.write(at(0), b"after!")
    assert [thread.read(at(0), 6) for thread in threads] == [b"after!"] * 2
    threads[0].write(at(1), b"by a view")
    assert (task.read(at(1), 9), threads[1].read(at(1), 9)) == (b"by a view",) * 2
    assert (child.read(at(0), 6), child.read(at(1), 9)) == (b"before", bytes(9))


@row("MMVIEW-BUG-AGAIN-1")
def test_a_page_that_stays_is_not_faulted_again(world: World) -> None:
    """Once, updates of dirty and young bits zapped the views' entries without need."""
    task = world.owner
    put(task, 0)
    thread = task.thread()
    into_new_view(thread)
    for each in (task, thread):
        each.write(at(0), b"x")
        assert each.read(at(0), 1) == b"x"
    before = counters(world, task)["minor_faults"]
    for each in (task, thread, task, thread):
        each.write(at(0), b"y")
        assert each.read(at(0), 1) == b"y"
    assert counters(world, task)["minor_faults"] == before


@row("MMVIEW-BUG-WHOLE-1")
def test_a_new_task_is_whole_when_it_is_seen(world: World) -> None:
    """Once, others could find a map before it had the part that all views share: here a child can do all at once."""
    task = world.owner
    put(task, 0)
    unshare(task, 0)
    into_new_view(task)
    task.write(at(0), b"view")
    child = world.adopt(task.fork())
    view = into_new_view(child)
    assert (view, child.read(at(0), 4)) == (1, b"view")
    assert child.mmview(MMVIEW_SWITCH_BASE) == view
    second = child.thread()
    assert into_new_view(second) == 2
    assert second.read(at(0), 4) == b"view"


@row("MMVIEW-BUG-FORK-1")
def test_fork_protects_the_pages_of_every_view(world: World) -> None:
    """Once, fork left entries of views writable: a store through one would have reached the child."""
    task = world.owner
    put(task, 0, 2)
    thread = task.thread()
    into_new_view(thread)
    for page in (0, 1):
        thread.write(at(page), b"parent")
    child = world.adopt(task.fork())
    thread.write(at(0), b"THREAD")
    child.write(at(1), b"CHILD!")
    assert (child.read(at(0), 6), task.read(at(0), 6)) == (b"parent", b"THREAD")
    assert (thread.read(at(1), 6), task.read(at(1), 6)) == (b"parent", b"parent")


@row("MMVIEW-BUG-REUSE-1")
def test_a_page_that_another_view_still_has_is_not_reused(world: World) -> None:
    """A write fault may take a page over only if no other view's memory is on it."""
    task = world.owner
    put(task, 0)
    task.write(at(0), b"first")
    unshare(task, 0)
    threads = [task.thread() for _ in range(3)]
    for thread in threads:
        into_new_view(thread)
    task.write(at(0), b"base!")
    for number, thread in enumerate(threads):
        assert thread.read(at(0), 5) == b"first"
        thread.write(at(0), b"view%d" % number)
    assert [each.read(at(0), 5) for each in (task, *threads)] == [b"base!", b"view0", b"view1", b"view2"]


@row("MMVIEW-SWAP-1")
def test_unshared_pages_come_back_from_swap_each_to_its_view(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"before")
    unshare(task, 0)
    thread = task.thread()
    into_new_view(thread)
    thread.write(at(0), b"view")
    task.write(at(0), b"base")
    for each in (task, thread):
        each.madvise(at(0), 2 * PAGE, MADV_PAGEOUT)
        assert each.mincore(at(0), PAGE) == b"\0"
    assert (task.read(at(0), 6), thread.read(at(0), 6)) == (b"basere", b"viewre")


@row("MMVIEW-HUGE-1")
def test_huge_pages_are_shared_by_views(world: World) -> None:
    task = world.owner
    start = task.mmap(at(0), 4 * HUGE * PAGE, RW, ANON | MAP_FIXED)
    first = -(-start // (HUGE * PAGE)) * HUGE * PAGE
    task.madvise(start, 4 * HUGE * PAGE, MADV_HUGEPAGE)
    thread = task.thread()
    into_new_view(thread)
    thread.write(first, b"huge")
    assert task.read(first, 4) == b"huge"
    assert smaps(world, task, 0)["AnonHugePages"] == smaps(world, thread, 0)["AnonHugePages"] != "0 kB"
    task.write(first + PAGE, b"base")
    assert thread.read(first + PAGE, 4) == b"base"


@row("MMVIEW-HUGE-2")
def test_a_part_of_a_huge_page_is_unshared(world: World) -> None:
    task = world.owner
    start = task.mmap(at(0), 4 * HUGE * PAGE, RW, ANON | MAP_FIXED)
    first = -(-start // (HUGE * PAGE)) * HUGE * PAGE
    task.write(first, b"\1" * HUGE * PAGE)
    task.madvise(first, HUGE * PAGE, MADV_COLLAPSE)
    task.mmview(MMVIEW_UNSHARE, first + PAGE, PAGE)
    thread = task.thread()
    into_new_view(thread)
    thread.write(first, b"\2" * 3 * PAGE)
    assert task.read(first, 3 * PAGE) == b"\2" * PAGE + b"\1" * PAGE + b"\2" * PAGE
    assert thread.read(first, 4 * PAGE) == b"\2" * 3 * PAGE + b"\1" * PAGE


@row("MMVIEW-HUGE-3")
def test_an_unshared_huge_page_is_copied_on_write(world: World) -> None:
    task = world.owner
    start = task.mmap(at(0), 4 * HUGE * PAGE, RW, ANON | MAP_FIXED)
    first = -(-start // (HUGE * PAGE)) * HUGE * PAGE
    task.write(first, b"\1" * HUGE * PAGE)
    task.madvise(first, HUGE * PAGE, MADV_COLLAPSE)
    task.mmview(MMVIEW_UNSHARE, first, HUGE * PAGE)
    thread = task.thread()
    into_new_view(thread)
    thread.write(first + 9 * PAGE, b"view")
    assert task.read(first, HUGE * PAGE) == b"\1" * HUGE * PAGE
    assert thread.read(first + 9 * PAGE - 1, 6) == b"\1view\1"


@row("MMVIEW-CORE-1", "http")
def test_a_core_file_is_of_the_threads_view(world: World) -> None:
    task = world.owner
    put(task, 0)
    unshare(task, 0)
    thread = task.thread()
    into_new_view(thread)
    task.write(at(0), b"base")
    thread.write(at(0), b"view")
    for tid, text in ((task.tid, b"base"), (thread.tid, b"view")):
        answer = world.http("owner").call("GET", f"/v1/tasks/{task.pid}/core?tid={tid}", status=200)
        segments: list[Any] = list(ELFFile(io.BytesIO(answer.body)).iter_segments("PT_LOAD"))
        (data,) = (s.data() for s in segments if s["p_vaddr"] == at(0))
        assert data[:4] == text


@row("MMVIEW-MLOCK-1")
def test_a_new_view_has_no_locks(world: World) -> None:
    """mlock is not inherited by views, as it is not by children; the base keeps its own."""
    task = world.owner
    put(task, 0)
    unshare(task, 0)
    task.mlock(at(0), PAGE)
    thread = task.thread()
    into_new_view(thread)
    assert "lo" in smaps(world, task, 0)["VmFlags"].split()
    assert "lo" not in smaps(world, thread, 0)["VmFlags"].split()
