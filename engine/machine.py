"""Every call of the simulated machine, in one list. Each takes the caller's credentials first.

A call is made inside `transaction()`, which undoes it when it fails, collects what the store must remember, and can be
rolled back later when the store could not. PagesNeeded is raised when bytes are in the store only: fetch them, `supply`
them, and make the call again. Calls raise `EngineError`; the errnos are those of the implementing methods.
"""

from collections.abc import Iterable

from engine.access import Access
from engine.calls.brk import brk
from engine.calls.madvise import madvise
from engine.calls.mlock import mincore, mlock, munlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.calls.mremap import mremap
from engine.calls.msync import msync
from engine.changes import Image
from engine.constants import EXCLUSIVE, MS_SYNC
from engine.credentials import Credentials
from engine.errors import EINVAL, ENOENT, EngineError, PagesNeeded
from engine.geometry import Geometry
from engine.inspection import procfs, render
from engine.inspection.core_file import Process
from engine.inspection.core_image import CoreImage, MayRead, while_attached, while_readable
from engine.journal import Journal, Transaction
from engine.limits import Limits, default_limits
from engine.memory.frames import FramePool
from engine.memory.objects import Objects
from engine.memory.paged_memory import PagedMemory
from engine.memory.reclaim import Reclaim
from engine.memory.swap import Slots
from engine.ports import SwapArea
from engine.segments import Segments
from engine.spaces import Spaces
from engine.tasks import Task, Tasks
from engine.union import Union
from engine.views import AttachmentStatus, Region, SegAttr, SegmentAttachment, TaskStatus, VasAttr
from engine.vma import Vma


