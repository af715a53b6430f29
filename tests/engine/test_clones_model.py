"""Random histories of a family of clones against plain byte strings: writes, clones, snapshots, resets, deletions,
evictions, roll-backs and restarts, with frames so short that shared pages have to go and come back."""

import random
from dataclasses import dataclass, field

import pytest

from engine.check import check
from engine.credentials import ROOT
from engine.geometry import X86_64
from tests.engine.host import FIXED, PRIVATE, RW, Host

PAGE = X86_64.page_size
PAGES = 24
STEPS = 120


@dataclass
class Model:
    """What a space holds: bytes, or None where nothing is mapped; `born`: the same at its birth, None for an original."""

    pages: list[bytes | None]
    born: list[bytes | None] | None
    snapshot: bool = False
    roots: dict[str, int] = field(default_factory=dict)


class History:
    """One machine, one model, one source of chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.host = Host(frames=48)
        self.known: dict[int, Model] = {}
        self.number = 0
        self.task = self.host.task()
        vid = self.host.space("0")
        self.host.do("vas_mmap", vid, self.host.base, PAGES * PAGE, RW, PRIVATE | FIXED)
        self.known[vid] = Model([bytes(PAGE)] * PAGES, None)

    def step(self) -> None:
        action = self.chance.choices(
            (
                self.write,
                self.read,
                self.clone,
                self.reset,
                self.delete,
                self.unmap,
                self.evict,
                self.restart,
                self.undo,
            ),
            (40, 20, 10, 6, 5, 5, 6, 2, 6),
        )[0]
        action(self.chance.choice(list(self.known)))

    def enter(self, vid: int) -> None:
        self.host.do("vas_switch", self.task, None, 0)
        for held in self.host.do("task_status", self.task).attachments:
            self.host.do("vas_detach", self.task, held.vid)
        self.host.enter(self.task, vid, 0 if self.known[vid].snapshot else 2)

    def leave(self) -> None:
        self.host.do("vas_switch", self.task, None, 0)
        for held in self.host.do("task_status", self.task).attachments:
            self.host.do("vas_detach", self.task, held.vid)

    def span(self, model: Model) -> tuple[int, int] | None:
        mapped = [page for page, data in enumerate(model.pages) if data is not None]
        if not mapped:
            return None
        first = self.chance.choice(mapped)
        count = 1
        while (
            count < self.chance.randint(1, 8)
            and first + count < PAGES
            and model.pages[first + count] is not None
        ):
            count += 1
        return first, count

    def write(self, vid: int) -> None:
        model, found = self.known[vid], self.span(self.known[vid])
        if found is None:
            return
        first, count = found
        low, high = self.chance.randrange(PAGE), self.chance.randrange(1, PAGE + 1)
        if self.chance.random() < 0.5:
            low, high = 0, PAGE
        if count == 1 and low >= high:
            return
        old = b"".join(data or b"" for data in model.pages[first : first + count])
        end = (count - 1) * PAGE + high
        data = self.chance.randbytes(end - low)
        self.enter(vid)
        address = self.host.base + first * PAGE + low
        if model.snapshot:
            assert self.host.refused("write", self.task, None, address, data) == "EFAULT"
            return
        self.host.do("write", self.task, None, address, data, durable=self.chance.random() < 0.7)
        new = old[:low] + data + old[end:]
        for number in range(count):
            model.pages[first + number] = new[number * PAGE : (number + 1) * PAGE]

    def read(self, vid: int) -> None:
        self.enter(vid)
        for page, data in enumerate(self.known[vid].pages):
            address = self.host.base + page * PAGE
            if data is None:
                assert self.host.refused("read", self.task, None, address, 1) == "EFAULT"
            else:
                assert self.host.do("read", self.task, None, address, PAGE) == data

    def clone(self, vid: int) -> None:
        if len(self.known) > 6:
            return
        self.number += 1
        snapshot = self.chance.random() < 0.3
        copy = self.host.do("vas_snapshot" if snapshot else "vas_clone", vid, str(self.number))
        pages = list(self.known[vid].pages)
        self.known[copy] = Model(pages, None if snapshot else list(pages), snapshot)

    def reset(self, vid: int) -> None:
        model = self.known[vid]
        self.leave()
        if model.snapshot:
            assert self.host.refused("vas_reset", vid) == "EPERM"
        elif model.born is None:
            assert self.host.refused("vas_reset", vid) == "EINVAL"
        else:
            self.host.do("vas_reset", vid)
            model.pages = list(model.born)

    def delete(self, vid: int) -> None:
        if len(self.known) > 1:
            self.leave()
            self.host.do("vas_delete", vid)
            del self.known[vid]

    def unmap(self, vid: int) -> None:
        model = self.known[vid]
        if model.snapshot:
            return
        first = self.chance.randrange(PAGES)
        count = self.chance.randint(1, min(6, PAGES - first))
        self.leave()
        if self.chance.random() < 0.5:
            self.host.do("vas_munmap", vid, self.host.base + first * PAGE, count * PAGE)
            model.pages[first : first + count] = [None] * count
        else:
            address = self.host.base + first * PAGE
            self.host.do("vas_mmap", vid, address, count * PAGE, RW, PRIVATE | FIXED)
            model.pages[first : first + count] = [bytes(PAGE)] * count

    def evict(self, vid: int) -> None:
        with self.host.machine.transaction() as txn:
            self.host.machine.flush()
        self.host.settle(txn)
        self.host.machine.objects.evict(self.chance.randint(1, 64))

    def restart(self, vid: int) -> None:
        self.host.restart()
        self.task = self.host.task()

    def undo(self, vid: int) -> None:
        """A transaction of several calls, taken back."""
        model, found = self.known[vid], self.span(self.known[vid])
        if model.snapshot or found is None:
            return
        self.read(vid)
        machine = self.host.machine
        with machine.transaction() as txn:
            copy = machine.vas_clone(ROOT, vid, "undone")
            machine.write(ROOT, self.task, None, self.host.base + found[0] * PAGE, b"u" * PAGE)
            machine.vas_clone(ROOT, copy, "undone, too")
            machine.vas_switch(ROOT, self.task, None, 0)
            machine.vas_munmap(ROOT, vid, self.host.base, PAGES * PAGE)
            if model.born is not None:
                machine.vas_reset(ROOT, vid)
        txn.rollback()


@pytest.mark.parametrize("seed", range(40))
def test_a_family_of_clones(seed: int) -> None:
    history = History(seed)
    for number in range(STEPS):
        history.step()
        assert list(check(history.host.machine)) == [], f"seed {seed}, step {number}"
    for vid in history.known:
        history.read(vid)
    history.restart(0)
    for vid in history.known:
        history.read(vid)
