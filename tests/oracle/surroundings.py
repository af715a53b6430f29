"""What the kernel's side does to its own process before and between sequences, so that it is as a mode says."""

import ctypes
import os
import resource
import sys
from pathlib import Path

from tests.oracle.calls import CORE, CORE_PAGES, PAGE, UNLIMITED_PAGES, WINDOW, WINDOW_SIZE
from tests.oracle.modes import Mode
from tests.oracle.syscalls import (
    PR_SET_DUMPABLE,
    PR_SET_THP_DISABLE,
    STAT_STACK,
    libc,
    own_map,
    required,
    stat_field,
    status_pages,
    system,
)

MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_MAX = -1, -4
MALLOC_ROOM = 64 << 20
SHARED_NOTHING = 0x4021
"""MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE: with PROT_NONE it merges with nothing and costs nothing."""
MAP_FIXED_NOREPLACE = 0x100000
GAP_MAX = 1 << 32
"""Gaps below this many bytes in the process's own map are filled."""
USER_MIN, USER_END = 0x10000, 0x7FFF_FFFF_F000
GUARD_GAP = 256 * PAGE
"""Room below a stack that no search gives away."""
ADDR_COMPAT_LAYOUT = 0x0200000
NOBODY = 65534
CROWD = 0x6000_0000_0000
"""Every second page from here is a region, in a crowded process."""
CROWD_MAX = 200_000
CROWD_ROOM = 300
"""Regions more than any sequence makes."""
LIMITS = {
    "address_space": resource.RLIMIT_AS,
    "data": resource.RLIMIT_DATA,
    "stack": resource.RLIMIT_STACK,
    "locked": resource.RLIMIT_MEMLOCK,
}
STACK_LIMIT = LOCKED_LIMIT = 8 << 20


def restart_bottom_up() -> None:
    """Become a process with the legacy layout: execute this program once more. OSError: that is forbidden here."""
    if not required(system("personality", 0xFFFF_FFFF)) & ADDR_COMPAT_LAYOUT:
        required(system("personality", ADDR_COMPAT_LAYOUT))
        os.execv(sys.executable, [sys.executable, "-S", "-m", "tests.oracle.kernel_child", *sys.argv[1:]])


def settle(mode: Mode) -> None:
    """No huge pages; room in malloc's heap, so that this process's own memory stays where it is; no small gaps.

    OSError: this machine's malloc or layout does not allow it.
    """
    if not hasattr(libc, "mallopt"):
        raise OSError("malloc cannot be told to keep its heap")
    if any(start < WINDOW + WINDOW_SIZE and end > WINDOW for start, end, _ in own_map()):
        raise OSError("the window is not free")
    system("prctl", PR_SET_THP_DISABLE, 1)
    libc.mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(MALLOC_MMAP_MAX, 0)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free(libc.malloc(MALLOC_ROOM))
    if mode.unprivileged and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        system("prctl", PR_SET_DUMPABLE, 1)
    fill(everything=mode.filled)


def fill(*, everything: bool) -> None:
    """Take the small gaps in this process's map, or everything but the core."""
    stack = stat_field(STAT_STACK)
    taken = [*own_map(), (USER_END, USER_END, "")]
    if everything:
        taken.append((CORE, CORE + CORE_PAGES * PAGE, ""))
    low = USER_MIN
    for start, end, _ in sorted(taken):
        high = start - GUARD_GAP if start <= stack < end else start
        if low < high and (everything or high - low < GAP_MAX):
            required(system("mmap", low, high - low, 0, SHARED_NOTHING | MAP_FIXED_NOREPLACE, -1, 0))
        low = end


def lockable() -> int:
    """Bytes that this process may lock; 2**64 - 1 with CAP_IPC_LOCK."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    page = required(system("mmap", CORE, PAGE, 3, 0x32, -1, 0))
    free = system("mlock", page, PAGE) == 0
    system("munmap", page, PAGE)
    soft = LOCKED_LIMIT if hard == resource.RLIM_INFINITY else min(hard, LOCKED_LIMIT)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    return 2**64 - 1 if free else soft


def executable_is_unreadable() -> bool:
    """Whether memory that may only be executed cannot be read: on processors with protection keys."""
    page = required(system("mmap", CORE, PAGE, 4, 0x32, -1, 0))
    out, into = os.pipe()
    unreadable = system("write", into, page, 1) == "EFAULT"
    os.close(out)
    os.close(into)
    system("munmap", page, PAGE)
    return unreadable


def reset_limits() -> None:
    """As a sequence finds them."""
    for name, number in LIMITS.items():
        set_limit(name, {"stack": STACK_LIMIT, "locked": LOCKED_LIMIT}.get(name, 2**64 - 1), number)


def limit_pages(name: str, pages: int) -> None:
    """Let `pages` more be used, or in all for stack and locked."""
    used = {"address_space": lambda: status_pages("VmSize"), "data": lambda: status_pages("VmData")}
    total = (used[name]() if name in used else 0) + pages
    set_limit(name, 2**64 - 1 if pages >= UNLIMITED_PAGES else total * PAGE, LIMITS[name])


def set_limit(name: str, value: int, number: int) -> None:
    """Set a soft limit in bytes, as far as the hard one lets."""
    hard = resource.getrlimit(number)[1]
    unlimited = resource.RLIM_INFINITY
    soft = unlimited if value >= 2**63 else value
    if hard != unlimited:
        soft = hard if soft == unlimited else min(soft, hard)
    resource.setrlimit(number, (soft, hard))


class Crowd:
    """Regions outside the window, so many that few more can be made."""

    def __init__(self) -> None:
        self._most = int(Path("/proc/sys/vm/max_map_count").read_text())
        if self._most > CROWD_MAX:
            raise OSError(f"vm.max_map_count is {self._most}: too many to be made each time")
        self._own = len(own_map())
        self.size = 0

    def leave_room(self, regions: int, held: int) -> None:
        """Let the window hold so many regions more than the `held` it has."""
        self.resize(self._most - self._own - held - min(regions, CROWD_ROOM))

    def resize(self, size: int) -> None:
        """Make or drop regions."""
        for number in range(self.size, size):
            required(
                system(
                    "mmap", CROWD + 2 * number * PAGE, PAGE, 0, SHARED_NOTHING | MAP_FIXED_NOREPLACE, -1, 0
                )
            )
        if size < self.size:
            required(system("munmap", CROWD + 2 * size * PAGE, 2 * (self.size - size) * PAGE))
        self.size = size
