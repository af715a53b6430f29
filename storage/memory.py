"""The reference store: plain dictionaries, no durability. What it does is what every store has to do."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from engine.changes import (
    BirthRecord,
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropReceipt,
    DropRegion,
    DropRoot,
    DropSegment,
    DropSpace,
    Image,
    PutBirth,
    PutPages,
    PutReceipt,
    PutRegion,
    PutRoot,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import Geometry
from storage.errors import StoreError
from storage.rows.receipts import checked_key, encode_receipt
from storage.statistics import Statistics


@dataclass(slots=True)
class _State:
    """All content. A commit works on a copy and replaces the state only when nothing went wrong."""

    spaces: dict[int, SpaceRecord] = field(default_factory=dict)
    segments: dict[int, SegmentRecord] = field(default_factory=dict)
    regions: dict[int, dict[int, RegionRecord]] = field(default_factory=dict)
    births: dict[int, BirthRecord] = field(default_factory=dict)
    roots: dict[int, dict[str, int]] = field(default_factory=dict)
    pages: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """Of every object that exists."""
    receipts: dict[bytes, bytes] = field(default_factory=dict)
    next_vid: int = 1
    next_sid: int = 1
    next_object: int = 1

    def copy(self) -> "_State":
        """A copy that shares only immutable values."""
        return _State(
            dict(self.spaces),
            dict(self.segments),
            {vid: dict(regions) for vid, regions in self.regions.items()},
            dict(self.births),
            {vid: dict(roots) for vid, roots in self.roots.items()},
            {object_id: dict(pages) for object_id, pages in self.pages.items()},
            dict(self.receipts),
            self.next_vid,
            self.next_sid,
            self.next_object,
        )

    def owned(self) -> set[int]:
        """The objects that spaces and segments name."""
        records: list[SpaceRecord | SegmentRecord] = [*self.spaces.values(), *self.segments.values()]
        return {number for record in records for number in (record.object_id, record.birth) if number}

    def enter(self, *objects: int) -> None:
        """These objects exist."""
        for object_id in filter(None, objects):
            self.pages.setdefault(object_id, {})
            self.next_object = max(self.next_object, object_id + 1)


class MemoryStore:
    """A `storage.store.Store` that forgets everything when the process ends."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._state = _State()
        self._commits = 0

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
            births=dict(state.births),
            roots={vid: dict(roots) for vid, roots in state.roots.items() if roots},
            unowned=sorted(state.pages.keys() - state.owned()),
            receipts=dict(sorted(state.receipts.items())),
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

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        """See `Store.usage`. A page is shared while another object holds the very same bytes."""
        state = self._state
        held = state.pages.get(objects[0], {})
        others = [pages for object_id, pages in state.pages.items() if object_id not in objects]
        shared = sum(any(other.get(page) is content for other in others) for page, content in held.items())
        return len(held), shared

    def pages_held(self, objects: Sequence[int]) -> int:
        """See `Store.pages_held`. The very same bytes in several objects are one page."""
        held = (self._state.pages.get(object_id, {}) for object_id in set(objects))
        return len({id(content) for pages in held for content in pages.values()})

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        """See `Store.pages_new`. What another object shares stays its own."""
        state = self._state
        held = state.pages.get(object_id, {})
        kept = {
            id(content)
            for number, other in state.pages.items()
            if number != object_id
            for content in other.values()
        }
        return sum(page not in held or id(held[page]) in kept for page in pages)

    def statistics(self) -> Statistics:
        """See `Store.statistics`. There is no file."""
        state = self._state
        return Statistics(
            file_bytes=0,
            used_bytes=0,
            free_bytes=0,
            chunk_bytes=0,
            chunks=0,
            live_pages=self.pages_held(list(state.pages)),
            layers=len(state.pages),
            objects=len(state.pages),
            spaces=len(state.spaces),
            segments=len(state.segments),
            receipts=len(state.receipts),
            tail_entries=0,
            last_lsn=0,
            transactions=self._commits,
        )

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        """See `Store.differing`."""
        left, right = self._state.pages.get(a, {}), self._state.pages.get(b, {})
        return sorted(
            page
            for page in left.keys() | right.keys()
            if first <= page < first + count and left.get(page) is not right.get(page)
        )

    def objects(self) -> set[int]:
        """All that exist, with pages or without."""
        return set(self._state.pages)

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        """See `Store.commit`."""
        state = self._state.copy()
        for changes in transactions:
            for change in changes:
                _apply(state, change, self._geometry.page_size)
        self._state = state
        self._commits += 1

    def maintain(self, *, urgent_only: bool = False) -> bool:
        """Nothing to do, ever."""
        return False

    @property
    def failing(self) -> StoreError | None:
        """It never fails."""
        return None

    def probe(self) -> None:
        """Nothing to try."""

    def close(self) -> None:
        """Nothing to release."""


