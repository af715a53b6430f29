"""An answer given before a commit does not depend on that commit.

A call that changes nothing is answered as soon as everything it touched is durable. So whatever it did not touch may
be taken back, and the same call must come to the same again.
"""

from collections.abc import Callable

import pytest

from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import TOY, X86_64, Geometry
from engine.journal import Journal, Transaction
from tests.engine.lockstep import Divergence, Lockstep, Waiting, run
from tests.engine.model import Model
from tests.engine.steps import (
    BROAD,
    PEOPLE,
    Step,
    a_call,
    a_sid,
    a_thread,
    a_vid,
    brk,
    delete,
    detach,
    fork,
    named,
    setattr_some,
    spawn,
    switch,
    thread,
)

FRAMES = 300
STEPS = 500

DURABLE: dict[Step, int] = {
    **BROAD, spawn: 1, fork: 1, thread: 1, switch: 3, brk: 1, delete: 6, setattr_some: 6, detach: 2,
}  # fmt: skip
"""Mostly calls whose changes wait for a commit."""


class Answering(Lockstep):
    """Numbers commits as the service does, and takes back what an answer does not wait for."""

    def __init__(self, seed: int, geometry: Geometry) -> None:
        super().__init__(seed, geometry, FRAMES)
        self.seq = 0
        self.numbers: dict[int, int] = {}
        self.answers_tested = 0

    def _track(self, txn: Transaction, before: Model) -> None:
        if txn.changes:
            self.seq += 1
            for thing in txn.touched:
                thing.pending = self.seq
            self.numbers[id(txn)] = self.seq
            self.waiting.append(Waiting(txn, before))
        elif txn.mutated:  # volatile: it would be made again after a rollback, so let nothing wait below it
            self.commit(len(self.waiting))
            txn.settle()
        else:
            txn.settle()

    def answer(self, call: Callable[[], object]) -> tuple[object, Transaction]:
        """What the engine says, and the transaction in which it said so."""
        try:
            with self.machine.transaction() as txn:
                value: object = call()
        except EngineError as refused:
            value = (refused.errno, refused.detail)
        return value, txn

    def ask(self, name: str, call: Callable[[], object]) -> None:
        """Make a call that changes nothing, take back all that it need not wait for, and make it again."""
        self.log.append(name)
        first, txn = self.answer(call)
        if txn.changes or txn.mutated:
            txn.rollback()
            return
        due = max((thing.pending for thing in txn.touched), default=0)
        lost = [entry for entry in self.waiting if self.numbers[id(entry.txn)] > due]
        self.roll_back(len(lost))
        second, txn = self.answer(call)
        changed = bool(txn.changes or txn.mutated)
        txn.rollback()
        self.answers_tested += bool(lost)
        if first != second or changed:
            raise Divergence(f"{name} said {first}; without what it did not wait for: {second}")


