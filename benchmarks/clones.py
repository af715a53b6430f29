"""Clones that are durable: the time and the room of one of a gigabyte against one of a mebibyte, and against copying."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.engine import PAGE, new_machine
from benchmarks.pairs import Measure, Pair, per_operation
from engine.constants import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from engine.credentials import ROOT
from engine.geometry import GEOMETRIES
from engine.machine import Machine
from storage import open_store
from storage.store import Store

START = 0x1000_0000_0000
GIGABYTE_PAGES = 1 << 18
MEBIBYTE_PAGES = 1 << 8
AT_ONCE = 8 << 20
CLONES = 20

T = TypeVar("T")


class Commit(Protocol):
    """Makes a call in a transaction, and it durable; the call's answer."""

    def __call__(self, call: Callable[[], T]) -> T: ...


def committing(machine: Machine, store: Store) -> Commit:
    """Calls of `machine`, kept in `store`."""

    def commit(call: Callable[[], T]) -> T:
        with machine.transaction() as txn:
            answer = call()
        store.commit([txn.changes])
        txn.settle()
        return answer

    return commit


def filled_space(machine: Machine, commit: Commit, pages: int, name: str) -> int:
    """A space whose pages are all written; its id."""
    pid = machine.spawn(ROOT, None, 60).pid
    vid = commit(lambda: machine.vas_create(ROOT, name, 0o600, "shared"))
    machine.vas_attach(ROOT, pid, vid, O_RDWR)
    machine.vas_switch(ROOT, pid, pid, vid)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    size = pages * PAGE
    commit(lambda: machine.mmap(ROOT, pid, pid, START, size, PROT_READ | PROT_WRITE, flags))
    for offset in range(0, size, AT_ONCE):
        data = bytes([offset // AT_ONCE & 0xFF]) * min(AT_ONCE, size - offset)
        commit(partial(machine.write, ROOT, pid, pid, START + offset, data))
    machine.exit(ROOT, pid)
    return vid


def cloning(machine: Machine, commit: Commit, vid: int) -> Measure:
    """Seconds for a durable clone of a space; the clones are deleted outside of what is timed."""
    numbers = count()

    def measure() -> float:
        made: list[int] = []

        def work() -> None:
            for _ in range(CLONES):
                name = f"clone {next(numbers)} of {vid}"
                made.append(commit(partial(machine.vas_clone, ROOT, vid, name)))

        taken = per_operation(work, CLONES)
        for clone in made:
            commit(partial(machine.vas_delete, ROOT, clone))
        return taken

    return measure


def copying(machine: Machine, commit: Commit, store: Store, pages: int) -> Measure:
    """Seconds for a durable copy of as many pages, byte for byte, into a new space."""

    def measure() -> float:
        made: list[int] = []
        taken = per_operation(lambda: made.append(filled_space(machine, commit, pages, "copy")), 1)
        commit(lambda: machine.vas_delete(ROOT, made[0]))
        while store.maintain():
            pass
        return taken

    return measure


@contextmanager
def pairs(folder: Path) -> Iterator[list[Pair]]:
    """A store with a space of a gigabyte and one of a mebibyte."""
    store = open_store(folder / "clones", GEOMETRIES["x86_64"])
    try:
        machine = new_machine(2 * AT_ONCE // PAGE)
        commit = committing(machine, store)
        large = filled_space(machine, commit, GIGABYTE_PAGES, "large")
        small = filled_space(machine, commit, MEBIBYTE_PAGES, "small")
        yield [
            Pair(
                "durable clone of a space of 1024 MiB",
                "durable clone of a space of 1 MiB",
                cloning(machine, commit, large),
                cloning(machine, commit, small),
            ),
            Pair(
                "durable clone of a space of 1 MiB",
                "durable copy of 1 MiB, byte for byte",
                cloning(machine, commit, small),
                copying(machine, commit, store, MEBIBYTE_PAGES),
            ),
        ]
    finally:
        store.close()