def _apply(state: _State, change: Change, page_size: int) -> None:
    match change:
        case PutSpace(record):
            state.spaces[record.vid] = record
            state.regions.setdefault(record.vid, {})
            state.next_vid = max(state.next_vid, record.vid + 1)
            state.enter(record.object_id, record.birth)
        case PutSegment(segment):
            state.segments[segment.sid] = segment
            state.next_sid = max(state.next_sid, segment.sid + 1)
            state.enter(segment.object_id, segment.birth)
        case DropSegment(sid):
            _must_know("segment", sid, state.segments)
            _forget(state, state.segments.pop(sid))
        case PutPages() | DropPages() | CloneObject() | DropObject():
            _apply_to_pages(state, change, page_size)
        case PutReceipt(key, value):
            encode_receipt(key, value)
            state.receipts[key] = value
        case DropReceipt(key):
            state.receipts.pop(checked_key(key), None)
        case _:
            _apply_in_space(state, change)


def _apply_to_pages(
    state: _State, change: PutPages | DropPages | CloneObject | DropObject, page_size: int
) -> None:
    match change:
        case PutPages(object_id, pages, data):
            if len(data) != len(pages) * page_size:
                raise ValueError(f"PutPages: {len(data)} bytes for {len(pages)} pages of {page_size}")
            if pages:
                state.enter(object_id)
            for position, page in enumerate(pages):
                # a copy of its own for each put: see `usage` and `differing`
                content = memoryview(data)[position * page_size : (position + 1) * page_size]
                state.pages[object_id][page] = bytes(content)
        case DropPages(object_id, first, count):
            held = state.pages.get(object_id, {})
            for page in [page for page in held if first <= page < first + count]:
                del held[page]
        case CloneObject(source, target):
            _must_know("object", source, state.pages)
            if source == target:
                raise ValueError(f"CloneObject of object {source} onto itself")
            state.enter(target)
            state.pages[target] = dict(state.pages[source])
        case DropObject(object_id):
            _must_know("object", object_id, state.pages)
            if object_id in state.owned():
                raise ValueError(f"DropObject names object {object_id}, which is owned")
            del state.pages[object_id]


def _apply_in_space(
    state: _State, change: DropSpace | PutRegion | DropRegion | PutBirth | PutRoot | DropRoot
) -> None:
    """What belongs to a space that exists."""
    _must_know("space", change.vid, state.spaces)
    match change:
        case DropSpace(vid):
            del state.regions[vid]
            state.births.pop(vid, None)
            state.roots.pop(vid, None)
            _forget(state, state.spaces.pop(vid))
        case PutRegion(vid, region):
            state.regions[vid][region.start] = region
        case DropRegion(vid, start):
            state.regions[vid].pop(start, None)
        case PutBirth(vid, birth):
            state.births[vid] = birth
        case PutRoot(vid, name, address):
            state.roots.setdefault(vid, {})[name] = address
        case DropRoot(vid, name):
            state.roots.get(vid, {}).pop(name, None)


def _forget(state: _State, record: SpaceRecord | SegmentRecord) -> None:
    """The pages of an owner's objects."""
    for object_id in (record.object_id, record.birth):
        state.pages.pop(object_id, None)


def _must_know(kind: str, number: int, known: Container[int]) -> None:
    if number not in known:
        raise ValueError(f"a change names {kind} {number}, which does not exist")
