"""Huge pages: who gets one and when, what splits it at each of its edges, and that nobody can tell from the bytes."""

from collections.abc import Callable

import pytest

from engine import constants as c
from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import I386, TOY, Geometry
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from tests.engine.conftest import MakeHost
from tests.engine.host import FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.lockstep import regions

FRAMES = 6 * LEAF_PAGES


@pytest.fixture
def roomy(make_host: MakeHost, geometry: Geometry) -> Host:
    """Frames for six huge pages."""
    return make_host(geometry, FRAMES, 4 * LEAF_PAGES)


def advised(host: Host, first: int = 0, last: int = 3 * LEAF_PAGES, flags: int = PRIVATE) -> int:
    """A task with pages [first, last) of the arena, which may be in huge pages."""
    pid = host.task()
    where = host.map_at(pid, first, last, flags=flags)
    host.do("madvise", pid, None, where, (last - first) * host.page, c.MADV_HUGEPAGE)
    return pid


def huge(host: Host, pid: int) -> list[int]:
    """Which huge pages of the arena are such."""
    pages = host.machine.require_task(ROOT, pid).space.memory.pages
    first = host.base // host.page >> LEAF_SHIFT
    return [number for number in range(4) if pages.is_huge(first + number)]


def at(host: Host, page: int) -> int:
    return host.base + page * host.page


def write(host: Host, pid: int, page: int, data: bytes = b"x") -> None:
    host.do("write", pid, None, at(host, page), data)


@pytest.mark.huge_pages
def test_the_first_write_into_advised_memory_takes_one_huge_page(roomy: Host) -> None:
    pid = advised(roomy)
    write(roomy, pid, LEAF_PAGES + 7)
    assert huge(roomy, pid) == [1]
    assert roomy.machine.pool.free_count == FRAMES - LEAF_PAGES
    assert roomy.do("mincore", pid, None, roomy.base, 3 * LEAF_PAGES * roomy.page) == (
        b"\0" * LEAF_PAGES + b"\1" * LEAF_PAGES + b"\0" * LEAF_PAGES
    )
    assert roomy.do("read", pid, None, at(roomy, LEAF_PAGES), 8 * roomy.page) == (
        bytes(7 * roomy.page) + b"x" + bytes(roomy.page - 1)
    )
    for page in range(LEAF_PAGES, 2 * LEAF_PAGES, 50):
        write(roomy, pid, page)
    assert roomy.machine.pool.free_count == FRAMES - LEAF_PAGES
    roomy.do("exit", pid)
    assert roomy.machine.pool.free_count == FRAMES


@pytest.mark.huge_pages
def test_a_write_over_an_edge_takes_two(roomy: Host) -> None:
    pid = advised(roomy)
    write(roomy, pid, LEAF_PAGES - 1, b"y" * (2 * roomy.page))
    assert huge(roomy, pid) == [0, 1]
    assert roomy.do("read", pid, None, at(roomy, LEAF_PAGES - 1) - 1, 3) == b"\0yy"


