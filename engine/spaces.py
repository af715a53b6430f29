"""First-class virtual address spaces: the vas_* calls (SEMANTICS: VAS; mm/vas.c of the patch set)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.access import Access
from engine.address_space import AddressSpace
from engine.changes import DropSpace, PutSpace, SpaceRecord
from engine.constants import EXCLUSIVE
from engine.credentials import Credentials, Owner
from engine.errors import EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, Collision, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.memory.objects import Objects
from engine.registry import (
    Registry,
    change_owner,
    require_mode,
    require_shareable,
    require_sharing,
    require_type,
)
from engine.tasks import Attachment, Task, Tasks
from engine.union import Union
from engine.views import VasAttr


@dataclass(slots=True, eq=False)
class Space:
    """A named address space that lives apart from any task (struct vas). `object_id` names the memory it shows."""

    vid: int
    name: str
    owner: Owner
    sharing: str
    object_id: int
    _make_memory: Callable[["Space"], AddressSpace]
    _memory: AddressSpace | None = None
    attached: list[Attachment] = field(default_factory=list)
    pending: int = 0

    @property
    def memory(self) -> AddressSpace:
        """Its regions. They are made when somebody first asks for them: a new space is a name and an owner."""
        memory = self._memory
        if memory is None:
            memory = self._memory = self._make_memory(self)
        return memory

    def segment_ids(self) -> list[int]:
        """Of the segments in it, ascending."""
        return sorted({vma.sid for vma in self._memory.segment_windows()}) if self._memory is not None else []

    def record(self) -> SpaceRecord:
        """What the store keeps."""
        owner = self.owner
        return SpaceRecord(
            self.vid, self.name, owner.mode, owner.uid, owner.gid, self.sharing, self.object_id
        )


class Spaces:
    """All spaces of a machine, and who has them attached."""

    def __init__(self, geometry: Geometry, journal: Journal, objects: Objects, tasks: Tasks) -> None:
        self._geometry = geometry
        self._journal = journal
        self._objects = objects
        self._tasks = tasks
        self.registry: Registry[Space] = Registry(journal, "space")

    def create(self, cred: Credentials, name: str, mode: int, sharing: str = EXCLUSIVE) -> int:
        """vas_create: an empty space of the caller's; its id. EINVAL: name, mode, sharing; EEXIST; ENOSPC."""
        kept_mode = require_mode(mode)
        require_sharing(sharing)
        vid = self.registry.new_id(name)
        owner = Owner(cred.uid, cred.gids[0], kept_mode)
        space = Space(vid, name, owner, sharing, self._objects.reserve(), self._make_memory)
        self.registry.add(vid, space)
        self._journal.change(PutSpace(space.record()), space)
        return vid

    def restore(self, record: SpaceRecord) -> Space:
        """Put a space of the store's image back."""
        owner = Owner(record.uid, record.gid, record.mode)
        self._objects.restore(record.object_id)
        space = Space(record.vid, record.name, owner, record.sharing, record.object_id, self._make_memory)
        self.registry.add(record.vid, space)
        return space

    def delete(self, cred: Credentials, vid: int) -> Space:
        """vas_delete. EINVAL: unknown; EACCES before EBUSY, so that a stranger learns nothing; EBUSY: attached."""
        space = self.registry.get(vid)
        space.owner.require(cred, Access.WRITE, f"space {vid}")
        self._refuse_attached(space, "deleted")
        for vma in list(space.memory.segment_windows()):
            space.memory.unmap(vma.start, vma.end)
        self.registry.remove(vid, space)
        self._journal.change(DropSpace(vid), space, space.memory)
        space.memory.release()
        self._objects.forget(space.memory.memory)
        return space

    def attach(self, cred: Credentials, pid: int, vid: int, attach_type: int, *, lazy: bool) -> None:
        """vas_attach, in the order of CONTRACT: EINVAL, ESRCH, EINVAL, EPERM, EINVAL, EACCES, 0 or EEXIST, EBUSY, EFAULT."""
        if pid < 0 or vid < 0:
            raise EngineError(EINVAL, f"pid {pid}, vid {vid}")
        self._tasks.get(pid)
        kind, needed = require_type(attach_type)
        task = self._tasks.require(cred, pid)
        space = self.registry.get(vid)
        space.owner.require(cred, needed, f"space {vid}")
        self._journal.touch(task.space)
        self._journal.touch(space.memory)
        held = task.attachments.get(vid)
        if held is not None:
            if held.type == kind:
                return
            raise EngineError(
                EEXIST, f"task {pid} has space {vid} attached with another type", holder=f"task {pid}"
            )
        first = space.attached[0].type if space.attached else None
        require_shareable(space.sharing, len(space.attached), first, kind, f"space {vid}")
        for vma in space.memory.vmas:
            clash = task.space.vmas.overlapping(vma.start, vma.end)
            if clash:
                raise Collision(EFAULT, vma.range, clash[0].range, task.space.label)
        self._link(task, space, kind, lazy=lazy)

    def detach(self, cred: Credentials, pid: int, vid: int) -> None:
        """vas_detach. EINVAL: not attached; ESRCH; EPERM; EBUSY: any thread of the task is inside."""
        if pid < 0 or vid < 0:
            raise EngineError(EINVAL, f"pid {pid}, vid {vid}")
        task = self._tasks.require(cred, pid)
        self._journal.touch(task.space)
        attachment = task.attachments.get(vid)
        if attachment is None:
            raise EngineError(EINVAL, f"task {pid} does not have space {vid} attached")
        inside = [thread.tid for thread in task.threads.values() if thread.active == vid]
        if inside:
            raise EngineError(
                EBUSY, f"thread {inside[0]} of task {pid} is inside space {vid}", holder=f"thread {inside[0]}"
            )
        self._journal.touch(self.registry.get(vid))
        self._tasks.detach(attachment)

    def getattr(self, vid: int) -> VasAttr:
        """vas_getattr; needs no permission. EINVAL: unknown."""
        space = self.registry.get(vid)
        owner = space.owner
        count, sids = len(space.attached), tuple(space.segment_ids())
        return VasAttr(vid, space.name, owner.mode, owner.uid, owner.gid, space.sharing, count, sids)

    def setattr(
        self,
        cred: Credentials,
        vid: int,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        sharing: str | None,
    ) -> None:
        """vas_setattr; None leaves a value. EPERM: see `change_owner`; EBUSY: `sharing` while attached."""
        space = self.registry.get(vid)
        new_sharing = space.sharing if sharing is None else require_sharing(sharing)
        change_owner(space.owner, self._journal, cred, f"space {vid}", mode, uid, gid)
        if new_sharing != space.sharing:
            self._refuse_attached(space, "shared otherwise")
        before = space.sharing
        space.sharing = new_sharing
        self._journal.undo(lambda: setattr(space, "sharing", before))
        self._journal.change(PutSpace(space.record()), space)

    def attachment(self, cred: Credentials, pid: int, vid: int) -> Attachment:
        """One task's attachment. ESRCH, EPERM; ENOENT: not attached."""
        task = self._tasks.require(cred, pid)
        self._journal.touch(task.space)
        attachment = task.attachments.get(vid)
        if attachment is None:
            raise EngineError(ENOENT, f"task {pid} does not have space {vid} attached")
        return attachment

    def _refuse_attached(self, space: Space, what: str) -> None:
        if space.attached:
            holder = space.attached[0].task.pid
            raise EngineError(
                EBUSY,
                f"space {space.vid} is attached (task {holder}) and cannot be {what}",
                holder=f"task {holder}",
            )

    def _link(self, task: Task, space: Space, kind: int, *, lazy: bool) -> None:
        union = Union(task.space, task.counters, space.memory, kind)
        attachment = Attachment(task, space.vid, space.memory, kind, lazy, union, space.attached)
        attachment.link()
        self._journal.undo(attachment.unlink)
        if not lazy:
            union.populate()

    def _make_memory(self, space: Space) -> AddressSpace:
        geometry = self._geometry
        places = ((geometry.arena_start, geometry.arena_end),)
        memory = self._objects.get(space.object_id)
        made = AddressSpace(geometry, memory, f"space {space.vid}", places, space.vid)
        made.pending = space.pending
        return made
