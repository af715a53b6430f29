"""The process that stands for the kernel: it makes the calls of a sequence and tells what came of them.

A program: it reads sequences from standard input and writes records to standard output. It imports nothing big, so
that a fork is quick and its own memory stays where it is.
"""

import ctypes
import fcntl
import io
import os
import resource
import struct
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.oracle.calls import HEAP, PAGE, RESOURCES, WINDOW, WINDOW_SIZE
from tests.oracle.modes import MODES, Mode
from tests.oracle.play import Answer, Record, Region, Rest, play
from tests.oracle.surroundings import (
    CROWD_ROOM,
    SHARED_NOTHING,
    Crowd,
    executable_is_unreadable,
    limit_pages,
    lockable,
    reset_limits,
    restart_bottom_up,
    settle,
)
from tests.oracle.syscalls import own_map, required, set_heap, system
from tests.oracle.wire import receive, send

PROCMAP_QUERY = 3 << 30 | 104 << 16 | 0x66 << 8 | 17
PROCMAP_NEXT = 0x10
PROCMAP_FORMAT = "=9Q4I2Q"
PIPE_BYTES = 1 << 20
SMAPS_PREFIX = f"\n{WINDOW >> 28:x}"
"""Before each region in the window, and before few others."""
NEVER = 1 << 57
"""No range of bytes that ends above this is valid anywhere."""


