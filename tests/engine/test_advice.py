"""madvise, mlock, munlock, mincore: what each advice does, to whom, and what is refused."""

import pytest

from engine import constants as c
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.regions.vm_flags import LOCK_ON_FAULT, LOCKED
from tests.engine.host import ALICE, EVE, FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.lockstep import regions


@pytest.fixture
def pid(host: Host) -> int:
    """A task with pages 0 to 2 of the arena, all "x", and page 4."""
    pid = host.task()
    where = host.map_at(pid, 0, 3)
    host.map_at(pid, 4, 5)
    host.do("write", pid, None, where, b"x" * (3 * host.page))
    return pid


def advise(host: Host, pid: int, advice: int, first: int = 0, last: int = 3) -> None:
    """In pages of the arena."""
    host.do("madvise", pid, None, host.base + first * host.page, (last - first) * host.page, advice)


def refused(host: Host, pid: int, advice: int, first: int = 0, last: int = 3) -> tuple[str, bool]:
    """The errno and whether something was done."""
    with pytest.raises(EngineError) as caught:
        advise(host, pid, advice, first, last)
    return caught.value.errno, caught.value.partial


def seen(host: Host, pid: int, *numbers: int) -> str:
    """The first letter of pages; "." for zeros."""
    return "".join(
        host.do("read", pid, None, host.base + number * host.page, 1).decode().replace("\0", ".")
        for number in numbers
    )


def flags(host: Host, pid: int, page: int) -> int:
    space = host.machine.require_task(ROOT, pid).space
    vma = space.vmas.find(host.base + page * host.page)
    assert vma is not None
    return vma.flags


def resident(host: Host, pid: int, first: int, last: int) -> list[int]:
    told = host.do("mincore", pid, None, host.base + first * host.page, (last - first) * host.page)
    return list(told)


# -- what is refused ---------------------------------------------------------------------------------------------


def test_unknown_advice_and_bad_ranges(host: Host, pid: int) -> None:
    for advice in (-1, 5, 7, 12, 13, 99, 100):
        assert host.refused("madvise", pid, None, host.base, 0, advice) == "EINVAL"
    assert host.refused("madvise", pid, None, host.base + 1, host.page, c.MADV_DONTNEED) == "EINVAL"
    assert host.refused("madvise", pid, None, host.base, -1, c.MADV_DONTNEED) == "EINVAL"
    assert host.refused("madvise", pid, None, host.base + 3 * host.page, 0, c.MADV_DONTNEED) == ""
    assert host.refused("madvise", pid, None, host.base, host.page, 4, cred=EVE) == "EPERM"


def test_at_a_hole_both_sides_are_advised(host: Host, pid: int) -> None:
    host.do("write", pid, None, host.base + 4 * host.page, b"y")
    assert refused(host, pid, c.MADV_DONTNEED, 2, 5) == ("ENOMEM", True)
    assert seen(host, pid, 0, 1, 2, 4) == "xx.."


def test_populate_stops_at_a_hole(host: Host, pid: int) -> None:
    advise(host, pid, c.MADV_DONTNEED)
    assert refused(host, pid, c.MADV_POPULATE_WRITE, 2, 5) == ("ENOMEM", True)
    assert (resident(host, pid, 0, 3), resident(host, pid, 4, 5)) == ([0, 0, 1], [0])


