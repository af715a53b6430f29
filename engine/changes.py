"""What one transaction asks the store to remember: the store's whole input, and its image at start."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

SNAPSHOT: Final = 1 << 0
"""A flag of spaces and segments: nobody may change its bytes or its map."""
TRANSIENT: Final = 1 << 1
"""It goes with its last attachment, and at the latest with the service."""
IMAGE: Final = 1 << 2
"""Of spaces: made of a task's memory by vas_fork, so that vas_exec may run it."""

RECEIPT_KEY_MAX: Final = 64
"""Bytes of a receipt's key; one at least."""
RECEIPT_VALUE_MAX: Final = 1 << 20
"""Bytes of a receipt's value."""


class SpaceRecord(NamedTuple):
    """A space's attributes. `object_id` names the memory its own regions show.

    `flags` are SNAPSHOT, TRANSIENT, IMAGE. A clone has an `origin`, the vid of what it was cloned from, and a `birth`,
    the object that keeps its first content (0: none). `brk` is the heap [start, end) of an image.
    """

    vid: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    object_id: int
    flags: int = 0
    origin: int = 0
    birth: int = 0
    brk: tuple[int, int] = (0, 0)


class SegmentRecord(NamedTuple):
    """A segment's attributes; [start, end) in bytes, page aligned. `flags`, `origin` and `birth` as those of a space."""

    sid: int
    name: str
    start: int
    end: int
    mode: int
    uid: int
    gid: int
    sharing: str
    object_id: int
    flags: int = 0
    origin: int = 0
    birth: int = 0


class RegionRecord(NamedTuple):
    """One region of a space, [start, end) in bytes; `access` holds PROT bits.

    `sid` is the segment that the region is a window on, 0 for the space's own memory; `type` is the type with which
    that segment is attached (O_RDONLY, O_WRONLY, O_RDWR; O_RDWR for the space's own memory). `flags` are those of
    vm_flags that an image keeps of the task it was made of.
    """

    start: int
    end: int
    access: int
    shared: bool
    sid: int
    type: int
    flags: int = 0


class BirthRecord(NamedTuple):
    """What a clone of a space was born with, beside its bytes: regions, ascending, and roots (name, address), by name."""

    regions: tuple[RegionRecord, ...]
    roots: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PutSpace:
    """Create or replace a space's attributes."""

    record: SpaceRecord


@dataclass(frozen=True, slots=True)
class DropSpace:
    """Forget a space, its regions, roots and birth, and the pages of its objects."""

    vid: int


@dataclass(frozen=True, slots=True)
class PutSegment:
    """Create or replace a segment's attributes."""

    record: SegmentRecord


@dataclass(frozen=True, slots=True)
class DropSegment:
    """Forget a segment and the pages of its objects."""

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


@dataclass(frozen=True, slots=True)
class PutBirth:
    """Remember what the clone `vid` was born with. Once in its life."""

    vid: int
    record: BirthRecord


@dataclass(frozen=True, slots=True)
class PutRoot:
    """Create or replace a root of space `vid`."""

    vid: int
    name: str
    address: int


@dataclass(frozen=True, slots=True)
class DropRoot:
    """Forget a root of space `vid`, if there is one of that name."""

    vid: int
    name: str


@dataclass(frozen=True, slots=True)
class CloneObject:
    """`target` reads as `source` does now; later changes of one are not seen in the other. O(1) in pages.

    `target` may exist: what it held is forgotten. `source` must not be `target`.
    """

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class DropObject:
    """Forget the pages of an object that is neither a space's nor a segment's."""

    object_id: int


@dataclass(frozen=True, slots=True)
class PutReceipt:
    """Remember, or replace, that something was done: bytes that only whoever put them understands."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class DropReceipt:
    """Forget a receipt, if there is one of that key."""

    key: bytes


Change = (
    PutSpace
    | DropSpace
    | PutSegment
    | DropSegment
    | PutRegion
    | DropRegion
    | PutPages
    | DropPages
    | PutBirth
    | PutRoot
    | DropRoot
    | CloneObject
    | DropObject
    | PutReceipt
    | DropReceipt
)


@dataclass(slots=True)
class Image:
    """All that survived, without page bytes. Ids start at 1 and are never reused."""

    page_size: int
    arch: str
    spaces: list[SpaceRecord] = field(default_factory=list)
    segments: list[SegmentRecord] = field(default_factory=list)
    regions: dict[int, list[RegionRecord]] = field(default_factory=dict)
    births: dict[int, BirthRecord] = field(default_factory=dict)
    roots: dict[int, dict[str, int]] = field(default_factory=dict)
    """Of each space that has some."""
    unowned: list[int] = field(default_factory=list)
    """Objects that are neither a space's nor a segment's, ascending."""
    receipts: dict[bytes, bytes] = field(default_factory=dict)
    """By key, ascending."""
    next_vid: int = 1
    next_sid: int = 1
    next_object: int = 1
