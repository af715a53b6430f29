"""Clones of spaces and segments: O(1) in pages, independent of their parent from then on (SpaceJMP: vas_clone, seg_clone).

A clone remembers where it comes from and what it began with, so that it can be reset in one call, whatever became of
its parent. A snapshot is a clone that nobody can change.
"""

from dataclasses import dataclass

from engine.access import Access
from engine.changes import IMAGE, SNAPSHOT, BirthRecord, DropRoot, PutBirth, PutRoot, RegionRecord
from engine.credentials import Credentials, Owner
from engine.errors import EBUSY, EINVAL, EngineError
from engine.journal import Journal
from engine.memory.objects import Objects
from engine.regions.address_space import region_record
from engine.regions.vma import Vma, from_record
from engine.spaces.registry import Registry, require_owner
from engine.spaces.segments import Segment, Segments
from engine.spaces.spaces import Space, Spaces
from engine.views import Lineage


@dataclass(frozen=True, slots=True)
class Clones:
    """Makes and resets clones of one machine's spaces and segments."""

    journal: Journal
    objects: Objects
    spaces: Spaces
    segments: Segments

    def clone_space(self, cred: Credentials, vid: int, name: str, *, snapshot: bool = False) -> Space:
        """A space of the caller's with the same bytes, map, mode, sharing and roots; its segments are cloned with it.

        EINVAL: unknown, name; EACCES: the mode's read bit; EEXIST: the name; ENOSPC.
        """
        source = self.spaces.registry.get(vid)
        source.owner.require(cred, Access.READ, f"space {vid}")
        self.spaces.registry.require_free(name)
        self.journal.touch(source.memory)
        sids = source.segment_ids()
        for sid in sids:
            self.segments.registry.get(sid).obj.flush()  # so that it is told before the clone is
        kept = SNAPSHOT if snapshot else 0
        memory = self.objects.clone(source.memory.memory)
        birth = None if snapshot else self.objects.clone(memory)
        space = self.spaces.add(
            name,
            Owner(cred.uid, cred.gids[0], source.owner.mode),
            source.sharing,
            memory.object_id,
            source.flags & IMAGE | kept,
            vid,
            birth.object_id if birth is not None else 0,
            source.brk,
        )
        segments = {sid: self._clone_with(cred, sid, name, kept) for sid in sids}
        regions: list[Vma] = []
        for vma in source.memory.vmas:
            copied = segments.get(vma.sid)
            obj, sid = (memory, 0) if copied is None else (copied.obj, copied.sid)
            regions.append(vma._replace(obj=obj, sid=sid))
        space.memory.fill(regions)
        for root, address in sorted(source.roots.items()):
            space.roots[root] = address
            self.journal.change(PutRoot(space.vid, root, address), space)
        if birth is not None:
            records = tuple(region_record(vma) for vma in regions)
            space.born = BirthRecord(records, tuple(sorted(space.roots.items())))
            self.journal.change(PutBirth(space.vid, space.born), space)
        return space

    def clone_segment(self, cred: Credentials, sid: int, name: str, *, snapshot: bool = False) -> Segment:
        """A segment of the caller's with the same place, bytes, mode and sharing. EINVAL, EACCES, EEXIST, ENOSPC as above."""
        source = self.segments.registry.get(sid)
        source.owner.require(cred, Access.READ, f"segment {sid}")
        self.journal.touch(source.obj)
        return self.segments.clone(cred, source, name, SNAPSHOT if snapshot else 0)

    def reset_space(self, cred: Credentials, vid: int) -> None:
        """Make a clone what it was at first: bytes, map and roots; also the segments cloned with it that it still has.

        What was attached since stays. EINVAL: unknown, no clone; EPERM: neither its owner nor root (what was overwritten
        may come back), also of those segments, or a snapshot; EBUSY: a thread is inside; EFAULT: a region is in the way of
        one that comes back.
        """
        space = self.spaces.registry.get(vid)
        require_owner(space.owner, cred, f"space {vid}", "reset it")
        space.require_mutable()
        born = space.born
        if born is None:
            raise EngineError(EINVAL, f"space {vid} is no clone")
        refuse_inside(space, f"space {vid}", "reset")
        memory = space.memory
        self.journal.touch(memory)
        attached = set(space.segment_ids())
        for sid in sorted({record.sid for record in born.regions} & attached):
            self.reset_segment(cred, sid)
        memory.memory.become(self.objects.get(space.birth))
        memory.redraw([self._region(space, record) for record in born.regions if not record.sid])
        self._reset_roots(space, dict(born.roots))

    def reset_segment(self, cred: Credentials, sid: int) -> None:
        """Give a clone the bytes that it began with.

        EINVAL: unknown, no clone; EPERM: neither its owner nor root, or a snapshot; EBUSY: a thread is in a space that has it.
        """
        segment = self.segments.registry.get(sid)
        self.journal.touch(segment.obj)
        self.segments.require_resettable(cred, segment)
        for mapper in segment.obj.mappers:
            refuse_inside(self.spaces.registry.get(mapper.vid), f"segment {sid}", "reset")
        self.segments.reset(segment)

    def space_lineage(self, vid: int) -> Lineage:
        """EINVAL: unknown."""
        return _lineage(self.spaces.registry, vid)

    def segment_lineage(self, sid: int) -> Lineage:
        """EINVAL: unknown."""
        return _lineage(self.segments.registry, sid)

    def _clone_with(self, cred: Credentials, sid: int, name: str, flags: int) -> Segment:
        """The clone of a segment in a space whose clone is called `name`: who may read the space reads its segments."""
        source = self.segments.registry.get(sid)
        free = self.segments.registry.free_name(f"{name}/{source.name}")
        return self.segments.clone(cred, source, free, flags)

    def _region(self, space: Space, record: RegionRecord) -> Vma:
        memory = space.memory
        return from_record(record, memory.memory, record.start >> memory.geometry.page_shift)

    def _reset_roots(self, space: Space, born: dict[str, int]) -> None:
        before = space.roots
        for name in sorted(before.keys() - born.keys()):
            self.journal.change(DropRoot(space.vid, name), space)
        for name, address in sorted(born.items()):
            if before.get(name) != address:
                self.journal.change(PutRoot(space.vid, name, address), space)
        space.roots = born
        self.journal.undo(setattr, space, "roots", before)


def refuse_inside(space: Space, thing: str, what: str) -> None:
    """EBUSY while a thread is inside the space: `thing` cannot be `what`."""
    for held in space.attached:
        for thread in held.task.threads.values():
            if thread.active == space.vid:
                holder = f"thread {thread.tid}"
                raise EngineError(
                    EBUSY, f"{holder} is inside space {space.vid}: {thing} cannot be {what}", holder=holder
                )


def _lineage(registry: "Registry[Space] | Registry[Segment]", number: int) -> Lineage:
    origins: list[int] = []
    origin = registry.get(number).origin
    while origin:
        origins.append(origin)
        parent = registry.peek(origin)
        origin = parent.origin if parent is not None else 0
    clones = tuple(found for found in registry.listed() if registry.get(found).origin == number)
    return Lineage(tuple(origins), clones)
