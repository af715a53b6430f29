"""Answers of the calls as JSON, built from the engine's views."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from app.calls.fields import HexAddress, Lifetime, LimitValue, Sharing, TypeName, View
from engine import views
from engine.constants import RLIM_INFINITY
from engine.heap.heap import HeapUsage
from engine.spaces.locks import LockStatus

T = TypeVar("T")


class Space(View):
    """A space. `attach_count` is the number of tasks that hold it, `origin` what it was cloned from (0: nothing).

    Nobody can change a `snapshot`; an `image` was made by vas_fork, for vas_exec.
    """

    id: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: Sharing
    attach_count: int
    segments: list[int]
    origin: int
    snapshot: bool
    lifetime: Lifetime
    image: bool

    @classmethod
    def of(cls, view: views.VasAttr) -> Self:
        """From the engine's view."""
        return cls(
            id=view.vid,
            name=view.name,
            mode=view.mode,
            uid=view.uid,
            gid=view.gid,
            sharing=view.sharing,
            attach_count=view.attach_count,
            segments=list(view.segments),
            origin=view.origin,
            snapshot=view.snapshot,
            lifetime=view.lifetime,
            image=view.image,
        )


class Segment(View):
    """A segment at [start, end); `size` in bytes. `attach_count` is the number of spaces that hold it.

    `origin` is what it was cloned from (0: nothing); nobody can change a `snapshot`.
    """

    id: int
    name: str
    start: HexAddress
    end: HexAddress
    size: int
    mode: int
    uid: int
    gid: int
    sharing: Sharing
    attach_count: int
    origin: int
    snapshot: bool
    lifetime: Lifetime

    @classmethod
    def of(cls, view: views.SegAttr) -> Self:
        """From the engine's view."""
        return cls(
            id=view.sid,
            name=view.name,
            start=view.start,
            end=view.end,
            size=view.size,
            mode=view.mode,
            uid=view.uid,
            gid=view.gid,
            sharing=view.sharing,
            attach_count=view.attach_count,
            origin=view.origin,
            snapshot=view.snapshot,
            lifetime=view.lifetime,
        )


class Region(View):
    """A region [start, end); `prot` holds PROT bits, `sid` the segment that it shows, if any."""

    start: HexAddress
    end: HexAddress
    prot: int
    shared: bool
    sid: int | None

    @classmethod
    def of(cls, view: views.Region) -> Self:
        """From the engine's view."""
        return cls(start=view.start, end=view.end, prot=view.prot, shared=view.shared, sid=view.sid)


class Lineage(View):
    """What something was cloned from, nearest first, and what was cloned from it and still is there."""

    origins: list[int]
    clones: list[int]

    @classmethod
    def of(cls, found: "views.Lineage") -> Self:
        """From the engine's answer."""
        return cls(origins=list(found.origins), clones=list(found.clones))


class Usage(View):
    """Bytes of stored pages: all, those that others are made of too, and those that go with the deletion."""

    logical: int
    shared: int
    private: int

    @classmethod
    def of_pages(cls, logical: int, shared: int, page_size: int) -> Self:
        """From what the store counts."""
        sizes = (logical * page_size, shared * page_size)
        return cls(logical=sizes[0], shared=sizes[1], private=sizes[0] - sizes[1])


class LockUser(View):
    """A thread that holds a lock or waits for it: inside, or on its way into, space `vid`."""

    pid: int
    tid: int
    vid: int
    exclusive: bool


class Lock(View):
    """A lock of a lockable space or segment: who holds it, and who waits for it in the order of their turns."""

    kind: Literal["space", "segment"]
    id: int
    holders: list[LockUser]
    waiters: list[LockUser]

    @classmethod
    def of(cls, found: LockStatus) -> Self:
        """From the engine's answer."""
        return cls.model_validate(asdict(found))


class Root(View):
    """A named address of a space."""

    name: str
    addr: HexAddress


class Heap(View):
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
    def of(cls, found: HeapUsage) -> Self:
        """From the engine's answer."""
        return cls(**asdict(found))


