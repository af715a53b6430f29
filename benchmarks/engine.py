"""The engine, in this process, against what the operating system does for processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.pairs import Pair, per_operation
from engine.constants import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from engine.credentials import ROOT
from engine.geometry import GEOMETRIES
from engine.machine import Machine

SWITCHES = 20_000
CREATES = 300
FORKS = 20
FORK_MEBIBYTES = 64
GIGABYTE_MEBIBYTES = 1024
GIGABYTE_FORKS = 5
CLONES = 200
FIRST_WRITES = 20
PAGE = 4096


def new_machine(frames: int = 4096) -> Machine:
    """An empty machine with Linux's geometry."""
    return Machine(GEOMETRIES["x86_64"], frames)


def switching(*, undoable: bool = False) -> Callable[[], float]:
    """A thread that goes to and fro between two spaces: seconds a switch, every check included.

    `undoable`: each in a transaction of its own, as the service makes calls.
    """
    machine = new_machine()
    pid = machine.spawn(ROOT, None, 60).pid
    vids = [machine.vas_create(ROOT, name, 0o600) for name in ("first", "second")]
    for vid in vids:
        machine.vas_attach(ROOT, pid, vid, O_RDWR)

    def work() -> None:
        first, second = vids
        for _ in range(SWITCHES // 2):
            machine.vas_switch(ROOT, pid, pid, first)
            machine.vas_switch(ROOT, pid, pid, second)

    def work_undoable() -> None:
        for _ in range(SWITCHES // 2):
            for vid in vids:
                with machine.transaction() as txn:
                    machine.vas_switch(ROOT, pid, pid, vid)
                txn.settle()

    return lambda: per_operation(work_undoable if undoable else work, SWITCHES)


def creating(*, undoable: bool = False) -> Callable[[], float]:
    """Spaces with a name, an owner and a mode: seconds a space. `undoable`: each in a transaction of its own."""
    machine = new_machine()
    names = [f"space {number}" for number in range(CREATES)]

    def work() -> None:
        for name in names:
            machine.vas_create(ROOT, name, 0o600)

    def work_undoable() -> None:
        for name in names:
            with machine.transaction() as txn:
                machine.vas_create(ROOT, name, 0o600)
            txn.settle()

    def measure() -> float:
        taken = per_operation(work_undoable if undoable else work, CREATES)
        for attributes in machine.vas_list(ROOT):
            machine.vas_delete(ROOT, attributes.vid)
        return taken

    return measure


def spawning() -> Callable[[], float]:
    """Tasks with text, data, heap and stack, made and ended: seconds a task."""
    machine = new_machine()

    def work() -> None:
        for _ in range(CREATES):
            machine.exit(ROOT, machine.spawn(ROOT, None, 60).pid)

    return lambda: per_operation(work, CREATES)


def forking(mebibytes: int) -> Callable[[], float]:
    """Copies of a task with so much memory touched, made and ended: seconds a copy."""
    size = mebibytes << 20
    machine = new_machine(size // PAGE + 4096)
    pid = machine.spawn(ROOT, None, 60).pid
    flags = MAP_PRIVATE | MAP_ANONYMOUS
    address = machine.mmap(ROOT, pid, None, 0, size, PROT_READ | PROT_WRITE, flags)
    piece = b"\1" * (4 << 20)
    for offset in range(0, size, len(piece)):
        machine.write(ROOT, pid, None, address + offset, piece)

    def work() -> None:
        for _ in range(FORKS):
            machine.exit(ROOT, machine.fork(ROOT, pid).pid)

    return lambda: per_operation(work, FORKS)


def cloning(mebibytes: int, *, write: bool, times: int) -> Callable[[], float]:
    """Copy-on-write clones of a space's memory with so much of it present; `write`: and the first write to each."""
    pages = (mebibytes << 20) // PAGE
    machine = new_machine(pages + 4096)
    pid = machine.spawn(ROOT, None, 60).pid
    vid = machine.vas_create(ROOT, "large", 0o600)
    machine.vas_attach(ROOT, pid, vid, O_RDWR)
    machine.vas_switch(ROOT, pid, pid, vid)
    start = machine.geometry.arena_start
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    machine.mmap(ROOT, pid, pid, start, mebibytes << 20, PROT_READ | PROT_WRITE, flags)
    piece = b"\1" * (1 << 20)
    for address in range(start, start + (mebibytes << 20), len(piece)):
        machine.write(ROOT, pid, pid, address, piece, durable=False)
    memory = machine.spaces.registry.get(vid).memory.memory
    clones = []

    def work() -> None:
        for _ in range(times):
            clone = memory.clone()
            if write:
                clone.write(start, memoryview(b"x"), durable=False)
            clones.append(clone)

    def measure() -> float:
        taken = per_operation(work, times)
        while clones:
            clones.pop().release()
        return taken

    return measure


def large_pairs(program: Path, mebibytes: int = GIGABYTE_MEBIBYTES) -> Iterator[Pair]:
    """Copies of much memory, one machine after the other."""
    peer = f"fork, _exit and wait of {mebibytes} MiB, C"
    yield Pair(
        f"clone of a space of {mebibytes} MiB",
        peer,
        cloning(mebibytes, write=False, times=CLONES),
        lambda: peers.run(program, "fork", GIGABYTE_FORKS, mebibytes),
    )
    yield Pair(
        f"clone of a space of {mebibytes} MiB, first write",
        f"{peer}, with a write of the child's",
        cloning(mebibytes, write=True, times=FIRST_WRITES),
        lambda: peers.run(program, "fork", GIGABYTE_FORKS, mebibytes, 1),
    )
    yield Pair(
        f"fork and exit of a task of {mebibytes} MiB",
        peer,
        forking(mebibytes),
        lambda: peers.run(program, "fork", GIGABYTE_FORKS, mebibytes),
    )


def pairs(program: Path) -> Iterator[Pair]:
    """What the engine is compared with."""
    yield from (
        Pair(
            "switch of a thread between two spaces",
            "process switch, C",
            switching(),
            lambda: peers.run(program, "switch", 20_000),
        ),
        Pair(
            "switch of a thread in a transaction",
            "process switch, C",
            switching(undoable=True),
            lambda: peers.run(program, "switch", 20_000),
        ),
        Pair(
            "creation of a space",
            "fork, _exit and wait, C",
            creating(),
            lambda: peers.run(program, "fork", 200, 0),
        ),
        Pair(
            "creation of a space in a transaction",
            "fork, _exit and wait, C",
            creating(undoable=True),
            lambda: peers.run(program, "fork", 200, 0),
        ),
        Pair(
            "spawn and exit of a task",
            "fork, _exit and wait, C",
            spawning(),
            lambda: peers.run(program, "fork", 200, 0),
        ),
        Pair(
            f"fork and exit of a task of {FORK_MEBIBYTES} MiB",
            "fork, _exit and wait of as much, C",
            forking(FORK_MEBIBYTES),
            lambda: peers.run(program, "fork", FORKS, FORK_MEBIBYTES),
        ),
    )
    yield from large_pairs(program)
