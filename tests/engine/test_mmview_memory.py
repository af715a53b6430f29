"""What views of one task do together: every call on memory acts on all of them or on none. What each has alone."""

import io

import pytest
from elftools.elf.elffile import ELFFile

from engine import constants as c
from engine.memory.page_map import LEAF_PAGES
from tests.engine.core_reading import dump, memory, tids
from tests.engine.host import FIXED, NOREPLACE, PRIVATE, RW, Host
from tests.engine.views_world import CREATE, CURRENT, DELETE, MIGRATE, SHARE, World


@pytest.fixture
def world(host: Host) -> World:
    return World(host)


def everywhere(world: World, *tids: int | None) -> list[tuple[int, int, str]]:
    """The arena's regions, which are the same in every view."""
    first, *others = [world.arena(tid) for tid in tids]
    assert all(other == first for other in others)
    return first


# -- in step ----------------------------------------------------------------------------------------------------------


def test_what_is_mapped_and_unmapped_by_one_is_so_for_all(world: World) -> None:
    one, two = world.in_new_view(), world.in_new_view()
    world.do("munmap", world.at(1), world.length(2), tid=one)
    assert everywhere(world, None, one, two) == [(0, 1, "rw-"), (3, 6, "rw-")]
    assert world.refused("read", world.at(1), 1) == "EFAULT"
    world.do("mmap", world.at(1), world.length(1), RW, PRIVATE | NOREPLACE, tid=two)
    world.write(1, b"x", one)
    assert world.read(1) == world.read(1, two) == b"x"
    assert world.refused("mmap", world.at(1), world.length(1), RW, PRIVATE | NOREPLACE) == "EEXIST"


def test_new_mappings_are_shared_also_where_something_unshared_was(world: World) -> None:
    world.write(0, b"a")
    world.unshare(0, 2)
    one = world.in_new_view()
    world.write(0, b"b", one)
    world.do("mmap", world.at(0), world.length(1), RW, PRIVATE | FIXED, tid=one)
    assert world.read(0) == world.read(0, one) == b"\0"
    world.write(0, b"c")
    assert world.read(0, one) == b"c"
    world.write(1, b"d")
    assert world.read(1, one) == b"\0"


def test_rights_of_shared_memory_are_those_of_all_of_unshared_memory_each_view_s_own(world: World) -> None:
    world.unshare(0, 2)
    one, two = world.in_new_view(), world.in_new_view()
    world.do("mprotect", world.at(3), world.length(1), 1, tid=one)
    for tid in (None, one, two):
        assert world.refused("write", world.at(3), b"x", tid=tid) == "EFAULT"
    world.do("mprotect", world.at(0), world.length(1), 1, tid=one)
    assert world.refused("write", world.at(0), b"x", tid=one) == "EFAULT"
    for tid, data in ((None, b"a"), (two, b"b")):
        world.write(0, data, tid)
        assert world.read(0, tid) == data
    assert world.arena(one)[:2] == [(0, 1, "r--"), (1, 2, "rw-")]
    assert world.arena()[:1] == world.arena(two)[:1] == [(0, 2, "rw-")]


@pytest.mark.parametrize("first", [0, 1])
def test_rights_of_a_mixture_are_refused_whatever_lies_first(world: World, first: int) -> None:
    world.unshare(first, first + 2)
    one = world.in_new_view()
    assert world.refused("mprotect", world.at(0), world.length(4), 1, tid=one) == "EACCES"
    assert world.refused("mprotect", world.at(first + 1), world.length(2), 1) == "EACCES"
    world.do("mprotect", world.at(first), world.length(2), 1)


def test_an_unshared_region_with_rights_that_differ_moves_in_every_view(world: World) -> None:
    for page in range(3):
        world.write(page, bytes([65 + page]))
    world.unshare(0, 3)
    one = world.in_new_view()
    world.write(1, b"!", one)
    world.do("mprotect", world.at(1), world.length(1), 1, tid=one)
    flags = c.MREMAP_MAYMOVE | c.MREMAP_FIXED
    world.do("mremap", world.at(0), world.length(3), world.length(3), flags, world.at(3))
    assert [world.read(page) for page in range(3, 6)] == [b"A", b"B", b"C"]
    assert [world.read(page, one) for page in range(3, 6)] == [b"A", b"!", b"C"]
    assert world.arena() == [(3, 6, "rw-")]
    assert world.arena(one) == [(3, 4, "rw-"), (4, 5, "r--"), (5, 6, "rw-")]
    assert world.refused("read", world.at(0), 1, tid=one) == "EFAULT"


