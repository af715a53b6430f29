"""Locks: rings of waiters, what releases, what is taken back, segments that come late, and how it looks from outside."""

from typing import Any

import pytest

from engine.credentials import ROOT
from engine.errors import EngineError
from engine.spaces.locks import LockStatus, LockUser, Ticket
from tests.engine.host import ALICE, PRIVATE, RW, Host
from tests.engine.locking import READ_WRITE, RO, Queue, active, lockable, tasks, with_segments


@pytest.fixture
def queue(host: Host) -> Queue:
    return Queue(host)


# -- cycles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_ring_of_waiters_is_refused_where_it_closes(host: Host, queue: Queue, length: int) -> None:
    spaces = [lockable(host, f"space-{number}") for number in range(length)]
    pids = tasks(host, *((vid, READ_WRITE) for vid in spaces), count=length)
    for pid, vid in zip(pids, spaces, strict=True):
        assert queue.enter("inside", pid, vid)
    for number in range(length - 1):
        assert not queue.enter(f"t{number}", pids[number], spaces[number + 1])
    refused = queue.refused(pids[-1], spaces[0])
    assert (refused.errno, refused.data["holder"]) == ("EBUSY", f"task {pids[0]}")
    assert host.refused("vas_switch", pids[-1], None, spaces[0]) == "EAGAIN", (
        "who does not wait closes no ring"
    )
    host.do("vas_switch", pids[-1], None, 0)
    assert queue.served() == " ".join(f"t{number}" for number in reversed(range(length - 1)))


def test_a_ring_through_a_thread_that_does_not_wait_is_none(host: Host, queue: Queue) -> None:
    one, two = lockable(host, "one"), lockable(host, "two")
    pids = tasks(host, (one, READ_WRITE), (two, READ_WRITE), count=2)
    tid = host.do("thread", pids[0])
    assert queue.enter("inside", pids[0], one)
    assert queue.enter("inside", pids[1], two)
    assert not queue.enter("thread", pids[0], two, tid)
    assert not queue.enter("other", pids[1], one), "the main thread of the first can still leave"
    assert queue.refused(pids[0], two).errno == "EBUSY"
    host.do("vas_switch", pids[0], None, 0)
    assert queue.served() == "other thread"


def test_a_ring_through_the_order_of_turns_is_refused(host: Host, queue: Queue) -> None:
    one, two = lockable(host, "one"), lockable(host, "two")
    both = [(one, READ_WRITE), (two, READ_WRITE)]
    holder, first, second = tasks(host, *both, count=3)
    sid = host.segment(sharing="lockable")
    third = with_segments(host, "third", (sid, READ_WRITE))
    assert queue.enter("in", first, one)
    assert queue.enter("in", holder, two)
    assert not queue.enter("second", second, one)
    assert not queue.enter("first", first, two)
    assert queue.refused(holder, one).errno == "EBUSY"
    host.do("vas_attach", holder, third, READ_WRITE)
    assert queue.enter("out", holder, third)
    assert queue.served() == "first second"


# -- what releases -----------------------------------------------------------------------------------------------


def _exit(host: Host, pid: int, tid: int) -> None:
    host.do("exit", pid)


def _exec(host: Host, pid: int, tid: int) -> None:
    host.do("exec", pid)


def _exit_threads(host: Host, pid: int, tid: int) -> None:
    host.do("exit_thread", pid, tid)
    host.do("vas_switch", pid, None, 0)


def _switch(host: Host, pid: int, tid: int) -> None:
    host.do("vas_switch", pid, None, 0)
    host.do("vas_switch", pid, tid, 0)


def _detach(host: Host, pid: int, tid: int) -> None:
    _switch(host, pid, tid)
    for held in host.do("task_status", pid).attachments:
        host.do("vas_detach", pid, held.vid)


@pytest.mark.parametrize("release", [_exit, _exec, _exit_threads, _switch, _detach])
def test_whatever_takes_the_threads_out_releases(host: Host, queue: Queue, release: Any) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    tid = host.do("thread", one)
    assert queue.enter("one", one, vid)
    assert queue.enter("one", one, vid, tid)
    assert not queue.enter("two", two, vid)
    told = queue.told
    release(host, one, tid)
    assert queue.told > told
    assert queue.served() == "two"


