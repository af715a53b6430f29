"""Lockable spaces and segments: going in takes the lock, going out gives it back, and whoever dies gives it back too."""

import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from everspace import O_RDONLY, O_RDWR, O_WRONLY
from tests.conformance.support.calls import PAGE, Calls, HttpTask, TaskCalls
from tests.conformance.support.memory import at
from tests.conformance.support.rows import row
from tests.conformance.support.service import until
from tests.conformance.support.world import BASE, Failure, World

LONG = 60.0
TYPES = (O_RDONLY, O_WRONLY, O_RDWR)


def attached(world: World, vid: int, type: int = O_RDWR, account: str = "owner") -> TaskCalls:
    task = world.task(account)
    task.vas_attach(0, vid, type)
    return task


def lockable(world: World) -> int:
    """A lockable space with a lockable segment in it."""
    vid, _ = world.space_with_segment(sharing="lockable")
    return vid


def try_in(task: Calls, vid: int) -> None:
    task.vas_switch(vid, timeout=0)


class Waiting:
    """A thread of a task that wants to go in, over a connection of its own."""

    def __init__(self, world: World, task: TaskCalls, vid: int, timeout: float | None = LONG) -> None:
        self._world = world
        self._token = world.site.tokens["owner"]
        self._task: Calls = task
        if world.way == "http":
            self._task = HttpTask(world.stranger(self._token), task.pid, task.tid)
        self._vid = vid
        self._timeout = timeout
        self.done = threading.Event()
        self.failure: Failure | None = None
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._future = self._pool.submit(self._go)

    def _go(self) -> None:
        self.failure = self._world.refused_or_none(self._task.vas_switch, self._vid, self._timeout)
        self.done.set()

    def end(self) -> Failure | None:
        """How it ended: None if it is in."""
        self._future.result(LONG)
        self._pool.shutdown()
        return self.failure


@contextmanager
def waiting_writer(world: World, vid: int) -> Iterator[Waiting]:
    """A writer that is known to wait behind a reader: since then nobody else comes in, not even to read."""
    writer = Waiting(world, attached(world, vid), vid)
    prober = attached(world, vid, O_RDONLY)
    until("the writer is in the queue", lambda: turned_away(world, prober, vid))
    yield writer


def turned_away(world: World, task: Calls, vid: int) -> bool:
    """Whether a reader is refused right now; if not, it is out again."""
    if world.refused_or_none(try_in, task, vid) is not None:
        return True
    task.vas_switch(0)
    return False


@row("LOCK-ATTACH-1")
def test_any_number_of_tasks_attach_a_lockable_space(world: World) -> None:
    vid = lockable(world)
    for type in (O_RDWR, O_RDWR, O_WRONLY, O_RDONLY):
        attached(world, vid, type)
    assert world.owner.vas_getattr(vid).attach_count == 4


@row("LOCK-SWITCH-1")
def test_many_are_in_for_reading_or_one_for_writing(world: World) -> None:
    vid = lockable(world)
    for held in TYPES:
        for asked in TYPES:
            holder, asker = attached(world, vid, held), attached(world, vid, asked)
            try_in(holder, vid)
            if held == asked == O_RDONLY:
                try_in(asker, vid)
            else:
                world.fails("EAGAIN", try_in, asker, vid)
            holder.exit()
            asker.exit()


@row("LOCK-SWITCH-2")
def test_going_out_gives_the_lock_back(world: World) -> None:
    vid = lockable(world)
    first, second = attached(world, vid), attached(world, vid)
    try_in(first, vid)
    first.write(BASE, b"first")
    first.vas_switch(0)
    try_in(second, vid)
    assert second.read(BASE, 5) == b"first"
    world.fails("EAGAIN", try_in, first, vid)


@row("LOCK-SWITCH-3")
def test_going_from_one_space_into_another_gives_the_first_back(world: World) -> None:
    one = lockable(world)
    two, _ = world.space_with_segment(sharing="lockable", start=BASE + 64 * PAGE)
    first, second = attached(world, one), attached(world, one)
    first.vas_attach(0, two, O_RDWR)
    try_in(first, one)
    try_in(first, two)
    try_in(second, one)
    world.fails("EAGAIN", try_in, first, one)
    assert first.active_vas() == two


@row("LOCK-EAGAIN-1")
def test_timeout_0_does_not_wait(world: World) -> None:
    vid = lockable(world)
    first, second = attached(world, vid), attached(world, vid)
    try_in(first, vid)
    world.fails("EAGAIN", second.vas_switch, vid, timeout=0)
    assert second.active_vas() == 0


