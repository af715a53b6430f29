"""The reference store: plain dictionaries, no durability. What it does is what every store has to do."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from engine.changes import (
    Change,
    DropPages,
    DropRegion,
    DropSegment,
    DropSpace,
    Image,
    PutPages,
    PutRegion,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import Geometry


@dataclass(slots=True)
class _State:
    """All content. A commit works on a copy and replaces the state only when nothing went wrong."""

    spaces: dict[int, SpaceRecord] = field(default_factory=dict)
    segments: dict[int, SegmentRecord] = field(default_factory=dict)
    regions: dict[int, dict[int, RegionRecord]] = field(default_factory=dict)
    pages: dict[int, dict[int, bytes]] = field(default_factory=dict)
    next_vid: int = 1
    next_sid: int = 1
    next_object: int = 1

    def copy(self) -> "_State":
        """A copy that shares only immutable values."""
        return _State(
            dict(self.spaces),
            dict(self.segments),
            {vid: dict(regions) for vid, regions in self.regions.items()},
            {object_id: dict(pages) for object_id, pages in self.pages.items()},
            self.next_vid,
            self.next_sid,
            self.next_object,
        )


class MemoryStore:
    """A `storage.store.Store` that forgets everything when the process ends."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._state = _State()

    def load(self) -> Image:
        """See `Store.load`."""
        state = self._state
        return Image(
            page_size=self._geometry.page_size,
            arch=self._geometry.name,
            spaces=[record for _, record in sorted(state.spaces.items())],
            segments=[record for _, record in sorted(state.segments.items())],
            regions={
                vid: [record for _, record in sorted(regions.items())]
                for vid, regions in sorted(state.regions.items())
            },
            next_vid=state.next_vid,
            next_sid=state.next_sid,
            next_object=state.next_object,
        )

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        """See `Store.fetch`."""
        held = self._state.pages.get(object_id, {})
        return {page: held[page] for page in pages if page in held}

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        """See `Store.stored_pages`."""
        held = self._state.pages.get(object_id, {})
        return sorted(page for page in held if first <= page < first + count)

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        """See `Store.commit`."""
        state = self._state.copy()
        for changes in transactions:
            for change in changes:
                _apply(state, change, self._geometry.page_size)
        self._state = state

    def maintain(self, *, urgent_only: bool = False) -> bool:
        """Nothing to do, ever."""
        return False

    def close(self) -> None:
        """Nothing to release."""


def _apply(state: _State, change: Change, page_size: int) -> None:
    match change:
        case PutSpace(record):
            state.spaces[record.vid] = record
            state.regions.setdefault(record.vid, {})
            state.next_vid = max(state.next_vid, record.vid + 1)
            state.next_object = max(state.next_object, record.object_id + 1)
        case PutSegment(segment):
            state.segments[segment.sid] = segment
            state.next_sid = max(state.next_sid, segment.sid + 1)
            state.next_object = max(state.next_object, segment.object_id + 1)
        case DropSpace(vid):
            _must_know("space", vid, state.spaces)
            del state.regions[vid]
            state.pages.pop(state.spaces.pop(vid).object_id, None)
        case DropSegment(sid):
            _must_know("segment", sid, state.segments)
            state.pages.pop(state.segments.pop(sid).object_id, None)
        case PutRegion(vid, region):
            _must_know("space", vid, state.spaces)
            state.regions[vid][region.start] = region
        case DropRegion(vid, start):
            _must_know("space", vid, state.spaces)
            state.regions[vid].pop(start, None)
        case PutPages(object_id, pages, data):
            if len(data) != len(pages) * page_size:
                raise ValueError(f"PutPages: {len(data)} bytes for {len(pages)} pages of {page_size}")
            held = state.pages.setdefault(object_id, {})
            for position, page in enumerate(pages):
                held[page] = data[position * page_size : (position + 1) * page_size]
            state.next_object = max(state.next_object, object_id + 1)
        case DropPages(object_id, first, count):
            held = state.pages.get(object_id, {})
            for page in [page for page in held if first <= page < first + count]:
                del held[page]


def _must_know(kind: str, number: int, known: Container[int]) -> None:
    if number not in known:
        raise ValueError(f"a change names {kind} {number}, which does not exist")