def test_an_unshared_region_that_grows_is_each_view_s_own_there_too(world: World) -> None:
    world.do("munmap", world.at(2), world.length(4))
    world.unshare(0, 2)
    one = world.in_new_view()
    world.do("mprotect", world.at(1), world.length(1), 1, tid=one)
    world.do("mremap", world.at(0), world.length(2), world.length(4), 0, 0)
    world.write(3, b"x")
    assert world.read(3, one) == b"\0"
    assert world.arena() == [(0, 4, "rw-")]
    assert world.arena(one) == [(0, 1, "rw-"), (1, 4, "r--")]


def test_the_heap_is_one(world: World) -> None:
    world.do("munmap", world.at(0), world.length(2))
    one = world.in_new_view()
    start = world.do("brk", 0)
    assert world.do("brk", start + world.host.page, tid=one) == start + world.host.page
    assert world.do("brk", 0) == start + world.host.page
    world.do("write", start, b"h")
    assert world.host.do("read", world.pid, one, start, 1) == b"h"
    world.do("brk", start)
    assert world.refused("read", start, 1, tid=one) == "EFAULT"


def test_a_stack_grows_for_all(world: World) -> None:
    one = world.in_new_view()
    stack = world.host.geometry.user_end - world.host.geometry.stack_size
    below = stack - world.host.page
    world.do("munmap", world.at(0), world.length(6))
    world.do("write", below, b"s", tid=one)
    assert world.host.do("read", world.pid, None, below, 1) == b"s"
    for tid in (None, one):
        assert world.task.thread(tid).view.space.vmas.find(below) is not None


def test_what_is_advised_away_is_gone_for_all_but_of_unshared_memory_for_one(world: World) -> None:
    world.unshare(0, 1)
    world.write(0, b"u")
    world.write(1, b"s")
    one = world.in_new_view()
    world.do("madvise", world.at(0), world.length(2), c.MADV_DONTNEED, tid=one)
    assert [world.read(page, one) for page in (0, 1)] == [b"\0", b"\0"]
    assert [world.read(page) for page in (0, 1)] == [b"u", b"\0"]


def test_advice_that_marks_regions_marks_them_in_all(world: World) -> None:
    world.unshare(0, 1)
    one = world.in_new_view()
    world.do("madvise", world.at(0), world.length(2), c.MADV_DONTFORK, tid=one)
    for tid in (None, one):
        child = world.host.do("fork", world.pid, tid).pid
        assert world.host.pages_of(child) == [(2, 6, "rw-")]


def test_dontfork_is_ignored_by_views_and_locks_are_not_copied(world: World) -> None:
    world.write(0, b"d")
    world.do("madvise", world.at(0), world.length(1), c.MADV_DONTFORK)
    world.do("mlock", world.at(1), world.length(2))
    one = world.in_new_view()
    assert world.read(0, one) == b"d"
    view = world.task.thread(one).view.space
    assert (world.task.space.locked(), view.locked()) == (world.length(2), 0)
    world.do("mlock", world.at(2), world.length(2), tid=one)
    assert (world.task.space.locked(), view.locked()) == (world.length(3), world.length(2))
    world.do("munlock", world.at(0), world.length(6))
    assert (world.task.space.locked(), view.locked()) == (0, 0)


def test_a_call_that_another_view_refuses_changes_none(world: World) -> None:
    """One view has more regions than the other: what does not fit there is not done here."""
    world.unshare(0, 6)
    one = world.in_new_view()
    for page in (1, 3):
        world.do("mprotect", world.at(page), world.length(1), 1, tid=one)
    count = len(world.task.thread(one).view.space.vmas)
    world.host.do("prlimit", world.pid, "map_count", count)
    assert world.refused("madvise", world.at(4), world.length(1), c.MADV_DONTFORK) == "EAGAIN"
    assert world.refused("mlock", world.at(4), world.length(1), c.MLOCK_ONFAULT) == "ENOMEM"
    world.do("munmap", world.at(0), world.length(2))