class SegmentAttachment(View):
    """A segment in a space."""

    sid: int
    type: TypeName

    @classmethod
    def of(cls, view: views.SegmentAttachment) -> Self:
        """From the engine's view."""
        return cls(sid=view.sid, type=view.type)


class Attachment(View):
    """A space in a task."""

    vid: int
    type: TypeName
    lazy: bool

    @classmethod
    def of(cls, view: views.AttachmentStatus) -> Self:
        """From the engine's view."""
        return cls(vid=view.vid, type=view.type, lazy=view.lazy)


class Thread(View):
    """A thread and the id of the space that it is in (0: the original address space)."""

    tid: int
    active: int


class Active(View):
    """active_vas: the id of the space that a thread is in (0: the original address space)."""

    tid: int
    vid: int


class Task(View):
    """A task. `lease_s` is in seconds; `counters` are faults, switches and page-table entries."""

    pid: int
    tid: int
    uid: int
    gids: list[int]
    name: str
    lease_s: float
    threads: list[Thread]
    attachments: list[Attachment]
    counters: dict[str, int]

    @classmethod
    def of(cls, view: views.TaskStatus) -> Self:
        """From the engine's view."""
        return cls(
            pid=view.pid,
            tid=view.tid,
            uid=view.uid,
            gids=list(view.gids),
            name=view.name,
            lease_s=view.lease_s,
            threads=[Thread(tid=thread.tid, active=thread.active) for thread in view.threads],
            attachments=[Attachment.of(held) for held in view.attachments],
            counters=dict(view.counters),
        )


class NewThread(View):
    """A new thread."""

    tid: int


class Lease(View):
    """A renewed lease, in seconds."""

    pid: int
    lease_s: float


class Mapped(View):
    """An address."""

    addr: HexAddress


class Value(View):
    """The result of a call; 0 where there is nothing to return."""

    value: int = 0


class Residency(View):
    """One byte for each page, in base64; bit 0: the page is in memory."""

    value: Annotated[str, WithJsonSchema({"type": "string", "contentEncoding": "base64"})]


class Limits(View):
    """Limits in bytes, `map_count` in regions; null: no limit."""

    address_space: LimitValue
    data: LimitValue
    stack: LimitValue
    locked: LimitValue
    map_count: LimitValue

    @classmethod
    def of(cls, values: Mapping[str, int]) -> Self:
        """From what prlimit answers."""
        return cls(**{name: None if value == RLIM_INFINITY else value for name, value in values.items()})


class Version(View):
    """What runs. `instance` is a random id per start; `page_size` in bytes."""

    version: str
    instance: str
    arch: str
    page_size: int


class QuotaLimits(View):
    """What an account may own at most, and ask for in a second; null: no limit."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    spaces: int | None
    segments: int | None
    bytes: int | None
    tasks: int | None
    rate: int | None


class QuotaUsage(View):
    """What an account owns. `bytes` are of the pages kept for its spaces and segments."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    spaces: int
    segments: int
    bytes: int
    tasks: int


class Account(View):
    """Who calls. `expires` is when the token is good no longer, null: never."""

    uid: int
    gids: list[int]
    name: str
    scopes: list[str]
    expires: datetime | None
    quota: QuotaLimits
    usage: QuotaUsage


class AuditEntry(View):
    """Something that was done or refused, `count` times from `time` to `until` (null: once) with the same result.

    `uid` and `token_id` are null where no token was good, and for commands of the administrator.
    """

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    id: int
    time: datetime
    until: datetime | None
    uid: int | None
    token_id: int | None
    request_id: str
    call: str
    target: str
    status: int
    errno: str | None
    count: int


class Page(View, Generic[T]):
    """A part of a list; `next` is the cursor of the following part, null at the end."""

    items: list[T]
    next: str | None


class Problem(BaseModel):
    """RFC 9457 problem document; errors of calls have `errno`, and data such as `address`, `wanted`, `held`, `holder`."""

    model_config = ConfigDict(extra="allow")

    status: int
    title: str
    detail: str
    errno: str | None = None


def plain(view: BaseModel) -> Any:
    """An answer as JSON values, for a batch."""
    return view.model_dump(mode="json")
