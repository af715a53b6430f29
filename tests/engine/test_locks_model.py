"""Locks against a naive model: who gets in, who waits, who is refused; and nobody waits forever."""

import random
from collections.abc import Callable, Iterator

import pytest

from engine.errors import EngineError
from engine.geometry import TOY, Geometry
from engine.spaces.lock_scene import Scene, Users
from engine.spaces.locks import Locks, Ticket
from tests.engine.conftest import MakeHost
from tests.engine.host import Host

Lock = tuple[str, int]


class Model:
    """Threads, where they are and who waits in which order; everything else is worked out anew, by definition."""

    def __init__(self) -> None:
        self.spaces: dict[int, bool] = {}
        """Whether the space is lockable."""
        self.windows: dict[int, dict[int, int]] = {}
        self.lockable: set[int] = set()
        self.attached: dict[int, dict[int, int]] = {}
        self.task_of: dict[int, int] = {}
        self.active: dict[int, int] = {}
        self.queue: list[tuple[int, int]] = []

    def wanted(self, task: int, vid: int) -> dict[Lock, bool]:
        writes = self.attached[task][vid] != 0
        locks: dict[Lock, bool] = {("space", vid): writes} if self.spaces[vid] else {}
        for sid, type in self.windows[vid].items():
            if sid in self.lockable:
                locks["segment", sid] = writes and type != 0
        return locks

    def held(self, tid: int) -> dict[Lock, bool]:
        return self.wanted(self.task_of[tid], self.active[tid]) if self.active[tid] else {}

    def blockers(self, tid: int, vid: int, earlier: list[tuple[int, int]]) -> set[int]:
        """Threads that have to move before `tid` may enter."""
        task, found = self.task_of[tid], set()
        for lock, exclusive in self.wanted(task, vid).items():
            holders = {other: held[lock] for other in self.task_of if lock in (held := self.held(other))}
            found |= {
                other
                for other, writes in holders.items()
                if self.task_of[other] != task and (writes or exclusive)
            }
            if task in {self.task_of[other] for other in holders}:
                continue
            for other, target in earlier:
                theirs = self.wanted(self.task_of[other], target)
                if self.task_of[other] != task and lock in theirs and (theirs[lock] or exclusive):
                    found.add(other)
        return found

    def stuck(self, queue: list[tuple[int, int]]) -> set[int]:
        """Threads that could never move again if only those who do not wait moved of themselves."""
        immovable = {tid for tid, _ in queue}
        moved = True
        while moved:
            moved = False
            for place, (tid, vid) in enumerate(queue):
                if tid in immovable and not self.blockers(tid, vid, queue[:place]) & immovable:
                    immovable.discard(tid)
                    moved = True
        return immovable

    def ready(self) -> list[int]:
        return [
            tid
            for place, (tid, vid) in enumerate(self.queue)
            if not self.blockers(tid, vid, self.queue[:place])
        ]

    def may_attach(self, vid: int, sid: int, type: int) -> bool:
        """Whether a segment may join a space, as far as locks are concerned."""
        self.windows[vid][sid] = type
        holders = [
            (self.task_of[tid], held["segment", sid])
            for tid in self.task_of
            if ("segment", sid) in (held := self.held(tid))
        ]
        conflict = len({task for task, _ in holders}) > 1 and any(writes for _, writes in holders)
        fine = not conflict and not self.stuck(self.queue)
        if not fine:
            del self.windows[vid][sid]
        return fine


