"""Locks of lockable spaces and segments: who gets in, who waits, and what releases them."""

from typing import Any

import pytest

from engine.credentials import ROOT
from engine.errors import EngineError
from engine.lock_scene import Scene
from engine.locks import LockStatus, LockUser, Ticket
from tests.engine.host import ALICE, PRIVATE, RW, Host

RO, WO, READ_WRITE = 0, 1, 2


class Queue:
    """Waiters by name, as the service has them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.tickets: dict[str, Ticket] = {}
        self.told = 0
        host.machine.locks.on_change.append(self._tell)

    def _tell(self) -> None:
        self.told += 1

    def enter(self, name: str, pid: int, vid: int, tid: int | None = None) -> bool:
        """Switch or wait; whether the thread is inside."""
        ticket = Ticket()
        inside: bool = self.host.do("vas_switch_or_queue", pid, tid, vid, ticket)
        if not inside:
            self.tickets[name] = ticket
        return inside

    def refused(self, pid: int, vid: int, tid: int | None = None) -> EngineError:
        """What waiting is refused with."""
        with pytest.raises(EngineError) as refused:
            self.host.do("vas_switch_or_queue", pid, tid, vid, Ticket())
        return refused.value

    def served(self) -> str:
        """The waiters who get in now, in order; those who wait in vain as "name:ERRNO"."""
        served = []
        while ready := self.host.machine.locks.ready():
            name = next(name for name, ticket in self.tickets.items() if ticket is ready[0])
            ticket = self.tickets.pop(name)
            try:
                with self.host.machine.transaction() as txn:
                    assert self.host.machine.vas_switch_in_turn(ticket)
                self.host.settle(txn)
            except EngineError as error:
                name += f":{error.errno}"
                self.host.machine.locks.leave(ticket)
            served.append(name)
        return " ".join(served)

    def leave(self, name: str) -> None:
        self.host.machine.locks.leave(self.tickets.pop(name))


@pytest.fixture
def queue(host: Host) -> Queue:
    return Queue(host)


def lockable(host: Host, name: str = "space") -> int:
    return host.space(name, sharing="lockable")


def with_segments(host: Host, name: str, *segments: tuple[int, int], sharing: str = "shared") -> int:
    """A space with segments of given types."""
    vid = host.space(name, sharing=sharing)
    for sid, type in segments:
        host.do("vas_seg_attach", vid, sid, type)
    return vid


def tasks(host: Host, *spaces: tuple[int, int], count: int = 1) -> list[int]:
    """Tasks that have spaces attached, of given types."""
    pids = [host.task() for _ in range(count)]
    for pid in pids:
        for vid, type in spaces:
            host.do("vas_attach", pid, vid, type)
    return pids


def active(host: Host, pid: int, tid: int | None = None) -> int:
    vid: int = host.do("active_vas", pid, tid)
    return vid


# -- one lock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["space", "segment"])
@pytest.mark.parametrize("first", [RO, WO, READ_WRITE])
@pytest.mark.parametrize("second", [RO, WO, READ_WRITE])
def test_readers_share_and_a_writer_is_alone(host: Host, kind: str, first: int, second: int) -> None:
    if kind == "space":
        vid = lockable(host)
    else:
        vid = with_segments(host, "space", (host.segment(sharing="lockable"), READ_WRITE))
    (one,), (two,) = tasks(host, (vid, first)), tasks(host, (vid, second))
    host.do("vas_switch", one, None, vid)
    expected = "" if first == second == RO else "EAGAIN"
    assert host.refused("vas_switch", two, None, vid) == expected
    assert active(host, two) == (0 if expected else vid)
    host.do("vas_switch", one, None, 0)
    assert host.refused("vas_switch", two, None, vid) == ""


def test_a_segment_attached_to_be_read_is_read_whoever_comes(host: Host) -> None:
    sid = host.segment(sharing="lockable")
    reading = with_segments(host, "reading", (sid, RO))
    writing = with_segments(host, "writing", (sid, READ_WRITE))
    one, two = tasks(host, (reading, READ_WRITE), (writing, READ_WRITE), count=2)
    host.do("vas_switch", one, None, reading)
    host.do("vas_switch", two, None, reading)
    host.do("vas_switch", two, None, 0)
    assert host.refused("vas_switch", two, None, writing) == "EAGAIN"
    (reader,) = tasks(host, (writing, RO))
    host.do("vas_switch", reader, None, writing)


def test_attaching_takes_no_lock_and_any_number_may(host: Host) -> None:
    vid = lockable(host)
    pids = tasks(host, (vid, READ_WRITE), count=5)
    assert host.do("vas_getattr", vid).attach_count == 5
    sid = host.segment(sharing="lockable")
    for number in range(4):
        with_segments(host, f"other-{number}", (sid, READ_WRITE))
    assert host.do("vas_seg_getattr", sid).attach_count == 4
    host.do("vas_switch", pids[0], None, vid)


def test_who_is_refused_stays_where_he_was(host: Host) -> None:
    vid, other = lockable(host), host.space("other")
    one, two = tasks(host, (vid, READ_WRITE), (other, READ_WRITE), count=2)
    host.do("vas_switch", one, None, vid)
    host.do("vas_switch", two, None, other)
    with pytest.raises(EngineError) as refused:
        host.do("vas_switch", two, None, vid)
    assert refused.value.data["holder"] == f"task {one}"
    assert active(host, two) == other


def test_errors_come_before_locks(host: Host) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    host.do("vas_switch", one, None, vid)
    stranger = host.task()
    assert host.refused("vas_switch", stranger, None, vid) == "EINVAL"
    assert host.refused("vas_switch_or_queue", stranger, None, vid, Ticket()) == "EINVAL"
    assert host.refused("vas_switch_or_queue", two, None, 99, Ticket()) == "EINVAL"
    assert host.refused("vas_switch_or_queue", 999, None, vid, Ticket()) == "ESRCH"
    assert host.refused("vas_switch_or_queue", two, 999, vid, Ticket()) == "ESRCH"
    assert host.refused("vas_switch_or_queue", two, None, vid, Ticket(), cred=ALICE) == "EPERM"
    assert len(host.machine.locks) == 0


# -- threads -----------------------------------------------------------------------------------------------------


def test_threads_of_a_task_share_its_lock(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    tid = host.do("thread", one)
    assert queue.enter("one", one, vid)
    assert not queue.enter("two", two, vid)
    assert queue.enter("thread", one, vid, tid), "who holds already need not queue behind those who wait"
    host.do("vas_switch", one, None, 0)
    assert queue.served() == ""
    assert queue.enter("again", one, vid)
    host.do("vas_switch", one, None, 0)
    host.do("vas_switch", one, tid, 0)
    assert queue.served() == "two"


def test_an_upgrade_waits_for_the_other_tasks(host: Host, queue: Queue) -> None:
    sid = host.segment(sharing="lockable")
    reading, writing = with_segments(host, "r", (sid, RO)), with_segments(host, "w", (sid, READ_WRITE))
    one, two = tasks(host, (reading, READ_WRITE), (writing, READ_WRITE), count=2)
    assert queue.enter("one", one, reading)
    assert queue.enter("one", one, writing), "nobody else reads"
    assert queue.enter("one", one, reading), "a downgrade never waits"
    assert queue.enter("two", two, reading)
    assert not queue.enter("one", one, writing)
    assert active(host, one) == reading
    assert queue.refused(two, writing).errno == "EBUSY", "both would wait for the other to stop reading"
    host.do("vas_switch", two, None, 0)
    assert queue.served() == "one"


def test_a_downgrade_lets_readers_in(host: Host, queue: Queue) -> None:
    sid = host.segment(sharing="lockable")
    reading, writing = with_segments(host, "r", (sid, RO)), with_segments(host, "w", (sid, READ_WRITE))
    one, two, three = tasks(host, (reading, READ_WRITE), (writing, READ_WRITE), count=3)
    assert queue.enter("one", one, writing)
    assert not queue.enter("two", two, reading)
    assert not queue.enter("three", three, writing)
    told = queue.told
    host.do("vas_switch", one, None, reading)
    assert queue.told > told
    assert queue.served() == "two"


def test_views_and_forks_hold_as_their_threads_do(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    assert queue.enter("one", one, vid)
    child = host.do("fork", one).pid
    assert active(host, child) == 0
    assert not queue.enter("two", two, vid)
    host.do("exit", child)
    assert queue.served() == ""
    host.do("vas_switch", one, None, 0)
    assert queue.served() == "two"


# -- the queue ---------------------------------------------------------------------------------------------------


def test_turns_come_in_the_order_of_arrival(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    holder, *others = tasks(host, (vid, READ_WRITE), count=5)
    assert queue.enter("holder", holder, vid)
    for number, pid in enumerate(others):
        assert not queue.enter(f"t{number}", pid, vid)
    order = []
    inside = holder
    for _ in others:
        host.do("vas_switch", inside, None, 0)
        assert host.refused("vas_switch", holder, None, vid) == "EAGAIN", "a turn is not taken from who waits"
        name = queue.served()
        order.append(name)
        inside = others[int(name[1:])]
    assert order == ["t0", "t1", "t2", "t3"]


def test_readers_do_not_starve_a_writer(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    readers, (writer,) = tasks(host, (vid, RO), count=4), tasks(host, (vid, READ_WRITE))
    assert queue.enter("r0", readers[0], vid)
    assert queue.enter("r1", readers[1], vid)
    assert not queue.enter("w", writer, vid)
    assert not queue.enter("r2", readers[2], vid)
    assert host.refused("vas_switch", readers[3], None, vid) == "EAGAIN"
    assert not queue.enter("r3", readers[3], vid)
    host.do("vas_switch", readers[0], None, 0)
    assert queue.served() == ""
    host.do("vas_switch", readers[1], None, 0)
    assert queue.served() == "w"
    host.do("vas_switch", writer, None, 0)
    assert queue.served() == "r2 r3"


def test_who_gives_up_lets_those_behind_go(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, RO), count=2)
    (writer,) = tasks(host, (vid, READ_WRITE))
    assert queue.enter("one", one, vid)
    assert not queue.enter("w", writer, vid)
    assert not queue.enter("two", two, vid)
    told = queue.told
    queue.leave("w")
    assert queue.told > told
    assert queue.served() == "two"
    assert len(host.machine.locks) == 0


def test_a_thread_waits_once(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    assert queue.enter("one", one, vid)
    assert not queue.enter("two", two, vid)
    assert queue.refused(two, vid).errno == "EBUSY"
    tid = host.do("thread", two)
    assert not queue.enter("thread", two, vid, tid)
    host.do("vas_switch", one, None, 0)
    assert queue.served() == "two thread"


def test_nothing_is_told_while_nobody_waits(host: Host, queue: Queue) -> None:
    vid = lockable(host)
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    for _ in range(3):
        host.do("vas_switch", one, None, vid)
        host.do("vas_switch", one, None, 0)
    assert queue.told == 0
    assert not host.machine.tasks_table.on_leave
    host.do("vas_switch", one, None, vid)
    assert not queue.enter("two", two, vid)
    queue.leave("two")
    assert not host.machine.tasks_table.on_leave


@pytest.mark.roomy
def test_a_space_without_locks_is_entered_without_looking(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many locks there are elsewhere: such a switch must stay as quick as it was."""
    lockable(host)
    plain, _ = host.space("plain"), host.segment(sharing="lockable")
    holed = with_segments(host, "holed", (host.segment("other", 1, at=4), READ_WRITE))
    (pid,) = tasks(host, (plain, READ_WRITE), (holed, READ_WRITE))

    def look(*_: object) -> None:
        raise AssertionError("it was looked for holders")

    monkeypatch.setattr(Scene, "holders", look)
    for vid in (plain, holed, plain, 0):
        host.do("vas_switch", pid, None, vid)
    assert not host.machine.tasks_table.on_leave
    monkeypatch.undo()