@pytest.mark.parametrize(
    ("advice", "prot", "map_flags", "errno"),
    [
        (c.MADV_POPULATE_READ, 0, PRIVATE, "EINVAL"),
        (c.MADV_POPULATE_READ, 2, PRIVATE, "EINVAL"),
        (c.MADV_POPULATE_READ, 1, PRIVATE, ""),
        (c.MADV_POPULATE_WRITE, 1, PRIVATE, "EINVAL"),
        (c.MADV_POPULATE_WRITE, 3, SHARED_MAP, ""),
        (c.MADV_FREE, 3, SHARED_MAP, "EINVAL"),
        (c.MADV_FREE, 0, PRIVATE, ""),
        (c.MADV_REMOVE, 3, PRIVATE, "EINVAL"),
        (c.MADV_REMOVE, 1, SHARED_MAP, ""),
        (c.MADV_DONTNEED, 0, PRIVATE, ""),
        (c.MADV_WILLNEED, 0, PRIVATE, ""),
        (c.MADV_COLD, 3, SHARED_MAP, ""),
        (c.MADV_PAGEOUT, 3, SHARED_MAP, ""),
        (c.MADV_VAS_SHARED, 3, PRIVATE, ""),
    ],
)
def test_what_advice_asks_of_a_region(host: Host, advice: int, prot: int, map_flags: int, errno: str) -> None:
    pid = host.task()
    host.map_at(pid, 0, 2, prot, map_flags)
    assert host.refused("madvise", pid, None, host.base, 2 * host.page, advice) == errno


@pytest.mark.parametrize("advice", [c.MADV_DONTNEED, c.MADV_FREE, c.MADV_COLD, c.MADV_PAGEOUT])
def test_locked_memory_is_not_given_up(host: Host, pid: int, advice: int) -> None:
    host.do("mlock", pid, None, host.base + host.page, host.page)
    assert refused(host, pid, advice)[0] == "EINVAL"
    assert seen(host, pid, 1, 2) == "xx"
    advise(host, pid, c.MADV_DONTNEED_LOCKED)
    assert seen(host, pid, 0, 1, 2) == "..."


# -- bytes -------------------------------------------------------------------------------------------------------


def test_dontneed_gives_private_frames_back_at_once(host: Host, pid: int) -> None:
    free = host.machine.pool.free_count
    advise(host, pid, c.MADV_DONTNEED, 0, 2)
    assert host.machine.pool.free_count == free + 2
    assert seen(host, pid, 0, 1, 2) == "..x"


def test_dontneed_keeps_shared_bytes_and_remove_does_not(host: Host, pid: int) -> None:
    where = host.map_at(pid, 5, 7, flags=SHARED_MAP)
    host.do("write", pid, None, where, b"s" * (2 * host.page))
    child = host.do("fork", pid).pid
    advise(host, pid, c.MADV_DONTNEED, 5, 7)
    assert seen(host, pid, 5, 6) == "ss"
    advise(host, pid, c.MADV_REMOVE, 5, 6)
    assert [seen(host, who, 5, 6) for who in (pid, child)] == [".s", ".s"]


def test_a_child_s_dontneed_is_not_the_parent_s(host: Host, pid: int) -> None:
    child = host.do("fork", pid).pid
    advise(host, child, c.MADV_DONTNEED)
    assert (seen(host, child, 0, 1, 2), seen(host, pid, 0, 1, 2)) == ("...", "xxx")


def test_freed_memory_keeps_its_bytes_until_frames_run_short(host: Host, pid: int) -> None:
    advise(host, pid, c.MADV_FREE)
    assert seen(host, pid, 0, 1, 2) == "xxx"
    host.do("write", pid, None, host.base + host.page, b"kept")
    host.machine.reclaim.free(3)
    assert seen(host, pid, 0, 1, 2) == ".k."


def test_a_space_s_memory_is_discarded_durably_and_freed_never(host: Host) -> None:
    pid, vid = host.inside(pages=3)
    host.do("write", pid, None, host.base, b"x" * (3 * host.page))
    advise(host, pid, c.MADV_DONTNEED, 0, 1)
    advise(host, pid, c.MADV_FREE, 1, 3)
    host.machine.reclaim.free(3)
    assert seen(host, pid, 0, 1, 2) == ".xx"
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    assert seen(host, pid, 0, 1, 2) == ".xx"