@pytest.mark.huge_pages
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, LEAF_PAGES, [0]),
        (0, LEAF_PAGES - 1, []),
        (1, LEAF_PAGES, []),
        (1, 2 * LEAF_PAGES, [1]),
        (LEAF_PAGES - 1, 2 * LEAF_PAGES + 1, [1]),
    ],
)
def test_a_huge_page_lies_wholly_in_its_region(
    roomy: Host, first: int, last: int, expected: list[int]
) -> None:
    pid = advised(roomy, first, last)
    for page in (first, (first + last) // 2, last - 1):
        write(roomy, pid, page)
    assert huge(roomy, pid) == expected


@pytest.mark.huge_pages
def test_nobody_gets_one_unasked(roomy: Host) -> None:
    pid = roomy.task()
    where = roomy.map_at(pid, 0, LEAF_PAGES)
    write(roomy, pid, 0)
    roomy.do("madvise", pid, None, where, LEAF_PAGES * roomy.page, c.MADV_HUGEPAGE)
    write(roomy, pid, 1)  # something was written there before
    assert huge(roomy, pid) == []
    roomy.do("madvise", pid, None, where, LEAF_PAGES * roomy.page, c.MADV_NOHUGEPAGE)
    roomy.do("madvise", pid, None, where, LEAF_PAGES * roomy.page, c.MADV_DONTNEED)
    write(roomy, pid, 0)
    assert huge(roomy, pid) == []
    stacked = roomy.map_at(pid, LEAF_PAGES, 2 * LEAF_PAGES, flags=PRIVATE | c.MAP_STACK)
    assert roomy.refused("madvise", pid, None, stacked, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE) == "EINVAL"


@pytest.mark.huge_pages
def test_shared_memory_and_spaces_have_none(roomy: Host) -> None:
    pid = advised(roomy, flags=SHARED_MAP)
    write(roomy, pid, 0)
    assert (
        roomy.refused("madvise", pid, None, roomy.base, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE) == "EINVAL"
    )
    inside, _ = roomy.inside(pages=LEAF_PAGES)
    write(roomy, inside, 0)
    assert (
        roomy.refused("madvise", inside, None, roomy.base, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE)
        == "EINVAL"
    )
    assert roomy.machine.pool.free_count == FRAMES - 2


@pytest.mark.parametrize("geometry", [I386, TOY], ids=lambda each: each.name)
def test_where_there_are_no_huge_pages_the_advice_is_refused(make_host: MakeHost, geometry: Geometry) -> None:
    host = make_host(geometry)
    pid = host.task()
    host.map_at(pid, 0, 4)
    for advice in (c.MADV_HUGEPAGE, c.MADV_NOHUGEPAGE, c.MADV_COLLAPSE):
        assert host.refused("madvise", pid, None, host.base, 4 * host.page, advice) == "EINVAL"


@pytest.mark.huge_pages
def test_collapse_makes_one_of_what_is_there(roomy: Host) -> None:
    pid = roomy.task()
    where = roomy.map_at(pid, 0, 2 * LEAF_PAGES)
    for page in (0, 3, 511):
        write(roomy, pid, page, b"%d" % page)
    roomy.do("madvise", pid, None, where, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE)
    assert (huge(roomy, pid), roomy.machine.pool.free_count) == ([0], FRAMES - LEAF_PAGES)
    assert [roomy.do("read", pid, None, at(roomy, page), 3).strip(b"\0") for page in (0, 3, 5, 511)] == [
        b"0",
        b"3",
        b"",
        b"511",
    ]
    roomy.do("madvise", pid, None, where, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE)
    with pytest.raises(EngineError, match="EINVAL"):
        roomy.do("madvise", pid, None, at(roomy, LEAF_PAGES), LEAF_PAGES * roomy.page, c.MADV_COLLAPSE)


@pytest.mark.huge_pages
def test_without_a_run_of_frames_pages_are_small(make_host: MakeHost, geometry: Geometry) -> None:
    host = make_host(geometry, LEAF_PAGES - 1)
    pid = advised(host)
    write(host, pid, 0)
    assert (huge(host, pid), host.machine.pool.free_count) == ([], LEAF_PAGES - 2)
    assert host.refused("madvise", pid, None, host.base, LEAF_PAGES * host.page, c.MADV_COLLAPSE) == "ENOMEM"


Change = Callable[[Host, int, int], None]


def unmap(host: Host, pid: int, page: int) -> None:
    host.do("munmap", pid, None, at(host, page), host.page)


def map_over(host: Host, pid: int, page: int) -> None:
    host.map_at(pid, page, page + 1)


def discard(host: Host, pid: int, page: int) -> None:
    host.do("madvise", pid, None, at(host, page), host.page, c.MADV_DONTNEED)


def protect(host: Host, pid: int, page: int) -> None:
    host.do("mprotect", pid, None, at(host, page), host.page, 1)


def move(host: Host, pid: int, page: int) -> None:
    target = at(host, 3 * LEAF_PAGES + 5)
    host.do("mremap", pid, None, at(host, page), host.page, host.page, 3, target)
    assert host.do("read", pid, None, target, 1) == bytes([page % 251])


def put_aside(host: Host, pid: int, page: int) -> None:
    host.do("madvise", pid, None, at(host, page), host.page, c.MADV_PAGEOUT)


CHANGES = {unmap: "gone", map_over: "zero", discard: "zero", protect: "kept", move: "gone", put_aside: "kept"}


@pytest.mark.huge_pages
@pytest.mark.parametrize("page", [0, 1, 255, LEAF_PAGES - 2, LEAF_PAGES - 1])
@pytest.mark.parametrize(("change", "effect"), CHANGES.items(), ids=lambda it: getattr(it, "__name__", ""))
def test_who_changes_a_part_splits_it_and_the_rest_stays(
    roomy: Host, change: Change, effect: str, page: int
) -> None:
    page += LEAF_PAGES
    pid = advised(roomy)
    for number in range(LEAF_PAGES - 1, 2 * LEAF_PAGES + 1):
        write(roomy, pid, number, bytes([number % 251]))
    assert huge(roomy, pid) == [0, 1, 2]
    change(roomy, pid, page)
    assert huge(roomy, pid) == [0, 2]
    assert list(check(roomy.machine)) == []
    for number in range(LEAF_PAGES - 1, 2 * LEAF_PAGES + 1):
        expected = bytes([number % 251])
        if number == page and effect == "gone":
            assert roomy.refused("read", pid, None, at(roomy, number), 1) == "EFAULT"
            continue
        if number == page and effect == "zero":
            expected = b"\0"
        assert roomy.do("read", pid, None, at(roomy, number), 1) == expected


@pytest.mark.huge_pages
def test_whole_huge_pages_are_given_up_without_splitting_others(roomy: Host) -> None:
    pid = advised(roomy)
    for number in range(3):
        write(roomy, pid, number * LEAF_PAGES)
    roomy.do("munmap", pid, None, at(roomy, LEAF_PAGES), LEAF_PAGES * roomy.page)
    assert (huge(roomy, pid), roomy.machine.pool.free_count) == ([0, 2], FRAMES - 2 * LEAF_PAGES)
    roomy.do("mprotect", pid, None, roomy.base, LEAF_PAGES * roomy.page, 1)
    assert huge(roomy, pid) == [0, 2]


@pytest.mark.huge_pages
def test_parent_and_child_share_one_until_one_of_them_writes(roomy: Host) -> None:
    pid = advised(roomy, 0, LEAF_PAGES)
    write(roomy, pid, 3, b"parent")
    child = roomy.do("fork", pid).pid
    assert roomy.machine.pool.free_count == FRAMES - LEAF_PAGES
    write(roomy, child, 3, b"child!")
    assert roomy.machine.pool.free_count == FRAMES - LEAF_PAGES - 1
    write(roomy, pid, 4, b"parent")
    assert [roomy.do("read", who, None, at(roomy, 3), 6) for who in (pid, child)] == [b"parent", b"child!"]
    assert [roomy.do("read", who, None, at(roomy, 4), 6) for who in (pid, child)] == [b"parent", bytes(6)]
    assert list(check(roomy.machine)) == []


@pytest.mark.huge_pages
def test_a_huge_page_that_is_put_aside_comes_back_small(roomy: Host) -> None:
    pid = advised(roomy, 0, LEAF_PAGES)
    for page in range(0, LEAF_PAGES, 100):
        write(roomy, pid, page, bytes([page % 251]))
    roomy.machine.reclaim.free(10)
    assert huge(roomy, pid) == []
    assert roomy.machine.slots.used >= 10
    for page in range(0, LEAF_PAGES, 100):
        assert roomy.do("read", pid, None, at(roomy, page), 1) == bytes([page % 251])
    roomy.do("madvise", pid, None, roomy.base, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE)
    assert (huge(roomy, pid), roomy.machine.slots.used) == ([0], 0)
    assert roomy.do("read", pid, None, at(roomy, 300), 1) == bytes([300 % 251])


@pytest.mark.huge_pages
@pytest.mark.parametrize("change", [*CHANGES, None], ids=lambda it: getattr(it, "__name__", "collapse"))
def test_what_splits_or_makes_one_is_taken_back(roomy: Host, change: Change | None) -> None:
    pid = advised(roomy)
    for page in (0, 5, LEAF_PAGES - 1):
        write(roomy, pid, page, bytes([page % 251]))
    owner = roomy.machine.require_task(ROOT, pid).space
    before, free = regions(owner), roomy.machine.pool.free_count
    with roomy.machine.transaction() as txn:
        roomy.machine.write(ROOT, pid, None, at(roomy, LEAF_PAGES + 1), b"promoted")
        roomy.machine.madvise(ROOT, pid, None, roomy.base, roomy.page, c.MADV_DONTNEED)
        roomy.machine.madvise(ROOT, pid, None, roomy.base, LEAF_PAGES * roomy.page, c.MADV_COLLAPSE)
        roomy.machine.mmap(ROOT, pid, None, at(roomy, 5), roomy.page, RW, PRIVATE | FIXED)
    txn.rollback()
    assert (regions(owner), roomy.machine.pool.free_count) == (before, free)
    assert [roomy.do("read", pid, None, at(roomy, page), 1)[0] for page in (0, 5, LEAF_PAGES - 1)] == [
        0,
        5,
        511 % 251,
    ]
    assert roomy.do("read", pid, None, at(roomy, LEAF_PAGES + 1), 1) == b"\0"
    if change is not None:
        change(roomy, pid, 5)
    assert list(check(roomy.machine)) == []