def test_a_limit_of_another_view_refuses_too(world: World) -> None:
    world.unshare(0, 6)
    one = world.in_new_view()
    world.do("mprotect", world.at(0), world.length(6), 1)
    limit = world.task.thread(one).view.space.data()
    world.host.do("prlimit", world.pid, "data", limit)
    assert world.refused("mmap", 0, world.length(1), RW, PRIVATE) == "ENOMEM"
    world.do("mprotect", world.at(0), world.length(6), RW)


# -- memory ---------------------------------------------------------------------------------------------------------


def test_a_fork_copies_the_view_of_its_caller(world: World) -> None:
    world.unshare(0, 2)
    world.write(2, b"s")
    one = world.in_new_view()
    for tid, data in ((None, b"0"), (one, b"1")):
        world.write(0, data, tid)
    world.do("mprotect", world.at(1), world.length(1), 1, tid=one)
    child = world.host.do("fork", world.pid, one).pid
    assert world.host.do("mmview", child, None, CURRENT) == 0
    assert world.host.do("read", child, None, world.at(0), 1) == b"1"
    assert world.host.do("read", child, None, world.at(2), 1) == b"s"
    assert world.host.pages_of(child)[:2] == [(0, 1, "rw-"), (1, 2, "r--")]
    made = world.host.do("mmview", child, None, CREATE)
    assert made == 1
    world.host.do("write", child, None, world.at(0), b"c")
    world.host.do("mmview", child, None, MIGRATE, made)
    assert world.host.do("read", child, None, world.at(0), 1) == b"1"
    assert [world.read(0, tid) for tid in (None, one)] == [b"0", b"1"]


def test_exec_and_exit_give_everything_back(world: World) -> None:
    host = world.host
    host.do("exit", world.pid)
    world = World(host)
    free, leaves = host.machine.pool.free_count, host.machine.pool.leaves
    for end in ("exec", "exit"):
        world.unshare(0, 3)
        for tid in (None, world.in_new_view(), world.in_new_view()):
            world.write(0, b"x", tid)
            world.write(4, b"y", tid)
        world.view(MIGRATE, 1)
        world.view(DELETE, 2)
        host.do(end, world.pid)
        world.check()
        assert (host.machine.pool.free_count, host.machine.pool.leaves) == (free, leaves)
        if end == "exec":
            assert world.view(CURRENT) == 0
            assert (world.task.kind, len(world.task.views), len(world.task.threads)) == ("", 1, 1)
            host.map_at(world.pid, 0, 6)
    assert len(host.machine.tasks_table) == 0


@pytest.mark.roomy
def test_pages_of_every_view_go_to_swap_and_come_back(make_swapping: Host) -> None:
    world = World(make_swapping)
    world.unshare(0, 3)
    world.write(0, b"a")
    one = world.in_new_view()
    world.write(1, b"b", one)
    world.write(4, b"s", one)
    for tid in (None, one):
        world.read(4, tid)
    assert world.host.machine.reclaim.free(8) > 0
    world.check()
    assert [world.read(page) for page in (0, 1, 4)] == [b"a", b"\0", b"s"]
    assert [world.read(page, one) for page in (0, 1, 4)] == [b"a", b"b", b"s"]


@pytest.fixture
def make_swapping(host: Host) -> Host:
    """A host with swap."""
    return Host(host.geometry, 64, 64)


@pytest.mark.roomy
def test_a_core_file_shows_the_thread_s_view_and_all_threads(world: World) -> None:
    world.unshare(0, 1)
    world.write(0, b"0")
    one = world.in_new_view()
    world.write(0, b"1", one)
    world.write(2, b"s", one)
    for tid, wanted in ((None, b"0"), (one, b"1")):
        image = world.host.do("task_core", world.pid, tid)
        content = dump(world.host, image)
        image.release()
        world.check()
        assert memory(content, world.at(0), 1) == wanted
        assert memory(content, world.at(2), 1) == b"s"
        elf = ELFFile(io.BytesIO(content))
        assert sorted(tids(elf)) == sorted(world.task.threads)
        assert tids(elf)[0] == (tid or world.pid)


