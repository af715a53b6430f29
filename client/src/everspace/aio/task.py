"""The async twin of `everspace.task`: tasks and threads."""

from types import TracebackType
from typing import TYPE_CHECKING, Self, SupportsIndex

from everspace._calls import cores, memory, segments, spaces, tasks
from everspace._calls.call import Buffer, TaskState, ThreadState
from everspace._download import Target, sink_of
from everspace.aio._task_calls import AsyncCloneCalls, AsyncHeapCalls, AsyncViewCalls
from everspace.aio.batch import AsyncBatch
from everspace.aio.entering import Entering
from everspace.constants import MS_SYNC
from everspace.errors import NoSuchProcessError, VasError, leaving_failed
from everspace.models import SegAttr, TaskInfo, VasAttr

if TYPE_CHECKING:
    from everspace.aio.client import AsyncClient


class AsyncCalls(AsyncCloneCalls, AsyncHeapCalls, AsyncViewCalls):
    """What a task and a thread can both do, each in the space that it is in."""

    @property
    def pid(self) -> int:
        """The task's id; another one after a respawn."""
        return self._task.pid

    @property
    def tid(self) -> int:
        """The thread's id; another one after a respawn."""
        return self._thread.tid

    @property
    def active(self) -> int:
        """The space that this thread is in, as far as this client knows; `active_vas()` asks the service."""
        return self._thread.active

    async def vas_create(
        self, name: str, mode: int, sharing: str = "exclusive", lifetime: str = "persistent"
    ) -> int:
        """A new space; its id. Sharing: "exclusive", "shared", "lockable"; lifetime: "persistent", "transient".

        EINVAL, EEXIST, ENOSPC.
        """
        return await self._run(spaces.vas_create(name, mode, sharing, lifetime))

    async def vas_delete(self, vid: SupportsIndex) -> int:
        """EINVAL, EBUSY while attached, EACCES."""
        return await self._run(spaces.vas_delete(vid))

    async def vas_find(self, name: str) -> int:
        """The id of the space of that name. EINVAL, ESRCH."""
        return await self._run(spaces.vas_find(name))

    async def vas_attach(
        self, pid: SupportsIndex, vid: SupportsIndex, type: int | str, lazy: bool = True
    ) -> int:
        """Attach a space to a task (0: this one) as O_RDONLY, O_WRONLY or O_RDWR, or "ro", "wo", "rw".

        EINVAL, ESRCH, EPERM, EACCES, EEXIST (attached with another type), EBUSY (sharing), EFAULT (collision).
        """
        return await self._run(spaces.vas_attach(pid, vid, type, lazy))

    async def vas_detach(self, pid: SupportsIndex, vid: SupportsIndex) -> int:
        """EINVAL, ESRCH, EPERM, EBUSY while a thread of the task is inside."""
        return await self._run(spaces.vas_detach(pid, vid))

    async def vas_switch(self, vid: SupportsIndex, timeout: float | None = None) -> int:  # noqa: ASYNC109 - the service waits
        """Enter an attached space; 0 is the original one. Waits for a lock up to `timeout` seconds, None: without end.

        EINVAL, EAGAIN (timeout 0), ETIMEDOUT.
        """
        return await self._run(spaces.vas_switch(vid, timeout))

    async def active_vas(self) -> int:
        """The id of the space that this thread is in, 0 for the original one."""
        return await self._run(spaces.active_vas())

    async def vas_getattr(self, vid: SupportsIndex) -> VasAttr:
        """EINVAL."""
        return await self._run(spaces.vas_getattr(vid))

    async def vas_setattr(
        self,
        vid: SupportsIndex,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> int:
        """Change what is given. EINVAL, EPERM (owner or root; uid, gid: root), EBUSY (sharing while attached), EEXIST."""
        return await self._run(spaces.vas_setattr(vid, mode, uid, gid, sharing, name, lifetime))

    async def vas_seg_create(
        self,
        name: str,
        start: SupportsIndex,
        end: SupportsIndex,
        mode: int,
        sharing: str = "exclusive",
        lifetime: str = "persistent",
    ) -> int:
        """A new segment at [start, end), page aligned; its id. EINVAL, EFAULT, EEXIST, ENOSPC."""
        return await self._run(segments.vas_seg_create(name, start, end, mode, sharing, lifetime))

    async def vas_seg_delete(self, sid: SupportsIndex) -> int:
        """EINVAL, EBUSY while attached, EACCES."""
        return await self._run(segments.vas_seg_delete(sid))

    async def vas_seg_find(self, name: str) -> int:
        """The id of the segment of that name. EINVAL, ESRCH."""
        return await self._run(segments.vas_seg_find(name))

    async def vas_seg_attach(self, vid: SupportsIndex, sid: SupportsIndex, type: int | str) -> int:
        """Show a segment in a space. EINVAL, EACCES, EEXIST, EBUSY (sharing), EFAULT (collision)."""
        return await self._run(segments.vas_seg_attach(vid, sid, type))

    async def vas_seg_detach(self, vid: SupportsIndex, sid: SupportsIndex) -> int:
        """EINVAL, EACCES, EBUSY while the space is attached."""
        return await self._run(segments.vas_seg_detach(vid, sid))

    async def vas_seg_getattr(self, sid: SupportsIndex) -> SegAttr:
        """EINVAL."""
        return await self._run(segments.vas_seg_getattr(sid))

    async def vas_seg_setattr(
        self,
        sid: SupportsIndex,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> int:
        """Change what is given. EINVAL, EPERM, EBUSY (sharing while attached), EEXIST."""
        return await self._run(segments.vas_seg_setattr(sid, mode, uid, gid, sharing, name, lifetime))

    async def read(self, addr: SupportsIndex, length: SupportsIndex) -> bytes:
        """Load `length` bytes. EFAULT names the first address that cannot be read; E2BIG."""
        return await self._run(memory.read(addr, length))

    async def readinto(self, addr: SupportsIndex, buffer: Buffer) -> int:
        """Load into a writable buffer, all of it, without a copy; its length. EFAULT, E2BIG."""
        return await self._run(memory.readinto(addr, buffer))

    async def write(self, addr: SupportsIndex, data: Buffer, durability: str = "commit") -> int:
        """Store all of `data` or nothing; its length. EFAULT names the first address that cannot be written; E2BIG.

        "commit" returns when it is on stable storage, "relaxed" at once (see `msync`).
        """
        return await self._run(memory.write(addr, data, durability))

    async def mmap(self, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int) -> int:
        """Map; the address. EINVAL, EACCES, ENOMEM, EEXIST (MAP_FIXED_NOREPLACE)."""
        return await self._run(memory.mmap(addr, length, prot, flags))

    async def munmap(self, addr: SupportsIndex, length: SupportsIndex) -> int:
        """EINVAL, EACCES."""
        return await self._run(memory.munmap(addr, length))

    async def mprotect(self, addr: SupportsIndex, length: SupportsIndex, prot: int) -> int:
        """EINVAL, EACCES, ENOMEM (a hole in the range)."""
        return await self._run(memory.mprotect(addr, length, prot))

    async def brk(self, addr: SupportsIndex = 0) -> int:
        """Move the end of the heap, or with 0 ask for it. ENOMEM."""
        return await self._run(memory.brk(addr))

    async def mremap(
        self,
        old_addr: SupportsIndex,
        old_size: SupportsIndex,
        new_size: SupportsIndex,
        flags: int = 0,
        new_addr: SupportsIndex = 0,
    ) -> int:
        """Resize or move a region; its address. `new_addr` counts with MREMAP_FIXED and MREMAP_DONTUNMAP.

        EINVAL, EFAULT (no region there), ENOMEM, EAGAIN (locked memory), EBUSY (a segment's region), EEXIST.
        """
        return await self._run(memory.mremap(old_addr, old_size, new_size, flags, new_addr))

    async def madvise(self, addr: SupportsIndex, length: SupportsIndex, advice: int) -> int:
        """Say how a range will be used: MADV_*. EINVAL, EACCES, ENOMEM (a hole; what is mapped is advised)."""
        return await self._run(memory.madvise(addr, length, advice))

    async def mincore(self, addr: SupportsIndex, length: SupportsIndex) -> bytes:
        """A byte for each page, bit 0 of it: the page is in memory. EINVAL, ENOMEM (a hole), E2BIG."""
        return await self._run(memory.mincore(addr, length))

    async def mlock(self, addr: SupportsIndex, length: SupportsIndex, flags: int = 0) -> int:
        """Keep a range in memory, at once or (MLOCK_ONFAULT) once it is touched. EINVAL, EPERM, ENOMEM (limit, hole)."""
        return await self._run(memory.mlock(addr, length, flags))

    async def munlock(self, addr: SupportsIndex, length: SupportsIndex) -> int:
        """Let a range be put aside again. EINVAL, ENOMEM (a hole)."""
        return await self._run(memory.munlock(addr, length))

    async def msync(self, addr: SupportsIndex = 0, length: SupportsIndex = 0, flags: int = MS_SYNC) -> int:
        """Make all earlier relaxed writes of the space durable, all or none. EINVAL, ENOMEM, ENOSPC, EIO."""
        return await self._run(memory.msync(addr, length, flags))

    async def maps(self) -> str:
        """The text of /proc/PID/maps as this thread sees it. EPERM."""
        return await self._run(memory.maps())

    async def smaps(self) -> str:
        """The text of /proc/PID/smaps as this thread sees it: its map, and what memory each region uses. EPERM."""
        return await self._run(memory.smaps())

    async def core(self, target: Target) -> int:
        """Write an ELF core file of what this thread sees to a path or a binary file; its size. EPERM, EAGAIN, EINVAL.

        A path is replaced when all has come, by a file that only its owner can read.
        """
        with sink_of(target) as sink:
            return await self._run(cores.task_core(sink))

    async def prlimit(self, resource: str, value: SupportsIndex | None = None) -> int:
        """Set a limit of the task, or with None only ask; the former value, RLIM_INFINITY for none.

        Resources: address_space, data, stack, locked (bytes), map_count (regions). EINVAL, EPERM (raised above what
        the task began with or root set last).
        """
        return await self._run(tasks.prlimit(resource, value))

    def thread(self) -> "Entering[AsyncThread]":
        """A new thread of the task; it starts in the original address space. EPERM."""
        return Entering(self._start_thread())

    def fork(self) -> "Entering[AsyncTask]":
        """A child with a copy of the original address space, nothing attached. EPERM, ENOMEM."""
        return Entering(self._fork())

    async def _start_thread(self) -> "AsyncThread":
        return AsyncThread(self._client, self._task, await self._run(tasks.thread()))

    async def _fork(self) -> "AsyncTask":
        return self._client.adopt(await self._run(tasks.fork()))

    def of_thread(self, tid: int | None) -> "AsyncCalls":
        """The calls of one of its threads that was made elsewhere, by its id; None: of this one."""
        if tid is None or tid == self.tid:
            return self
        return AsyncThread(self._client, self._task, ThreadState(tid))

    def batch(self, atomic: bool = False) -> AsyncBatch:
        """Many calls in one request, see `AsyncBatch`."""
        return AsyncBatch(self._client, self._task, self._thread, atomic)


class AsyncThread(AsyncCalls):
    """Made by `thread()`. It has its own active space; a context manager that ends it on leaving."""

    async def exit(self) -> int:
        """End the thread. ESRCH."""
        return await self._run(tasks.exit_thread())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.exit()
        except VasError as failure:
            leaving_failed(error, failure)

    def __repr__(self) -> str:
        return f"<AsyncThread {self.tid} of task {self.pid}, in space {self._thread.active}>"


class AsyncTask(AsyncCalls):
    """Made by `AsyncClient.spawn`. A context manager that ends the task on leaving."""

    def __init__(self, client: "AsyncClient", task: TaskState) -> None:
        super().__init__(client, task, task.threads[0])

    @property
    def name(self) -> str | None:
        """The name that it was spawned with."""
        return self._task.name

    async def info(self) -> TaskInfo:
        """What the service knows of it: threads, attachments, lease. ESRCH."""
        return await self._run(tasks.task_info())

    async def heartbeat(self) -> int:
        """Renew the lease now; the client does so by itself for the tasks that it made. ESRCH, EPERM."""
        return await self._run(tasks.heartbeat())

    async def exec(self) -> int:
        """Begin anew, as execve(2): a fresh map, one thread, nothing attached. ESRCH, EPERM."""
        return await self._run(tasks.exec_task())

    async def exit(self) -> int:
        """End the task: threads leave their spaces, attachments are released. ESRCH, EPERM."""
        return await self._run(tasks.exit_task())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task.ended:
            return
        try:
            await self.exit()
        except NoSuchProcessError:
            self._task.ended = True  # its lease ran out, or the service restarted
        except VasError as failure:
            leaving_failed(error, failure)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<AsyncTask {self.pid}{name}, in space {self._thread.active}>"
