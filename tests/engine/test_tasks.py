"""Tasks and threads: spawn, fork, exec, threads and exit, and what becomes of attachments."""

import pytest

from engine.credentials import ROOT
from engine.errors import EngineError
from tests.engine.host import ALICE, FIXED, PRIVATE, RW, SHARED_MAP, Host


def test_pids_and_tids_come_from_one_counter_and_are_not_used_again(host: Host) -> None:
    first = host.task()
    tid = host.do("thread", first)
    host.do("exit", first)
    second = host.task()
    assert first < tid < second


def test_a_task_is_its_caller_s_and_has_a_name(host: Host) -> None:
    named, unnamed = host.do("spawn", "näme", 1, cred=ALICE), host.do("spawn", None, 86400.0, cred=ALICE)
    assert (named.name, unnamed.name) == ("näme", f"task-{unnamed.pid}")
    told = host.machine.task_status(ROOT, named.pid)
    assert (told.tid, told.uid, told.gids, told.lease_s) == (named.pid, 1000, (100,), 1)


def test_a_new_task_uses_nothing_of_the_arena_and_no_frame(host: Host) -> None:
    task = host.machine.require_task(ROOT, host.task())
    assert task.space.vmas.overlapping(host.geometry.arena_start, host.geometry.arena_end) == []
    assert host.machine.pool.free_count == host.frames


def test_a_child_has_the_original_address_space_and_no_attachment(host: Host) -> None:
    pid, vid = host.inside(pages=1)
    host.do("write", pid, None, host.base, b"space")
    host.do("write", pid, None, host.data, b"data")
    child = host.do("fork", pid).pid
    assert host.do("active_vas", child, None) == 0
    assert host.machine.task_status(ROOT, child).attachments == ()
    assert host.refused("vas_switch", child, None, vid) == "EINVAL"
    assert host.refused("read", child, None, host.base, 1) == "EFAULT"
    assert host.do("read", child, None, host.data, 4) == b"data"


def test_a_child_keeps_its_parent_s_uid_whoever_forks(host: Host) -> None:
    pid = host.task(ALICE)
    child = host.do("fork", pid).pid
    assert host.machine.task_status(ROOT, child).uid == 1000
    assert host.refused("read", child, None, host.data, 1, cred=ALICE) == ""


def test_private_memory_is_copied_and_shared_memory_is_shared(host: Host) -> None:
    pid, page = host.task(), host.page
    host.do("mmap", pid, None, host.base, page, RW, PRIVATE | FIXED)
    host.do("mmap", pid, None, host.base + page, page, RW, SHARED_MAP | FIXED)
    host.do("write", pid, None, host.base, b"before")
    child = host.do("fork", pid).pid
    for who, data in ((pid, b"parent"), (child, b"child!")):
        host.do("write", who, None, host.base, data)
        host.do("write", who, None, host.base + page, data)
    assert host.do("read", pid, None, host.base, 6) == b"parent"
    assert [host.do("read", who, None, host.base + page, 6) for who in (pid, child)] == [b"child!"] * 2
    host.do("exit", pid)
    assert host.do("read", child, None, host.base + page, 6) == b"child!"
    host.do("exit", child)
    assert host.machine.pool.free_count == host.frames


@pytest.mark.roomy
def test_the_child_s_heap_goes_on_where_the_parent_s_was(host: Host) -> None:
    pid = host.task()
    heap = host.do("brk", pid, None)
    host.do("brk", pid, None, heap + 100)
    child = host.do("fork", pid).pid
    host.do("brk", child, None, heap + 200)
    assert (host.do("brk", pid, None), host.do("brk", child, None)) == (heap + 100, heap + 200)


def test_a_fork_of_shared_memory_can_be_taken_back(host: Host) -> None:
    """Each mapper is removed once."""
    pid = host.task()
    where = host.do("mmap", pid, None, 0, host.page, RW, SHARED_MAP)
    before = host.machine.tasks(ROOT), host.machine.pool.free_count
    with host.machine.transaction() as txn:
        child = host.machine.fork(ROOT, pid).pid
        host.machine.write(ROOT, child, None, where, b"x")
        host.machine.write(ROOT, pid, None, host.data, b"x")
    txn.rollback()
    assert (host.machine.pool.free_count, len(host.machine.tasks(ROOT))) == (before[1], 1)
    assert host.do("read", pid, None, where, 1) == b"\0"


def test_a_thread_starts_in_the_original_address_space(host: Host) -> None:
    pid, vid = host.inside()
    tid = host.do("thread", pid)
    assert host.do("active_vas", pid, tid) == 0
    assert host.do("active_vas", pid, None) == vid
    host.do("vas_switch", pid, tid, vid)
    host.do("vas_switch", pid, None, 0)
    assert [host.do("active_vas", pid, which) for which in (tid, pid)] == [vid, 0]


def test_a_thread_s_end_leaves_the_others(host: Host) -> None:
    pid, vid = host.inside()
    tid = host.do("thread", pid)
    host.do("vas_switch", pid, tid, vid)
    host.do("vas_switch", pid, None, 0)
    assert host.refused("vas_detach", pid, vid) == "EBUSY"
    assert host.refused("exit_thread", pid, pid) == "EINVAL"
    host.do("exit_thread", pid, tid)
    assert host.refused("active_vas", pid, tid) == "ESRCH"
    host.do("vas_detach", pid, vid)
    host.do("exit_thread", pid, pid)
    assert host.refused("active_vas", pid, None) == "ESRCH"


@pytest.mark.parametrize("end", ["exit", "exec"])
def test_exit_and_exec_release_everything_wherever_the_threads_are(host: Host, end: str) -> None:
    vid = host.space("alone", sharing="exclusive")
    pid = host.task()
    host.enter(pid, vid)
    host.do("vas_switch", pid, host.do("thread", pid), vid)
    host.do("write", pid, None, host.data, b"old")
    assert host.refused("vas_delete", vid) == "EBUSY"
    host.do(end, pid)
    assert host.machine.vas_getattr(ROOT, vid).attach_count == 0
    assert host.machine.pool.free_count == host.frames
    host.do("vas_delete", vid)
    if end == "exec":
        told = host.machine.task_status(ROOT, pid)
        assert ([thread.tid for thread in told.threads], told.attachments) == ([pid], ())
        assert host.do("read", pid, None, host.data, 3) == bytes(3)


@pytest.mark.parametrize("end", ["exit", "exec"])
def test_exit_and_exec_can_be_taken_back(host: Host, end: str) -> None:
    pid, vid = host.inside()
    host.do("write", pid, None, host.data, b"kept")
    host.do("write", pid, None, host.base, b"kept")
    where = host.do("mmap", pid, None, 0, host.page, RW, PRIVATE)
    before = host.do("maps_text", pid)
    with host.machine.transaction() as txn:
        getattr(host.machine, end)(ROOT, pid)
    txn.rollback()
    assert host.do("maps_text", pid) == before
    assert host.do("active_vas", pid, None) == vid
    assert [host.do("read", pid, None, at, 4) for at in (host.data, host.base)] == [b"kept"] * 2
    assert host.do("read", pid, None, where, 1) == b"\0"


def test_a_spawn_taken_back_is_gone(host: Host) -> None:
    with host.machine.transaction() as txn:
        pid = host.machine.spawn(ROOT, None, 60).pid
        host.machine.write(ROOT, pid, None, host.data, b"x")
    txn.rollback()
    with pytest.raises(EngineError, match="ESRCH"):
        host.machine.task_status(ROOT, pid)
    assert host.machine.pool.free_count == host.frames
    assert host.task() > pid
