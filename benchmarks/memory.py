"""Loads and stores through the engine with all its checks, against memcpy and against an emulator's memory."""

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

from benchmarks.engine import PAGE, new_machine
from benchmarks.pairs import Measure, Pair, per_operation
from engine.constants import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    O_RDWR,
    PROT_READ,
    PROT_WRITE,
)
from engine.credentials import ROOT
from engine.machine import Machine

LARGE = 1 << 20
LARGE_TIMES = 200
SMALL_TIMES = 5000
FRESH_PAGES = 1000
ARENA = 0x1000_0000_0000
MAPPED = 64 << 20
NO_UNICORN = "left out: the rows against unicorn, which is not installed (requirements-bench.lock)"


class Scene:
    """A task with 64 MiB of memory, of which the first 2 MiB are resident; in a space if `space`."""

    def __init__(self, *, space: bool = False, mapped: int = MAPPED) -> None:
        self.machine: Machine = new_machine(mapped // PAGE + 4096)
        self.pid = self.machine.spawn(ROOT, None, 60).pid
        self.mapped = mapped
        if space:
            vid = self.machine.vas_create(ROOT, "bench", 0o600)
            self.machine.vas_attach(ROOT, self.pid, vid, O_RDWR)
            self.machine.vas_switch(ROOT, self.pid, self.pid, vid)
        self.map()
        self.machine.write(ROOT, self.pid, self.pid, ARENA, b"\1" * min(2 << 20, mapped), durable=False)

    def map(self) -> None:
        """Map the memory."""
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        self.machine.mmap(ROOT, self.pid, self.pid, ARENA, self.mapped, PROT_READ | PROT_WRITE, flags)

    def remap(self) -> None:
        """Throw all pages away."""
        self.machine.munmap(ROOT, self.pid, self.pid, ARENA, self.mapped)
        self.map()

    def reading(self, length: int, times: int) -> Measure:
        """Seconds for one load of resident bytes."""
        machine, pid = self.machine, self.pid

        def work() -> None:
            for _ in range(times):
                machine.read(ROOT, pid, pid, ARENA, length)

        return lambda: per_operation(work, times)

    def writing(self, length: int, times: int) -> Measure:
        """Seconds for one store over resident bytes, outside a transaction."""
        machine, pid, data = self.machine, self.pid, b"\2" * length

        def work() -> None:
            for _ in range(times):
                machine.write(ROOT, pid, pid, ARENA, data)

        return lambda: per_operation(work, times)

    def storing(self, length: int, times: int) -> Measure:
        """Seconds for one store in a transaction, which could take it back until it is settled, as the service does."""
        machine, pid, data = self.machine, self.pid, b"\2" * length

        def work() -> None:
            for _ in range(times):
                with machine.transaction() as txn:
                    machine.write(ROOT, pid, pid, ARENA, data)
                txn.settle()

        return lambda: per_operation(work, times)

    def touching(self, pages: int) -> Measure:
        """Seconds for the first store into a page."""
        machine, pid, data = self.machine, self.pid, b"\2" * PAGE

        def work() -> None:
            for address in range(ARENA, ARENA + pages * PAGE, PAGE):
                machine.write(ROOT, pid, pid, address, data)

        def measure() -> float:
            self.remap()
            return per_operation(work, pages)

        return measure


def memcpy_from(length: int, times: int) -> Measure:
    """Seconds for `bytes` of a memoryview."""
    view = memoryview(bytearray(b"\1" * length))

    def work() -> None:
        for _ in range(times):
            bytes(view)

    return lambda: per_operation(work, times)


def memcpy_to(length: int, times: int) -> Measure:
    """Seconds for a slice assignment to a memoryview."""
    view, data = memoryview(bytearray(length)), b"\2" * length

    def work() -> None:
        for _ in range(times):
            view[:] = data

    return lambda: per_operation(work, times)


class Emulator:
    """Unicorn's memory: the same loads and stores by mem_read and mem_write."""

    def __init__(self, library: ModuleType, mapped: int = MAPPED) -> None:
        self.mapped = mapped
        self.uc = library.Uc(library.UC_ARCH_X86, library.UC_MODE_64)
        self.uc.mem_map(ARENA, mapped)
        self.uc.mem_write(ARENA, b"\1" * min(2 << 20, mapped))

    def reading(self, length: int, times: int) -> Measure:
        """Seconds for one mem_read of bytes written before."""

        def work() -> None:
            for _ in range(times):
                self.uc.mem_read(ARENA, length)

        return lambda: per_operation(work, times)

    def writing(self, length: int, times: int) -> Measure:
        """Seconds for one mem_write over bytes written before."""
        data = b"\2" * length

        def work() -> None:
            for _ in range(times):
                self.uc.mem_write(ARENA, data)

        return lambda: per_operation(work, times)

    def touching(self, pages: int) -> Measure:
        """Seconds for the first mem_write into a page."""
        data = b"\2" * PAGE

        def work() -> None:
            for address in range(ARENA, ARENA + pages * PAGE, PAGE):
                self.uc.mem_write(address, data)

        def measure() -> float:
            self.uc.mem_unmap(ARENA, self.mapped)
            self.uc.mem_map(ARENA, self.mapped)
            return per_operation(work, pages)

        return measure


def large_pairs(times: int = LARGE_TIMES) -> list[Pair]:
    """1 MiB against one memcpy."""
    task, space = Scene(), Scene(space=True)
    to_memory = memcpy_to(LARGE, times)
    return [
        Pair(
            "read of 1 MiB",
            "one memcpy, bytes(view)",
            task.reading(LARGE, times),
            memcpy_from(LARGE, times),
        ),
        Pair("write of 1 MiB", "one memcpy, view[:] = data", task.writing(LARGE, times), to_memory),
        Pair(
            "write of 1 MiB that can be taken back",
            "one memcpy, view[:] = data",
            task.storing(LARGE, times),
            to_memory,
        ),
        Pair(
            "write of 1 MiB for the store",
            "one memcpy, view[:] = data",
            space.storing(LARGE, times),
            to_memory,
        ),
    ]


def small_pairs(library: ModuleType, times: int = SMALL_TIMES, pages: int = FRESH_PAGES) -> list[Pair]:
    """Pages and words against the emulator."""
    task, emulator = Scene(), Emulator(library)
    named: list[tuple[str, str, Callable[[Scene | Emulator], Measure]]] = [
        ("read of 4 KiB", "mem_read", lambda of: of.reading(PAGE, times)),
        ("write of 4 KiB", "mem_write", lambda of: of.writing(PAGE, times)),
        ("first write into a page", "mem_write", lambda of: of.touching(pages)),
        ("read of 8 bytes", "mem_read", lambda of: of.reading(8, times)),
        ("write of 8 bytes", "mem_write", lambda of: of.writing(8, times)),
    ]
    return [Pair(name, f"unicorn {call}", make(task), make(emulator)) for name, call, make in named]


def emulator_library() -> ModuleType | None:
    """Unicorn, where it is installed."""
    try:
        return import_module("unicorn")
    except ImportError:
        return None


def pairs() -> Iterator[Pair]:
    """What loads and stores are compared with."""
    yield from large_pairs()
    library = emulator_library()
    if library is None:
        print(NO_UNICORN)
    else:
        yield from small_pairs(library)