@pytest.mark.parametrize(
    ("end", "errno"),
    [(_exit, "ESRCH"), (_exec, "ESRCH"), (_detach, "EINVAL")],
    ids=["exit", "exec", "detach"],
)
def test_who_waits_in_vain_is_told(host: Host, queue: Queue, end: Any, errno: str) -> None:
    vid = lockable(host)
    one, two, three = tasks(host, (vid, READ_WRITE), count=3)
    tid = host.do("thread", two)
    assert queue.enter("one", one, vid)
    assert not queue.enter("two", two, vid)
    assert not queue.enter("three", three, vid)
    told = queue.told
    end(host, two, tid)
    assert queue.told > told
    assert queue.served() == f"two:{errno}"
    host.do("vas_switch", one, None, 0)
    assert queue.served() == "three"


def test_a_thread_that_ends_waits_no_more(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    tid = host.do("thread", two)
    assert queue.enter("one", one, vid)
    assert not queue.enter("thread", two, vid, tid)
    assert not queue.enter("two", two, vid)
    told = queue.told
    host.do("exit_thread", two, tid)
    assert queue.told > told
    assert queue.served() == "thread:ESRCH"
    host.do("vas_switch", one, None, 0)
    assert queue.served() == "two"


# -- segments that come while a space is in use ------------------------------------------------------------------


def test_a_lockable_segment_joins_a_space_in_use_if_those_inside_may_have_it(
    host: Host, queue: Queue
) -> None:
    vid, sid = host.space(), host.segment(sharing="lockable")
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    (reader,) = tasks(host, (vid, RO))
    host.do("vas_switch", one, None, vid)
    host.do("vas_switch", reader, None, vid)
    assert host.refused("vas_seg_attach", vid, sid, READ_WRITE) == "EBUSY"
    assert host.do("vas_segments", vid) == []
    host.do("vas_seg_attach", vid, sid, RO)
    assert queue.enter("two", two, vid)


def test_a_lockable_segment_joins_an_attached_space_that_nobody_is_in(host: Host) -> None:
    vid, sid = host.space(), host.segment(sharing="lockable")
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    host.do("vas_seg_attach", vid, sid, READ_WRITE)
    host.do("vas_switch", one, None, vid)
    assert host.refused("vas_switch", two, None, vid) == "EAGAIN"


def test_a_segment_whose_lock_is_held_elsewhere_does_not_join(host: Host) -> None:
    vid, sid = host.space(), host.segment(sharing="lockable")
    other = with_segments(host, "other", (sid, READ_WRITE))
    (one,), (two,) = tasks(host, (vid, READ_WRITE)), tasks(host, (other, READ_WRITE))
    host.do("vas_switch", two, None, other)
    host.do("vas_switch", one, None, vid)
    with pytest.raises(EngineError) as refused:
        host.do("vas_seg_attach", vid, sid, RO)
    assert (refused.value.errno, refused.value.data["holder"]) == ("EBUSY", f"task {two}")
    host.do("vas_switch", one, None, 0)
    host.do("vas_seg_attach", vid, sid, RO)


def test_a_segment_that_would_close_a_ring_does_not_join(host: Host, queue: Queue) -> None:
    sid = host.segment(sharing="lockable")
    plain, guarded = host.space("plain"), lockable(host, "guarded")
    reading, writing = with_segments(host, "r", (sid, RO)), with_segments(host, "w", (sid, READ_WRITE))
    everything = [(vid, READ_WRITE) for vid in (guarded, reading, writing)]
    one, two, three = tasks(host, *everything, count=3)
    host.do("vas_attach", one, plain, READ_WRITE)
    assert queue.enter("in", three, reading)
    assert queue.enter("in", one, plain)
    assert queue.enter("in", two, guarded)
    assert not queue.enter("one", one, guarded)
    assert not queue.enter("two", two, writing)
    assert host.refused("vas_seg_attach", plain, sid, RO) == "EBUSY"
    host.do("vas_switch", three, None, 0)
    assert queue.served() == "two one"


# -- taken back --------------------------------------------------------------------------------------------------


def test_a_switch_that_is_taken_back_gives_the_lock_back(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two, three = tasks(host, (vid, READ_WRITE), count=3)
    with host.machine.transaction() as txn:
        host.machine.vas_switch(ROOT, one, None, vid)
    assert not queue.enter("two", two, vid)
    assert not queue.enter("three", three, vid)
    assert queue.served() == ""
    told = queue.told
    txn.rollback()
    assert queue.told > told
    assert queue.served() == "two"


def test_a_turn_that_is_taken_back_comes_again_in_its_place(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two, three = tasks(host, (vid, READ_WRITE), count=3)
    assert queue.enter("one", one, vid)
    assert not queue.enter("two", two, vid)
    assert not queue.enter("three", three, vid)
    with host.machine.transaction() as left:
        host.machine.vas_switch(ROOT, one, None, 0)
    with host.machine.transaction() as entered:
        assert host.machine.vas_switch_in_turn(queue.tickets["two"])
    assert len(host.machine.locks) == 1
    entered.rollback()
    left.rollback()
    assert active(host, one) == vid
    assert queue.served() == ""
    host.do("vas_switch", one, None, 0)
    assert queue.served() == "two"


def test_a_waiter_who_left_does_not_come_back(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    assert queue.enter("one", one, vid)
    assert not queue.enter("two", two, vid)
    with host.machine.transaction() as left:
        host.machine.vas_switch(ROOT, one, None, 0)
    with host.machine.transaction() as entered:
        assert host.machine.vas_switch_in_turn(queue.tickets["two"])
    queue.leave("two")
    entered.rollback()
    left.rollback()
    assert len(host.machine.locks) == 0


def test_a_place_that_is_taken_back_is_gone(host: Host) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    host.do("vas_switch", one, None, vid)
    with host.machine.transaction() as txn:
        assert not host.machine.vas_switch_or_queue(ROOT, two, None, vid, Ticket())
    assert len(host.machine.locks) == 1
    txn.rollback()
    assert len(host.machine.locks) == 0


# -- seen from outside -------------------------------------------------------------------------------------------


def test_who_holds_and_who_waits_can_be_seen(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    assert host.do("lock_status", vid, cred=ALICE) == (LockStatus("space", vid, (), ()),)
    assert host.refused("lock_status", 99) == "EINVAL"
    assert host.do("lock_status", host.space("plain")) == ()
    (one,), (two,) = tasks(host, (vid, READ_WRITE)), tasks(host, (vid, RO))
    assert queue.enter("one", one, vid)
    assert not queue.enter("two", two, vid)
    (status,) = host.do("lock_status", vid)
    assert status.holders == (LockUser(one, one, vid, True),)
    assert status.waiters == (LockUser(two, two, vid, False),)


def test_a_lock_guards_nothing_but_the_way_in(host: Host) -> None:
    sid = host.segment(sharing="lockable")
    vid = with_segments(host, "space", (sid, READ_WRITE))
    one, _ = tasks(host, (vid, READ_WRITE), count=2)
    host.do("vas_switch", one, None, vid)
    host.do("seg_write", sid, 0, b"x")
    assert host.do("read", one, None, host.base, 1) == b"x"
    assert host.refused("vas_setattr", vid, sharing="lockable") == "EBUSY"
    host.do("mmap", one, None, host.data, 0 + host.page, RW, PRIVATE)


def test_sharing_can_become_lockable_and_survives_a_restart(host: Host) -> None:
    vid, sid = host.space(), host.segment()
    host.do("vas_setattr", vid, sharing="lockable")
    host.do("vas_seg_setattr", sid, sharing="lockable")
    host.restart()
    assert host.do("vas_getattr", vid).sharing == host.do("vas_seg_getattr", sid).sharing == "lockable"
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    host.do("vas_switch", one, None, vid)
    assert host.refused("vas_switch", two, None, vid) == "EAGAIN"
    other = with_segments(host, "other", (sid, READ_WRITE))
    for pid in (one, two):
        host.do("vas_attach", pid, other, READ_WRITE)
    host.do("vas_switch", one, None, other)
    assert host.refused("vas_switch", two, None, other) == "EAGAIN"
    host.do("vas_switch", two, None, vid)


def test_a_clone_has_locks_of_its_own(host: Host) -> None:
    sid = host.segment(sharing="lockable")
    vid = with_segments(host, "space", (sid, READ_WRITE), sharing="lockable")
    copy = host.do("vas_clone", vid, "copy")
    one, two, three = tasks(host, (vid, READ_WRITE), (copy, READ_WRITE), count=3)
    host.do("vas_switch", one, None, vid)
    host.do("vas_switch", two, None, copy)
    assert host.refused("vas_switch", three, None, copy) == "EAGAIN"
    assert host.refused("vas_switch", three, None, vid) == "EAGAIN"
