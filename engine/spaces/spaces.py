"""First-class virtual address spaces: the vas_* calls (SEMANTICS: VAS; mm/vas.c of the patch set)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.access import Access
from engine.changes import IMAGE, SNAPSHOT, TRANSIENT, BirthRecord, DropSpace, PutSpace, SpaceRecord
from engine.constants import EXCLUSIVE, O_RDONLY
from engine.credentials import Credentials, Owner
from engine.errors import EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, Collision, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.memory.objects import Objects
from engine.regions.address_space import AddressSpace
from engine.spaces.attributes import PERSISTENT_NAME, lifetime_of, require_mutable, with_lifetime
from engine.spaces.registry import (
    Registry,
    require_mode,
    require_shareable,
    require_sharing,
    require_type,
)
from engine.tasks.tasks import Attachment, Task, Tasks
from engine.views import VasAttr


@dataclass(slots=True, eq=False)
class Space:
    """A named address space that lives apart from any task (struct vas). `object_id` names the memory it shows.

    `flags`, `origin`, `birth` and `brk` are those of its record; `born` is what a clone began with, for `vas_reset`.
    """

    vid: int
    name: str
    owner: Owner
    sharing: str
    object_id: int
    _make_memory: Callable[["Space"], AddressSpace]
    flags: int = 0
    origin: int = 0
    birth: int = 0
    brk: tuple[int, int] = (0, 0)
    born: BirthRecord | None = None
    roots: dict[str, int] = field(default_factory=dict)
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

    def objects(self) -> tuple[int, ...]:
        """Of the store: its memory, and what it was born with."""
        return (self.object_id, self.birth) if self.birth else (self.object_id,)

    def record(self) -> SpaceRecord:
        """What the store keeps."""
        owner = self.owner
        return SpaceRecord(
            self.vid,
            self.name,
            owner.mode,
            owner.uid,
            owner.gid,
            self.sharing,
            self.object_id,
            self.flags,
            self.origin,
            self.birth,
            self.brk,
        )

    def require_mutable(self) -> None:
        """EPERM: it is a snapshot."""
        require_mutable(self.flags, f"space {self.vid}")


class Spaces:
    """All spaces of a machine, and who has them attached."""

    def __init__(self, geometry: Geometry, journal: Journal, objects: Objects, tasks: Tasks) -> None:
        self._geometry = geometry
        self._journal = journal
        self._objects = objects
        self._tasks = tasks
        self.registry: Registry[Space] = Registry(journal, "space")
        self.on_segments_left: Callable[[list[int]], None] = lambda _: None
        """Told which segments a deleted space had."""
        tasks.on_detach.append(self._detached)

    def create(
        self,
        cred: Credentials,
        name: str,
        mode: int,
        sharing: str = EXCLUSIVE,
        lifetime: str = PERSISTENT_NAME,
    ) -> int:
        """vas_create: an empty space of the caller's; its id. EINVAL: name, mode, sharing, lifetime; EEXIST; ENOSPC."""
        owner = Owner(cred.uid, cred.gids[0], require_mode(mode))
        require_sharing(sharing)
        flags = with_lifetime(0, lifetime)
        return self.add(name, owner, sharing, self._objects.reserve(), flags).vid

    def add(
        self,
        name: str,
        owner: Owner,
        sharing: str,
        object_id: int,
        flags: int = 0,
        origin: int = 0,
        birth: int = 0,
        brk: tuple[int, int] = (0, 0),
    ) -> Space:
        """A new space over an object that exists. EINVAL, EEXIST: the name; ENOSPC."""
        vid = self.registry.new_id(name)
        space = Space(vid, name, owner, sharing, object_id, self._make_memory, flags, origin, birth, brk)
        self.registry.add(vid, space)
        self._journal.change(PutSpace(space.record()), space)
        return space

    def restore(self, record: SpaceRecord, born: BirthRecord | None, roots: dict[str, int]) -> Space:
        """Put a space of the store's image back."""
        owner = Owner(record.uid, record.gid, record.mode)
        self._objects.restore(record.object_id)
        if record.birth:
            self._objects.restore(record.birth)
        space = Space(
            record.vid,
            record.name,
            owner,
            record.sharing,
            record.object_id,
            self._make_memory,
            record.flags,
            record.origin,
            record.birth,
            record.brk,
            born,
            roots,
        )
        self.registry.add(record.vid, space)
        return space

    def delete(self, cred: Credentials, vid: int) -> Space:
        """vas_delete. EINVAL: unknown; EACCES before EBUSY, so that a stranger learns nothing; EBUSY: attached."""
        space = self.registry.get(vid)
        space.owner.require(cred, Access.WRITE, f"space {vid}")
        self._refuse_attached(space, "deleted")
        self.remove(space)
        return space

    def remove(self, space: Space) -> None:
        """Delete a space that nobody has attached, whoever asks for it. Its segments are detached."""
        sids = space.segment_ids()
        for vma in list(space.memory.segment_windows()):
            space.memory.unmap(vma.start, vma.end)
        self.registry.remove(space.vid, space)
        self._journal.change(DropSpace(space.vid), space, space.memory)
        space.memory.release()
        self._objects.forget(space.memory.memory)
        if space.birth:
            birth = self._objects.get(space.birth)
            birth.release()
            self._objects.forget(birth)
        for sid in sids:
            self._journal.note("segment.detached", sid=sid, vid=space.vid)
        self.on_segments_left(sids)

    def attach(self, cred: Credentials, pid: int, vid: int, attach_type: int, *, lazy: bool) -> None:
        """vas_attach, in the order of CONTRACT: EINVAL, ESRCH, EINVAL, EPERM, EINVAL, EACCES, 0 or EEXIST, EBUSY, EFAULT."""
        if pid < 0 or vid < 0:
            raise EngineError(EINVAL, f"pid {pid}, vid {vid}")
        self._tasks.get(pid)
        kind, needed = require_type(attach_type)
        task = self._tasks.require(cred, pid)
        space = self.registry.get(vid)
        space.owner.require(cred, needed, f"space {vid}")
        if kind != O_RDONLY:
            space.require_mutable()
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
        for own in task.layouts():
            self._refuse_clash(space, own)
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
        return VasAttr(
            vid,
            space.name,
            owner.mode,
            owner.uid,
            owner.gid,
            space.sharing,
            len(space.attached),
            tuple(space.segment_ids()),
            space.origin,
            bool(space.flags & SNAPSHOT),
            lifetime_of(space.flags),
            bool(space.flags & IMAGE),
        )

    def setattr(
        self,
        cred: Credentials,
        vid: int,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        sharing: str | None,
        name: str | None,
        lifetime: str | None,
    ) -> None:
        """vas_setattr; None leaves a value. EPERM: see `change_owner`; EBUSY: `sharing` while attached; EEXIST: the name."""
        space = self.registry.get(vid)
        new_sharing = space.sharing if sharing is None else require_sharing(sharing)
        flags = space.flags if lifetime is None else with_lifetime(space.flags, lifetime)
        self.registry.change_owner(vid, cred, mode, uid, gid)
        if new_sharing != space.sharing:
            self._refuse_attached(space, "shared otherwise")
        if name is not None:
            self.registry.rename(vid, space, name)
        before = space.sharing, space.flags

        def put_back() -> None:
            space.sharing, space.flags = before

        space.sharing, space.flags = new_sharing, flags
        self.registry.note_sharing(space)
        self._journal.undo(put_back)
        self._journal.change(PutSpace(space.record()), space)

    def attachment(self, cred: Credentials, pid: int, vid: int) -> Attachment:
        """One task's attachment. ESRCH, EPERM; ENOENT: not attached."""
        task = self._tasks.require(cred, pid)
        self._journal.touch(task.space)
        attachment = task.attachments.get(vid)
        if attachment is None:
            raise EngineError(ENOENT, f"task {pid} does not have space {vid} attached")
        return attachment

    def _detached(self, attachment: Attachment) -> None:
        """A transient space goes with its last attachment."""
        space = self.registry.get(attachment.vid)
        if space.flags & TRANSIENT and not space.attached:
            self.remove(space)

    def _refuse_attached(self, space: Space, what: str) -> None:
        if space.attached:
            holder = space.attached[0].task.pid
            raise EngineError(
                EBUSY,
                f"space {space.vid} is attached (task {holder}) and cannot be {what}",
                holder=f"task {holder}",
            )

    def _refuse_clash(self, space: Space, own: AddressSpace) -> None:
        for vma in space.memory.vmas:
            clash = own.vmas.overlapping(vma.start, vma.end)
            if clash:
                raise Collision(EFAULT, vma.range, clash[0].range, own.label)

    def _link(self, task: Task, space: Space, kind: int, *, lazy: bool) -> None:
        attachment = Attachment(task, space.vid, space.memory, kind, lazy, space.attached)
        attachment.link()
        self._journal.undo(attachment.unlink)
        self._journal.note("space.attached", vid=space.vid, pid=task.pid, type=kind)
        if not lazy:
            for union in attachment.unions.values():
                union.populate()

    def _make_memory(self, space: Space) -> AddressSpace:
        geometry = self._geometry
        places = ((geometry.arena_start, geometry.arena_end),)
        memory = self._objects.get(space.object_id)
        made = AddressSpace(geometry, memory, f"space {space.vid}", places, space.vid)
        made.pending = space.pending
        return made