# -- several locks -----------------------------------------------------------------------------------------------


@pytest.mark.roomy
def test_all_locks_of_the_target_or_none(host: Host, queue: Queue) -> None:
    one, two = (host.segment(name, 1, sharing="lockable", at=at) for at, name in enumerate(("a", "b")))
    both = with_segments(host, "both", (one, READ_WRITE), (two, READ_WRITE))
    only = with_segments(host, "only", (two, READ_WRITE))
    first = with_segments(host, "first", (one, READ_WRITE))
    pids = tasks(host, (both, READ_WRITE), (only, READ_WRITE), (first, READ_WRITE), count=4)
    assert queue.enter("holder", pids[0], only)
    assert not queue.enter("both", pids[1], both)
    assert host.refused("vas_switch", pids[2], None, first) == "EAGAIN", "one who waits for it comes first"
    host.do("vas_switch", pids[0], None, 0)
    assert queue.served() == "both"
    assert host.refused("vas_switch", pids[2], None, first) == "EAGAIN"
    host.do("vas_switch", pids[1], None, 0)
    host.do("vas_switch", pids[2], None, first)
    host.do("vas_switch", pids[3], None, only)


@pytest.mark.roomy
def test_one_segment_in_several_spaces_is_one_lock(host: Host, queue: Queue) -> None:
    sid = host.segment(sharing="lockable")
    spaces = [with_segments(host, f"space-{number}", (sid, READ_WRITE)) for number in range(3)]
    pids = tasks(host, *((vid, READ_WRITE) for vid in spaces), count=2)
    assert queue.enter("one", pids[0], spaces[0])
    assert not queue.enter("two", pids[1], spaces[1])
    assert queue.enter("one", pids[0], spaces[2]), "it has the lock already"
    host.do("vas_switch", pids[0], None, 0)
    assert queue.served() == "two"


def test_a_lockable_space_with_a_lockable_segment_has_two_locks(host: Host) -> None:
    sid = host.segment(sharing="lockable")
    vid = with_segments(host, "space", (sid, RO), sharing="lockable")
    one, two = tasks(host, (vid, READ_WRITE), count=2)
    host.do("vas_switch", one, None, vid)
    assert host.refused("vas_switch", two, None, vid) == "EAGAIN"
    statuses = host.do("lock_status", vid)
    assert [(each.kind, each.id, [user.exclusive for user in each.holders]) for each in statuses] == [
        ("space", vid, [True]),
        ("segment", sid, [False]),
    ]


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
