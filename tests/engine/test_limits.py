"""Stacks that grow, limits of a task, where mappings go, and what a new program or a child starts with."""

from typing import Any

import pytest

from engine.constants import MAP_GROWSDOWN, PROT_GROWSDOWN, RLIM_INFINITY
from engine.credentials import ROOT
from engine.regions.limits import RESOURCES
from tests.engine.host import ALICE, EVE, FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.lockstep import regions


@pytest.fixture
def pid(host: Host) -> int:
    return host.task()


def stack(host: Host, pid: int) -> tuple[int, int]:
    """The first byte and the end of the task's first stack."""
    vma = [vma for vma in host.machine.require_task(ROOT, pid).space.vmas if vma.grows_down][-1]
    return vma.start, vma.end


# -- stacks ------------------------------------------------------------------------------------------------------


@pytest.mark.everywhere
def test_an_access_below_a_stack_makes_it_longer(host: Host, pid: int) -> None:
    start, end = stack(host, pid)
    assert host.do("read", pid, None, start - 1, 2) == bytes(2)
    assert stack(host, pid) == (start - host.page, end)
    host.do("write", pid, None, start - 1, b"xy")
    assert host.do("read", pid, None, start - 1, 2) == b"xy"


@pytest.mark.roomy
def test_a_stack_grows_up_to_its_limit_and_no_further(host: Host, pid: int) -> None:
    _, end = stack(host, pid)
    limit = host.do("prlimit", pid, "stack")
    assert limit == host.geometry.stack_limit
    assert host.refused("write", pid, None, end - limit - 1, b"x") == "EFAULT"
    host.do("write", pid, None, end - limit, b"x")
    assert stack(host, pid)[0] == end - limit
    host.do("prlimit", pid, "stack", limit + host.page)
    host.do("write", pid, None, end - limit - 1, b"x")


def test_a_gap_stays_free_below_a_stack_unless_what_is_there_cannot_be_accessed(host: Host, pid: int) -> None:
    start, end = stack(host, pid)
    gap, page = host.geometry.stack_guard_gap, host.page
    in_the_way = start - gap - page
    host.do("mmap", pid, None, in_the_way, page, 1, PRIVATE | FIXED)
    host.do("prlimit", pid, "stack", RLIM_INFINITY)
    assert host.refused("write", pid, None, start - 1, b"x") == "EFAULT"
    assert stack(host, pid) == (start, end)
    host.do("mprotect", pid, None, in_the_way, page, 0)
    host.do("write", pid, None, start - 1, b"x")
    assert stack(host, pid) == (start - page, end)


def test_a_stack_grows_no_further_than_to_another_stack(host: Host, pid: int) -> None:
    host.map_at(pid, 0, 1, flags=PRIVATE | MAP_GROWSDOWN)
    top = host.map_at(pid, 4, 5, flags=PRIVATE | MAP_GROWSDOWN)
    host.do("prlimit", pid, "stack", 8 * host.page)
    host.do("write", pid, None, host.base + host.page, b"x")
    assert host.pages_of(pid) == [(0, 1, "rw-"), (1, 5, "rw-")]
    assert host.do("read", pid, None, top - 3 * host.page, 1) == b"x"


def test_mappings_that_may_go_anywhere_keep_out_of_the_gap(host: Host, pid: int) -> None:
    host.do("munmap", pid, None, *_range(*stack(host, pid)))
    top, page, gap = host.geometry.mmap_top, host.page, host.geometry.stack_guard_gap
    host.do("mmap", pid, None, top - page, page, RW, PRIVATE | FIXED | MAP_GROWSDOWN)
    if top - page - gap - page >= host.geometry.arena_end:
        assert host.do("mmap", pid, None, 0, page, RW, PRIVATE) == top - page - gap - page
        assert host.do("mmap", pid, None, top - 2 * page, page, RW, PRIVATE) != top - 2 * page
    else:
        assert host.refused("mmap", pid, None, top - 2 * page, page, RW, PRIVATE) == "ENOMEM"
    assert host.do("mmap", pid, None, top - 2 * page, page, RW, PRIVATE | FIXED) == top - 2 * page


def _range(start: int, end: int) -> tuple[int, int]:
    return start, end - start