def readers(world: Answering) -> dict[str, Callable[[], object]]:
    """Calls that change nothing, or may find nothing to change."""
    machine, rng = world.machine, world.rng
    cred, pid, tid = a_thread(world)
    vid, sid, who = a_vid(world), a_sid(world), rng.choice((ROOT, *PEOPLE))
    name, mode = named(rng)
    page = world.geometry.page_size
    place = rng.choice(list(world.model.tasks[pid].pages) or [0]) * page if pid in world.model.tasks else 0
    inside = rng.choice(list(world.model.spaces[vid].pages) or [4]) * page if vid in world.model.spaces else 0
    where = rng.choice((place, inside))
    wanted = where, page * rng.randint(1, 3)
    advice = rng.choice((3, 4, 9, 22))
    kind, flags, heap = rng.choice((0, 2)), rng.choice((0x32, 0x100022)), rng.choice((0, where))

    def status(pid: int) -> object:
        told = machine.task_status(who, pid)
        return told.threads, told.attachments

    return {
        "vas_create": lambda: machine.vas_create(who, name, mode),
        "vas_find": lambda: machine.vas_find(who, name),
        "vas_delete": lambda: machine.vas_delete(who, vid),
        "vas_getattr": lambda: machine.vas_getattr(who, vid),
        "vas_setattr": lambda: machine.vas_setattr(who, vid, sharing="exclusive"),
        "vas_list": lambda: machine.vas_list(who),
        "vas_regions": lambda: machine.vas_regions(who, vid),
        "vas_segments": lambda: machine.vas_segments(who, vid),
        "vas_attach": lambda: machine.vas_attach(cred, pid, vid, kind),
        "vas_detach": lambda: machine.vas_detach(cred, pid, vid),
        "vas_switch": lambda: machine.vas_switch(cred, pid, tid, vid),
        "seg_create": lambda: machine.vas_seg_create(who, name, page * 6, page * 7, mode),
        "seg_find": lambda: machine.vas_seg_find(who, name),
        "seg_delete": lambda: machine.vas_seg_delete(who, sid),
        "seg_getattr": lambda: machine.vas_seg_getattr(who, sid),
        "seg_setattr": lambda: machine.vas_seg_setattr(who, sid, sharing="shared"),
        "seg_list": lambda: machine.vas_seg_list(who),
        "seg_attach": lambda: machine.vas_seg_attach(who, vid, sid, 2),
        "seg_detach": lambda: machine.vas_seg_detach(who, vid, sid),
        "seg_read": lambda: machine.seg_read(who, sid, 0, page),
        "active_vas": lambda: machine.active_vas(cred, pid, tid),
        "status": lambda: status(pid),
        "tasks": lambda: [status(told.pid) for told in machine.tasks(who)],
        "attachment": lambda: machine.attachment(cred, pid, vid),
        "read": lambda: machine.read(cred, pid, tid, *wanted),
        "write": lambda: machine.write(cred, pid, tid, where, bytes(wanted[1])),
        "mmap": lambda: machine.mmap(cred, pid, tid, *wanted, 3, flags),
        "munmap": lambda: machine.munmap(cred, pid, tid, *wanted),
        "mprotect": lambda: machine.mprotect(cred, pid, tid, *wanted, 1),
        "brk": lambda: machine.brk(cred, pid, tid, heap),
        "mremap": lambda: machine.mremap(cred, pid, tid, where, page, 2 * page, kind // 2),
        "madvise": lambda: machine.madvise(cred, pid, tid, *wanted, advice),
        "mlock": lambda: machine.mlock(cred, pid, tid, *wanted),
        "munlock": lambda: machine.munlock(cred, pid, tid, *wanted),
        "mincore": lambda: machine.mincore(cred, pid, tid, *wanted),
        "prlimit": lambda: machine.prlimit(cred, pid, "data"),
        "msync": lambda: machine.msync(cred, pid, tid, *wanted),
        "maps": lambda: machine.maps_text(cred, pid, tid),
        "vas_dir": lambda: machine.vas_dir(cred, pid),
        "vas_status": lambda: machine.vas_status_text(who, pid, vid),
        "vas_maps": lambda: machine.vas_maps_text(cred, pid, vid).replace(":a]", ":-]"),
        "sys_vas": lambda: machine.sys_vas_text(vid, "mode"),
        "sys_seg": lambda: machine.sys_seg_text(sid, "name"),
    }


def step_and_ask(weights: dict[Step, int]) -> Callable[[Lockstep], None]:
    """A call that may change something, and one answer."""

    def step(world: Lockstep) -> None:
        if not isinstance(world, Answering):
            raise TypeError(world)
        if world.rng.random() < 0.05:
            world.commit(world.rng.randint(1, 3))
        if not world.model.tasks:
            world.call("spawn", ROOT)
        a_call(world, weights)
        world.ask(*world.rng.choice(list(readers(world).items())))

    return step


@pytest.mark.parametrize("geometry", [TOY, X86_64], ids=lambda geometry: geometry.name)
@pytest.mark.parametrize("fixed_seed", range(3))
def test_answers_wait_for_all_they_depend_on(fixed_seed: int, geometry: Geometry) -> None:
    world = Answering(fixed_seed, geometry)
    run(world, STEPS, step_and_ask(DURABLE))
    assert world.answers_tested > 20


@pytest.mark.parametrize("geometry", [TOY, X86_64], ids=lambda geometry: geometry.name)
def test_answers_of_new_histories_wait_too(seed: int, geometry: Geometry) -> None:
    run(Answering(seed, geometry), STEPS, step_and_ask(DURABLE))


def test_answers_that_wait_for_nothing_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "touch", lambda journal, thing: None)
    with pytest.raises(Divergence):
        run(Answering(1, TOY), STEPS, step_and_ask(DURABLE))