def test_a_read_only_attachment_discards_nothing(host: Host) -> None:
    pid, vid = host.inside(pages=2)
    host.do("vas_seg_attach", vid, host.segment(at=2, pages=2), 0)
    host.do("write", pid, None, host.base, b"x")
    assert refused(host, pid, c.MADV_REMOVE, 2, 4)[0] == "EACCES"
    reader = host.task()
    host.enter(reader, vid, 0)
    for advice in (c.MADV_DONTNEED, c.MADV_FREE, c.MADV_DONTNEED_LOCKED):
        assert refused(host, reader, advice, 0, 2)[0] == "EACCES"
    assert seen(host, pid, 0) == "x"


def test_what_is_in_the_store_is_fetched_before_it_is_needed(host: Host) -> None:
    pid, vid = host.inside(pages=4)
    host.do("write", pid, None, host.base, b"x" * (4 * host.page))
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    advise(host, pid, c.MADV_WILLNEED, 0, 4)
    fetched = host.fetches
    assert (fetched, resident(host, pid, 0, 4)) == (1, [1, 1, 1, 1])
    assert seen(host, pid, 0, 1, 2, 3) == "xxxx"
    assert host.fetches == fetched


# -- flags -------------------------------------------------------------------------------------------------------

SETS_AND_UNSETS = [
    (c.MADV_RANDOM, c.MADV_NORMAL),
    (c.MADV_SEQUENTIAL, c.MADV_NORMAL),
    (c.MADV_DONTFORK, c.MADV_DOFORK),
    (c.MADV_DONTDUMP, c.MADV_DODUMP),
    (c.MADV_VAS_PRIVATE, c.MADV_VAS_SHARED),
]


@pytest.mark.parametrize(("gives", "takes"), SETS_AND_UNSETS)
def test_advice_splits_regions_and_merges_them_again(host: Host, pid: int, gives: int, takes: int) -> None:
    owner = host.machine.require_task(ROOT, pid).space
    before = regions(owner)
    advise(host, pid, gives, 1, 2)
    assert [row[:2] for row in host.pages_of(pid)] == [(0, 1), (1, 2), (2, 3), (4, 5)]
    assert flags(host, pid, 1) != flags(host, pid, 0)
    advise(host, pid, gives)
    assert [row[:2] for row in host.pages_of(pid)] == [(0, 3), (4, 5)]
    advise(host, pid, takes)
    assert regions(owner) == before


def test_random_and_sequential_exclude_each_other(host: Host, pid: int) -> None:
    advise(host, pid, c.MADV_RANDOM)
    random = flags(host, pid, 0)
    advise(host, pid, c.MADV_SEQUENTIAL)
    assert flags(host, pid, 0).bit_count() == random.bit_count()


def test_a_space_s_regions_take_no_flags(host: Host) -> None:
    pid, vid = host.inside(pages=3)
    before = regions(host.machine.spaces.registry.get(vid).memory)
    for advice in (c.MADV_RANDOM, c.MADV_DONTFORK, c.MADV_DONTDUMP, c.MADV_VAS_PRIVATE):
        advise(host, pid, advice, 1, 2)
        assert regions(host.machine.spaces.registry.get(vid).memory) == before
    assert refused(host, pid, c.MADV_VAS_SHARED, 1, 2)[0] == "EINVAL"
    assert host.changes == []


def test_dontfork_leaves_regions_out_and_what_is_mapped_there_is_zeros(host: Host, pid: int) -> None:
    advise(host, pid, c.MADV_DONTFORK, 1, 2)
    child = host.do("fork", pid).pid
    assert host.pages_of(child) == [(0, 1, "rw-"), (2, 3, "rw-"), (4, 5, "rw-")]
    host.map_at(child, 1, 2)
    assert (seen(host, child, 0, 1, 2), seen(host, pid, 0, 1, 2)) == ("x.x", "xxx")


