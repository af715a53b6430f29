"""First-class virtual address spaces: vas_create ... vas_setattr."""

from engine.access import Access
from engine.constants import EXCLUSIVE
from engine.credentials import Credentials
from engine.interface.parts import Parts
from engine.spaces.attributes import PERSISTENT_NAME
from engine.views import Region, SegmentAttachment, VasAttr


class VasCalls(Parts):
    """The calls about spaces. Credentials come first."""

    def vas_create(
        self,
        cred: Credentials,
        name: str,
        mode: int,
        sharing: str = EXCLUSIVE,
        lifetime: str = PERSISTENT_NAME,
    ) -> int:
        """See `Spaces.create`."""
        return self.spaces.create(cred, name, mode, sharing, lifetime)

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
        """vas_switch of one thread, 0 for the original address space. ESRCH, EPERM; EINVAL: not attached.

        EAGAIN: a lock of the space or of a segment in it is not free.
        """
        thread = self.tasks_table.thread_of(cred, pid, tid)
        if vid != thread.active:
            if vid and self.locks.needed:
                self.locks.require(thread, vid)
            thread.switch(vid)
            if self.journal.current is not None:
                uid = thread.task.cred.uid
                self.journal.note("thread.switched", pid=pid, tid=thread.tid, uid=uid, vid=vid)

    def active_vas(self, cred: Credentials, pid: int, tid: int | None) -> int:
        """The id of the space a thread is in, 0 in its original address space. ESRCH, EPERM."""
        return self.seen(self.tasks_table.require(cred, pid)).thread(tid).active

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
        name: str | None = None,
        lifetime: str | None = None,
    ) -> None:
        """See `Spaces.setattr`."""
        self.spaces.setattr(cred, vid, mode, uid, gid, sharing, name, lifetime)

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
