"""Making scattered pages durable, all or none, against msync, which may leave any part of them behind a crash."""

import mmap
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine import PAGE, new_machine
from benchmarks.pairs import Pair, per_operation
from engine.constants import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from engine.credentials import ROOT
from engine.geometry import GEOMETRIES
from storage import open_store
from storage.store import Store

MEMORY_PAGES = 65_536
START = 0x1000_0000_0000
SEED = 7


def scattered(count: int) -> Callable[[], list[int]]:
    """A source of random page numbers, the same ones in every run."""
    chance = random.Random(SEED)
    return lambda: sorted(chance.sample(range(MEMORY_PAGES), count))


def atomic_commit(store: Store, count: int) -> Callable[[], float]:
    """Seconds for one msync that commits `count` pages written before in a space."""
    machine = new_machine(MEMORY_PAGES + 1024)
    pid = machine.spawn(ROOT, None, 60).pid
    page_numbers = scattered(count)
    with machine.transaction() as txn:
        vid = machine.vas_create(ROOT, f"bench {count}", 0o600)
        machine.vas_attach(ROOT, pid, vid, O_RDWR)
        machine.vas_switch(ROOT, pid, pid, vid)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        machine.mmap(ROOT, pid, pid, START, MEMORY_PAGES * PAGE, PROT_READ | PROT_WRITE, flags)
    store.commit([txn.changes])
    txn.settle()

    def sync() -> None:
        with machine.transaction() as txn:
            machine.msync(ROOT, pid, pid)
        store.commit([txn.changes])
        txn.settle()

    def measure() -> float:
        page = os.urandom(PAGE)
        for number in page_numbers():
            machine.write(ROOT, pid, pid, START + number * PAGE, page, durable=False)
        return per_operation(sync, 1)

    return measure


def plain_msync(path: Path, count: int) -> Callable[[], float]:
    """Seconds for msync(MS_SYNC) of a mapped file in which `count` pages were written before. Not atomic."""
    page_numbers = scattered(count)
    with path.open("w+b") as file:
        for _ in range(MEMORY_PAGES * PAGE >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        mapped = mmap.mmap(file.fileno(), MEMORY_PAGES * PAGE)

    def measure() -> float:
        page = os.urandom(PAGE)
        for number in page_numbers():
            mapped[number * PAGE : (number + 1) * PAGE] = page
        return per_operation(mapped.flush, 1)

    return measure


@contextmanager
def pairs(folder: Path) -> Iterator[list[Pair]]:
    """The store in `folder`, and mapped files beside it."""
    store = open_store(folder / "data", GEOMETRIES["x86_64"])
    try:
        yield [
            Pair(
                f"msync of {count} scattered pages, atomic",
                "msync of a mapped file (not atomic)",
                atomic_commit(store, count),
                plain_msync(folder / f"mapped {count}", count),
                "ms",
            )
            for count in (1, 100, 1000)
        ]
    finally:
        store.close()
