"""VAS segments: named memory at a fixed place, shared between spaces (SEMANTICS: VAS segments; RFC patch 11)."""

from dataclasses import dataclass

from engine.access import READ_WRITE, Access
from engine.address import VirtRange
from engine.changes import DropSegment, PutSegment, SegmentRecord
from engine.constants import EXCLUSIVE, O_RDONLY
from engine.credentials import Credentials, Owner
from engine.errors import EBUSY, EEXIST, EFAULT, EINVAL, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.memory.memory_object import MemoryObject
from engine.memory.objects import Objects
from engine.registry import (
    Registry,
    change_owner,
    require_mode,
    require_name,
    require_shareable,
    require_sharing,
    require_type,
)
from engine.spaces import Space, Spaces
from engine.views import SegAttr, SegmentAttachment
from engine.vma import Vma


@dataclass(slots=True, eq=False)
class Segment:
    """A named piece of memory with a fixed range (struct vas_seg)."""

    sid: int
    name: str
    range: VirtRange
    owner: Owner
    sharing: str
    obj: MemoryObject
    pending: int = 0

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
        )


class Segments:
    """All segments of a machine, and the spaces they are in."""

    def __init__(self, geometry: Geometry, journal: Journal, objects: Objects, spaces: Spaces) -> None:
        self._geometry = geometry
        self._journal = journal
        self._objects = objects
        self._spaces = spaces
        self.registry: Registry[Segment] = Registry(journal, "segment")

    def create(
        self, cred: Credentials, name: str, start: int, end: int, mode: int, sharing: str = EXCLUSIVE
    ) -> int:
        """vas_seg_create: sparse zeros at [start, end); its id. EINVAL: not aligned, reversed, name; EFAULT: not mappable; EEXIST."""
        geometry = self._geometry
        if start < 0 or not geometry.is_aligned(start) or not geometry.is_aligned(end) or end <= start:
            raise EngineError(EINVAL, f"{start:#x}-{end:#x} is not a page-aligned range", address=start)
        kept_mode = require_mode(mode)
        require_sharing(sharing)
        wanted = VirtRange(start, end)
        require_name(name)
        if start < geometry.user_start or end > geometry.user_end:
            raise EngineError(
                EFAULT,
                f"{wanted} is not inside {geometry.user_start:#x}-{geometry.user_end:#x}",
                address=start,
            )
        sid = self.registry.new_id(name)
        owner = Owner(cred.uid, cred.gids[0], kept_mode)
        segment = Segment(sid, name, wanted, owner, sharing, self._objects.create())
        self.registry.add(sid, segment)
        self._journal.change(PutSegment(segment.record()), segment)
        return sid

    def restore(self, record: SegmentRecord) -> Segment:
        """Put a segment of the store's image back."""
        owner = Owner(record.uid, record.gid, record.mode)
        obj = self._objects.restore(record.object_id)
        held = VirtRange(record.start, record.end)
        segment = Segment(record.sid, record.name, held, owner, record.sharing, obj)
        self.registry.add(record.sid, segment)
        return segment

    def delete(self, cred: Credentials, sid: int) -> None:
        """vas_seg_delete. EINVAL: unknown; EACCES; EBUSY: attached to a space."""
        segment = self.registry.get(sid)
        segment.owner.require(cred, Access.WRITE, f"segment {sid}")
        self._refuse_attached(segment)
        self.registry.remove(sid, segment)
        self._journal.change(DropSegment(sid), segment, segment.obj)
        segment.obj.release()
        self._objects.forget(segment.obj)

    def attach(self, cred: Credentials, vid: int, sid: int, attach_type: int) -> None:
        """vas_seg_attach, also to a space in use. EINVAL; EACCES: segment's mode, then space's; 0 or EEXIST; EBUSY; EFAULT."""
        if vid < 0 or sid < 0:
            raise EngineError(EINVAL, f"vid {vid}, sid {sid}")
        kind, needed = require_type(attach_type)
        space = self._spaces.registry.get(vid)
        segment = self.registry.get(sid)
        segment.owner.require(cred, needed, f"segment {sid}")
        space.owner.require(cred, Access.WRITE, f"space {vid}")
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
        space.memory.refuse_collision(EFAULT, segment.range)
        access = Access.READ if kind == O_RDONLY else READ_WRITE
        start, end = segment.range.start, segment.range.end
        space.memory.map(Vma(start, end, access, segment.obj, 0, shared=True, sid=sid, type=kind))

    def detach(self, cred: Credentials, vid: int, sid: int) -> None:
        """vas_seg_detach. EINVAL: unknown space, not attached there; EACCES: needs write on the space; EBUSY: space attached."""
        space = self._spaces.registry.get(vid)
        windows = [vma for vma in space.memory.segment_windows() if vma.sid == sid]
        if not windows:
            raise EngineError(EINVAL, f"space {vid} does not have segment {sid} attached")
        space.owner.require(cred, Access.WRITE, f"space {vid}")
        if space.attached:
            holder = f"task {space.attached[0].task.pid}"
            raise EngineError(EBUSY, f"space {vid} is attached ({holder})", holder=holder)
        self._journal.touch(self.registry.get(sid))
        space.memory.unmap(windows[0].start, windows[-1].end)

    def getattr(self, sid: int) -> SegAttr:
        """vas_seg_getattr; needs no permission. EINVAL: unknown."""
        segment = self.registry.get(sid)
        self._journal.touch(segment.obj)
        owner, held = segment.owner, segment.range
        count = len(segment.obj.mappers)
        return SegAttr(
            sid, segment.name, held.start, held.end, owner.mode, owner.uid, owner.gid, segment.sharing, count
        )

    def setattr(
        self,
        cred: Credentials,
        sid: int,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        sharing: str | None,
    ) -> None:
        """vas_seg_setattr; None leaves a value. EPERM: see `change_owner`; EBUSY: `sharing` while attached."""
        segment = self.registry.get(sid)
        new_sharing = segment.sharing if sharing is None else require_sharing(sharing)
        change_owner(segment.owner, self._journal, cred, f"segment {sid}", mode, uid, gid)
        if new_sharing != segment.sharing:
            self._refuse_attached(segment)
        before = segment.sharing
        segment.sharing = new_sharing
        self._journal.undo(lambda: setattr(segment, "sharing", before))
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
        if len(data):
            segment.obj.write(offset, data, durable=durable)
        return len(data)

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
