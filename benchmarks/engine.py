"""The engine, in this process, against what the operating system does for processes."""

from collections.abc import Callable
from pathlib import Path

from benchmarks import peers
from benchmarks.pairs import Pair, per_operation
from engine.constants import MAP_ANONYMOUS, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from engine.credentials import ROOT
from engine.geometry import GEOMETRIES
from engine.machine import Machine

SWITCHES = 20_000
CREATES = 300
FORKS = 20
FORK_MEBIBYTES = 64
PAGE = 4096


def new_machine(frames: int = 4096) -> Machine:
    """An empty machine with Linux's geometry."""
    return Machine(GEOMETRIES["x86_64"], frames)


def switching() -> Callable[[], float]:
    """A thread that goes to and fro between two spaces: seconds a switch, every check included."""
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

    return lambda: per_operation(work, SWITCHES)


def creating() -> Callable[[], float]:
    """Spaces with a name, an owner and a mode, each in a transaction of its own: seconds a space."""
    machine = new_machine()
    numbers = iter(range(1 << 40))

    def work() -> None:
        for _ in range(CREATES):
            with machine.transaction() as txn:
                machine.vas_create(ROOT, f"space {next(numbers)}", 0o600)
            txn.settle()

    def measure() -> float:
        taken = per_operation(work, CREATES)
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


def pairs(program: Path) -> list[Pair]:
    """What the engine is compared with."""
    return [
        Pair(
            "switch of a thread between two spaces",
            "process switch, C",
            switching(),
            lambda: peers.run(program, "switch", 20_000),
        ),
        Pair(
            "creation of a space",
            "fork, _exit and wait, C",
            creating(),
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
    ]
