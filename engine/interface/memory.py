"""Loads, stores and the mmap family, as a thread sees memory."""

from engine.calls.brk import brk
from engine.calls.madvise import madvise
from engine.calls.mlock import mincore, mlock, munlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.calls.mremap import mremap
from engine.calls.msync import msync
from engine.constants import MS_SYNC
from engine.credentials import Credentials
from engine.errors import EINVAL, EngineError
from engine.interface.parts import Parts


class MemoryCalls(Parts):
    """The calls on memory. Credentials come first, then the thread."""

    def read(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> bytes:
        """`length` bytes that the thread sees at `addr`. EINVAL: negative length; EFAULT names the first bad byte."""
        if length < 0:
            raise EngineError(EINVAL, f"length {length}")
        return self.tasks_table.thread_of(cred, pid, tid).union.load(addr, length)

    def write(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        addr: int,
        data: bytes | bytearray | memoryview,
        durable: bool = True,
    ) -> int:
        """Store all of `data` or nothing; the number of bytes. EFAULT names the first bad byte."""
        held = data if type(data) is bytes else memoryview(data)
        return self.tasks_table.thread_of(cred, pid, tid).union.store(addr, held, durable=durable)

    def mmap(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, prot: int, flags: int
    ) -> int:
        """See `calls.mmap`."""
        return mmap(self.union_of(cred, pid, tid), addr, length, prot, flags)

    def munmap(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> None:
        """See `calls.mmap`."""
        munmap(self.union_of(cred, pid, tid), addr, length)

    def mprotect(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, prot: int
    ) -> None:
        """See `calls.mprotect`."""
        mprotect(self.union_of(cred, pid, tid), addr, length, prot)

    def mremap(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        old_addr: int,
        old_size: int,
        new_size: int,
        flags: int = 0,
        new_addr: int = 0,
    ) -> int:
        """See `calls.mremap`."""
        return mremap(self.union_of(cred, pid, tid), old_addr, old_size, new_size, flags, new_addr)

    def brk(self, cred: Credentials, pid: int, tid: int | None, addr: int = 0) -> int:
        """See `calls.brk`; the heap is the task's, whatever space the thread is in."""
        return brk(self.union_of(cred, pid, tid).own, addr)

    def madvise(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, advice: int
    ) -> None:
        """See `calls.madvise`."""
        madvise(self.union_of(cred, pid, tid), addr, length, advice, self.reclaim)

    def mincore(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> bytes:
        """See `calls.mlock`: one byte for each page."""
        return mincore(self.union_of(cred, pid, tid), addr, length)

    def mlock(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, flags: int = 0
    ) -> None:
        """See `calls.mlock`."""
        mlock(self.union_of(cred, pid, tid), addr, length, flags)

    def munlock(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> None:
        """See `calls.mlock`."""
        munlock(self.union_of(cred, pid, tid), addr, length)

    def msync(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        addr: int = 0,
        length: int = 0,
        flags: int = MS_SYNC,
    ) -> None:
        """See `calls.msync`."""
        msync(self.union_of(cred, pid, tid), addr, length, flags)
