"""System calls of x86-64 by ctypes, and what a process can learn about itself."""

import ctypes
import errno
import struct
from pathlib import Path

NUMBERS = {
    "read": 0, "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26,
    "mincore": 27, "madvise": 28, "personality": 135, "mlock": 149, "munlock": 150, "prctl": 157, "mlock2": 325,
}  # fmt: skip
PR_SET_DUMPABLE, PR_SET_MM, PR_SET_THP_DISABLE = 4, 35, 41
PR_SET_MM_MAP = 14
MM_MAP_FORMAT = "=12Q2I"
"""struct prctl_mm_map: code, data, brk (start and end each), stack, arguments, environment; auxv, its size, exe_fd."""
STAT_STACK, STAT_BRK = 28, 47
STAT_FIELDS = (26, 27, 45, 46, STAT_BRK, STAT_STACK, 48, 49, 50, 51)
"""Fields of /proc/PID/stat with those bounds, the present break excepted."""

Region = tuple[int, int, str]

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] + [ctypes.c_ulong] * 6


def system(name: str, *args: int) -> int | str:
    """A system call: its value, or the name of the errno."""
    padded = [*args, *[0] * (6 - len(args))]
    value = int(_syscall(NUMBERS[name], *(argument % 2**64 for argument in padded)))
    return errno.errorcode[ctypes.get_errno()] if value == -1 else value


def required(value: int | str) -> int:
    """The value of a call that this program itself cannot do without. OSError."""
    if isinstance(value, str):
        raise OSError(f"a system call of the process's own answers {value}")
    return value


def own_map() -> list[Region]:
    """All regions of this process in the user's range, from /proc/PID/maps."""
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, rights = line.split()[:2]
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if end < 1 << 63:
            regions.append((start, end, rights))
    return regions


def stat_field(number: int) -> int:
    """A field of /proc/PID/stat, numbered from 1 as in proc(5)."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[number - 3])


def status_pages(name: str) -> int:
    """A size of /proc/PID/status in pages."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 4
    raise KeyError(name)


def set_heap(start: int) -> bool:
    """Move the heap's start and end to `start`. Needs no capability, but CONFIG_CHECKPOINT_RESTORE."""
    bounds = [start if number == STAT_BRK else stat_field(number) for number in STAT_FIELDS]
    bounds.insert(STAT_FIELDS.index(STAT_BRK), start)
    block = struct.pack(MM_MAP_FORMAT, *bounds, 0, 0, 2**32 - 1)
    keep = ctypes.create_string_buffer(block, len(block))
    system("prctl", PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(keep), len(block))
    return system("brk", 0) == start
