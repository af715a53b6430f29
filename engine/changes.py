"""What one transaction asks the store to remember: the store's whole input, and its image at start."""

from dataclasses import dataclass, field
from typing import NamedTuple


class SpaceRecord(NamedTuple):
    """A space's attributes. `object_id` names the memory its own regions show."""

    vid: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    object_id: int


class SegmentRecord(NamedTuple):
    """A segment's attributes; [start, end) in bytes, page aligned."""

    sid: int
    name: str
    start: int
    end: int
    mode: int
    uid: int
    gid: int
    sharing: str
    object_id: int


class RegionRecord(NamedTuple):
    """One region of a space, [start, end) in bytes; `access` holds PROT bits.

    `sid` is the segment that the region is a window on, 0 for the space's own memory; `type` is the type with which
    that segment is attached (O_RDONLY, O_WRONLY, O_RDWR; O_RDWR for the space's own memory).
    """

    start: int
    end: int
    access: int
    shared: bool
    sid: int
    type: int


@dataclass(frozen=True, slots=True)
class PutSpace:
    """Create or replace a space's attributes."""

    record: SpaceRecord


@dataclass(frozen=True, slots=True)
class DropSpace:
    """Forget a space, its regions and its pages."""

    vid: int


@dataclass(frozen=True, slots=True)
class PutSegment:
    """Create or replace a segment's attributes."""

    record: SegmentRecord


@dataclass(frozen=True, slots=True)
class DropSegment:
    """Forget a segment and its pages."""

    sid: int


@dataclass(frozen=True, slots=True)
class PutRegion:
    """Create or replace the region of space `vid` that starts at `record.start`."""

    vid: int
    record: RegionRecord


@dataclass(frozen=True, slots=True)
class DropRegion:
    """Forget the region of space `vid` that starts at `start`."""

    vid: int
    start: int


@dataclass(frozen=True, slots=True)
class PutPages:
    """New content of pages. `pages` ascend and are unique; `data` is their bytes in that order."""

    object_id: int
    pages: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class DropPages:
    """`count` pages from `first` read as zeros from now on."""

    object_id: int
    first: int
    count: int


Change = PutSpace | DropSpace | PutSegment | DropSegment | PutRegion | DropRegion | PutPages | DropPages


@dataclass(slots=True)
class Image:
    """All that survived, without page bytes. Ids start at 1 and are never reused."""

    page_size: int
    arch: str
    spaces: list[SpaceRecord] = field(default_factory=list)
    segments: list[SegmentRecord] = field(default_factory=list)
    regions: dict[int, list[RegionRecord]] = field(default_factory=dict)
    next_vid: int = 1
    next_sid: int = 1
    next_object: int = 1
