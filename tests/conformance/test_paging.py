"""Pages that are put aside and huge pages: no byte changes, and /proc/{pid}/smaps and the counters tell of it."""

from collections.abc import Callable

from everspace import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    PROT_READ,
)
from tests.conformance.support.calls import PAGE, Calls
from tests.conformance.support.memory import FIXED, RW, at, counters, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

HUGE = 2 << 20
HUGE_PAGES = HUGE // PAGE


def told(world: World, task: Calls, field: str) -> int:
    """A field of smaps, in kB, summed over the window's regions."""
    text = world.http("owner").call("GET", f"/v1/proc/{task.pid}/smaps").text
    total, inside = 0, False
    for line in text.splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = BASE <= int(line.split("-")[0], 16) < BASE + (1 << 32)
        elif inside and line.startswith(f"{field}:"):
            total += int(line.split()[1])
    return total


@row("PAGEOUT-OK-1")
def test_what_is_put_aside_comes_back_as_it_was(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    data = bytes(range(256)) * 64
    task.write(at(0), data)
    before = counters(world, task)["major_faults"]
    task.madvise(at(0), 4 * PAGE, MADV_PAGEOUT)
    assert task.mincore(at(0), 4 * PAGE) == bytes(4)
    assert (told(world, task, "Swap"), told(world, task, "Rss")) == (16, 0)
    assert task.read(at(0), 4 * PAGE) == data
    assert counters(world, task)["major_faults"] > before
    assert (told(world, task, "Swap"), told(world, task, "Rss")) == (0, 16)


@row("PAGEOUT-WILLNEED-1")
def test_willneed_brings_it_back_before_it_is_used(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    task.write(at(0), b"x" * 4 * PAGE)
    task.madvise(at(0), 4 * PAGE, MADV_PAGEOUT)
    task.madvise(at(0), 4 * PAGE, MADV_WILLNEED)
    assert task.mincore(at(0), 4 * PAGE) == bytes([1] * 4)


@row("PAGEOUT-FORK-1")
def test_what_was_put_aside_is_copied_on_write_too(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"parent" * 1000)
    task.madvise(at(0), 2 * PAGE, MADV_PAGEOUT)
    child = world.adopt(task.fork())
    child.write(at(0), b"child ")
    assert task.read(at(0), 12) == b"parentparent"
    assert child.read(at(0), 12) == b"child parent"
    assert child.read(at(1), 100) == task.read(at(1), 100)


@row("PAGEOUT-GONE-1")
def test_what_is_unmapped_does_not_come_back(world: World) -> None:
    task = world.owner
    ways: list[Callable[[], object]] = [
        lambda: task.munmap(at(0), PAGE),
        lambda: task.madvise(at(0), PAGE, MADV_DONTNEED),
        task.exec,
    ]
    for discard in ways:
        put(task, 0)
        task.write(at(0), b"secret")
        task.madvise(at(0), PAGE, MADV_PAGEOUT)
        discard()
        put(task, 0)
        assert task.read(at(0), PAGE) == bytes(PAGE)


@row("FREE-SMAPS-1")
def test_what_may_be_freed_is_told_until_it_is_written(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"x" * 2 * PAGE)
    task.madvise(at(0), 2 * PAGE, MADV_FREE)
    assert told(world, task, "LazyFree") == 8
    task.write(at(0), b"y")
    assert told(world, task, "LazyFree") == 4


@row("HUGE-SMAPS-1")
def test_advised_memory_is_in_huge_pages_when_it_is_written(world: World) -> None:
    task = world.owner
    task.mmap(BASE, 2 * HUGE, RW, FIXED)
    task.madvise(BASE, 2 * HUGE, MADV_HUGEPAGE)
    assert told(world, task, "AnonHugePages") == 0
    task.write(BASE + 5 * PAGE, b"text")
    assert told(world, task, "AnonHugePages") == 2048
    assert task.read(BASE + 5 * PAGE, 4) == b"text"
    assert regions(task) == [f"0-{2 * HUGE_PAGES} rw-p"]


@row("HUGE-SPLIT-1")
def test_a_huge_page_is_split_where_its_parts_differ(world: World) -> None:
    task = world.owner
    changes: list[Callable[[], object]] = [
        lambda: task.mprotect(BASE + PAGE, PAGE, PROT_READ),
        lambda: task.munmap(BASE + PAGE, PAGE),
        lambda: task.madvise(BASE + PAGE, PAGE, MADV_NOHUGEPAGE),
    ]
    for change in changes:
        task.mmap(BASE, HUGE, RW, FIXED)
        task.madvise(BASE, HUGE, MADV_HUGEPAGE)
        task.write(BASE, b"x" * HUGE)
        assert told(world, task, "AnonHugePages") == 2048
        change()
        assert told(world, task, "AnonHugePages") == 0
        assert task.read(BASE, PAGE) == b"x" * PAGE
        assert task.read(BASE + 2 * PAGE, HUGE - 2 * PAGE) == b"x" * (HUGE - 2 * PAGE)


@row("HUGE-COLLAPSE-1")
def test_small_pages_become_a_huge_one_when_asked(world: World) -> None:
    task = world.owner
    task.mmap(BASE, HUGE, RW, FIXED)
    for page in range(0, HUGE_PAGES, 64):
        task.write(at(page), bytes([page // 64 + 1]))
    assert told(world, task, "AnonHugePages") == 0
    task.madvise(BASE, HUGE, MADV_COLLAPSE)
    assert told(world, task, "AnonHugePages") == 2048
    assert [task.read(at(page), 1)[0] for page in range(0, HUGE_PAGES, 64)] == list(range(1, 9))
    assert task.mincore(BASE, HUGE) == bytes([1]) * HUGE_PAGES


@row("HUGE-FORK-1")
def test_a_huge_page_is_copied_on_write(world: World) -> None:
    task = world.owner
    task.mmap(BASE, HUGE, RW, FIXED)
    task.madvise(BASE, HUGE, MADV_HUGEPAGE)
    task.write(BASE, b"parent" * 1000)
    child = world.adopt(task.fork())
    child.write(BASE + PAGE, b"child ")
    assert task.read(BASE, 6000) == b"parent" * 1000
    assert child.read(BASE + PAGE, 6) == b"child "
    assert child.read(BASE, PAGE) == task.read(BASE, PAGE)