@row("LOCK-ETIMEDOUT-1")
def test_a_wait_ends_at_its_timeout(world: World) -> None:
    vid = lockable(world)
    first, second = attached(world, vid), attached(world, vid)
    try_in(first, vid)
    world.fails("ETIMEDOUT", second.vas_switch, vid, timeout=0.05)
    assert second.active_vas() == 0
    first.vas_switch(0)
    try_in(second, vid)


@row("LOCK-TIMEOUT-EINVAL-1")
def test_a_timeout_is_a_time(world: World) -> None:
    vid = lockable(world)
    task = attached(world, vid)
    for bad in (-1, -0.001):
        world.fails("EINVAL", task.vas_switch, vid, timeout=bad)


@row("LOCK-WAIT-1")
def test_who_waits_gets_in_when_the_other_goes_out(world: World) -> None:
    vid = lockable(world)
    holder = attached(world, vid, O_RDONLY)
    try_in(holder, vid)
    with waiting_writer(world, vid) as writer:
        assert not writer.done.is_set()
        holder.vas_switch(0)
        assert writer.end() is None


@row("LOCK-WAIT-2")
def test_who_waits_without_end_waits_longer_than_a_request(world: World) -> None:
    vid = lockable(world)
    holder = attached(world, vid, O_RDONLY)
    try_in(holder, vid)
    writer = Waiting(world, attached(world, vid), vid, None)
    prober = attached(world, vid, O_RDONLY)
    until("the writer is in the queue", lambda: turned_away(world, prober, vid))
    holder.vas_switch(0)
    assert writer.end() is None


@row("LOCK-DEATH-1")
def test_exit_of_the_holder_lets_the_next_in(world: World) -> None:
    vid = lockable(world)
    holder = attached(world, vid, O_RDONLY)
    try_in(holder, vid)
    with waiting_writer(world, vid) as writer:
        holder.exit()
        assert writer.end() is None


@row("LOCK-DEATH-2", "http")
def test_the_end_of_the_holders_lease_lets_the_next_in(world: World) -> None:
    """A holder that dies without a word: nobody renews its lease."""
    vid = lockable(world)
    http = world.http("owner")
    made = http.call("POST", "/v1/tasks", {"lease_s": 1}, status=201).json
    holder = HttpTask(http, made["pid"], made["tid"])
    holder.vas_attach(0, vid, O_RDWR)
    try_in(holder, vid)
    second = attached(world, vid)
    assert second.vas_switch(vid, timeout=LONG) == 0
    world.fails("ESRCH", holder.active_vas)


@row("LOCK-DEATH-3")
def test_exec_and_detach_cannot_keep_a_lock(world: World) -> None:
    vid = lockable(world)
    holder, second = attached(world, vid), attached(world, vid)
    try_in(holder, vid)
    world.fails("EBUSY", holder.vas_detach, 0, vid)
    holder.exec()
    try_in(second, vid)


@row("LOCK-FORK-1")
def test_a_child_holds_no_lock(world: World) -> None:
    vid = lockable(world)
    holder = attached(world, vid)
    try_in(holder, vid)
    child = world.adopt(holder.fork())
    child.vas_attach(0, vid, O_RDWR)
    world.fails("EAGAIN", try_in, child, vid)
    holder.vas_switch(0)
    try_in(child, vid)


@row("LOCK-TASK-1")
def test_a_lock_belongs_to_the_task(world: World) -> None:
    """Its threads share it; the last one to go out gives it back."""
    vid = lockable(world)
    holder, other = attached(world, vid), attached(world, vid)
    thread = holder.thread()
    try_in(holder, vid)
    try_in(thread, vid)
    holder.vas_switch(0)
    world.fails("EAGAIN", try_in, other, vid)
    thread.exit()
    try_in(other, vid)


@row("LOCK-SEGMENT-1")
def test_a_lockable_segment_is_locked_through_every_space_that_has_it(world: World) -> None:
    sid = world.segment(sharing="lockable")
    one, two = world.space(sharing="shared"), world.space(sharing="shared")
    for vid in (one, two):
        world.owner.vas_seg_attach(vid, sid, O_RDWR)
    first, second = attached(world, one), attached(world, two)
    try_in(first, one)
    world.fails("EAGAIN", try_in, second, two)
    first.vas_switch(0)
    try_in(second, two)


@row("LOCK-SEGMENT-2")
def test_the_lesser_of_both_types_decides_how_a_segment_is_locked(world: World) -> None:
    sid = world.segment(sharing="lockable")
    one, two = world.space(sharing="shared"), world.space(sharing="shared")
    world.owner.vas_seg_attach(one, sid, O_RDWR)
    world.owner.vas_seg_attach(two, sid, O_RDONLY)
    reader, writer = attached(world, one, O_RDONLY), attached(world, two, O_RDWR)
    try_in(reader, one)
    try_in(writer, two)
    real = attached(world, one, O_RDWR)
    world.fails("EAGAIN", try_in, real, one)


