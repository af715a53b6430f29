"""Shapes of the control routes' JSON: arguments are strict and closed, answers are built from the engine's views."""

from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.functional_serializers import PlainSerializer

from engine import views
from engine.constants import MS_SYNC
from everspace.wire import (
    LEASE_SECONDS_DEFAULT,
    SHARING_NAMES,
    TYPE_NAMES,
    TYPE_VALUES,
    hex_address,
    parse_address,
)

T = TypeVar("T")

TYPE_INVALID = 3
"""What an unknown attach type becomes, so that the engine refuses it in the order of its other errors."""


def _attach_type(value: object) -> int:
    return TYPE_VALUES.get(value, TYPE_INVALID) if isinstance(value, str) else TYPE_INVALID


Address = Annotated[
    int,
    BeforeValidator(parse_address),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": "^(0x[0-9a-fA-F]+|[0-9]+)$"}, {"type": "integer"}]}
    ),
]
"""An address coming in: "0x…", a decimal string or an integer."""
HexAddress = Annotated[
    int,
    PlainSerializer(hex_address, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-f]+$"}),
]
"""An address going out."""
AttachType = Annotated[
    int, BeforeValidator(_attach_type), WithJsonSchema({"type": "string", "enum": list(TYPE_VALUES)})
]
TypeName = Annotated[
    int,
    PlainSerializer(TYPE_NAMES.__getitem__, return_type=str),
    WithJsonSchema({"type": "string", "enum": list(TYPE_VALUES)}),
]
Sharing = Annotated[str, WithJsonSchema({"type": "string", "enum": list(SHARING_NAMES)})]
Tid = Annotated[int | None, Field(description="A thread of the task; by default its main thread.")]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Args(BaseModel):
    """Arguments of a call: no conversion of types, no unknown members."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


# -- arguments ------------------------------------------------------------------------------------


class VasCreate(Args):
    """vas_create."""

    name: str
    mode: int
    sharing: Sharing = "exclusive"


class SegCreate(Args):
    """vas_seg_create; [start, end) is page aligned."""

    name: str
    start: Address
    end: Address
    mode: int
    sharing: Sharing = "exclusive"


class SetAttr(Args):
    """vas_setattr and vas_seg_setattr; null or absent leaves as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    sharing: Sharing | None = None


class SegAttach(Args):
    """vas_seg_attach."""

    type: AttachType


class VasAttach(Args):
    """vas_attach."""

    type: AttachType
    lazy: bool = True


class Spawn(Args):
    """A new task; `lease_s` in seconds, 1 to 86400."""

    name: str | None = None
    lease_s: Seconds = LEASE_SECONDS_DEFAULT


class OfThread(Args):
    """A call of one thread."""

    tid: Tid = None


class Switch(Args):
    """vas_switch; `timeout_s` in seconds, null waits without end."""

    vid: int
    timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Mmap(OfThread):
    """mmap(2); prot and flags are those of Linux on x86-64."""

    addr: Address
    length: int
    prot: int
    flags: int


class Munmap(OfThread):
    """munmap(2)."""

    addr: Address
    length: int


class Mprotect(OfThread):
    """mprotect(2)."""

    addr: Address
    length: int
    prot: int


class Brk(OfThread):
    """brk(2); 0 asks for the present break."""

    addr: Address = 0


class Msync(OfThread):
    """msync(2); length 0 means the whole space."""

    addr: Address = 0
    length: int = 0
    flags: int = MS_SYNC


# -- answers --------------------------------------------------------------------------------------


class Space(View):
    """A space. `attach_count` is the number of tasks that hold it."""

    id: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: Sharing
    attach_count: int
    segments: list[int]

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
        )


class Segment(View):
    """A segment at [start, end); `size` in bytes. `attach_count` is the number of spaces that hold it."""

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


class Version(View):
    """What runs. `instance` is a random id per start; `page_size` in bytes."""

    version: str
    instance: str
    arch: str
    page_size: int


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
