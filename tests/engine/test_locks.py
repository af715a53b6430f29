"""Locks of lockable spaces and segments: who gets in, who waits, and in which order."""

import pytest

from engine.errors import EngineError
from engine.spaces.lock_scene import Scene
from engine.spaces.locks import Ticket
from tests.engine.host import ALICE, Host
from tests.engine.locking import READ_WRITE, RO, WO, Queue, active, lockable, tasks, with_segments


@pytest.fixture
def queue(host: Host) -> Queue:
    return Queue(host)


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
