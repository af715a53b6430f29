"""What a process asks of the kernel about its files, seen and decided one call at a time, without a compiler or ptrace.

A seccomp filter with user notification (Linux 5.5) stops the process at each call that writes, grows or syncs a file;
the test says whether the call goes on or fails with an errno, or kills the process there. Nothing is mocked: LMDB
itself meets the error, and what it asked to have written can be read from its memory.

    process = Watched.start([script, …], decide)      # decide(call) -> 0 or an errno
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
NUMBERS: Final = {
    "x86_64": {"pwrite": 18, "writev": 20, "pwritev": 296, "fsync": 74, "fdatasync": 75, "ftruncate": 77,
               "fallocate": 285, "openat": 257, "rename": 82},
    "aarch64": {"pwrite": 68, "writev": 66, "pwritev": 70, "fsync": 82, "fdatasync": 83, "ftruncate": 46,
                "fallocate": 47, "openat": 56, "rename": 38},
}.get(platform.machine(), {})  # fmt: skip
SECCOMP: Final = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(platform.machine(), 0)

RENAME_OF_X86: Final = 82
"""The one call that takes its paths without a directory's descriptor before each."""

_NOTIFY: Final = struct.Struct("=QIIiIQ6Q")
_REPLY: Final = struct.Struct("=QqiI")
_RECEIVE: Final = 3 << 30 | _NOTIFY.size << 16 | ord("!") << 8
_SEND: Final = 3 << 30 | _REPLY.size << 16 | ord("!") << 8 | 1
_CONTINUE: Final = 1
_INSTRUCTION: Final = struct.Struct("=HBBI")
_IOVEC: Final = struct.Struct("=QQ")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the watched process, which stands still until it is decided."""

    number: int
    """From 1, over all calls that were seen."""
    name: str
    pid: int
    path: str
    """Of the file that it concerns: that to be opened, that to be renamed."""
    arguments: tuple[int, ...]

    @property
    def offset(self) -> int:
        """Where in the file it writes."""
        if self.name == "writev":
            lines = Path(f"/proc/{self.pid}/fdinfo/{self.arguments[0]}").read_text(encoding="ascii").split()
            return int(lines[lines.index("pos:") + 1])
        return self.arguments[3]

    @property
    def data(self) -> bytes:
        """The bytes that it writes."""
        _, where, count = self.arguments[:3]
        if self.name == "pwrite":
            return self._memory(where, count)
        vectors = _IOVEC.iter_unpack(self._memory(where, count * _IOVEC.size))
        return b"".join(self._memory(start, length) for start, length in vectors)

    @property
    def writes(self) -> bool:
        """Of an openat: whether the file is opened for writing."""
        return bool(self.arguments[2] & (os.O_WRONLY | os.O_RDWR))

    def _memory(self, address: int, count: int) -> bytes:
        return memory_of(self.pid, address, count)


Decide = Callable[[Call], int]
"""0: the call goes on. An errno: it fails so. SIGKILL sent to `call.pid` ends the process at this call."""


def memory_of(pid: int, address: int, count: int) -> bytes:
    """Bytes of another process."""
    opened = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(opened, count, address)
    finally:
        os.close(opened)


class Watched:
    """A Python script that runs watched: `process` with pipes on standard input and output."""

    def __init__(self, process: "subprocess.Popen[bytes]", listener: int, decide: Decide) -> None:
        self.process = process
        self.failure: BaseException | None = None
        """What went wrong in `decide`."""
        self._listener = listener
        self._decide = decide
        self._seen = 0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        decide: Decide,
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
        preload: str = "",
    ) -> "Watched":
        """Run `command`, a script and its arguments, by this Python; the module `preload` is imported unwatched."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, str(LAUNCHER), str(theirs.fileno()), preload, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                env=env,
            )
            theirs.close()
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            process.communicate()
            raise OSError(errno.ENOSYS, "the kernel lets nobody watch its calls")
        return cls(process, descriptors[0], decide)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def finish(self) -> bytes:
        """Wait for its end; what it wrote on standard output. Raises what `decide` raised."""
        out, _ = self.process.communicate()
        self._thread.join()
        os.close(self._listener)
        if self.failure is not None:
            raise self.failure
        return out

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            events = poll.poll()
            if not events[0][1] & select.POLLIN:
                return  # the last of the watched threads is gone
            notice = bytearray(_NOTIFY.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, notice)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # it was killed meanwhile
                raise
            number, pid, _, nr, _, _, *arguments = _NOTIFY.unpack(notice)
            refused = self._answer(pid, nr, arguments)
            reply = bytearray(_REPLY.pack(number, 0, -refused, 0 if refused else _CONTINUE))
            try:
                fcntl.ioctl(self._listener, _SEND, reply)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
                    raise

    def _answer(self, pid: int, nr: int, arguments: list[int]) -> int:
        name = next(name for name, number in NUMBERS.items() if number == nr)
        self._seen += 1
        try:
            if name in ("openat", "rename"):
                at = 0 if nr == RENAME_OF_X86 else 1
                path = memory_of(pid, arguments[at], 4096).split(b"\0", 1)[0].decode("utf-8", "replace")
            else:
                path = str(Path(f"/proc/{pid}/fd/{arguments[0]}").readlink())
            return self._decide(Call(self._seen, name, pid, path, tuple(arguments)))
        except FileNotFoundError:
            return 0  # it was killed meanwhile
        except BaseException as error:  # noqa: BLE001 - told by `finish`; the process must not wait for ever
            self.failure = error
            os.kill(pid, signal.SIGKILL)
            return 0


def install(names: Sequence[str]) -> int:
    """Have the calls of this thread, and of all that it begins, decided by whoever holds the descriptor returned.

    Raises OSError where the kernel cannot do it.
    """
    if not NUMBERS:
        raise OSError(errno.ENOSYS, platform.machine())
    numbers = [NUMBERS[name] for name in names]
    load, equal, answer = 0x20, 0x15, 0x06
    lines = [
        (load, 0, 0, 4),
        (equal, 1, 0, AUDIT_ARCH),
        (answer, 0, 0, 0x7FFF0000),
        (load, 0, 0, 0),
        *((equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (answer, 0, 0, 0x7FFF0000),
        (answer, 0, 0, 0x7FC00000),
    ]
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("=H6xQ", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    listener: int = libc.syscall(ctypes.c_long(SECCOMP), 1, 8, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener
