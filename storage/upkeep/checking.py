"""Whether the records of a store agree with each other and with the counters."""

from collections import Counter
from collections.abc import Iterator, Sequence

from engine.changes import IMAGE, SNAPSHOT, TRANSIENT, Image, RegionRecord, SegmentRecord, SpaceRecord
from storage.lmdb.changeset import objects_of

KNOWN_FLAGS = SNAPSHOT | TRANSIENT | IMAGE


def owned_objects(image: Image) -> list[int]:
    """The objects of all spaces and segments."""
    records: list[SpaceRecord | SegmentRecord] = [*image.spaces, *image.segments]
    return [object_id for record in records for object_id in objects_of(record)]


def check_image(image: Image) -> Iterator[str]:
    """Each disagreement, a line."""
    yield from _check_counters(image)
    for kind, records in (("space", image.spaces), ("segment", image.segments)):
        names = Counter(record.name for record in records)
        yield from (f"{count} {kind}s are called {name!r}" for name, count in names.items() if count > 1)
    objects = Counter(owned_objects(image))
    yield from (f"object {number} has {count} owners" for number, count in objects.items() if count > 1)
    yield from _check_lineage(image)
    for segment in image.segments:
        if not 0 <= segment.start < segment.end or (segment.start | segment.end) % image.page_size:
            yield f"segment {segment.sid} is {segment.start:#x}-{segment.end:#x}"
    known = {segment.sid for segment in image.segments} | {0}
    for vid, regions in image.regions.items():
        yield from _check_regions(f"space {vid}", regions, image.page_size)
        for region in regions:
            if region.sid not in known:
                yield f"space {vid}: region {region.start:#x} is a window on segment {region.sid}, which is gone"
    for vid, birth in image.births.items():
        yield from _check_regions(f"the birth of space {vid}", birth.regions, image.page_size)


def _check_counters(image: Image) -> Iterator[str]:
    last = max((*owned_objects(image), *image.unowned), default=0)
    if last >= image.next_object:
        yield f"object {last} exists, but the next one would be {image.next_object}"
    if image.spaces and image.spaces[-1].vid >= image.next_vid:
        yield f"space {image.spaces[-1].vid} exists, but the next one would be {image.next_vid}"
    if image.segments and image.segments[-1].sid >= image.next_sid:
        yield f"segment {image.segments[-1].sid} exists, but the next one would be {image.next_sid}"


def _check_lineage(image: Image) -> Iterator[str]:
    """What was cloned is older than its clones, so that no lineage is a circle; and flags are known ones."""
    records: list[tuple[str, int, SpaceRecord | SegmentRecord]] = [
        *(("space", record.vid, record) for record in image.spaces),
        *(("segment", record.sid, record) for record in image.segments),
    ]
    for kind, number, record in records:
        if record.origin and record.origin >= number:
            yield f"{kind} {number} was cloned from {kind} {record.origin}, which is not older"
        if record.flags & ~KNOWN_FLAGS:
            yield f"{kind} {number} has the flags {record.flags:#x}"
    for vid, roots in image.roots.items():
        yield from (f"space {vid}: a root has no name" for name in roots if not name)


def _check_regions(whose: str, regions: Sequence[RegionRecord], page_size: int) -> Iterator[str]:
    end = 0
    for region in regions:
        if region.start < end or region.end <= region.start or (region.start | region.end) % page_size:
            yield f"{whose}: region {region.start:#x}-{region.end:#x} after {end:#x}"
        end = region.end
