"""The net effect of a group of transactions: what has to be written, each thing once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from engine.changes import (
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropReceipt,
    DropRegion,
    DropRoot,
    DropSegment,
    DropSpace,
    PutBirth,
    PutPages,
    PutReceipt,
    PutRegion,
    PutRoot,
    PutSegment,
    PutSpace,
    SegmentRecord,
    SpaceRecord,
)
from storage.lmdb.layers import LayerChange, Layers
from storage.lmdb.whereabouts import whereabouts
from storage.rows.chunks import WHOLE_LAYER, Drop
from storage.rows.format import FIRST_LAYER, Bytes, State, pack
from storage.rows.lineage import encode_birth, encode_root, encode_root_key
from storage.rows.receipts import checked_key, encode_receipt
from storage.rows.records import ID_KEY, REGION_KEY, encode_region, encode_segment, encode_space

PAGE_MAX: Final = (1 << 58) - 1
"""Greatest page index."""

Owned = tuple[int, ...]
"""The objects of one space or segment: its own, and that of its birth."""
Rows = dict[bytes, bytes | None]
"""New rows of a table by key, None for those to be deleted."""


def objects_of(record: SpaceRecord | SegmentRecord) -> Owned:
    """The objects that a record names."""
    return (record.object_id, record.birth) if record.birth else (record.object_id,)


@dataclass(frozen=True, slots=True)
class Owners:
    """The objects that each space and each segment owns, by id, and all of them."""

    spaces: dict[int, Owned] = field(default_factory=dict)
    segments: dict[int, Owned] = field(default_factory=dict)
    objects: set[int] = field(default_factory=set)

    def tell(self, object_id: int, page: int, page_size: int) -> str:
        """Where people find a page, after a colon; nothing when nobody owns the object. From any thread."""
        for kind, known in (("space", self.spaces), ("segment", self.segments)):
            for number, owned in list(known.items()):
                if object_id in owned:
                    return f": {next(whereabouts(kind, str(number), owned, object_id, [page], page_size))}"
        return ""

    def update(self, group: "ChangeSet") -> None:
        """Follow a committed group."""
        for known, changed in ((self.spaces, group.spaces), (self.segments, group.segments)):
            for number, owned in changed.items():
                self.objects.difference_update(known.pop(number, ()))
                if owned:
                    known[number] = owned
        for changed in (group.spaces, group.segments):
            for owned in changed.values():
                self.objects.update(owned)


@dataclass(slots=True)
class ChangeSet:
    """What a group leaves behind.

    Rows: `wiped` spaces lose all their stored regions and roots, then each row is put, or deleted where it is None.
    Pages, by layer: `drops` apply to what was stored before the group, and hide what lies below their layers;
    `moved` drops are taken as they are; `puts` (by layer, by page) come after both.
    """

    page_size: int
    state: State
    layers: LayerChange
    wiped: set[int] = field(default_factory=set)
    space_rows: Rows = field(default_factory=dict)
    segment_rows: Rows = field(default_factory=dict)
    region_rows: Rows = field(default_factory=dict)
    birth_rows: Rows = field(default_factory=dict)
    root_rows: Rows = field(default_factory=dict)
    receipt_rows: Rows = field(default_factory=dict)
    spaces: dict[int, Owned] = field(default_factory=dict)
    """Objects of each space that was put, none for each dropped one."""
    segments: dict[int, Owned] = field(default_factory=dict)
    owned: dict[int, bool] = field(default_factory=dict)
    """Whether objects have an owner, where that changed."""
    gone: set[int] = field(default_factory=set)
    """Objects that were dropped."""
    drops: list[Drop] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    """Layers of `drops`."""
    moved: list[Drop] = field(default_factory=list)
    puts: dict[int, dict[int, Bytes]] = field(default_factory=dict)

    @staticmethod
    def empty(page_size: int, state: State, layers: Layers) -> "ChangeSet":
        """A group that does nothing yet."""
        return ChangeSet(page_size, state, LayerChange(layers, state.next_layer))

    @property
    def moves(self) -> bool:
        """Whether pages are put or layers merged."""
        return bool(self.puts or self.moved)

    @property
    def receipt_bytes(self) -> int:
        """Of the receipts that are put."""
        return sum(len(value) for value in self.receipt_rows.values() if value is not None)

    def holds(self, layer: int) -> bool:
        """Whether a layer has a page or a hole, or may have."""
        return bool(self.layers.base.entries.get(layer) or self.puts.get(layer)) or layer in self.dropped


def net_effect(
    transactions: Sequence[Sequence[Change]], page_size: int, state: State, owners: Owners, layers: Layers
) -> ChangeSet:
    """Fold `transactions`, in order; later changes win. `state`, `owners` and `layers` are those before the group.

    Raises ValueError when a change names an unknown space, segment or object, or does not fit its place.
    """
    group = ChangeSet.empty(page_size, state, layers)
    for changes in transactions:
        for change in changes:
            _fold(group, owners, change)
    for object_id, owned in group.owned.items():
        if not owned and object_id not in group.gone:
            group.layers.enter(object_id)
    if group.layers.next_layer != state.next_layer:
        group.state = replace(group.state, next_layer=group.layers.next_layer)
    return group


def _fold(group: ChangeSet, owners: Owners, change: Change) -> None:
    match change:
        case PutPages():
            _put_pages(group, owners, change)
        case DropPages(object_id, first, count):
            _drop_pages(group, object_id, first, count)
        case PutSpace(record):
            key, value = encode_space(record)
            group.space_rows[key] = value
            _own(group, group.spaces, owners.spaces, record.vid, objects_of(record))
            _see(group, vid=record.vid, object_id=max(objects_of(record)))
        case PutSegment(segment):
            key, value = encode_segment(segment)
            group.segment_rows[key] = value
            _own(group, group.segments, owners.segments, segment.sid, objects_of(segment))
            _see(group, sid=segment.sid, object_id=max(objects_of(segment)))
        case DropSegment(sid):
            _drop_owned(group, _owned("segment", sid, group.segments, owners.segments))
            group.segment_rows[ID_KEY.pack(sid)] = None
            group.segments[sid] = ()
        case CloneObject():
            _clone(group, owners, change)
        case DropObject(object_id):
            if _is_owned(group, owners, object_id) or not _is_known(group, owners, object_id):
                raise ValueError(f"DropObject names object {object_id}, which is owned or does not exist")
            _drop_owned(group, (object_id,))
        case PutReceipt(key, content):
            key, value = encode_receipt(key, content)
            group.receipt_rows[key] = value
        case DropReceipt(key):
            group.receipt_rows[checked_key(key)] = None
        case _:
            _fold_space(group, owners, change)


def _fold_space(group: ChangeSet, owners: Owners, change: Change) -> None:
    """What belongs to a space."""
    match change:
        case DropSpace(vid):
            _drop_owned(group, _owned("space", vid, group.spaces, owners.spaces))
            key = ID_KEY.pack(vid)
            for rows in (group.region_rows, group.root_rows):
                for found in [found for found in rows if found.startswith(key)]:
                    del rows[found]
            group.wiped.add(vid)
            group.space_rows[key] = group.birth_rows[key] = None
            group.spaces[vid] = ()
        case PutRegion(vid, region):
            _owned("space", vid, group.spaces, owners.spaces)
            key, value = encode_region(vid, region)
            group.region_rows[key] = value
        case DropRegion(vid, start):
            _owned("space", vid, group.spaces, owners.spaces)
            group.region_rows[pack(REGION_KEY, vid, start)] = None
        case PutBirth(vid, birth):
            _owned("space", vid, group.spaces, owners.spaces)
            key, value = encode_birth(vid, birth)
            group.birth_rows[key] = value
        case PutRoot(vid, name, address):
            _owned("space", vid, group.spaces, owners.spaces)
            key, value = encode_root(vid, name, address)
            group.root_rows[key] = value
        case DropRoot(vid, name):
            _owned("space", vid, group.spaces, owners.spaces)
            group.root_rows[encode_root_key(vid, name)] = None


def _put_pages(group: ChangeSet, owners: Owners, change: PutPages) -> None:
    pages, data, size = change.pages, memoryview(change.data), group.page_size
    if len(data) != len(pages) * size:
        raise ValueError(f"PutPages: {len(data)} bytes for {len(pages)} pages of {size}")
    if not pages:
        return
    layer = 0
    if change.object_id not in group.gone:
        layer = group.layers.writable(change.object_id, group.holds)
    if not layer:
        raise ValueError(f"PutPages names object {change.object_id}, which is gone")
    if min(pages) < 0 or max(pages) > PAGE_MAX:
        raise ValueError(f"PutPages: page indexes {min(pages)} to {max(pages)}")
    contents = [data[start : start + size] for start in range(0, len(data), size)]
    group.puts.setdefault(layer, {}).update(zip(pages, contents, strict=True))
    _see(group, object_id=change.object_id)
    if not _is_owned(group, owners, change.object_id):
        group.owned[change.object_id] = False


def _drop_pages(group: ChangeSet, object_id: int, first: int, count: int) -> None:
    if first < 0 or count < 0:
        raise ValueError(f"DropPages: {count} pages from {first}")
    end = min(first + count, PAGE_MAX + 1)
    layer = 0 if object_id in group.gone else group.layers.writable(object_id, group.holds)
    if end <= first or not layer:
        return
    staged = group.puts.get(layer, {})
    inside = (
        range(first, end) if end - first < len(staged) else [page for page in staged if first <= page < end]
    )
    for page in inside:
        staged.pop(page, None)
    group.drops.append(Drop(layer, first, end - first))
    group.dropped.add(layer)


def _clone(group: ChangeSet, owners: Owners, change: CloneObject) -> None:
    source, target = change.source, change.target
    if source == target or not _is_known(group, owners, source):
        raise ValueError(f"CloneObject of object {source}, which is the target or does not exist")
    if target in group.gone:
        raise ValueError(f"CloneObject onto object {target}, which is gone")
    if _is_known(group, owners, target):
        _free(group, target)
    group.layers.clone(source, target)
    _see(group, object_id=max(source, target))
    if not _is_owned(group, owners, target):
        group.owned[target] = False


def _own(
    group: ChangeSet, changed: dict[int, Owned], known: Mapping[int, Owned], number: int, objects: Owned
) -> None:
    for lost in changed.get(number, known.get(number, ())):
        if lost not in objects:
            group.owned[lost] = False
    changed[number] = objects
    for object_id in objects:
        group.owned[object_id] = True


def _drop_owned(group: ChangeSet, objects: Owned) -> None:
    for object_id in objects:
        group.gone.add(object_id)
        group.owned[object_id] = False
        _free(group, object_id)


def _free(group: ChangeSet, object_id: int) -> None:
    """An object stands on nothing any more; the layers that only it needed go."""
    freed = group.layers.leave(object_id)
    for layer in freed:
        group.puts.pop(layer, None)
    if freed:
        group.drops = [drop for drop in group.drops if drop.layer not in freed]
        group.drops += [Drop(layer, 0, WHOLE_LAYER) for layer in freed]


def _is_owned(group: ChangeSet, owners: Owners, object_id: int) -> bool:
    owned = group.owned.get(object_id)
    return object_id in owners.objects if owned is None else owned


def _is_known(group: ChangeSet, owners: Owners, object_id: int) -> bool:
    """Whether an object exists."""
    if object_id in group.gone:
        return False
    return object_id in group.owned or object_id in owners.objects or group.layers.has_row(object_id)


def _owned(kind: str, number: int, changed: Mapping[int, Owned], known: Mapping[int, Owned]) -> Owned:
    objects = changed.get(number, known.get(number, ()))
    if not objects:
        raise ValueError(f"a change names {kind} {number}, which does not exist")
    return objects


def _see(group: ChangeSet, *, vid: int = 0, sid: int = 0, object_id: int) -> None:
    state = group.state
    if object_id >= FIRST_LAYER:
        raise ValueError(f"object {object_id} does not fit its place")
    if vid >= state.next_vid or sid >= state.next_sid or object_id >= state.next_object:
        group.state = replace(
            state,
            next_vid=max(state.next_vid, vid + 1),
            next_sid=max(state.next_sid, sid + 1),
            next_object=max(state.next_object, object_id + 1),
        )