@row("LOCK-SEGMENT-3")
def test_all_locks_are_taken_at_once_or_none(world: World) -> None:
    sids = [world.segment(sharing="lockable", start=at(64 * number)) for number in range(2)]
    both, first, second = (world.space(sharing="shared") for _ in range(3))
    for sid in sids:
        world.owner.vas_seg_attach(both, sid, O_RDWR)
    world.owner.vas_seg_attach(first, sids[0], O_RDWR)
    world.owner.vas_seg_attach(second, sids[1], O_RDWR)
    holder, wanting, third = attached(world, second), attached(world, both), attached(world, first)
    try_in(holder, second)
    world.fails("EAGAIN", try_in, wanting, both)
    try_in(third, first)
    third.vas_switch(0)
    holder.vas_switch(0)
    try_in(wanting, both)


@row("LOCK-SEGMENT-EBUSY-1")
def test_a_lockable_segment_does_not_come_into_a_space_whose_users_would_conflict(world: World) -> None:
    vid = world.space(sharing="shared")
    sid = world.segment(sharing="lockable")
    tasks = [attached(world, vid) for _ in range(2)]
    for task in tasks:
        task.vas_switch(vid)
    world.fails("EBUSY", world.owner.vas_seg_attach, vid, sid, O_RDWR)
    tasks[0].vas_switch(0)
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    world.fails("EAGAIN", try_in, tasks[0], vid)


@row("LOCK-UPGRADE-1")
def test_who_reads_may_come_to_write_when_the_other_readers_are_gone(world: World) -> None:
    sid = world.segment(sharing="lockable")
    one, two = world.space(sharing="shared"), world.space(sharing="shared")
    world.owner.vas_seg_attach(one, sid, O_RDONLY)
    world.owner.vas_seg_attach(two, sid, O_RDWR)
    task, other = attached(world, one), attached(world, one)
    task.vas_attach(0, two, O_RDWR)
    thread = task.thread()
    try_in(task, one)
    try_in(other, one)
    world.fails("EAGAIN", try_in, thread, two)
    other.vas_switch(0)
    try_in(thread, two)
    world.fails("EAGAIN", try_in, other, one)


@row("LOCK-FAIR-1")
def test_nobody_overtakes_who_waits(world: World) -> None:
    vid = lockable(world)
    readers = [attached(world, vid, O_RDONLY) for _ in range(2)]
    try_in(readers[0], vid)
    with waiting_writer(world, vid) as writer:
        world.fails("EAGAIN", try_in, readers[1], vid)
        readers[0].vas_switch(0)
        assert writer.end() is None
        world.fails("EAGAIN", try_in, readers[1], vid)


@row("LOCK-FAIR-2")
def test_who_gives_up_does_not_hold_up_the_others(world: World) -> None:
    vid = lockable(world)
    readers = [attached(world, vid, O_RDONLY) for _ in range(2)]
    try_in(readers[0], vid)
    world.fails("ETIMEDOUT", attached(world, vid).vas_switch, vid, timeout=0.05)
    try_in(readers[1], vid)


@row("LOCK-DEADLOCK-1")
def test_a_wait_that_would_never_end_is_refused(world: World) -> None:
    """Two tasks, each inside what the other wants: the second to ask is told so, and goes out; the first gets in."""
    one = lockable(world)
    two, _ = world.space_with_segment(sharing="lockable", start=at(64))
    first, second = attached(world, one), attached(world, two)
    first.vas_attach(0, two, O_RDWR)
    second.vas_attach(0, one, O_RDWR)
    try_in(first, one)
    try_in(second, two)

    def ask(wish: tuple[TaskCalls, int]) -> Failure | None:
        task, vid = wish
        mine: Calls = task
        if world.way == "http":
            mine = HttpTask(world.stranger(world.site.tokens["owner"]), task.pid, task.tid)
        failure = world.refused_or_none(mine.vas_switch, vid, LONG)
        if failure is not None:
            mine.vas_switch(0)
        return failure

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(ask, [(first, two), (second, one)]))
    (failure,) = [failure for failure in outcomes if failure is not None]
    assert failure.errno == "EBUSY"
    assert failure.problem["holder"] in {f"task {task.pid}" for task in (first, second)}


@row("LOCK-ESRCH-1")
def test_who_waits_and_ends_is_told_esrch(world: World) -> None:
    vid = lockable(world)
    holder, waiter = attached(world, vid, O_RDONLY), attached(world, vid)
    try_in(holder, vid)
    waiting = Waiting(world, waiter, vid)
    prober = attached(world, vid, O_RDONLY)
    until("the waiter is in the queue", lambda: turned_away(world, prober, vid))
    world.http("owner").call("DELETE", f"/v1/tasks/{waiter.pid}")
    failure = waiting.end()
    assert failure is not None
    assert failure.errno == "ESRCH"
    try_in(prober, vid)


