"""Looking at the machine: files of procfs and sysfs, core files."""

from collections.abc import Iterable

from engine.access import Access
from engine.credentials import Credentials
from engine.errors import ENOENT, EngineError
from engine.inspection import procfs, render
from engine.inspection.core_file import Process
from engine.inspection.core_image import CoreImage, MayRead, while_attached, while_readable
from engine.interface.parts import Parts
from engine.regions.vma import Vma


class InspectionCalls(Parts):
    """The calls that show. Credentials come first."""

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
        image = CoreImage(self.geometry, process, regions, self.label, may_read, self.images)
        self.journal.undo(image.undo)
        return image

    # -- text ----------------------------------------------------------------------------------------------------

    def maps_text(self, cred: Credentials, pid: int, tid: int | None = None) -> str:
        """/proc/PID/maps of what the thread sees. ESRCH, EPERM."""
        union = self.union_of(cred, pid, tid)
        union.touch()
        return render.maps(union, self.label)

    def smaps_text(self, cred: Credentials, pid: int, tid: int | None = None) -> str:
        """/proc/PID/smaps of what the thread sees. ESRCH, EPERM."""
        union = self.union_of(cred, pid, tid)
        union.touch()
        return procfs.smaps(union, self.label, self.task_memory)

    def status_text(self, cred: Credentials, pid: int) -> str:
        """/proc/PID/status, open to everybody. ESRCH."""
        return procfs.status(self.seen(self.tasks_table.get(pid)))

    def vas_dir(self, cred: Credentials, pid: int) -> list[int]:
        """/proc/PID/vas: ids of the attached spaces. ESRCH, EPERM."""
        return sorted(self.seen(self.tasks_table.require(cred, pid)).attachments)

    def vas_status_text(self, cred: Credentials, pid: int, vid: int) -> str:
        """/proc/PID/vas/VID/status, open to everybody. ESRCH; ENOENT: not attached."""
        held = self.seen(self.tasks_table.get(pid)).attachments.get(vid)
        if held is None:
            raise EngineError(ENOENT, f"task {pid} does not have space {vid} attached")
        return render.vas_status(held)

    def vas_maps_text(self, cred: Credentials, pid: int, vid: int) -> str:
        """/proc/PID/vas/VID/maps. ESRCH, EPERM; ENOENT: not attached."""
        held = self.spaces.attachment(cred, pid, vid)
        held.union.touch()
        return render.vas_maps(held, self.label)

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


def _existing(text: str | None, file: str) -> str:
    if text is None:
        raise EngineError(ENOENT, f"no file {file!r}")
    return text
