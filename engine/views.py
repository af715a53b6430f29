"""Frozen answers: what a caller is told about spaces, segments, tasks and regions."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class VasAttr:
    """vas_getattr: attributes of a space. `attach_count` is the number of tasks that hold it.

    `origin` is the space it was cloned from, 0: none; `image`: vas_exec may run it; `lifetime`: see engine.spaces.attributes.
    """

    vid: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    attach_count: int
    segments: tuple[int, ...]
    origin: int
    snapshot: bool
    lifetime: str
    image: bool


@dataclass(frozen=True, slots=True)
class SegAttr:
    """vas_seg_getattr: attributes of a segment. `attach_count` is the number of spaces that hold it."""

    sid: int
    name: str
    start: int
    end: int
    mode: int
    uid: int
    gid: int
    sharing: str
    attach_count: int
    origin: int
    snapshot: bool
    lifetime: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a clone comes from, nearest first (those that are gone among them), and its own clones that live."""

    origins: tuple[int, ...]
    clones: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SegmentAttachment:
    """A segment in a space; `type` is O_RDONLY, O_WRONLY or O_RDWR."""

    sid: int
    type: int


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a map: [start, end) in bytes, PROT bits, and the segment it shows, if any."""

    start: int
    end: int
    prot: int
    shared: bool
    sid: int | None


@dataclass(frozen=True, slots=True)
class ThreadStatus:
    """A thread and the id of the space it is in (0: the original address space)."""

    tid: int
    active: int


@dataclass(frozen=True, slots=True)
class AttachmentStatus:
    """A space that a task has attached; `type` is O_RDONLY, O_WRONLY or O_RDWR."""

    vid: int
    type: int
    lazy: bool


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task. `lease_s` is in seconds; `counters` are faults, page-table entries built, switches."""

    pid: int
    tid: int
    uid: int
    gids: tuple[int, ...]
    name: str
    lease_s: float
    threads: tuple[ThreadStatus, ...]
    attachments: tuple[AttachmentStatus, ...]
    counters: dict[str, int] = field(default_factory=dict)
