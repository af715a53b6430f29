"""The real kernel's side: a small process of its own makes the calls, this module talks to it.

Run as a program (`python -m tests.oracle.kernel`) it is that process: it reads requests from standard input and
writes answers to standard output, both as marshalled values with their length before them. It imports nothing big, so
that a fork is quick and its own memory stays where it is.
"""

import ctypes
import errno
import fcntl
import marshal
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from tests.oracle.calls import CORE, HEAP, PAGE, WINDOW, WINDOW_SIZE
from tests.oracle.play import Answer, Record, Region, Rest, Step, play

NUMBERS = {
    "read": 0, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26, "mincore": 27,
    "madvise": 28, "mlock": 149, "munlock": 150, "prctl": 157, "mlock2": 325,
}  # fmt: skip
"""System calls of x86-64."""
PR_SET_MM, PR_SET_MM_MAP = 35, 14
MM_MAP_FORMAT = "=12Q2I"
"""struct prctl_mm_map: code, data, brk (start and end each), stack, arguments, environment; auxv, its size, exe_fd."""
STAT_STACK, STAT_BRK = 28, 47
STAT_FIELDS = (26, 27, 45, 46, STAT_BRK, STAT_STACK, 48, 49, 50, 51)
"""Fields of /proc/PID/stat with those bounds, the present break excepted."""
PR_SET_THP_DISABLE = 41
PROCMAP_QUERY = 3 << 30 | 104 << 16 | 0x66 << 8 | 17
PROCMAP_NEXT = 0x10
PROCMAP_FORMAT = "=9Q4I2Q"
MALLOC_TRIM_THRESHOLD, MALLOC_TOP_PAD = -1, -2
SHARED_NOTHING = 0x4021
"""MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE: with PROT_NONE it merges with nothing and costs nothing."""
GAP_MAX = 1 << 32
"""Gaps below this many bytes in the process's own map are filled at the start."""
PIPE_BYTES = 1 << 20
NEVER = 1 << 57
"""No range of bytes that ends above this is valid anywhere."""
USER_MIN = 0x10000
TOP = 0x7FFF_FFFF_F000
ROOT_FOLDER = Path(__file__).parents[2]