def test_an_attached_space_is_in_the_way_of_a_stack(host: Host, pid: int) -> None:
    start, _ = stack(host, pid)
    vid, sid = host.space(), host.do("vas_seg_create", "below", start - host.page, start, 0o600)
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("vas_attach", pid, vid, 2)
    assert host.refused("write", pid, None, start - 1, b"x") == "EFAULT"
    host.do("vas_switch", pid, None, vid)
    host.do("write", pid, None, start - 1, b"s")
    assert host.do("seg_read", sid, host.page - 1, 1) == b"s"
    host.do("vas_switch", pid, None, 0)
    host.do("vas_detach", pid, vid)
    host.do("write", pid, None, start - 1, b"t")
    assert (host.do("seg_read", sid, host.page - 1, 1), stack(host, pid)[0]) == (b"s", start - host.page)


def test_a_space_attached_just_below_the_gap_stops_growth_and_one_beyond_does_not(
    host: Host, pid: int
) -> None:
    start, _ = stack(host, pid)
    gap, page = host.geometry.stack_guard_gap, host.page
    vid = host.space()
    sid = host.do("vas_seg_create", "near", start - gap - page, start - gap, 0o600)
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("vas_attach", pid, vid, 2)
    assert host.refused("write", pid, None, start - 1, b"x") == "EFAULT"
    assert host.refused("read", pid, None, start, 1) == ""


def test_a_hidden_region_below_a_stack_is_not_grown_over(host: Host, pid: int) -> None:
    start, _ = stack(host, pid)
    host.do("mmap", pid, None, start - host.page, host.page, RW, SHARED_MAP | FIXED)
    host.do("madvise", pid, None, start - host.page, host.page, 18)
    before = regions(host.machine.require_task(ROOT, pid).space)
    host.enter(pid, host.space())
    assert host.refused("write", pid, None, start - 2, b"over") == "EFAULT"
    assert regions(host.machine.require_task(ROOT, pid).space) == before


def test_protection_may_reach_to_the_stack_s_start(host: Host, pid: int) -> None:
    host.map_at(pid, 1, 5, flags=PRIVATE | MAP_GROWSDOWN)
    last = host.base + 4 * host.page
    host.do("mprotect", pid, None, last, host.page, 1 | PROT_GROWSDOWN)
    assert host.pages_of(pid) == [(1, 5, "r--")]
    host.map_at(pid, 6, 7)
    assert (
        host.refused("mprotect", pid, None, host.base + 6 * host.page, host.page, 1 | PROT_GROWSDOWN)
        == "EINVAL"
    )


def test_growth_is_taken_back(host: Host, pid: int) -> None:
    owner = host.machine.require_task(ROOT, pid).space
    before, free, start = regions(owner), host.machine.pool.free_count, stack(host, pid)[0]
    with host.machine.transaction() as txn:
        host.machine.write(ROOT, pid, None, start - 4, b"12345678")
    txn.rollback()
    assert (regions(owner), host.machine.pool.free_count) == (before, free)
    host.do("prlimit", pid, "stack", host.page)
    assert host.refused("read", pid, None, start - 4, 4) == "EFAULT"


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.roomy
def test_limits_are_read_and_set_by_name(host: Host) -> None:
    pid = host.task(ALICE)
    told = {name: host.do("prlimit", pid, name, cred=ALICE) for name in RESOURCES}
    assert told == {
        "address_space": RLIM_INFINITY,
        "data": RLIM_INFINITY,
        "stack": host.geometry.stack_limit,
        "locked": 8 << 20,
        "map_count": 65530,
    }
    assert host.do("prlimit", host.task(ROOT), "locked") == RLIM_INFINITY
    for name in RESOURCES:
        assert host.do("prlimit", pid, name, 4096, cred=ALICE) == told[name]
        assert host.do("prlimit", pid, name, cred=ALICE) == 4096
    child = host.do("fork", pid, cred=ALICE).pid
    assert {host.do("prlimit", child, name, cred=ALICE) for name in RESOURCES} == {4096}