class Machine:
    """`frames` is the resident limit in pages; `first_pid` the first pid given out; `limits` what tasks start with.

    Volatile memory beyond the resident limit goes to `swap`, which must be empty.
    """

    def __init__(
        self,
        geometry: Geometry,
        frames: int = 1 << 16,
        first_pid: int = 1,
        limits: Limits | None = None,
        swap: SwapArea | None = None,
    ) -> None:
        self.geometry = geometry
        self.journal = Journal()
        self.slots = Slots(swap)
        self.pool = FramePool(geometry, frames, self.slots)
        self.objects = Objects(self.pool, self.journal)
        self.tasks_table = Tasks(self.pool, self.journal, first_pid, limits or default_limits(geometry))
        self.spaces = Spaces(geometry, self.journal, self.objects, self.tasks_table)
        self.segments = Segments(geometry, self.journal, self.objects, self.spaces)
        self.images: list[CoreImage] = []

        self.reclaim = Reclaim(self.pool, self.slots, self.journal, self._volatile)
        self.pool.on_shortage(self._free_frames)
        self.pool.on_leaf_shortage(self._count_leaves)

    # -- transactions and the store ------------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """Make calls that stand or fall together: `with` it. An exception undoes them, unless it is partial.

        The caller then settles the transaction once its changes are durable, or rolls it back.
        """
        return self.journal.begin()

    def supply(self, need: PagesNeeded, pages: dict[int, bytes]) -> None:
        """Bytes fetched for `need`, by page index; pages that are missing read as zeros."""
        self.objects.get(need.object_id).supply(need, pages)

    def object_pending(self, object_id: int) -> int:
        """The last transaction that changed an object: its pages may be fetched once that is durable."""
        return self.objects.get(object_id).pending

    def flush(self) -> None:
        """Ask the store to remember every page written relaxed."""
        for obj in self.objects:
            obj.flush()

    def restore(self, image: Image) -> None:
        """Put everything that survived back into an empty machine."""
        for space in image.spaces:
            self.spaces.restore(space)
        for segment in image.segments:
            self.segments.restore(segment)
        for vid, regions in image.regions.items():
            memory = self.spaces.registry.get(vid).memory
            for region in regions:
                if region.sid:
                    held = self.segments.registry.get(region.sid)
                    obj, offset = held.obj, (region.start - held.range.start) >> self.geometry.page_shift
                else:
                    obj, offset = memory.memory, region.start >> self.geometry.page_shift
                access = Access(region.access)
                memory.map(
                    Vma(region.start, region.end, access, obj, offset, region.shared, region.sid, region.type)
                )
        self.spaces.registry.next_id = image.next_vid
        self.segments.registry.next_id = image.next_sid
        self.objects.next_id = image.next_object

    # -- spaces --------------------------------------------------------------------------------------------------

    def vas_create(self, cred: Credentials, name: str, mode: int, sharing: str = EXCLUSIVE) -> int:
        """See `Spaces.create`."""
        return self.spaces.create(cred, name, mode, sharing)

    def vas_delete(self, cred: Credentials, vid: int) -> None:
        """See `Spaces.delete`."""
        self.spaces.delete(cred, vid)

    def vas_find(self, cred: Credentials, name: str) -> int:
        """The id of a name. EINVAL, ESRCH."""
        return self.spaces.registry.find(name)

    def vas_attach(self, cred: Credentials, pid: int, vid: int, type: int, lazy: bool = True) -> None:
        """See `Spaces.attach`."""
        self.spaces.attach(cred, pid, vid, type, lazy=lazy)

    def vas_detach(self, cred: Credentials, pid: int, vid: int) -> None:
        """See `Spaces.detach`."""
        self.spaces.detach(cred, pid, vid)

    def vas_switch(self, cred: Credentials, pid: int, tid: int | None, vid: int) -> None:
        """vas_switch of one thread, 0 for the original address space; it cannot conflict. ESRCH, EPERM; EINVAL: not attached."""
        thread = self.tasks_table.thread_of(cred, pid, tid)
        if vid != thread.active:
            thread.switch(vid)

    def active_vas(self, cred: Credentials, pid: int, tid: int | None) -> int:
        """The id of the space a thread is in, 0 in its original address space. ESRCH, EPERM."""
        return self._seen(self.tasks_table.require(cred, pid)).thread(tid).active

    def vas_getattr(self, cred: Credentials, vid: int) -> VasAttr:
        """See `Spaces.getattr`."""
        return self.spaces.getattr(vid)

    def vas_setattr(
        self,
        cred: Credentials,
        vid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
    ) -> None:
        """See `Spaces.setattr`."""
        self.spaces.setattr(cred, vid, mode, uid, gid, sharing)

    def vas_list(self, cred: Credentials) -> list[VasAttr]:
        """Attributes of every space, by id."""
        return [self.spaces.getattr(vid) for vid in self.spaces.registry.listed()]

    def vas_regions(self, cred: Credentials, vid: int) -> list[Region]:
        """The space's own map. EINVAL: unknown; EACCES: the mode's read bit."""
        space = self.spaces.registry.get(vid)
        space.owner.require(cred, Access.READ, f"space {vid}")
        self.journal.touch(space.memory)
        return [Region(v.start, v.end, int(v.access), v.shared, v.sid or None) for v in space.memory.vmas]

    def vas_segments(self, cred: Credentials, vid: int) -> list[SegmentAttachment]:
        """The segments of a space. EINVAL: unknown."""
        return self.segments.attached_to(vid)

    # -- segments ------------------------------------------------------------------------------------------------

    def vas_seg_create(
        self, cred: Credentials, name: str, start: int, end: int, mode: int, sharing: str = EXCLUSIVE
    ) -> int:
        """See `Segments.create`."""
        return self.segments.create(cred, name, start, end, mode, sharing)

    def vas_seg_delete(self, cred: Credentials, sid: int) -> None:
        """See `Segments.delete`."""
        self.segments.delete(cred, sid)

    def vas_seg_find(self, cred: Credentials, name: str) -> int:
        """The id of a name. EINVAL, ESRCH."""
        return self.segments.registry.find(name)

    def vas_seg_attach(self, cred: Credentials, vid: int, sid: int, type: int) -> None:
        """See `Segments.attach`."""
        self.segments.attach(cred, vid, sid, type)

    def vas_seg_detach(self, cred: Credentials, vid: int, sid: int) -> None:
        """See `Segments.detach`."""
        self.segments.detach(cred, vid, sid)

    def vas_seg_getattr(self, cred: Credentials, sid: int) -> SegAttr:
        """See `Segments.getattr`."""
        return self.segments.getattr(sid)

    def vas_seg_setattr(
        self,
        cred: Credentials,
        sid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
    ) -> None:
        """See `Segments.setattr`."""
        self.segments.setattr(cred, sid, mode, uid, gid, sharing)

    def vas_seg_list(self, cred: Credentials) -> list[SegAttr]:
        """Attributes of every segment, by id."""
        return [self.segments.getattr(sid) for sid in self.segments.registry.listed()]

    def seg_read(self, cred: Credentials, sid: int, offset: int, length: int) -> bytes:
        """See `Segments.read`."""
        return self.segments.read(cred, sid, offset, length)

    def seg_write(
        self,
        cred: Credentials,
        sid: int,
        offset: int,
        data: bytes | bytearray | memoryview,
        durable: bool = True,
    ) -> int:
        """See `Segments.write`."""
        return self.segments.write(cred, sid, offset, memoryview(data), durable=durable)

    def seg_version(self, cred: Credentials, sid: int) -> int:
        """Counts the stores into a segment since the machine was started. EINVAL: unknown."""
        segment = self.segments.registry.get(sid)
        self.journal.touch(segment.obj)
        return segment.obj.version

    # -- tasks ---------------------------------------------------------------------------------------------------

    def spawn(self, cred: Credentials, name: str | None, lease_s: float) -> Task:
        """See `Tasks.spawn`."""
        return self.tasks_table.spawn(cred, name, lease_s)

    def fork(self, cred: Credentials, pid: int, tid: int | None = None) -> Task:
        """See `Tasks.fork`."""
        return self.tasks_table.fork(cred, pid, tid)

    def exec(self, cred: Credentials, pid: int) -> None:
        """See `Tasks.exec`."""
        self.tasks_table.exec(cred, pid)

    def thread(self, cred: Credentials, pid: int, tid: int | None = None) -> int:
        """See `Tasks.new_thread`."""
        return self.tasks_table.new_thread(cred, pid, tid)

    def exit_thread(self, cred: Credentials, pid: int, tid: int) -> None:
        """See `Tasks.exit_thread`."""
        self.tasks_table.exit_thread(cred, pid, tid)

    def exit(self, cred: Credentials, pid: int) -> None:
        """See `Tasks.exit`."""
        self.tasks_table.exit(cred, pid)

    def prlimit(self, cred: Credentials, pid: int, resource: str, value: int | None = None) -> int:
        """See `Tasks.prlimit`."""
        return self.tasks_table.prlimit(cred, pid, resource, value)

    def require_task(self, cred: Credentials, pid: int) -> Task:
        """ESRCH; EPERM: the task is another uid's."""
        return self.tasks_table.require(cred, pid)

    def task_status(self, cred: Credentials, pid: int) -> TaskStatus:
        """Open to everybody. ESRCH."""
        return self._seen(self.tasks_table.get(pid)).status()

    def tasks(self, cred: Credentials) -> list[TaskStatus]:
        """Every task, by pid."""
        return sorted((self._seen(task).status() for task in self.tasks_table), key=lambda status: status.pid)

    def attachment(self, cred: Credentials, pid: int, vid: int) -> AttachmentStatus:
        """ESRCH, EPERM; ENOENT: not attached."""
        held = self.spaces.attachment(cred, pid, vid)
        return AttachmentStatus(held.vid, held.type, held.lazy)

    # -- memory --------------------------------------------------------------------------------------------------

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
        return mmap(self._union(cred, pid, tid), addr, length, prot, flags)

    def munmap(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> None:
        """See `calls.mmap`."""
        munmap(self._union(cred, pid, tid), addr, length)

    def mprotect(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, prot: int
    ) -> None:
        """See `calls.mprotect`."""
        mprotect(self._union(cred, pid, tid), addr, length, prot)

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
        return mremap(self._union(cred, pid, tid), old_addr, old_size, new_size, flags, new_addr)

    def brk(self, cred: Credentials, pid: int, tid: int | None, addr: int = 0) -> int:
        """See `calls.brk`; the heap is the task's, whatever space the thread is in."""
        return brk(self._union(cred, pid, tid).own, addr)

    def madvise(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, advice: int
    ) -> None:
        """See `calls.madvise`."""
        madvise(self._union(cred, pid, tid), addr, length, advice, self.reclaim)

    def mincore(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> bytes:
        """See `calls.mlock`: one byte for each page."""
        return mincore(self._union(cred, pid, tid), addr, length)

    def mlock(
        self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int, flags: int = 0
    ) -> None:
        """See `calls.mlock`."""
        mlock(self._union(cred, pid, tid), addr, length, flags)

    def munlock(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> None:
        """See `calls.mlock`."""
        munlock(self._union(cred, pid, tid), addr, length)

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
        msync(self._union(cred, pid, tid), addr, length, flags)

    # -- core files ----------------------------------------------------------------------------------------------

    def task_core(self, cred: Credentials, pid: int, tid: int | None = None) -> CoreImage:
        """What the thread sees, for a core file. ESRCH, EPERM; EINVAL: the geometry has none. The caller releases it."""
        task = self.tasks_table.require(cred, pid)
        shown = task.thread(tid)
        shown.union.touch()
        threads = (shown.tid, *(other for other in task.threads if other != shown.tid))
        process = Process(pid, task.name, task.cred.uid, task.cred.gids[0], threads)
        may_read = while_attached(shown.union, self.objects.holds)
        return self._core_image(process, shown.union.regions(), may_read)

    def vas_core(self, cred: Credentials, vid: int) -> CoreImage:
        """A space's own regions, for a core file. EINVAL: unknown, or as above; EACCES: the mode's read bit."""
        space = self.spaces.registry.get(vid)
        space.owner.require(cred, Access.READ, f"space {vid}")
        self.journal.touch(space.memory)
        process = Process(vid, space.name, space.owner.uid, space.owner.gid, (vid,))
        may_read = while_readable(space, cred, self.objects.holds)
        return self._core_image(process, [(vma, vma.access) for vma in space.memory.vmas], may_read)

    def _core_image(
        self, process: Process, regions: Iterable[tuple[Vma, Access]], may_read: MayRead
    ) -> CoreImage:
        image = CoreImage(self.geometry, process, regions, self._label, may_read, self.images)
        self.journal.undo(image.release)
        return image

    # -- text ----------------------------------------------------------------------------------------------------

    def maps_text(self, cred: Credentials, pid: int, tid: int | None = None) -> str:
        """/proc/PID/maps of what the thread sees. ESRCH, EPERM."""
        union = self._union(cred, pid, tid)
        union.touch()
        return render.maps(union, self._label)

    def smaps_text(self, cred: Credentials, pid: int, tid: int | None = None) -> str:
        """/proc/PID/smaps of what the thread sees. ESRCH, EPERM."""
        union = self._union(cred, pid, tid)
        union.touch()
        return procfs.smaps(union, self._label, self._task_memory)

    def status_text(self, cred: Credentials, pid: int) -> str:
        """/proc/PID/status, open to everybody. ESRCH."""
        return procfs.status(self._seen(self.tasks_table.get(pid)))

    def vas_dir(self, cred: Credentials, pid: int) -> list[int]:
        """/proc/PID/vas: ids of the attached spaces. ESRCH, EPERM."""
        return sorted(self._seen(self.tasks_table.require(cred, pid)).attachments)

    def vas_status_text(self, cred: Credentials, pid: int, vid: int) -> str:
        """/proc/PID/vas/VID/status, open to everybody. ESRCH; ENOENT: not attached."""
        held = self._seen(self.tasks_table.get(pid)).attachments.get(vid)
        if held is None:
            raise EngineError(ENOENT, f"task {pid} does not have space {vid} attached")
        return render.vas_status(held)

    def vas_maps_text(self, cred: Credentials, pid: int, vid: int) -> str:
        """/proc/PID/vas/VID/maps. ESRCH, EPERM; ENOENT: not attached."""
        held = self.spaces.attachment(cred, pid, vid)
        held.union.touch()
        return render.vas_maps(held, self._label)

    def sys_vas_text(self, vid: int, file: str) -> str:
        """/sys/vas/VID/{name,mode,user,group}. EINVAL: unknown space; ENOENT: no such file."""
        space = self.spaces.registry.get(vid)
        return _existing(render.attributes(space.name, space.owner, file), file)

    def sys_seg_text(self, sid: int, file: str) -> str:
        """/sys/vas_segs/SID/{name,mode,user,group,region}. EINVAL: unknown segment; ENOENT: no such file."""
        segment = self.segments.registry.get(sid)
        if file == "region":
            return f"{segment.range.start:x}-{segment.range.end:x}\n"
        return _existing(render.attributes(segment.name, segment.owner, file), file)

    def _volatile(self) -> list[PagedMemory]:
        """Memory that the store does not remember, once each."""
        return [*self._task_memory(), *(memory for image in self.images for memory in image.volatile())]

    def _task_memory(self) -> list[PagedMemory]:
        """What of it tasks show, once each."""
        found: dict[int, PagedMemory] = {}
        for task in self.tasks_table:
            found[id(task.space.memory)] = task.space.memory
            found.update({id(vma.obj): vma.obj for vma in task.space.vmas if not vma.obj.persistent})
        return list(found.values())

    def _count_leaves(self) -> int:
        """Leaves of all page maps, each once."""
        tables = {id(obj.pages.table): obj.pages.table for obj in (*self.objects, *self._volatile())}
        return len({id(leaf) for table in tables.values() for leaf in table.leaves.values()})

    def _free_frames(self, wanted: int) -> None:
        """The pool runs dry: what the store has goes first, then tasks' own memory goes to swap."""
        freed = self.objects.evict(wanted)
        if freed < wanted:
            self.reclaim.free(wanted - freed)

    def _union(self, cred: Credentials, pid: int, tid: int | None) -> Union:
        return self.tasks_table.thread_of(cred, pid, tid).union

    def _seen(self, task: Task) -> Task:
        """A task whose threads and attachments the answer tells."""
        self.journal.touch(task.space)
        for held in task.attachments.values():
            self.journal.touch(held.space)
        return task

    def _label(self, vma: Vma) -> str:
        if vma.sid:
            return f"[segment:{self.segments.registry.get(vma.sid).name}]"
        for mapper in vma.obj.mappers:
            if mapper.vid:
                return f"[vas:{self.spaces.registry.get(mapper.vid).name}]"
        return ""


def _existing(text: str | None, file: str) -> str:
    if text is None:
        raise EngineError(ENOENT, f"no file {file!r}")
    return text
