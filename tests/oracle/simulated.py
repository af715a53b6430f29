"""The engine's side: a task with nothing attached, whose calls go straight into the machine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.check import check
from engine.constants import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_SHARED,
    PROT_NONE,
    PROT_WRITE,
    RLIM_INFINITY,
)
from engine.credentials import ROOT, Credentials
from engine.errors import EngineError
from engine.geometry import X86_64
from engine.machine import Machine
from engine.regions.vm_flags import GROWS_DOWN
from engine.regions.vma import Vma
from tests.oracle.calls import CORE, CORE_PAGES, HEAP, PAGE, RESOURCES, UNLIMITED_PAGES
from tests.oracle.modes import Mode
from tests.oracle.play import Answer, Record, Region, Rest, Step, play

FRAMES = 1 << 11
CAN: dict[str, Any] = {"uid": 1000, "gid": 1000, "locked": 8 << 20, "brk": True}
"""What the kernel's side would tell, for sequences that are run without it."""


class EngineWorld:
    """One task of a machine. `lockable` bytes are the most that its limit of locked memory may be."""

    def __init__(self, machine: Machine, pid: int, mode: Mode, lockable: int) -> None:
        self.machine = machine
        self.mode = mode
        self.low, self.high = mode.bounds
        self.pid = pid
        self.cred = machine.tasks_table.get(pid).cred
        self.lockable = lockable

    def call(self, name: str, args: tuple[int, ...]) -> Answer:
        """Make a call; brk answers as the system call does, with the break that holds afterwards."""
        if name == "limit":
            return self._limit(RESOURCES[args[0]], args[1])
        value = self._do(name, *args)
        if name == "brk":
            return value if isinstance(value, int) else self._do("brk", 0) or 0
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
            if self.low <= vma.start < self.high
        ]

    def smaps(self) -> str:
        """/proc/PID/smaps."""
        return "" if self.mode.crowded else self.machine.smaps_text(self.cred, self.pid)

    def bounds(self) -> tuple[int, int]:
        """Those of the mode."""
        return self.mode.bounds

    def fork(self, rest: Rest) -> tuple[list[Record], int]:
        """Fork, let the child go on, and end it."""
        with self.machine.transaction() as txn:
            child = self.machine.fork(ROOT, self.pid).pid
        txn.settle()
        result = rest(EngineWorld(self.machine, child, self.mode, self.lockable))
        with self.machine.transaction() as txn:
            self.machine.exit(ROOT, child)
        txn.settle()
        return result

    def moat(self, *, up: bool) -> None:
        """What the engine places lies beside nothing: the arena is all its own."""

    def _limit(self, resource: str, pages: int) -> Answer:
        vmas = list(self.machine.tasks_table.get(self.pid).space.vmas)
        used = {
            "address_space": sum(vma.end - vma.start for vma in vmas) // PAGE,
            "data": sum(vma.end - vma.start for vma in vmas if is_data(vma)) // PAGE,
            "map_count": len(vmas),
        }.get(resource, 0)
        unit = 1 if resource == "map_count" else PAGE
        value = RLIM_INFINITY if pages >= UNLIMITED_PAGES else (used + pages) * unit
        if resource == "locked":
            value = min(value, self.lockable)
        self.machine.prlimit(ROOT, self.pid, resource, value)
        return 0

    def _do(self, name: str, *args: int | bytes) -> Answer | None:
        txn = None
        try:
            with self.machine.transaction() as txn:
                value: Answer | None = getattr(self.machine, name)(self.cred, self.pid, None, *args)
        except EngineError as error:
            return error.errno
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the engine is a difference to be shrunk
            return f"{type(error).__name__}: {error}"
        finally:
            if txn is not None:
                txn.settle()
        return value


def run(steps: Sequence[Step], mode: Mode, can: dict[str, Any]) -> list[Record]:
    """Run a sequence; what is broken in the machine afterwards is a record too. `can` is what the kernel's side told."""
    machine = Machine(X86_64, FRAMES)
    cred = ROOT if can["uid"] == 0 else Credentials(can["uid"], (can["gid"],))
    pid = machine.spawn(cred, None, 60).pid
    machine.prlimit(ROOT, pid, "locked", can["locked"])
    if mode.bottom_up:
        machine.prlimit(ROOT, pid, "stack", RLIM_INFINITY)
        machine.exec(ROOT, pid)
        machine.prlimit(ROOT, pid, "stack", X86_64.stack_limit)
    if can["brk"]:
        space = machine.tasks_table.get(pid).space
        space.brk = replace(space.brk, start=HEAP, now=HEAP, top=X86_64.user_end)
    if mode.filled:
        fill(machine, pid)
    records, _ = play(EngineWorld(machine, pid, mode, can["locked"]), steps)
    broken = list(check(machine))
    return [*records, ("the engine's check", broken, [])] if broken else records


def is_data(vma: Vma) -> bool:
    """Counted by the limit of data: private, writable and no stack."""
    return bool(vma.access & PROT_WRITE) and not vma.shared and not vma.flags & GROWS_DOWN


def fill(machine: Machine, pid: int) -> None:
    """Map all but the core."""
    bounds = [
        X86_64.user_start,
        *(bound for vma in machine.tasks_table.get(pid).space.vmas for bound in (vma.start, vma.end)),
        X86_64.user_end,
    ]
    bounds = sorted([*bounds, CORE, CORE + CORE_PAGES * PAGE])
    for low, high in zip(bounds[::2], bounds[1::2], strict=True):
        if low < high:
            flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE
            machine.mmap(ROOT, pid, None, low, high - low, PROT_NONE, flags)
