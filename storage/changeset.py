"""The net effect of a group of transactions: what has to be written, each thing once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from engine.changes import (
    Change,
    DropPages,
    DropRegion,
    DropSegment,
    DropSpace,
    PutPages,
    PutRegion,
    PutSegment,
    PutSpace,
)
from storage.chunks import WHOLE_OBJECT, Drop
from storage.format import Bytes, State, pack
from storage.records import ID_KEY, REGION_KEY, encode_region, encode_segment, encode_space

PAGE_MAX: Final = (1 << 58) - 1
"""Greatest page index."""


@dataclass(frozen=True, slots=True)
class Owners:
    """The object that each space and each segment owns, by id."""

    spaces: dict[int, int] = field(default_factory=dict)
    segments: dict[int, int] = field(default_factory=dict)

    def update(self, group: "ChangeSet") -> None:
        """Follow a committed group."""
        for known, changed in ((self.spaces, group.spaces), (self.segments, group.segments)):
            for number, object_id in changed.items():
                if object_id is None:
                    known.pop(number, None)
                else:
                    known[number] = object_id


@dataclass(slots=True)
class ChangeSet:
    """What a group leaves behind.

    Rows: `wiped` spaces lose all their stored regions, then each row is put, or deleted where it is None.
    Pages: `drops` apply to what was stored before the group, `puts` (by object, by page) come after them.
    """

    page_size: int
    state: State
    wiped: set[int] = field(default_factory=set)
    space_rows: dict[bytes, bytes | None] = field(default_factory=dict)
    segment_rows: dict[bytes, bytes | None] = field(default_factory=dict)
    region_rows: dict[bytes, bytes | None] = field(default_factory=dict)
    spaces: dict[int, int | None] = field(default_factory=dict)
    """Object of each space that was put, None for each dropped one."""
    segments: dict[int, int | None] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    """Objects whose owner was dropped."""
    drops: list[Drop] = field(default_factory=list)
    puts: dict[int, dict[int, Bytes]] = field(default_factory=dict)


def net_effect(
    transactions: Sequence[Sequence[Change]], page_size: int, state: State, owners: Owners
) -> ChangeSet:
    """Fold `transactions`, in order; later changes win. `state` and `owners` are those before the group.

    Raises ValueError when a change names an unknown space or segment, or does not fit its place.
    """
    group = ChangeSet(page_size, state)
    for changes in transactions:
        for change in changes:
            _fold(group, owners, change)
    return group


def _fold(group: ChangeSet, owners: Owners, change: Change) -> None:
    match change:
        case PutPages():
            _put_pages(group, change)
        case DropPages(object_id, first, count):
            _drop_pages(group, object_id, first, count)
        case PutSpace(record):
            key, value = encode_space(record)
            group.space_rows[key] = value
            group.spaces[record.vid] = record.object_id
            _see(group, vid=record.vid, object_id=record.object_id)
        case PutSegment(segment):
            key, value = encode_segment(segment)
            group.segment_rows[key] = value
            group.segments[segment.sid] = segment.object_id
            _see(group, sid=segment.sid, object_id=segment.object_id)
        case DropSpace(vid):
            _drop_object(group, _owned("space", vid, group.spaces, owners.spaces))
            _wipe_regions(group, vid)
            group.space_rows[ID_KEY.pack(vid)] = None
            group.spaces[vid] = None
        case DropSegment(sid):
            _drop_object(group, _owned("segment", sid, group.segments, owners.segments))
            group.segment_rows[ID_KEY.pack(sid)] = None
            group.segments[sid] = None
        case PutRegion(vid, region):
            _owned("space", vid, group.spaces, owners.spaces)
            key, value = encode_region(vid, region)
            group.region_rows[key] = value
        case DropRegion(vid, start):
            _owned("space", vid, group.spaces, owners.spaces)
            group.region_rows[pack(REGION_KEY, vid, start)] = None


def _put_pages(group: ChangeSet, change: PutPages) -> None:
    size, pages, data = group.page_size, change.pages, memoryview(change.data)
    if len(data) != len(pages) * size:
        raise ValueError(f"PutPages: {len(data)} bytes for {len(pages)} pages of {size}")
    if not pages:
        return
    if change.object_id in group.gone:
        raise ValueError(f"PutPages names object {change.object_id}, which is gone")
    if min(pages) < 0 or max(pages) > PAGE_MAX:
        raise ValueError(f"PutPages: page indexes {min(pages)} to {max(pages)}")
    contents = [data[start : start + size] for start in range(0, len(data), size)]
    group.puts.setdefault(change.object_id, {}).update(zip(pages, contents, strict=True))
    _see(group, object_id=change.object_id)


def _drop_pages(group: ChangeSet, object_id: int, first: int, count: int) -> None:
    if first < 0 or count < 0:
        raise ValueError(f"DropPages: {count} pages from {first}")
    end = min(first + count, PAGE_MAX + 1)
    if end <= first:
        return
    staged = group.puts.get(object_id, {})
    inside = (
        range(first, end) if end - first < len(staged) else [page for page in staged if first <= page < end]
    )
    for page in inside:
        staged.pop(page, None)
    group.drops.append(Drop(object_id, first, end - first))


def _drop_object(group: ChangeSet, object_id: int) -> None:
    group.gone.add(object_id)
    group.puts.pop(object_id, None)
    group.drops = [drop for drop in group.drops if drop.object_id != object_id]
    group.drops.append(Drop(object_id, 0, WHOLE_OBJECT))


def _wipe_regions(group: ChangeSet, vid: int) -> None:
    prefix = ID_KEY.pack(vid)
    for key in [key for key in group.region_rows if key.startswith(prefix)]:
        del group.region_rows[key]
    group.wiped.add(vid)


def _owned(kind: str, number: int, changed: Mapping[int, int | None], known: Mapping[int, int]) -> int:
    object_id = changed[number] if number in changed else known.get(number)
    if object_id is None:
        raise ValueError(f"a change names {kind} {number}, which does not exist")
    return object_id


def _see(group: ChangeSet, *, vid: int = 0, sid: int = 0, object_id: int) -> None:
    state = group.state
    if vid >= state.next_vid or sid >= state.next_sid or object_id >= state.next_object:
        group.state = replace(
            state,
            next_vid=max(state.next_vid, vid + 1),
            next_sid=max(state.next_sid, sid + 1),
            next_object=max(state.next_object, object_id + 1),
        )
