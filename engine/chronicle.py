"""Derives from what settled transactions asked the store to remember what became of spaces and segments.

The chronicle sees every settled transaction, in order, and knows therefore of each space and segment what was settled
last: what is new, what is changed, and who may be told follow from that alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine.access import Access
from engine.address import VirtRange
from engine.changes import (
    SNAPSHOT,
    TRANSIENT,
    Change,
    CloneObject,
    DropPages,
    DropRegion,
    DropRoot,
    DropSegment,
    DropSpace,
    Image,
    PutPages,
    PutRegion,
    PutRoot,
    PutSegment,
    PutSpace,
    SegmentRecord,
    SpaceRecord,
)
from engine.credentials import Credentials, Owner
from engine.geometry import Geometry
from engine.journal import Transaction
from engine.notes import KINDS, Audience, Note, Span, joined, spans_of

Record = SpaceRecord | SegmentRecord
Memory = tuple[str, str, int, int]
"""Of an object: the kind of note that tells that it was written, whose it is (member and id), its first address."""

SPACE: Final = "space"
SEGMENT: Final = "segment"


class Chronicle:
    """Of what was deleted the last `remembered` are known still: notes about them find those whom they concern."""

    def __init__(self, geometry: Geometry, remembered: int) -> None:
        self._shift = geometry.page_shift
        self._remembered = remembered
        self.spaces: dict[int, SpaceRecord] = {}
        self.segments: dict[int, SegmentRecord] = {}
        self.memories: dict[int, Memory] = {}
        """By object id: whose stores are told."""
        self._gone: dict[tuple[str, int], Record] = {}

    def restore(self, image: Image) -> None:
        """What there is at the start."""
        for space in image.spaces:
            self.know_space(space)
        for segment in image.segments:
            self.know_segment(segment)

    def notes_of(self, txn: Transaction) -> Sequence[Note]:
        """What a transaction came to, in the order of its calls. Called once for each, when it is settled."""
        return _Telling(self, txn).notes

    def note_of(self, memory: Memory, pages: tuple[int, ...] | list[Span]) -> Note:
        """That one page, or some spans, of a memory were written."""
        kind, member, number, base = memory
        spans = pages if isinstance(pages, list) else spans_of(pages)
        return kind, {member: number, "ranges": self.ranges(base, spans)}

    def may_see(self, cred: Credentials, note: Note) -> bool:
        """Whether a caller may be told, by the mode that is settled now, or was when the thing was deleted."""
        kind, members = note
        audience = KINDS[kind]
        if audience is Audience.EVERYBODY or cred.is_root:
            return True
        if audience is Audience.SAME_UID:
            return bool(members["uid"] == cred.uid)
        record = self._record_of(kind, members)
        if record is None:
            return False
        return bool(Owner(record.uid, record.gid, record.mode).rights_of(cred) & Access.READ)

    def know_space(self, record: SpaceRecord) -> None:
        """The attributes of a space are these."""
        self.spaces[record.vid] = record
        self.memories[record.object_id] = "space.written", "vid", record.vid, 0

    def know_segment(self, record: SegmentRecord) -> None:
        """The attributes of a segment are these."""
        self.segments[record.sid] = record
        self.memories[record.object_id] = "segment.written", "sid", record.sid, record.start

    def forget(self, noun: str, number: int, record: Record) -> None:
        """It is deleted."""
        self.memories.pop(record.object_id, None)
        self._gone[noun, number] = record
        if len(self._gone) > self._remembered:
            del self._gone[next(iter(self._gone))]

    def ranges(self, base: int, spans: list[Span]) -> list[VirtRange]:
        """The addresses of pages of an object whose first page is at `base`."""
        shift = self._shift
        return [VirtRange(base + (first << shift), base + (end << shift)) for first, end in spans]

    def _record_of(self, kind: str, members: Mapping[str, Any]) -> Record | None:
        if kind.startswith(SPACE):
            vid = members["vid"]
            return self.spaces.get(vid) or self._gone.get((SPACE, vid))
        sid = members["sid"]
        return self.segments.get(sid) or self._gone.get((SEGMENT, sid))


class _Telling:
    """The notes of one transaction. What it wrote to one object is one note, in the place of the first write."""

    def __init__(self, chronicle: Chronicle, txn: Transaction) -> None:
        self._chronicle = chronicle
        self.notes: list[Note] = []
        self._made: set[int] = set()
        self._mapped: set[int] = set()
        self._written: dict[int, tuple[int, list[Span], list[VirtRange]]] = {}
        position = 0
        for after, kind, members in txn.notes:
            self._tell_all(txn.changes[position:after])
            self.notes.append((kind, members))
            position = after
        self._tell_all(txn.changes[position:])
        for base, spans, ranges in self._written.values():
            ranges.extend(chronicle.ranges(base, joined(spans)))

    def _tell_all(self, changes: Sequence[Change]) -> None:
        for change in changes:
            tell = _TELLERS.get(type(change))
            if tell is not None:
                tell(self, change)

    def put_space(self, change: PutSpace) -> None:
        record = change.record
        before = self._chronicle.spaces.get(record.vid)
        self._chronicle.know_space(record)
        self._put(SPACE, {"vid": record.vid, "name": record.name}, before, record)

    def put_segment(self, change: PutSegment) -> None:
        record = change.record
        before = self._chronicle.segments.get(record.sid)
        self._chronicle.know_segment(record)
        members: dict[str, Any] = {"sid": record.sid, "name": record.name}
        if before is None:
            members |= {"start": record.start, "end": record.end}
        self._put(SEGMENT, members, before, record)

    def _put(self, noun: str, members: dict[str, Any], before: Record | None, record: Record) -> None:
        attributes = _attributes(record)
        if before is None:
            self._made.add(record.object_id)
            kind = "snapshot" if record.flags & SNAPSHOT else "cloned" if record.origin else "created"
            if record.origin:
                members["origin"] = record.origin
        else:
            kind, former = "changed", _attributes(before)
            attributes = {name: value for name, value in attributes.items() if value != former[name]}
            if before.name != record.name:
                attributes["former_name"] = before.name
            if not attributes:
                return
        self.notes.append((f"{noun}.{kind}", members | attributes))

    def drop_space(self, change: DropSpace) -> None:
        record = self._chronicle.spaces.pop(change.vid, None)
        if record is not None:
            self._chronicle.forget(SPACE, change.vid, record)
            self.notes.append(("space.deleted", {"vid": change.vid, "name": record.name}))

    def drop_segment(self, change: DropSegment) -> None:
        record = self._chronicle.segments.pop(change.sid, None)
        if record is not None:
            self._chronicle.forget(SEGMENT, change.sid, record)
            self.notes.append(("segment.deleted", {"sid": change.sid, "name": record.name}))

    def change_map(self, change: PutRegion | DropRegion) -> None:
        """Once for each space: its map is there to be asked for."""
        if change.vid not in self._mapped:
            self._mapped.add(change.vid)
            self.notes.append(("space.regions", {"vid": change.vid}))

    def put_root(self, change: PutRoot) -> None:
        members = {"vid": change.vid, "name": change.name, "addr": change.address}
        self.notes.append(("space.root", members))

    def drop_root(self, change: DropRoot) -> None:
        self.notes.append(("space.root", {"vid": change.vid, "name": change.name, "addr": None}))

    def put_pages(self, change: PutPages) -> None:
        self._write(change.object_id, spans_of(change.pages))

    def drop_pages(self, change: DropPages) -> None:
        self._write(change.object_id, [(change.first, change.first + change.count)])

    def clone_object(self, change: CloneObject) -> None:
        """A reset: what was there before becomes what its birth is."""
        memory = self._chronicle.memories.get(change.target)
        if memory is None or change.target in self._made:
            return
        _, member, number, _ = memory
        record: Record
        if member == "vid":
            noun, record = SPACE, self._chronicle.spaces[number]
        else:
            noun, record = SEGMENT, self._chronicle.segments[number]
        if record.birth == change.source:
            self.notes.append((f"{noun}.reset", {member: number, "name": record.name}))

    def _write(self, object_id: int, spans: list[Span]) -> None:
        held = self._written.get(object_id)
        if held is None:
            memory = self._chronicle.memories.get(object_id)
            if memory is None:
                return
            kind, member, number, base = memory
            held = self._written[object_id] = base, [], []
            self.notes.append((kind, {member: number, "ranges": held[2]}))
        held[1].extend(spans)


_TELLERS: Final[Mapping[type, Callable[[_Telling, Any], None]]] = {
    PutPages: _Telling.put_pages,
    DropPages: _Telling.drop_pages,
    PutRegion: _Telling.change_map,
    DropRegion: _Telling.change_map,
    PutSpace: _Telling.put_space,
    DropSpace: _Telling.drop_space,
    PutSegment: _Telling.put_segment,
    DropSegment: _Telling.drop_segment,
    PutRoot: _Telling.put_root,
    DropRoot: _Telling.drop_root,
    CloneObject: _Telling.clone_object,
}


def _attributes(record: Record) -> dict[str, Any]:
    return {
        "mode": record.mode,
        "uid": record.uid,
        "gid": record.gid,
        "sharing": record.sharing,
        "lifetime": "transient" if record.flags & TRANSIENT else "persistent",
    }