def test_a_private_region_is_not_seen_inside_spaces(host: Host, pid: int) -> None:
    advise(host, pid, c.MADV_VAS_PRIVATE, 0, 2)
    vid = host.space()
    host.enter(pid, vid)
    where = host.base + host.page
    assert host.refused("read", pid, None, where, 1) == "EFAULT"
    assert host.refused("mprotect", pid, None, where, host.page, 1) == "ENOMEM"
    assert (
        host.refused("mremap", pid, None, where, host.page, host.page, 3, where + 4 * host.page) == "EFAULT"
    )
    assert host.refused("mlock", pid, None, where, host.page) == "ENOMEM"
    assert host.refused("mmap", pid, None, where, host.page, RW, PRIVATE | FIXED) == "EEXIST"
    host.do("munmap", pid, None, host.base, 3 * host.page)
    assert [
        line for line in host.do("maps_text", pid).splitlines() if line.startswith(f"{host.base:x}")
    ] == []
    assert seen(host, pid, 4) == "."
    host.do("vas_switch", pid, None, 0)
    assert host.pages_of(pid) == [(0, 2, "rw-"), (4, 5, "rw-")]
    assert seen(host, pid, 0, 1) == "xx"
    advise(host, pid, c.MADV_VAS_SHARED, 0, 2)
    host.do("vas_switch", pid, None, vid)
    assert seen(host, pid, 0, 1) == "xx"


# -- mlock, munlock, mincore -------------------------------------------------------------------------------------


def test_mlock_locks_whole_pages_and_brings_them_in(host: Host) -> None:
    pid = host.task()
    host.map_at(pid, 0, 4)
    host.do("mlock", pid, None, host.base + host.page + 3, host.page)
    assert resident(host, pid, 0, 4) == [0, 1, 1, 0]
    assert host.pages_of(pid) == [(0, 1, "rw-"), (1, 3, "rw-"), (3, 4, "rw-")]
    host.do("mlock", pid, None, host.base, host.page, c.MLOCK_ONFAULT)
    assert (flags(host, pid, 0) & LOCK_ON_FAULT, resident(host, pid, 0, 1)) == (LOCK_ON_FAULT, [0])
    host.do("munlock", pid, None, host.base, 4 * host.page)
    assert not any(flags(host, pid, page) & (LOCKED | LOCK_ON_FAULT) for page in range(4))
    # Linux, too: page 0 was never written, the others were: nothing keeps them apart
    assert host.pages_of(pid) == [(0, 4, "rw-")]


def test_mlock_at_a_hole_and_of_what_cannot_be_accessed(host: Host, pid: int) -> None:
    with pytest.raises(EngineError) as caught:
        host.do("mlock", pid, None, host.base + 2 * host.page, 3 * host.page)
    assert (caught.value.errno, caught.value.partial) == ("ENOMEM", True)
    assert flags(host, pid, 2) & LOCKED and not flags(host, pid, 4) & LOCKED
    host.map_at(pid, 5, 6, prot=0)
    assert host.refused("mlock", pid, None, host.base + 5 * host.page, host.page) == "ENOMEM"
    assert flags(host, pid, 5) & LOCKED
    assert host.refused("munlock", pid, None, host.base + 2 * host.page, 3 * host.page) == "ENOMEM"
    assert not flags(host, pid, 2) & LOCKED
    assert host.refused("mlock", pid, None, host.base, host.page, 2) == "EINVAL"


def test_the_limit_of_locked_memory_counts_what_is_not_locked_yet(host: Host) -> None:
    pid = host.task(ALICE)
    host.map_at(pid, 0, 4)
    host.do("prlimit", pid, "locked", 2 * host.page)
    host.do("mlock", pid, None, host.base, 2 * host.page, cred=ALICE)
    assert host.refused("mlock", pid, None, host.base, 2 * host.page, cred=ALICE) == ""
    assert host.refused("mlock", pid, None, host.base, 3 * host.page, cred=ALICE) == "ENOMEM"
    locked_map = PRIVATE | FIXED | c.MAP_LOCKED
    assert host.refused("mmap", pid, None, host.base + 5 * host.page, host.page, RW, locked_map) == "EAGAIN"
    host.do("prlimit", pid, "locked", 0)
    assert host.refused("mlock", pid, None, host.base, host.page, cred=ALICE) == "EPERM"
    assert host.refused("mmap", pid, None, host.base + 5 * host.page, host.page, RW, locked_map) == "EPERM"
    assert host.refused("munlock", pid, None, host.base, host.page, cred=ALICE) == ""