@row("LOCK-GONE-1", "http")
def test_a_client_that_vanishes_leaves_the_queue(world: World) -> None:
    vid = lockable(world)
    holder, waiter = attached(world, vid, O_RDONLY), attached(world, vid)
    try_in(holder, vid)
    abandoned = world.stranger(world.site.tokens["owner"])
    abandoned.send(
        "PUT", f"/v1/tasks/{waiter.pid}/threads/{waiter.tid}/active", {"vid": vid, "timeout_s": 60}
    )
    prober = attached(world, vid, O_RDONLY)
    until("the waiter is in the queue", lambda: turned_away(world, prober, vid))
    abandoned.close()
    until("the queue is empty", lambda: not turned_away(world, prober, vid))
    assert waiter.active_vas() == 0


@row("LOCK-BATCH-1", "http")
def test_an_atomic_batch_does_not_wait(world: World) -> None:
    vid = lockable(world)
    holder, second = attached(world, vid), attached(world, vid)
    try_in(holder, vid)
    calls = [{"call": "vas_switch", "args": {"vid": vid, "timeout": 60}}]
    path = f"/v1/tasks/{second.pid}/batch?atomic=true"
    world.fails("EAGAIN", world.http("owner").call, "POST", path, {"calls": calls})
    calls = [
        {"call": "vas_switch", "args": {"vid": vid, "timeout": 0.05}},
        {"call": "active_vas", "args": {}},
    ]
    path = f"/v1/tasks/{second.pid}/batch"
    results = world.http("owner").call("POST", path, {"calls": calls}).json["results"]
    assert [result.get("errno") for result in results] == ["ETIMEDOUT", None]


@row("LOCK-BYTES-1", "http")
def test_bytes_by_offset_take_no_lock(world: World) -> None:
    vid, sid = world.space_with_segment(sharing="lockable")
    holder = attached(world, vid)
    try_in(holder, vid)
    headers = {"Content-Range": f"bytes 0-3/{4 * PAGE}"}
    world.http("owner").call("PATCH", f"/v1/segments/{sid}/data", raw=b"past", headers=headers)
    assert holder.read(BASE, 4) == b"past"


@row("LOCK-ORDER-1")
def test_what_is_not_attached_is_einval_and_not_waited_for(world: World) -> None:
    vid = lockable(world)
    try_in(attached(world, vid), vid)
    world.fails("EINVAL", world.owner.vas_switch, vid, timeout=0)
    world.fails("EINVAL", world.owner.vas_switch, vid)


@row("LOCK-SEEN-1")
def test_who_holds_and_who_waits_can_be_seen(world: World) -> None:
    vid = lockable(world)
    holder = attached(world, vid, O_RDONLY)
    try_in(holder, vid)
    with waiting_writer(world, vid) as writer:
        told = world.http("owner").get(f"/v1/vas/{vid}/lock")["items"]
        assert {user["pid"] for lock in told for user in lock["holders"]} == {holder.pid}
        waiters = {user["pid"] for lock in told for user in lock["waiters"]}
        assert len(waiters) == 1
        assert holder.pid not in waiters
        holder.vas_switch(0)
        assert writer.end() is None
        told = world.http("owner").get(f"/v1/vas/{vid}/lock")["items"]
        assert {user["pid"] for lock in told for user in lock["holders"]} == waiters


@row("LOCK-NONE-1")
def test_a_timeout_means_nothing_where_nothing_is_lockable(world: World) -> None:
    vid, _ = world.space_with_segment(sharing="shared")
    for timeout in (None, 0, 0.5):
        task = attached(world, vid)
        assert task.vas_switch(vid, timeout=timeout) == 0


@row("LOCK-COUNT-1")
def test_nothing_is_lost_that_is_counted_under_the_lock(world: World) -> None:
    """Four clients count to 25 each, in one number that all of them read and write."""
    vid = lockable(world)
    tasks = [attached(world, vid) for _ in range(4)]

    def count(task: TaskCalls) -> None:
        mine: Calls = task
        if world.way == "http":
            mine = HttpTask(world.stranger(world.site.tokens["owner"]), task.pid, task.tid)
        for _ in range(25):
            mine.vas_switch(vid)
            number = int.from_bytes(mine.read(BASE, 8), "little")
            mine.write(BASE, (number + 1).to_bytes(8, "little"), durability="relaxed")
            mine.vas_switch(0)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(count, tasks))
    try_in(tasks[0], vid)
    assert int.from_bytes(tasks[0].read(BASE, 8), "little") == 100