class Play:
    """One random history, told to the engine and to the model."""

    def __init__(self, host: Host, seed: int) -> None:
        self.host, self.model, self.rng = host, Model(), random.Random(seed)
        self.tickets: dict[int, Ticket] = {}
        model, rng = self.model, self.rng
        for number in range(rng.randrange(1, 4)):
            sid = host.segment(
                f"segment-{number}",
                1,
                sharing=rng.choice(("lockable", "lockable", "lockable", "shared")),
                at=number,
            )
            if host.do("vas_seg_getattr", sid).sharing == "lockable":
                model.lockable.add(sid)
        for number in range(rng.randrange(2, 6)):
            sharing = rng.choice(("lockable", "lockable", "lockable", "shared"))
            vid = host.space(f"space-{number}", sharing=sharing)
            model.spaces[vid], model.windows[vid] = sharing == "lockable", {}
            for sid in self.segments():
                if rng.random() < 0.3:
                    self.attach_segment(vid, sid)
        for _ in range(rng.randrange(3, 7)):
            self.new_task()

    def segments(self) -> list[int]:
        return self.host.machine.segments.registry.listed()

    def new_task(self) -> None:
        pid = self.host.task()
        self.model.attached[pid] = {}
        for vid in self.model.spaces:
            if self.rng.random() < 0.95:
                type = self.rng.choice((0, 2, 2))
                self.host.do("vas_attach", pid, vid, type)
                self.model.attached[pid][vid] = type
        self._thread(pid, pid)
        if self.rng.random() < 0.5:
            self._thread(pid, self.host.do("thread", pid))

    def _thread(self, pid: int, tid: int) -> None:
        self.model.task_of[tid], self.model.active[tid] = pid, 0

    def attach_segment(self, vid: int, sid: int) -> None:
        type = self.rng.choice((0, 2))
        if sid in self.model.windows[vid]:
            return
        errno = self.host.refused("vas_seg_attach", vid, sid, type)
        if errno == "EFAULT":
            return
        assert errno == ("" if self.model.may_attach(vid, sid, type) else "EBUSY")

    # -- steps -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        model, rng = self.model, self.rng
        what = rng.random()
        tid = rng.choice(list(model.task_of))
        pid = model.task_of[tid]
        waits = tid in self.tickets
        if what < 0.66 and not waits:
            self.switch(pid, tid, rng.choice(list(model.spaces)), waiting=rng.random() < 0.85)
        elif what < 0.78 and not waits:
            self.switch(pid, tid, 0, waiting=True)
        elif what < 0.81 and waits:
            self.host.machine.locks.leave(self.tickets.pop(tid))
            model.queue = [entry for entry in model.queue if entry[0] != tid]
        elif what < 0.83 and tid != pid:
            self.host.do("exit_thread", pid, tid)
            self._forget(tid)
        elif what < 0.86 and len(model.attached) > 2:
            self.host.do("exit", pid)
            for other in [other for other, task in model.task_of.items() if task == pid]:
                self._forget(other)
            del model.attached[pid]
        elif what < 0.91 and len(model.attached) < 7:
            self.new_task()
        elif what < 0.97:
            self.attach_segment(rng.choice(list(model.spaces)), rng.choice(self.segments()))
        self.serve()

    def _forget(self, tid: int) -> None:
        """The thread is gone; if it waited, it is told so."""
        del self.model.task_of[tid], self.model.active[tid]
        self.model.queue = [entry for entry in self.model.queue if entry[0] != tid]
        ticket = self.tickets.pop(tid, None)
        if ticket is not None:
            assert ticket in self.host.machine.locks.ready()
            with pytest.raises(EngineError, match="ESRCH"):
                self.host.machine.vas_switch_in_turn(ticket)
            self.host.machine.locks.leave(ticket)

    def switch(self, pid: int, tid: int, vid: int, *, waiting: bool) -> None:
        model = self.model
        if vid and vid not in model.attached[pid]:
            assert self.host.refused("vas_switch", pid, tid, vid) == "EINVAL"
            return
        blocked = bool(vid) and vid != model.active[tid] and bool(model.blockers(tid, vid, model.queue))
        if not waiting:
            assert self.host.refused("vas_switch", pid, tid, vid) == ("EAGAIN" if blocked else "")
        else:
            ticket = Ticket()
            try:
                inside = self.host.do("vas_switch_or_queue", pid, tid, vid, ticket)
            except EngineError as refused:
                assert refused.errno == "EBUSY"
                assert blocked
                assert tid in model.stuck([*model.queue, (tid, vid)]), "refused though it could end"
                return
            assert inside != blocked
            if blocked:
                self.tickets[tid] = ticket
                model.queue.append((tid, vid))
                assert not model.stuck(model.queue), "waits though it can never end"
        if not blocked:
            model.active[tid] = vid

    def serve(self) -> None:
        """Let in whose turn it is, one by one, and compare."""
        model, locks = self.model, self.host.machine.locks
        while True:
            ready = [ticket.thread.tid for ticket in locks.ready() if ticket.thread is not None]
            assert ready == model.ready()
            for tid, _ in model.queue:
                if tid not in ready:
                    assert not self.host.machine.vas_switch_in_turn(self.tickets[tid])
            if not ready:
                break
            tid = self.rng.choice(ready)
            self._enter(tid)
        assert len(locks) == len(model.queue) == len(self.tickets)
        assert not model.stuck(model.queue)
        assert list(locks.conflicts()) == []
        for tid, pid in model.task_of.items():
            assert self.host.do("active_vas", pid, tid) == model.active[tid]
        self._compare_status()

    def _enter(self, tid: int) -> None:
        """Its turn; at times taken back at first, as when a commit fails."""
        model, ticket = self.model, self.tickets.pop(tid)
        if self.rng.random() < 0.2:
            with self.host.machine.transaction() as txn:
                assert self.host.machine.vas_switch_in_turn(ticket)
            txn.rollback()
        assert self.host.do("vas_switch", model.task_of[tid], tid, model.active[tid]) is None
        with self.host.machine.transaction() as txn:
            assert self.host.machine.vas_switch_in_turn(ticket)
        self.host.settle(txn)
        model.active[tid] = dict(model.queue)[tid]
        model.queue = [entry for entry in model.queue if entry[0] != tid]

    def _compare_status(self) -> None:
        model = self.model
        for vid in model.spaces:
            for status in self.host.do("lock_status", vid):
                lock = status.kind, status.id
                holders = {(tid, held[lock]) for tid in model.task_of if lock in (held := model.held(tid))}
                assert {(user.tid, user.exclusive) for user in status.holders} == holders
                waiters = [
                    tid for tid, target in model.queue if lock in model.wanted(model.task_of[tid], target)
                ]
                assert [user.tid for user in status.waiters] == waiters

    def drain(self) -> None:
        """Whoever does not wait leaves, until nobody waits: every waiter gets in."""
        while self.model.queue:
            left = len(self.model.queue)
            for tid in list(self.model.task_of):
                if tid not in self.tickets and self.model.active[tid]:
                    self.switch(self.model.task_of[tid], tid, 0, waiting=False)
                    self.serve()
            assert len(self.model.queue) < left, "nobody gets in any more"