def test_locks_are_not_inherited(host: Host, pid: int) -> None:
    host.do("mlock", pid, None, host.base, 3 * host.page)
    child = host.do("fork", pid).pid
    assert (flags(host, pid, 0) & LOCKED, flags(host, child, 0) & LOCKED) == (LOCKED, 0)


def test_msync_may_not_invalidate_locked_memory(host: Host, pid: int) -> None:
    host.do("mlock", pid, None, host.base + host.page, host.page)
    assert host.refused("msync", pid, None, host.base, 3 * host.page, c.MS_INVALIDATE) == "EBUSY"
    assert host.refused("msync", pid, None, host.base, host.page, c.MS_INVALIDATE | c.MS_SYNC) == ""
    assert host.refused("msync", pid, None, host.base, 3 * host.page, c.MS_SYNC) == ""


def test_mincore_tells_page_by_page(host: Host, pid: int) -> None:
    host.do("read", pid, None, host.base + 4 * host.page, 1)
    assert (resident(host, pid, 0, 3), resident(host, pid, 4, 5)) == ([1, 1, 1], [1])
    advise(host, pid, c.MADV_DONTNEED, 1, 2)
    assert resident(host, pid, 0, 3) == [1, 0, 1]
    assert host.do("mincore", pid, None, host.base, 1) == b"\1"
    assert host.do("mincore", pid, None, host.base, 0) == b""
    assert host.refused("mincore", pid, None, host.base + 1, 1) == "EINVAL"
    assert host.refused("mincore", pid, None, host.base, 4 * host.page) == "ENOMEM"
    assert host.refused("mincore", pid, None, host.base, 1 << 60) == "ENOMEM"


def test_populated_and_locked_maps_are_there_at_once(host: Host) -> None:
    pid = host.task()
    host.map_at(pid, 0, 2, flags=PRIVATE | c.MAP_POPULATE)
    host.map_at(pid, 3, 4, flags=PRIVATE | c.MAP_LOCKED)
    host.map_at(pid, 5, 6, prot=1, flags=SHARED_MAP | c.MAP_POPULATE)
    host.map_at(pid, 7, 8, prot=0, flags=PRIVATE | c.MAP_POPULATE)
    assert [resident(host, pid, *part) for part in ((0, 2), (3, 4), (5, 6), (7, 8))] == [
        [1, 1],
        [1],
        [1],
        [0],
    ]
    assert flags(host, pid, 3) & LOCKED


@pytest.mark.parametrize(
    "advice",
    [
        c.MADV_DONTNEED,
        c.MADV_FREE,
        c.MADV_PAGEOUT,
        c.MADV_POPULATE_WRITE,
        c.MADV_DONTFORK,
        c.MADV_VAS_PRIVATE,
    ],
)
def test_advice_is_taken_back(host: Host, pid: int, advice: int) -> None:
    owner = host.machine.require_task(ROOT, pid).space
    before, free = regions(owner), host.machine.pool.free_count
    with host.machine.transaction() as txn:
        host.machine.madvise(ROOT, pid, None, host.base, 2 * host.page, advice)
        host.machine.write(ROOT, pid, None, host.base, b"y")
        host.machine.mlock(ROOT, pid, None, host.base + 2 * host.page, host.page)
    txn.rollback()
    assert (regions(owner), host.machine.pool.free_count) == (before, free)
    assert seen(host, pid, 0, 1, 2) == "xxx"
    host.machine.reclaim.free(3)
    assert seen(host, pid, 0, 1, 2) == "xxx"