def test_only_root_raises_a_limit_above_what_the_task_was_given(host: Host) -> None:
    pid = host.task(ALICE)
    given = host.geometry.stack_limit
    cases: list[tuple[Any, str, int | None, str]] = [
        (ALICE, "core", None, "EINVAL"),
        (ALICE, "stack", -1, "EINVAL"),
        (ALICE, "stack", 2**64, "EINVAL"),
        (EVE, "stack", None, "EPERM"),
        (ALICE, "stack", given + 1, "EPERM"),
        (ALICE, "stack", 0, ""),
        (ALICE, "stack", given, ""),
        (ROOT, "stack", RLIM_INFINITY, ""),
        (ALICE, "stack", given + 1, ""),
        (ROOT, "stack", given, ""),
        (ALICE, "stack", given + 1, "EPERM"),
    ]
    assert [host.refused("prlimit", pid, name, value, cred=cred) for cred, name, value, _ in cases] == [
        errno for *_, errno in cases
    ]
    assert host.refused("prlimit", 10**6, "stack") == "ESRCH"
    child = host.do("fork", pid, cred=ALICE).pid
    assert host.refused("prlimit", child, "stack", given + 1, cred=ALICE) == "EPERM"


def test_the_limit_of_the_address_space(host: Host, pid: int) -> None:
    mapped = host.machine.require_task(ROOT, pid).space.mapped()
    host.do("prlimit", pid, "address_space", mapped + 2 * host.page + 1)
    host.map_at(pid, 0, 2, prot=0)
    assert host.refused("mmap", pid, None, 0, 1, 0, PRIVATE) == "ENOMEM"
    assert host.refused("brk", pid, None, host.do("brk", pid, None) + 1) == "ENOMEM"
    assert host.refused("write", pid, None, stack(host, pid)[0] - 1, b"x") == "EFAULT"
    host.map_at(pid, 0, 2)  # replaces as much as it maps
    host.do("munmap", pid, None, host.base, host.page)
    host.do("brk", pid, None, host.do("brk", pid, None) + 1)


def test_the_limit_of_data_counts_private_writable_memory_but_stacks(host: Host, pid: int) -> None:
    host.do("prlimit", pid, "data", 2 * host.page)  # the program's data is one page
    host.map_at(pid, 0, 1, prot=1)
    host.map_at(pid, 1, 2, flags=SHARED_MAP)
    host.map_at(pid, 2, 3, flags=PRIVATE | MAP_GROWSDOWN)
    host.map_at(pid, 5, 6)
    assert host.refused("mmap", pid, None, host.base + 6 * host.page, 1, RW, PRIVATE | FIXED) == "ENOMEM"
    assert host.refused("mprotect", pid, None, host.base, host.page, RW) == "ENOMEM"
    assert host.refused("brk", pid, None, host.do("brk", pid, None) + 1) == "ENOMEM"
    assert host.refused("mprotect", pid, None, host.base, host.page, 0) == ""
    host.do("mprotect", pid, None, host.base + 5 * host.page, host.page, 1)
    host.do("mprotect", pid, None, host.base, host.page, RW)


