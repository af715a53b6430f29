"""Answers: small frozen objects, made from the JSON of the service. Addresses and sizes are ints, in bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from everspace.constants import PROT_EXEC, PROT_READ, PROT_WRITE
from everspace.wire import parse_address, parse_type


@dataclass(frozen=True, slots=True)
class VasAttr:
    """Attributes of a space. `attach_count` is the number of tasks that hold it.

    `origin` is the vid of what it was cloned from (0: nothing), `lifetime` "persistent" or "transient". Nobody can change
    a `snapshot`; an `image` was made by vas_fork, for vas_exec. `etag` is the tag of this state, for `if_match`; "" of
    what came in a list or a batch.
    """

    vid: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    attach_count: int
    origin: int = 0
    snapshot: bool = False
    lifetime: str = "persistent"
    image: bool = False
    etag: str = field(default="", compare=False)

    @classmethod
    def from_json(cls, item: Mapping[str, Any], etag: str = "") -> Self:
        """From a space of the wire."""
        return cls(*_common(item), *_descent(item), bool(item.get("image", False)), etag=etag)


@dataclass(frozen=True, slots=True)
class SegAttr:
    """Attributes of a segment, which lies at [start, end). `attach_count` is the number of spaces that hold it.

    `origin`, `snapshot`, `lifetime` and `etag` are those of `VasAttr`.
    """

    sid: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    attach_count: int
    start: int
    end: int
    origin: int = 0
    snapshot: bool = False
    lifetime: str = "persistent"
    etag: str = field(default="", compare=False)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @classmethod
    def from_json(cls, item: Mapping[str, Any], etag: str = "") -> Self:
        """From a segment of the wire."""
        start, end = parse_address(item["start"]), parse_address(item["end"])
        return cls(*_common(item), start, end, *_descent(item), etag=etag)


@dataclass(frozen=True, slots=True)
class Region:
    """One region [start, end) of a space's own map; `sid` is the segment that it shows, or None."""

    start: int
    end: int
    prot: int
    sid: int | None
    shared: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def perms(self) -> str:
        """As /proc/PID/maps writes it: "rw-p"."""
        bits = ((PROT_READ, "r"), (PROT_WRITE, "w"), (PROT_EXEC, "x"))
        return "".join(letter if self.prot & bit else "-" for bit, letter in bits) + (
            "s" if self.shared else "p"
        )

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From a region of the wire."""
        return cls(
            parse_address(item["start"]),
            parse_address(item["end"]),
            item["prot"],
            item["sid"],
            bool(item.get("shared")),
        )


@dataclass(frozen=True, slots=True)
class Lineage:
    """What something was cloned from, nearest first, and what was cloned from it and still is there; vids or sids."""

    origins: tuple[int, ...]
    clones: tuple[int, ...]

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(tuple(item["origins"]), tuple(item["clones"]))


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of stored pages: all, those that others are made of too, and those that nobody else has."""

    logical: int
    shared: int
    private: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(item["logical"], item["shared"], item["private"])


@dataclass(frozen=True, slots=True)
class LockUser:
    """A thread that holds a lock or waits for it: inside, or on its way into, space `vid`."""

    pid: int
    tid: int
    vid: int
    exclusive: bool

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(item["pid"], item["tid"], item["vid"], item["exclusive"])


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock of a lockable "space" or "segment": who holds it, and who waits for it in the order of their turns."""

    kind: str
    id: int
    holders: tuple[LockUser, ...]
    waiters: tuple[LockUser, ...]

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        holders, waiters = (tuple(map(LockUser.from_json, item[who])) for who in ("holders", "waiters"))
        return cls(item["kind"], item["id"], holders, waiters)


@dataclass(frozen=True, slots=True)
class HeapUsage:
    """The heap in a segment, in bytes: `overhead`, `allocated` and `free` make up its `size`.

    `allocated` counts `blocks` with their headers; `largest_free` is the most that one vas_malloc surely gets.
    """

    size: int
    overhead: int
    allocated: int
    free: int
    largest_free: int
    blocks: int
    free_blocks: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(*(item[name] for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class Difference:
    """Pages [start, end) of two spaces or segments: "changed", or there in the "left" or the "right" one only."""

    start: int
    end: int
    kind: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(parse_address(item["start"]), parse_address(item["end"]), item["kind"])


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `id` is where to go on from; `data` are its members as the wire has them.

    Of kind "lost": events were missed, since the service no longer had them or was started anew.
    """

    id: str
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def vid(self) -> int | None:
        """The space that it is about, if any."""
        return self.data.get("vid")

    @property
    def sid(self) -> int | None:
        """The segment that it is about, if any."""
        return self.data.get("sid")

    @property
    def pid(self) -> int | None:
        """The task that it is about, if any."""
        return self.data.get("pid")

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The addresses [start, end) that it is about."""
        return tuple(
            (parse_address(r["start"]), parse_address(r["end"])) for r in self.data.get("ranges", ())
        )


@dataclass(frozen=True, slots=True)
class SegmentAttachment:
    """A segment in a space; `type` is O_RDONLY, O_WRONLY or O_RDWR."""

    sid: int
    type: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the relation of the wire."""
        return cls(item["sid"], parse_type(item["type"]))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A space that a task holds; `type` is O_RDONLY, O_WRONLY or O_RDWR."""

    vid: int
    type: int
    lazy: bool

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the relation of the wire."""
        return cls(item["vid"], parse_type(item["type"]), item["lazy"])


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """A thread and the space it is in (0: the original address space)."""

    tid: int
    active: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From a thread of the wire."""
        return cls(item["tid"], item["active"])


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as the service sees it; `lease_s` is in seconds, `counters` are faults, switches, page-table entries."""

    pid: int
    tid: int
    uid: int
    gids: tuple[int, ...]
    name: str | None
    lease_s: float
    threads: tuple[ThreadInfo, ...]
    attachments: tuple[Attachment, ...]
    counters: Mapping[str, int] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From a task of the wire."""
        return cls(
            item["pid"],
            item["tid"],
            item["uid"],
            tuple(item["gids"]),
            item["name"],
            float(item["lease_s"]),
            tuple(ThreadInfo.from_json(thread) for thread in item["threads"]),
            tuple(Attachment.from_json(attachment) for attachment in item["attachments"]),
            dict(item.get("counters", {})),
        )


@dataclass(frozen=True, slots=True)
class Version:
    """What runs at the other end; `instance` is a random id per start of the service, `page_size` in bytes."""

    version: str
    instance: str
    arch: str
    page_size: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From GET /version."""
        return cls(item["version"], item["instance"], item["arch"], item["page_size"])


def _common(item: Mapping[str, Any]) -> tuple[int, str, int, int, int, str, int]:
    """The members that spaces and segments have alike, in the order of their classes."""
    return (
        item["id"],
        item["name"],
        item["mode"],
        item["uid"],
        item["gid"],
        item["sharing"],
        item["attach_count"],
    )


def _descent(item: Mapping[str, Any]) -> tuple[int, bool, str]:
    """Origin, snapshot and lifetime."""
    origin, snapshot = item.get("origin", 0), item.get("snapshot", False)
    return origin, bool(snapshot), item.get("lifetime", "persistent")