def play(make_host: Callable[[Geometry, int], Host], seeds: range, steps: int = 60) -> Iterator[int]:
    for seed in seeds:
        game = Play(make_host(TOY, 64), seed)
        for _ in range(steps):
            game.step()
            yield len(game.model.queue)
        game.drain()


@pytest.mark.parametrize("block", range(8))
def test_random_histories_agree_with_a_naive_model(make_host: MakeHost, block: int) -> None:
    depths = list(play(make_host, range(block * 25, block * 25 + 25)))
    assert max(depths) >= 4


def no_cycle(*_: object) -> None:
    return None


def no_turns(*_: object, **__: object) -> None:
    return None


def everybody(self: Locks) -> list[Ticket]:
    return list(self._queue.values())


CANARIES = {
    "cycles are not looked for": (Scene, "cycle", no_cycle),
    "who comes later overtakes": (Users, "conflict", no_turns),
    "a task queues for what it has": (Users, "has", lambda *_: False),
    "everybody is let in": (Locks, "ready", everybody),
    "a segment joins whoever is inside": (Locks, "refuse_window", no_turns),
}


@pytest.mark.parametrize("name", CANARIES)
def test_a_canary_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*CANARIES[name])
    with pytest.raises((AssertionError, EngineError)):
        list(play(Host, range(40)))