class Kernel:
    """The process that stands for the kernel, as seen by the tests."""

    def __init__(self, *, maps_text: bool = False) -> None:
        command = [sys.executable, "-m", "tests.oracle.kernel", *(["--maps-text"] if maps_text else [])]
        self._process = subprocess.Popen(
            command, cwd=ROOT_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.can: dict[str, Any] = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def start(self, steps: Sequence[Step]) -> None:
        """Begin with a sequence; `records` waits for it."""
        assert self._process.stdin is not None
        send(self._process.stdin, [[name, list(args)] for name, args in steps])

    def records(self) -> list[Record]:
        """What the sequence begun last did."""
        return [record(*entry) for entry in self._answer()]

    def run(self, steps: Sequence[Step]) -> list[Record]:
        """A whole sequence."""
        self.start(steps)
        return self.records()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            return receive(self._process.stdout)
        except EOFError as error:
            raise EOFError(f"the kernel's side has ended with status {self._process.wait()}") from error


def record(what: str, answer: Answer, maps: list[Region]) -> Record:
    """A record, its map as tuples again."""
    return what, answer, [(start, end, rights) for start, end, rights in maps]


def send(stream: IO[bytes], value: object) -> None:
    """Write one value."""
    data = marshal.dumps(value)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one value; EOFError when the other side has gone."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError("the kernel's side has ended")
    return marshal.loads(stream.read(int.from_bytes(head, "little")))


# -- inside the process ------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] + [ctypes.c_ulong] * 6


def system(name: str, *args: int) -> int | str:
    """A system call: its value, or the name of the errno."""
    padded = [*args, *[0] * (6 - len(args))]
    value = int(_syscall(NUMBERS[name], *(argument % 2**64 for argument in padded)))
    return errno.errorcode[ctypes.get_errno()] if value == -1 else value


class KernelWorld:
    """This process, as a world to play in."""

    def __init__(self, *, maps_text: bool) -> None:
        self._out, self._in = os.pipe()
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._vector = ctypes.create_string_buffer(WINDOW_SIZE // PAGE)
        self._guard = 0
        self._maps_file = os.open("/proc/self/maps", os.O_RDONLY)
        self._maps_text = maps_text or not self._has_query()

    def call(self, name: str, args: tuple[int, ...]) -> Answer:
        """Make a system call; those that would leave the window are refused by this program."""
        require_harmless(name, args)
        match name:
            case "mmap":
                return system("mmap", *args, -1, 0)
            case "brk":
                return system("brk", *args)
            case "mlock":
                return system("mlock2", *args) if args[2] else system("mlock", *args[:2])
            case "mincore":
                value = system("mincore", *args, ctypes.addressof(self._vector))
                count = -(-args[1] // PAGE)
                return value if isinstance(value, str) else bytes(bit & 1 for bit in self._vector.raw[:count])
            case _:
                return system(name, *args)

    def load(self, addr: int, length: int) -> bytes | str:
        """write(2) of the bytes into a pipe: EFAULT instead of a signal."""
        data = b""
        while len(data) < length:
            part = min(length - len(data), PIPE_BYTES)
            written = int(_syscall(1, self._in, (addr + len(data)) % 2**64, part, 0, 0, 0))
            if written != part:
                if written > 0:
                    os.read(self._out, written)
                return "EFAULT"
            data += os.read(self._out, part)
        return data

    def store(self, addr: int, data: bytes) -> int | str:
        """read(2) of the bytes from a pipe."""
        os.write(self._in, data)
        value = system("read", self._out, addr, len(data))
        if isinstance(value, str):
            os.read(self._out, len(data))
        return value

    def maps(self) -> list[Region]:
        """The regions in the window."""
        return self._maps_by_text() if self._maps_text else self._maps_by_query()

    def fork(self, rest: Rest) -> tuple[list[Record], int]:
        """fork(2); the child sends what it did through a pipe of its own."""
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(out)
            os.close(self._maps_file)
            self._maps_file = os.open("/proc/self/maps", os.O_RDONLY)
            try:
                with os.fdopen(into, "wb") as stream:
                    send(stream, rest(self))
            finally:
                os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as stream:
            records, position = receive(stream)
        os.waitpid(pid, 0)
        return records, position

    def moat(self, *, up: bool) -> None:
        """A page of another kind where the next region would be placed."""
        if up:
            self._guard = _number(system("mmap", 0, PAGE, 0, SHARED_NOTHING, -1, 0))
        else:
            system("munmap", self._guard, PAGE)

    def clear(self, *, with_heap: bool) -> None:
        """Empty the window, and put the heap's start into it."""
        _number(system("munmap", WINDOW, WINDOW_SIZE))
        if with_heap:
            set_heap(HEAP)

    def _has_query(self) -> bool:
        try:
            self._maps_by_query()
        except OSError:
            return False
        return True

    def _maps_by_query(self) -> list[Region]:
        regions, position = [], WINDOW
        query = bytearray(struct.calcsize(PROCMAP_FORMAT))
        while position < WINDOW + WINDOW_SIZE:
            struct.pack_into("=3Q", query, 0, len(query), PROCMAP_NEXT, position)
            try:
                fcntl.ioctl(self._maps_file, PROCMAP_QUERY, query)
            except FileNotFoundError:
                break
            start, position, flags = struct.unpack_from("=3Q", query, 24)
            if start < WINDOW + WINDOW_SIZE:
                regions.append((start, position, _rights(flags)))
        return regions

    def _maps_by_text(self) -> list[Region]:
        return [region for region in own_map() if WINDOW <= region[0] < WINDOW + WINDOW_SIZE]


def _rights(flags: int) -> str:
    letters = "".join(letter if flags & 1 << bit else "-" for bit, letter in enumerate("rwx"))
    return letters + ("s" if flags & 8 else "p")


def own_map() -> list[Region]:
    """The whole map of this process, from the text."""
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, rights = line.split()[:2]
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        regions.append((start, end, rights))
    return regions


def require_harmless(name: str, args: tuple[int, ...]) -> None:
    """No valid range outside the window may be changed: this process lives there."""
    ranges: list[tuple[int, int]] = []
    match name:
        case "mmap":
            ranges = [(args[0], args[1])] if args[3] & 0x10 else []
        case "mremap":
            ranges = [(args[4], args[2])] if args[3] & 2 else []
        case "munmap" | "mprotect" | "madvise" | "mlock" | "munlock":
            ranges = [(args[0], args[1])]
        case "brk":
            ranges = [(args[0], 0)] if args[0] >= HEAP else []
    for start, length in ranges:
        start, length = start % 2**64, length % 2**64
        inside = WINDOW <= start and start + length <= WINDOW + WINDOW_SIZE
        moved_away = name in ("munmap", "mremap") and length < WINDOW_SIZE
        # madvise goes on after holes and knows no upper end
        never = start % PAGE or start + length >= (2**64 if name == "madvise" else NEVER) or length == 0
        if not inside and not never and not moved_away:
            raise ValueError(f"{name}{args} leaves the window")


def set_heap(start: int) -> bool:
    """Move the heap's start and end to `start`. Needs no capability, but CONFIG_CHECKPOINT_RESTORE."""
    bounds = [start if number == STAT_BRK else stat_field(number) for number in STAT_FIELDS]
    bounds.insert(STAT_FIELDS.index(STAT_BRK), start)
    block = struct.pack(MM_MAP_FORMAT, *bounds, 0, 0, 2**32 - 1)
    keep = ctypes.create_string_buffer(block, len(block))
    system("prctl", PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(keep), len(block))
    return system("brk", 0) == start


def stat_field(number: int) -> int:
    """A field of /proc/PID/stat, numbered from 1 as in proc(5)."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[number - 3])


def settle() -> None:
    """Keep this process's own memory where it is: room in malloc's heap, no small gaps."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(MALLOC_TOP_PAD, 64 << 20)
        _libc.mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)
    _libc.malloc.restype = ctypes.c_void_p
    _libc.free.argtypes = [ctypes.c_void_p]
    _libc.free(_libc.malloc(100_000))
    regions = own_map()
    stack = stat_field(STAT_STACK)
    for (_, low, _), (high, top, _) in zip(regions, regions[1:], strict=False):
        if low < high < low + GAP_MAX and not high <= stack < top:
            system("mmap", low, high - low, 0, SHARED_NOTHING | 0x100000, -1, 0)


def _number(value: int | str) -> int:
    if isinstance(value, str):
        raise OSError(f"the process cannot go on: {value}")
    return value


def main() -> None:
    """Answer sequences until standard input ends."""
    world = KernelWorld(maps_text="--maps-text" in sys.argv)
    system("prctl", PR_SET_THP_DISABLE, 1)
    settle()
    world.clear(with_heap=False)
    with_heap = set_heap(HEAP)
    send(sys.stdout.buffer, {"brk": with_heap, "core": CORE, "uid": os.geteuid()})
    while True:
        try:
            steps = [(name, tuple(args)) for name, args in receive(sys.stdin.buffer)]
        except EOFError:
            return
        world.clear(with_heap=with_heap)
        records, _ = play(world, steps)
        send(sys.stdout.buffer, records)


if __name__ == "__main__":
    main()
