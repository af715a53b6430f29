"""Clones, snapshots and images of spaces and segments, roots, and mapping into a space from outside."""

from engine.access import Access
from engine.constants import O_RDONLY
from engine.credentials import Credentials
from engine.errors import EACCES, EINVAL, EngineError
from engine.interface.parts import Parts
from engine.spaces import inactive, roots
from engine.spaces.spaces import Space
from engine.tasks.tasks import Attachment
from engine.views import Lineage


class CloneCalls(Parts):
    """What spaces and segments have that the patch set's did not. Credentials come first."""

    def vas_clone(self, cred: Credentials, vid: int, name: str) -> int:
        """See `Clones.clone_space`; the clone's id."""
        return self.clones.clone_space(cred, vid, name).vid

    def vas_seg_clone(self, cred: Credentials, sid: int, name: str) -> int:
        """See `Clones.clone_segment`; the clone's id."""
        return self.clones.clone_segment(cred, sid, name).sid

    def vas_snapshot(self, cred: Credentials, vid: int, name: str) -> int:
        """A clone that nobody can change, its segments neither; its id. See `Clones.clone_space`."""
        return self.clones.clone_space(cred, vid, name, snapshot=True).vid

    def vas_seg_snapshot(self, cred: Credentials, sid: int, name: str) -> int:
        """A clone that nobody can change; its id. See `Clones.clone_segment`."""
        return self.clones.clone_segment(cred, sid, name, snapshot=True).sid

    def vas_reset(self, cred: Credentials, vid: int) -> None:
        """See `Clones.reset_space`."""
        self.clones.reset_space(cred, vid)

    def vas_seg_reset(self, cred: Credentials, sid: int) -> None:
        """See `Clones.reset_segment`."""
        self.clones.reset_segment(cred, sid)

    def vas_lineage(self, cred: Credentials, vid: int) -> Lineage:
        """Where a space comes from, and its clones. EINVAL: unknown."""
        return self.clones.space_lineage(vid)

    def vas_seg_lineage(self, cred: Credentials, sid: int) -> Lineage:
        """Where a segment comes from, and its clones. EINVAL: unknown."""
        return self.clones.segment_lineage(sid)

    def usage_objects(self, cred: Credentials, vid: int) -> list[int]:
        """The store's objects of a space, the one that it shows first. EINVAL: unknown."""
        space = self.spaces.registry.get(vid)
        return [space.object_id, *([space.birth] if space.birth else [])]

    def seg_usage_objects(self, cred: Credentials, sid: int) -> list[int]:
        """The store's objects of a segment, the one that it shows first. EINVAL: unknown."""
        segment = self.segments.registry.get(sid)
        return [obj.object_id for obj in (segment.obj, segment.birth) if obj is not None]

    # -- images --------------------------------------------------------------------------------------------------

    def vas_fork(self, cred: Credentials, pid: int, tid: int | None = None, name: str | None = None) -> int:
        """See `Checkpoints.fork`; the space's id."""
        return self.checkpoints.fork(cred, pid, tid, name).vid

    def vas_exec(self, cred: Credentials, pid: int, vid: int) -> None:
        """See `Checkpoints.exec`."""
        self.checkpoints.exec(cred, pid, vid)

    # -- a space that nobody has to be in ------------------------------------------------------------------------

    def vas_mmap(self, cred: Credentials, vid: int, addr: int, length: int, prot: int, flags: int) -> int:
        """See `inactive.vas_mmap`. EINVAL: unknown."""
        return inactive.vas_mmap(cred, self.spaces.registry.get(vid), addr, length, prot, flags)

    def vas_munmap(self, cred: Credentials, vid: int, addr: int, length: int) -> None:
        """See `inactive.vas_munmap`. EINVAL: unknown."""
        inactive.vas_munmap(cred, self.spaces.registry.get(vid), addr, length)

    def vas_mprotect(self, cred: Credentials, vid: int, addr: int, length: int, prot: int) -> None:
        """See `inactive.vas_mprotect`. EINVAL: unknown."""
        inactive.vas_mprotect(cred, self.spaces.registry.get(vid), addr, length, prot)

    # -- roots ---------------------------------------------------------------------------------------------------

    def vas_set_root(self, cred: Credentials, vid: int, name: str, addr: int) -> None:
        """See `roots.set_root`. EINVAL: unknown; EACCES: the mode's write bit."""
        roots.set_root(self.journal, self.geometry, self._allowed(cred, vid, Access.WRITE), name, addr)

    def vas_get_root(self, cred: Credentials, vid: int, name: str) -> int:
        """See `roots.get_root`. EINVAL: unknown; EACCES: the mode's read bit."""
        return roots.get_root(self.journal, self._allowed(cred, vid, Access.READ), name)

    def vas_delete_root(self, cred: Credentials, vid: int, name: str) -> None:
        """See `roots.delete_root`. EINVAL: unknown; EACCES: the mode's write bit."""
        roots.delete_root(self.journal, self._allowed(cred, vid, Access.WRITE), name)

    def vas_roots(self, cred: Credentials, vid: int) -> dict[str, int]:
        """All roots of a space, by name. EINVAL: unknown; EACCES: the mode's read bit."""
        return dict(sorted(self._allowed(cred, vid, Access.READ).roots.items()))

    def set_root(self, cred: Credentials, pid: int, tid: int | None, name: str, addr: int) -> None:
        """`vas_set_root` in the space that a thread is in. ESRCH, EPERM; EINVAL: in none; EACCES: attached read-only."""
        held = self._inside(cred, pid, tid)
        if held.type == O_RDONLY:
            raise EngineError(EACCES, f"space {held.vid} is attached read-only")
        roots.set_root(self.journal, self.geometry, self.spaces.registry.get(held.vid), name, addr)

    def get_root(self, cred: Credentials, pid: int, tid: int | None, name: str) -> int:
        """`vas_get_root` in the space that a thread is in. ESRCH, EPERM; EINVAL: in none; ENOENT."""
        held = self._inside(cred, pid, tid)
        return roots.get_root(self.journal, self.spaces.registry.get(held.vid), name)

    def _allowed(self, cred: Credentials, vid: int, needed: Access) -> Space:
        space = self.spaces.registry.get(vid)
        space.owner.require(cred, needed, f"space {vid}")
        return space

    def _inside(self, cred: Credentials, pid: int, tid: int | None) -> Attachment:
        thread = self.tasks_table.thread_of(cred, pid, tid)
        self.journal.touch(thread.task.space)
        if not thread.active:
            raise EngineError(EINVAL, f"thread {thread.tid} is in no space")
        return thread.task.attachments[thread.active]
