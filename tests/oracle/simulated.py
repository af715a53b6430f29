"""The engine's side: a task with nothing attached, whose calls go straight into the machine."""

from collections.abc import Sequence
from dataclasses import replace

from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import X86_64
from engine.machine import Machine
from tests.oracle.calls import HEAP, WINDOW, WINDOW_SIZE
from tests.oracle.play import Answer, Record, Region, Rest, Step, play

FRAMES = 1 << 14


class EngineWorld:
    """One task of a machine."""

    def __init__(self, machine: Machine, pid: int) -> None:
        self.machine = machine
        self.pid = pid

    def call(self, name: str, args: tuple[int, ...]) -> Answer:
        """Make a call; brk answers as the system call does, with the break that holds afterwards."""
        value = self._do(name, *args)
        if name == "brk":
            return value if isinstance(value, int) else self._do("brk", 0)
        return 0 if value is None else value

    def load(self, addr: int, length: int) -> bytes | str:
        """A load."""
        value = self._do("read", addr, length)
        return value if isinstance(value, bytes) else str(value)

    def store(self, addr: int, data: bytes) -> int | str:
        """A store."""
        value = self._do("write", addr, data)
        return value if isinstance(value, int) else str(value)

    def maps(self) -> list[Region]:
        """The regions in the window."""
        return [
            (vma.start, vma.end, f"{vma.access}{'s' if vma.shared else 'p'}")
            for vma in self.machine.tasks_table.get(self.pid).space.vmas
            if WINDOW <= vma.start < WINDOW + WINDOW_SIZE
        ]

    def fork(self, rest: Rest) -> tuple[list[Record], int]:
        """Fork, let the child go on, and end it."""
        with self.machine.transaction() as txn:
            child = self.machine.fork(ROOT, self.pid).pid
        txn.settle()
        result = rest(EngineWorld(self.machine, child))
        with self.machine.transaction() as txn:
            self.machine.exit(ROOT, child)
        txn.settle()
        return result

    def moat(self, *, up: bool) -> None:
        """What the engine places lies beside nothing: the arena is all its own."""

    def _do(self, name: str, *args: int | bytes) -> Answer | None:
        txn = None
        try:
            with self.machine.transaction() as txn:
                value: Answer | None = getattr(self.machine, name)(ROOT, self.pid, None, *args)
        except EngineError as error:
            return error.errno
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the engine is a difference to be shrunk
            return f"{type(error).__name__}: {error}"
        finally:
            if txn is not None:
                txn.settle()
        return value


def run(steps: Sequence[Step], *, with_heap: bool) -> list[Record]:
    """Run a sequence; what is broken in the machine afterwards is a record too."""
    machine = Machine(X86_64, FRAMES)
    pid = machine.spawn(ROOT, None, 60).pid
    space = machine.tasks_table.get(pid).space
    if with_heap:
        space.brk = replace(space.brk, start=HEAP, now=HEAP, top=X86_64.user_end)
    records, _ = play(EngineWorld(machine, pid), steps)
    broken = list(check(machine))
    return [*records, ("the engine's check", broken, [])] if broken else records
