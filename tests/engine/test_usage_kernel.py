"""The same steps on the running kernel and in the engine give the same smaps: sizes, shares and flags."""

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from engine import constants as c
from tests.engine.host import FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.proc_text import blocks, kib

WINDOW: Final = 0x1000_0000_0000
WINDOW_BYTES: Final = 64 << 20
IGNORED: Final = frozenset({"Referenced", "THPeligible", "AnonHugePages", "LazyFree"})
"""Ours are other notions, or depend on how the kernel is set; it counts pages as lazily freed some time later."""
IGNORED_FLAGS: Final = frozenset({"sd", "nh"})
"""Soft-dirty is a matter of the kernel's configuration; we ask for no huge pages on the kernel's side only."""
PR_SET_THP_DISABLE: Final = 41

Step = tuple[Any, ...]
Seen = dict[str, dict[str, Any]]

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64",
    reason="needs Linux on x86-64 as the oracle",
)


def page(number: int) -> int:
    return WINDOW + number * 4096


SCENES: Final[dict[str, list[Step]]] = {
    "untouched": [("mmap", page(0), 16, RW, PRIVATE)],
    "written and read": [
        ("mmap", page(0), 16, RW, PRIVATE),
        ("read", page(3)),
        ("write", page(5)),
        ("write", page(6)),
    ],
    "forked": [
        ("mmap", page(0), 8, RW, PRIVATE),
        *[("write", page(number)) for number in range(7)],
        ("fork",),
    ],
    "forked twice and written again": [
        ("mmap", page(0), 8, RW, PRIVATE),
        *[("write", page(number)) for number in range(7)],
        ("fork",),
        ("fork",),
        ("write", page(2)),
        ("write", page(7)),
    ],
    "shared, forked": [
        ("mmap", page(0), 8, RW, SHARED_MAP),
        ("write", page(0)),
        ("write", page(4)),
        ("fork",),
    ],
    "rights": [
        ("mmap", page(0), 4, 1, PRIVATE),
        ("mmap", page(8), 4, 5, PRIVATE),
        ("mmap", page(16), 4, 0, PRIVATE),
        ("mmap", page(24), 4, 1, SHARED_MAP),
        ("mmap", page(32), 4, RW, PRIVATE),
        ("write", page(33)),
        ("mprotect", page(32), 4, 0),
    ],
    "given back": [
        ("mmap", page(0), 16, RW, PRIVATE),
        *[("write", page(number)) for number in range(16)],
        ("madvise", page(2), 4, c.MADV_DONTNEED),
        ("munmap", page(10), 3),
        ("madvise", page(0), 1, c.MADV_FREE),
    ],
    "advised": [
        ("mmap", page(0), 16, RW, PRIVATE),
        ("madvise", page(0), 2, c.MADV_SEQUENTIAL),
        ("madvise", page(3), 2, c.MADV_RANDOM),
        ("madvise", page(6), 2, c.MADV_DONTFORK),
        ("madvise", page(9), 2, c.MADV_DONTDUMP),
    ],
    "locked": [
        ("mmap", page(0), 8, RW, PRIVATE),
        ("mlock", page(2), 4),
        ("mmap", page(16), 4, RW, PRIVATE | c.MAP_NORESERVE),
    ],
    "forked, with pages given back and rights taken": [
        ("mmap", page(0), 12, RW, PRIVATE),
        *[("write", page(number)) for number in range(12)],
        ("fork",),
        ("madvise", page(1), 2, c.MADV_DONTNEED),
        ("mprotect", page(4), 3, 1),
        ("fork",),
        ("write", page(9)),
        ("munmap", page(11), 1),
    ],
    "a stack": [("mmap", page(300), 4, RW, PRIVATE | c.MAP_GROWSDOWN), ("write", page(302))],
}


def told(block: dict[str, str]) -> dict[str, Any]:
    """What is compared of a region."""
    flags = [flag for flag in block["VmFlags"].split() if flag not in IGNORED_FLAGS]
    return {
        "perms": block["perms"],
        "flags": flags,
        **{k: v for k, v in kib(block).items() if k not in IGNORED},
    }


def seen(text: str) -> Seen:
    inside = {
        start: block for start, block in blocks(text).items() if WINDOW <= start < WINDOW + WINDOW_BYTES
    }
    return {f"{start:#x}": told(block) for start, block in inside.items()}


# -- the engine ----------------------------------------------------------------------------------------------------


def in_engine(host: Host, steps: list[Step]) -> list[Seen]:
    """smaps of the task and of its children, after all steps."""
    pids = [host.task()]
    for name, *args in steps:
        match name:
            case "mmap":
                host.do("mmap", pids[0], None, args[0], args[1] * 4096, args[2], args[3] | FIXED)
            case "munmap" | "mlock":
                host.do(name, pids[0], None, args[0], args[1] * 4096)
            case "mprotect" | "madvise":
                host.do(name, pids[0], None, args[0], args[1] * 4096, args[2])
            case "read":
                host.do("read", pids[0], None, args[0], 1)
            case "write":
                host.do("write", pids[0], None, args[0], b"x")
            case "fork":
                pids.append(host.do("fork", pids[0]).pid)
    return [seen(host.do("smaps_text", pid)) for pid in pids]


# -- the kernel ----------------------------------------------------------------------------------------------------


def in_kernel(scene: str) -> list[Seen]:
    """The same in a process of its own."""
    program = [sys.executable, "-m", "tests.engine.test_usage_kernel", scene]
    done = subprocess.run(
        program, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[Seen] = json.loads(done.stdout)
    return found


def play(steps: list[Step]) -> list[Seen]:
    """Runs in a process of its own, and says what it sees of itself and of its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    done: Callable[[int], None] = lambda result: None if result == 0 else fail()
    children: list[int] = []

    def fail() -> None:
        raise OSError(ctypes.get_errno(), "a call failed")

    for name, *args in steps:
        match name:
            case "mmap":
                flags = args[3] | FIXED
                size = ctypes.c_size_t(args[1] * 4096)
                if libc.mmap(ctypes.c_void_p(args[0]), size, args[2], flags, -1, 0) != args[0]:
                    fail()
            case "munmap" | "mlock":
                done(getattr(libc, name)(ctypes.c_void_p(args[0]), ctypes.c_size_t(args[1] * 4096)))
            case "mprotect" | "madvise":
                done(getattr(libc, name)(ctypes.c_void_p(args[0]), ctypes.c_size_t(args[1] * 4096), args[2]))
            case "read":
                ctypes.string_at(args[0], 1)
            case "write":
                ctypes.memset(args[0], ord("x"), 1)
            case "fork":
                children.append(sleeper())
    found = [seen(Path(f"/proc/{pid}/smaps").read_text()) for pid in (os.getpid(), *children)]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return found


def sleeper() -> int:
    """A child that touches nothing of the window until it is killed."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, b"!")
        while True:
            signal.pause()
    os.read(ready, 1)
    return pid


@pytest.mark.parametrize("scene", SCENES)
def test_smaps_is_the_kernel_s(x86: Host, scene: str) -> None:
    assert in_engine(x86, SCENES[scene]) == in_kernel(scene)


if __name__ == "__main__":
    print(json.dumps(play(SCENES[sys.argv[1]])))
