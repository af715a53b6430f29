"""VAS segments: named memory at a fixed place, shared between spaces (SEMANTICS: VAS segments; RFC patch 11)."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.access import READ_WRITE, Access
from engine.address import VirtRange
from engine.changes import SNAPSHOT, TRANSIENT, DropSegment, PutSegment, SegmentRecord
from engine.constants import EXCLUSIVE, O_RDONLY
from engine.credentials import Credentials, Owner
from engine.errors import EBUSY, EEXIST, EFAULT, EINVAL, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.memory.memory_object import MemoryObject
from engine.memory.objects import Objects
from engine.names import require_name
from engine.regions.vma import Vma
from engine.spaces.attributes import PERSISTENT_NAME, lifetime_of, require_mutable, with_lifetime
from engine.spaces.registry import (
    Registry,
    require_mode,
    require_owner,
    require_shareable,
    require_sharing,
    require_type,
)
from engine.spaces.spaces import Space, Spaces
from engine.views import SegAttr, SegmentAttachment


@dataclass(slots=True, eq=False)
class Segment:
    """A named piece of memory with a fixed range (struct vas_seg).

    `flags` and `origin` are those of its record; `birth` is the memory that a clone began with, for `vas_seg_reset`.
    """

    sid: int
    name: str
    range: VirtRange
    owner: Owner
    sharing: str
    obj: MemoryObject
    flags: int = 0
    origin: int = 0
    birth: MemoryObject | None = None
    pending: int = 0

    def objects(self) -> tuple[int, ...]:
        """Of the store: its memory, and what it was born with."""
        held = self.obj.object_id
        return (held,) if self.birth is None else (held, self.birth.object_id)

    def record(self) -> SegmentRecord:
        """What the store keeps."""
        owner, held = self.owner, self.range
        return SegmentRecord(
            self.sid,
            self.name,
            held.start,
            held.end,
            owner.mode,
            owner.uid,
            owner.gid,
            self.sharing,
            self.obj.object_id,
            self.flags,
            self.origin,
            self.birth.object_id if self.birth is not None else 0,
        )

    def require_mutable(self) -> None:
        """EPERM: it is a snapshot."""
        require_mutable(self.flags, f"segment {self.sid}")


class Segments:
    """All segments of a machine, and the spaces they are in."""

    def __init__(self, geometry: Geometry, journal: Journal, objects: Objects, spaces: Spaces) -> None:
        self._geometry = geometry
        self._journal = journal
        self._objects = objects
        self._spaces = spaces
        self.registry: Registry[Segment] = Registry(journal, "segment")
        self.admit: Callable[[Space, Segment, int], None] = lambda *_: None
        """Asked before a segment is attached to a space with a type; it may refuse."""
        spaces.on_segments_left = self._left

    def create(
        self,
        cred: Credentials,
        name: str,
        start: int,
        end: int,
        mode: int,
        sharing: str = EXCLUSIVE,
        lifetime: str = PERSISTENT_NAME,
    ) -> int:
        """vas_seg_create: sparse zeros at [start, end); its id. EINVAL: not aligned, reversed, name; EFAULT: not mappable; EEXIST."""
        geometry = self._geometry
        if start < 0 or not geometry.is_aligned(start) or not geometry.is_aligned(end) or end <= start:
            raise EngineError(EINVAL, f"{start:#x}-{end:#x} is not a page-aligned range", address=start)
        kept_mode = require_mode(mode)
        require_sharing(sharing)
        flags = with_lifetime(0, lifetime)
        wanted = VirtRange(start, end)
        require_name(name)
        if start < geometry.user_start or end > geometry.user_end:
            raise EngineError(
                EFAULT,
                f"{wanted} is not inside {geometry.user_start:#x}-{geometry.user_end:#x}",
                address=start,
            )
        owner = Owner(cred.uid, cred.gids[0], kept_mode)
        sid = self.registry.new_id(name)
        return self._add(Segment(sid, name, wanted, owner, sharing, self._objects.create(), flags)).sid

    def clone(self, cred: Credentials, segment: Segment, name: str, flags: int) -> Segment:
        """A segment of the caller's that reads as `segment` does now, at the same place. EINVAL, EEXIST: the name; ENOSPC."""
        sid = self.registry.new_id(name)
        obj = self._objects.clone(segment.obj)
        birth = None if flags & SNAPSHOT else self._objects.clone(obj)
        owner = Owner(cred.uid, cred.gids[0], segment.owner.mode)
        return self._add(
            Segment(sid, name, segment.range, owner, segment.sharing, obj, flags, segment.sid, birth)
        )

    def require_resettable(self, cred: Credentials, segment: Segment) -> None:
        """EPERM: neither its owner nor root (what was overwritten may come back), or a snapshot; EINVAL: no clone."""
        require_owner(segment.owner, cred, f"segment {segment.sid}", "reset it")
        segment.require_mutable()
        if segment.birth is None:
            raise EngineError(EINVAL, f"segment {segment.sid} is no clone")

    def reset(self, segment: Segment) -> None:
        """Give a clone the bytes that it began with."""
        if segment.birth is not None:
            segment.obj.become(segment.birth)

    def restore(self, record: SegmentRecord) -> Segment:
        """Put a segment of the store's image back."""
        owner = Owner(record.uid, record.gid, record.mode)
        obj = self._objects.restore(record.object_id)
        birth = self._objects.restore(record.birth) if record.birth else None
        held = VirtRange(record.start, record.end)
        segment = Segment(
            record.sid, record.name, held, owner, record.sharing, obj, record.flags, record.origin, birth
        )
        self.registry.add(record.sid, segment)
        return segment

    def delete(self, cred: Credentials, sid: int) -> None:
        """vas_seg_delete. EINVAL: unknown; EACCES; EBUSY: attached to a space."""
        segment = self.registry.get(sid)
        segment.owner.require(cred, Access.WRITE, f"segment {sid}")
        self._refuse_attached(segment)
        self.remove(segment)

    def remove(self, segment: Segment) -> None:
        """Delete a segment that is in no space, whoever asks for it."""
        self.registry.remove(segment.sid, segment)
        self._journal.change(DropSegment(segment.sid), segment, segment.obj)
        for obj in (segment.obj, segment.birth):
            if obj is not None:
                obj.release()
                self._objects.forget(obj)

    def attach(self, cred: Credentials, vid: int, sid: int, attach_type: int) -> None:
        """vas_seg_attach, also to a space in use. EINVAL; EACCES: segment's mode, then space's; 0 or EEXIST; EBUSY; EFAULT."""
        if vid < 0 or sid < 0:
            raise EngineError(EINVAL, f"vid {vid}, sid {sid}")
        kind, needed = require_type(attach_type)
        space = self._spaces.registry.get(vid)
        segment = self.registry.get(sid)
        segment.owner.require(cred, needed, f"segment {sid}")
        space.owner.require(cred, Access.WRITE, f"space {vid}")
        space.require_mutable()
        if kind != O_RDONLY:
            segment.require_mutable()
        held = next((vma for vma in space.memory.segment_windows() if vma.sid == sid), None)
        if held is not None:
            if held.type == kind:
                return
            raise EngineError(
                EEXIST, f"space {vid} has segment {sid} attached with another type", holder=f"space {vid}"
            )
        self._journal.touch(segment.obj)
        spaces = segment.obj.mappers
        first = self._type_in(self._spaces.registry.get(spaces[0].vid), sid) if spaces else None
        require_shareable(segment.sharing, len(spaces), first, kind, f"segment {sid}")
        self.admit(space, segment, kind)
        space.memory.refuse_collision(EFAULT, segment.range)
        access = Access.READ if kind == O_RDONLY else READ_WRITE
        start, end = segment.range.start, segment.range.end
        space.memory.map(Vma(start, end, access, segment.obj, 0, shared=True, sid=sid, type=kind))
        self._journal.note("segment.attached", sid=sid, vid=vid, type=kind)

    def detach(self, cred: Credentials, vid: int, sid: int) -> None:
        """vas_seg_detach. EINVAL: unknown space, not attached there; EACCES: needs write on the space; EBUSY: space attached."""
        space = self._spaces.registry.get(vid)
        windows = [vma for vma in space.memory.segment_windows() if vma.sid == sid]
        if not windows:
            raise EngineError(EINVAL, f"space {vid} does not have segment {sid} attached")
        space.owner.require(cred, Access.WRITE, f"space {vid}")
        space.require_mutable()
        if space.attached:
            holder = f"task {space.attached[0].task.pid}"
            raise EngineError(EBUSY, f"space {vid} is attached ({holder})", holder=holder)
        self._journal.touch(self.registry.get(sid))
        space.memory.unmap(windows[0].start, windows[-1].end)
        self._journal.note("segment.detached", sid=sid, vid=vid)
        self._left([sid])

    def getattr(self, sid: int) -> SegAttr:
        """vas_seg_getattr; needs no permission. EINVAL: unknown."""
        segment = self.registry.get(sid)
        self._journal.touch(segment.obj)
        owner, held = segment.owner, segment.range
        return SegAttr(
            sid,
            segment.name,
            held.start,
            held.end,
            owner.mode,
            owner.uid,
            owner.gid,
            segment.sharing,
            len(segment.obj.mappers),
            segment.origin,
            bool(segment.flags & SNAPSHOT),
            lifetime_of(segment.flags),
        )

    def setattr(
        self,
        cred: Credentials,
        sid: int,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        sharing: str | None,
        name: str | None,
        lifetime: str | None,
    ) -> None:
        """vas_seg_setattr; None leaves a value. EPERM: see `change_owner`; EBUSY: `sharing` while attached; EEXIST: the name."""
        segment = self.registry.get(sid)
        new_sharing = segment.sharing if sharing is None else require_sharing(sharing)
        flags = segment.flags if lifetime is None else with_lifetime(segment.flags, lifetime)
        self.registry.change_owner(sid, cred, mode, uid, gid)
        if new_sharing != segment.sharing:
            self._refuse_attached(segment)
        if name is not None:
            self.registry.rename(sid, segment, name)
        before = segment.sharing, segment.flags

        def put_back() -> None:
            segment.sharing, segment.flags = before

        segment.sharing, segment.flags = new_sharing, flags
        self.registry.note_sharing(segment)
        self._journal.undo(put_back)
        self._journal.change(PutSegment(segment.record()), segment)

    def attached_to(self, vid: int) -> list[SegmentAttachment]:
        """The segments of a space, by id. EINVAL: unknown space."""
        space = self._spaces.registry.get(vid)
        types = {vma.sid: vma.type for vma in space.memory.segment_windows()}
        return [SegmentAttachment(sid, types[sid]) for sid in sorted(types)]

    def read(self, cred: Credentials, sid: int, offset: int, length: int) -> bytes:
        """Bytes by offset. EINVAL: unknown, or not inside the segment; EACCES: the mode's read bit."""
        segment = self._checked(cred, sid, Access.READ, offset, length)
        return segment.obj.read(offset, length) if length else b""

    def write(self, cred: Credentials, sid: int, offset: int, data: memoryview, *, durable: bool) -> int:
        """Store by offset, seen at once in every space that has the segment. EINVAL; EACCES: the mode's write bit."""
        segment = self._checked(cred, sid, Access.WRITE, offset, len(data))
        segment.require_mutable()
        if len(data):
            segment.obj.write(offset, data, durable=durable)
        return len(data)

    def _add(self, segment: Segment) -> Segment:
        self.registry.add(segment.sid, segment)
        self._journal.change(PutSegment(segment.record()), segment)
        return segment

    def _left(self, sids: list[int]) -> None:
        """A transient segment goes with its last attachment."""
        for sid in sids:
            segment = self.registry.get(sid)
            if segment.flags & TRANSIENT and not segment.obj.mappers:
                self.remove(segment)

    def _checked(self, cred: Credentials, sid: int, needed: Access, offset: int, length: int) -> Segment:
        segment = self.registry.get(sid)
        segment.owner.require(cred, needed, f"segment {sid}")
        if offset < 0 or length < 0 or offset + length > segment.range.length:
            raise EngineError(
                EINVAL,
                f"{length} bytes at offset {offset} are not inside segment {sid} of {segment.range.length} bytes",
            )
        return segment

    def _refuse_attached(self, segment: Segment) -> None:
        holders = self._holders(segment)
        if holders:
            holder = f"space {holders[0].vid}"
            raise EngineError(EBUSY, f"segment {segment.sid} is attached to {holder}", holder=holder)

    def _holders(self, segment: Segment) -> list[Space]:
        self._journal.touch(segment.obj)
        return [self._spaces.registry.get(vid) for vid in sorted(m.vid for m in segment.obj.mappers)]

    def _type_in(self, space: Space, sid: int) -> int:
        return next(vma.type for vma in space.memory.segment_windows() if vma.sid == sid)