def test_maps_and_smaps_show_the_thread_s_view(world: World) -> None:
    world.unshare(0, 1)
    world.write(0, b"0")
    world.write(1, b"s")
    one = world.in_new_view()
    world.do("mprotect", world.at(0), world.length(1), 1, tid=one)
    assert world.maps() != world.maps(one)
    assert f"{world.at(0):08x}-{world.at(1):08x} r--p" in world.maps(one)
    lines = world.host.do("smaps_text", world.pid, one).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{world.at(0):08x}-"))
    block = lines[start : start + 25]
    assert "un" in next(line for line in block if line.startswith("VmFlags")).split()
    if world.host.page >= 1024:
        rss, pss = (
            int(next(line for line in block if line.startswith(f"{name}:")).split()[1])
            for name in ("Rss", "Pss")
        )
        assert (rss, pss) == (world.host.page >> 10, world.host.page >> 11)
        sums = [line for line in world.host.do("status_text", world.pid).splitlines() if "RssAnon" in line]
        assert int(sums[0].split()[1]) == 2 * (world.host.page >> 10)


def test_leaves_of_page_maps_are_counted_in_every_view(host: Host) -> None:
    world = World(host)
    world.unshare(0, 2)
    world.write(0, b"a")
    tids = [world.in_new_view() for _ in range(3)]
    for tid in tids:
        world.write(0, b"b", tid)
    assert host.machine.pool.leaves == host.machine._count_leaves()


@pytest.mark.huge_pages
def test_huge_pages_of_shared_and_of_unshared_memory(host: Host) -> None:
    host = Host(host.geometry, 6 * LEAF_PAGES)
    world = World(host, pages=2 * LEAF_PAGES)
    world.do("madvise", world.at(0), world.length(2 * LEAF_PAGES), c.MADV_HUGEPAGE)
    world.unshare(0, LEAF_PAGES)
    world.write(0, b"u")
    one = world.in_new_view()
    world.write(LEAF_PAGES, b"s", one)
    space, other = world.task.space, world.task.thread(one).view.space
    number = (host.base // host.page) // LEAF_PAGES
    assert space.memory.pages.is_huge(number + 1)
    assert space.private is not None
    assert other.private is not None
    assert space.private.pages.is_huge(number)
    world.write(0, b"v", one)
    assert space.private.pages.is_huge(number)
    assert not other.private.pages.is_huge(number)
    assert [world.read(0, tid) for tid in (None, one)] == [b"u", b"v"]
    assert world.read(LEAF_PAGES) == b"s"


def test_an_image_that_runs_has_views(world: World) -> None:
    """The pages of what is unshared come from the store first."""
    world.write(0, b"a")
    world.write(1, b"b")
    world.write(4, b"s")
    vid = world.host.do("vas_fork", world.pid)
    world.host.do("vas_exec", world.pid, vid)
    world.check()
    world.unshare(0, 2)
    one = world.in_new_view()
    world.write(0, b"c", one)
    assert [world.read(page, one) for page in (0, 1, 4)] == [b"c", b"b", b"s"]
    world.do("madvise", world.at(1), world.length(1), c.MADV_DONTNEED)
    assert [world.read(page) for page in (0, 1, 4)] == [b"a", b"\0", b"s"]
    again = world.host.do("vas_fork", world.pid)
    world.host.do("vas_exec", world.pid, again)
    assert [world.read(page) for page in (0, 1, 4)] == [b"a", b"\0", b"s"]


def test_what_was_unshared_in_an_image_is_shared_again(world: World) -> None:
    world.write(0, b"a")
    world.host.do("vas_exec", world.pid, world.host.do("vas_fork", world.pid))
    world.unshare(0, 2)
    world.do("madvise", world.at(0), world.length(1), c.MADV_DONTNEED)
    world.view(SHARE, world.at(0), world.length(2))
    assert [world.read(page) for page in (0, 1)] == [b"\0", b"\0"]