class KernelWorld:
    """This process, as a world to play in."""

    def __init__(self, mode: Mode, *, maps_text: bool) -> None:
        self._mode = mode
        self._low, self._high = mode.bounds
        self._out, self._in = os.pipe()
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._vector = ctypes.create_string_buffer(WINDOW_SIZE // PAGE)
        self._guard = 0
        self._maps_file = os.open("/proc/self/maps", os.O_RDONLY)
        self._maps_text = maps_text or not self._has_query()
        settle(mode)
        self._crowd = Crowd() if mode.crowded else None

    def call(self, name: str, args: tuple[int, ...]) -> Answer:
        """Make a system call; those that would leave the window are refused by this program."""
        require_harmless(name, args, self._mode)
        match name:
            case "mmap":
                return system("mmap", *args, -1, 0)
            case "mlock":
                return system("mlock2", *args) if args[2] else system("mlock", *args[:2])
            case "mincore":
                value = system("mincore", *args, ctypes.addressof(self._vector))
                count = -(-args[1] // PAGE)
                return value if isinstance(value, str) else bytes(bit & 1 for bit in self._vector.raw[:count])
            case "limit" if self._crowd is not None:
                self._crowd.leave_room(args[1], len(self.maps()))
                return 0
            case "limit":
                limit_pages(RESOURCES[args[0]], args[1])
                return 0
            case _:
                return system(name, *args)

    def load(self, addr: int, length: int) -> bytes | str:
        """write(2) of the bytes into a pipe: EFAULT instead of a signal."""
        data = b""
        while len(data) < length:
            part = min(length - len(data), PIPE_BYTES)
            written = system("write", self._in, addr + len(data), part)
            if written != part:
                if isinstance(written, int):
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

    def smaps(self) -> str:
        """The window's part of /proc/PID/smaps."""
        text = "" if self._mode.crowded else Path("/proc/self/smaps").read_text()
        first, last = text.find(SMAPS_PREFIX), text.rfind(SMAPS_PREFIX)
        return text[first + 1 : text.index("\n", text.index("VmFlags:", last))] if first >= 0 else ""

    def bounds(self) -> tuple[int, int]:
        """Those of the mode."""
        return self._mode.bounds

    def fork(self, rest: Rest) -> tuple[list[Record], int]:
        """fork(2); the child sends what it did through a pipe of its own."""
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(out)
                os.close(self._maps_file)
                self._maps_file = os.open("/proc/self/maps", os.O_RDONLY)
                with os.fdopen(into, "wb") as stream:
                    send(stream, rest(self))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                raise
            finally:
                os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as stream:
            data = stream.read()
        status = os.waitpid(pid, 0)[1]
        if status:
            raise OSError(f"the child ended with status {status:#x}")
        records, position = receive(io.BytesIO(data))
        return records, position

    def moat(self, *, up: bool) -> None:
        """A page of another kind where the next region would be placed; it counts against no limit."""
        if self._mode.filled:
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (soft + (PAGE if up else -PAGE), hard))
        if self._crowd is not None and up:
            self._crowd.resize(self._crowd.size - 1)
        if up:
            self._guard = required(system("mmap", 0, PAGE, 0, SHARED_NOTHING, -1, 0))
        else:
            system("munmap", self._guard, PAGE)
        if self._crowd is not None and not up:
            self._crowd.resize(self._crowd.size + 1)

    def clear(self, *, with_heap: bool) -> None:
        """Empty the window, put the heap's start into it, and lift all limits."""
        required(system("munmap", self._low, self._high - self._low))
        if with_heap:
            set_heap(HEAP)
        reset_limits()
        if self._crowd is not None:
            self._crowd.leave_room(CROWD_ROOM, 0)

    def _has_query(self) -> bool:
        try:
            self._maps_by_query()
        except OSError:
            return False
        return True

    def _maps_by_query(self) -> list[Region]:
        regions, position = [], self._low
        query = bytearray(struct.calcsize(PROCMAP_FORMAT))
        while position < self._high:
            struct.pack_into("=3Q", query, 0, len(query), PROCMAP_NEXT, position)
            try:
                fcntl.ioctl(self._maps_file, PROCMAP_QUERY, query)
            except FileNotFoundError:
                break
            start, position, flags = struct.unpack_from("=3Q", query, 24)
            if start < self._high:
                regions.append((start, position, _rights(flags)))
        return regions

    def _maps_by_text(self) -> list[Region]:
        return [region for region in own_map() if self._low <= region[0] < self._high]


def _rights(flags: int) -> str:
    letters = "".join(letter if flags & 1 << bit else "-" for bit, letter in enumerate("rwx"))
    return letters + ("s" if flags & 8 else "p")


def require_harmless(name: str, args: tuple[int, ...], mode: Mode) -> None:
    """No valid range outside the mode's bounds may be changed: this process lives there."""
    low, high = mode.bounds
    ranges: list[tuple[int, int]] = []
    match name:
        case "mmap":
            ranges = [(args[0], args[1])] if args[3] & 0x10 else []
        case "mremap":
            ranges = [(args[4], args[2])] if args[3] & 2 else []
        case "mincore" | "msync" if mode.filled:
            ranges = [(args[0], args[1])]
        case "munmap" | "mprotect" | "madvise" | "mlock" | "munlock":
            ranges = [(args[0], args[1])]
        case "brk":
            ranges = [(args[0], 0)] if args[0] >= HEAP else []
    for start, length in ranges:
        start, length = start % 2**64, length % 2**64
        inside = low <= start and start + length <= high
        moved_away = name == "munmap" and length < WINDOW_SIZE
        # madvise goes on after holes and knows no upper end; the others stop at the first hole, if there is one
        never_from = 2**64 if name == "madvise" or mode.filled else NEVER
        never = start % PAGE or start + length >= never_from or length == 0
        if not inside and not never and not moved_away:
            raise ValueError(f"{name}{args} leaves the window")


def set_up(mode: Mode) -> tuple[KernelWorld | None, dict[str, Any]]:
    """The world, and what it can; or why there is none."""
    try:
        if mode.bottom_up:
            restart_bottom_up()
        world = KernelWorld(mode, maps_text="--maps-text" in sys.argv)
    except OSError as error:
        return None, {"missing": f"mode {mode.name}: {error}"}
    return world, {
        "unreadable": executable_is_unreadable(),
        "locked": lockable(),
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "brk": set_heap(HEAP),
    }


def main() -> None:
    """Answer sequences until standard input ends."""
    mode = MODES[sys.argv[1]]
    world, can = set_up(mode)
    send(sys.stdout.buffer, can)
    if world is None:
        return
    while True:
        try:
            steps = [(name, tuple(args)) for name, args in receive(sys.stdin.buffer)]
        except EOFError:
            return
        world.clear(with_heap=can["brk"])
        rest = partial(play, steps=steps)
        # the kernel's count of locked pages may go wrong; a child's starts from 0
        records, _ = world.fork(rest) if mode.unprivileged else rest(world)
        send(sys.stdout.buffer, records)


if __name__ == "__main__":
    main()