def test_the_limit_of_data_bounds_the_heap_itself(host: Host, pid: int) -> None:
    heap = host.do("brk", pid, None)
    host.do("prlimit", pid, "data", 2 * host.page)
    assert host.refused("brk", pid, None, heap + 2 * host.page + 1) == "ENOMEM"
    assert host.do("brk", pid, None, heap + host.page // 2) == heap + host.page // 2


def test_a_limit_is_taken_back(host: Host, pid: int) -> None:
    with host.machine.transaction() as txn:
        host.machine.prlimit(ROOT, pid, "map_count", 3)
    txn.rollback()
    host.map_at(pid, 0, 1)
    assert host.do("prlimit", pid, "map_count") == 65530


# -- where mappings go -------------------------------------------------------------------------------------------


def test_with_an_unlimited_stack_a_program_is_laid_out_from_below(host: Host, pid: int) -> None:
    first, top, page = host.geometry.arena_end, host.geometry.mmap_top, host.page
    assert host.do("mmap", pid, None, 0, page, RW, PRIVATE) == top - page
    host.do("prlimit", pid, "stack", RLIM_INFINITY)
    assert host.do("mmap", pid, None, 0, 1, 1, PRIVATE) == top - 2 * page  # from the next program on
    host.do("exec", pid)
    assert host.do("mmap", pid, None, 0, page, RW, PRIVATE) == first
    assert host.do("mmap", pid, None, 0, page, 1, PRIVATE) == first + page
    child = host.do("fork", pid).pid
    host.do("munmap", child, None, first, page)
    assert host.do("mmap", child, None, 0, page, RW, PRIVATE) == first


# -- exec and fork -----------------------------------------------------------------------------------------------


def test_exec_leaves_nothing_of_the_old_program(host: Host) -> None:
    pid, vid = host.inside(pages=1)
    tid = host.do("thread", pid)
    host.do("write", pid, None, host.data, b"old")
    fresh = regions(host.machine.require_task(ROOT, host.task()).space)
    host.do("exec", pid)
    status = host.machine.task_status(ROOT, pid)
    assert ([thread.tid for thread in status.threads], status.attachments) == ([pid], ())
    assert host.refused("read", pid, tid, host.data, 1) == "ESRCH"
    assert host.do("read", pid, None, host.data, 3) == bytes(3)
    assert regions(host.machine.require_task(ROOT, pid).space) == fresh
    assert host.refused("vas_switch", pid, None, vid) == "EINVAL"
    assert host.machine.vas_getattr(ROOT, vid).attach_count == 0


def test_a_child_has_nothing_attached_and_cannot_keep_the_parent_in(host: Host) -> None:
    """As after vfork, too: whatever the parent is in, the child is in its original address space, and in no space."""
    pid, vid = host.inside(pages=1)
    child = host.do("fork", pid).pid
    assert host.machine.task_status(ROOT, child).attachments == ()
    assert host.machine.active_vas(ROOT, child, None) == 0
    assert host.refused("read", child, None, host.base, 1) == "EFAULT"
    assert host.refused("vas_switch", child, None, vid) == "EINVAL"
    assert host.machine.vas_getattr(ROOT, vid).attach_count == 1
    host.do("exit", pid)
    assert host.machine.vas_getattr(ROOT, vid).attach_count == 0
    assert host.refused("vas_delete", vid) == ""


def test_a_thread_that_is_inside_forks_the_task_s_own_memory(host: Host) -> None:
    pid, vid = host.inside(pages=0)
    tid = host.do("thread", pid)
    host.do("vas_switch", pid, tid, vid)
    host.do("write", pid, tid, host.data, b"own")
    child = host.do("fork", pid, tid).pid
    assert host.do("read", child, None, host.data, 3) == b"own"
    assert [thread.tid for thread in host.machine.task_status(ROOT, child).threads] == [child]


def test_regions_of_a_child_merge_with_what_it_writes_itself_only(host: Host, pid: int) -> None:
    """Linux: a child's pages may be the parent's too, so its regions take no new neighbour in."""
    where = host.map_at(pid, 0, 1)
    host.do("write", pid, None, where, b"x")
    child = host.do("fork", pid).pid
    for who in (pid, child):
        host.map_at(who, 1, 2)
    assert host.pages_of(pid) == [(0, 2, "rw-")]
    assert host.pages_of(child) == [(0, 1, "rw-"), (1, 2, "rw-")]
    host.do("mprotect", child, None, where, host.page, 1)
    host.do("mprotect", child, None, where, host.page, RW)
    assert host.pages_of(child) == [(0, 1, "rw-"), (1, 2, "rw-")]


def test_regions_written_apart_stay_apart_and_a_filler_joins_the_left_one(host: Host, pid: int) -> None:
    for first in (0, 2):
        host.do("write", pid, None, host.map_at(pid, first, first + 1), b"x")
    host.map_at(pid, 1, 2)
    assert host.pages_of(pid) == [(0, 2, "rw-"), (2, 3, "rw-")]
    host.do("madvise", pid, None, host.base, 3 * host.page, 4)
    host.map_at(pid, 1, 2)
    assert host.pages_of(pid) == [(0, 2, "rw-"), (2, 3, "rw-")]


def test_what_is_written_beside_written_memory_joins_it(host: Host, pid: int) -> None:
    where = host.map_at(pid, 0, 3)
    host.do("mprotect", pid, None, where + host.page, host.page, 1)
    host.do("write", pid, None, where, b"x")
    host.do("write", pid, None, where + 2 * host.page, b"x")
    host.do("mprotect", pid, None, where + host.page, host.page, RW)
    assert host.pages_of(pid) in ([(0, 3, "rw-")], [(0, 2, "rw-"), (2, 3, "rw-")])
    host.map_at(pid, 5, 6)
    host.map_at(pid, 6, 7, prot=1)
    host.do("write", pid, None, where + 5 * host.page, b"x")
    host.do("mprotect", pid, None, where + 6 * host.page, host.page, RW)
    assert host.pages_of(pid)[-1] == (5, 7, "rw-")
