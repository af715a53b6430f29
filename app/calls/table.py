"""The calls by name, for batches."""

import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from app.calls import answers, arguments
from app.calls.answers import plain
from app.calls.arguments import OfThread
from app.calls.call import Bound, Call, Frame, Json
from app.calls.clones import CLONE_CALLS, OfSegment, OfSpace
from app.calls.fields import Args, AttachType
from app.calls.heaps import HEAP_CALLS
from app.calls.memory import MEMORY_CALLS, base64
from app.calls.views import VIEW_CALLS
from app.errors import bad_input
from engine.errors import EngineError
from engine.machine import Machine
from everspace.wire import DURABILITY_NAMES, parse_address


class Named(Args):
    """A name."""

    name: str


class VasSetAttr(arguments.SetAttr):
    """vas_setattr."""

    vid: int


class SegSetAttr(arguments.SetAttr):
    """vas_seg_setattr."""

    sid: int


class SegPlace(Args):
    """A segment in a space."""

    vid: int
    sid: int


class SegAttachTo(SegPlace):
    """vas_seg_attach."""

    type: AttachType


class SpaceOf(Args):
    """A space of a task; pid 0 is the batch's own."""

    pid: int = 0
    vid: int


class VasAttachTo(SpaceOf):
    """vas_attach."""

    type: AttachType
    lazy: bool = True


class SwitchTo(OfThread):
    """vas_switch; `timeout` in seconds, null waits without end."""

    vid: int
    timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def _fork(m: Machine, f: Frame, a: OfThread) -> Json:
    child = m.fork(f.cred, f.pid, f.thread(a))
    f.service.leases.watch(child.pid, child.lease_s)
    return plain(answers.Task.of(m.task_status(f.cred, child.pid)))


def _switch(m: Machine, f: Frame, a: SwitchTo) -> None:
    m.vas_switch(f.cred, f.pid, f.thread(a), a.vid)


def _heartbeat(m: Machine, f: Frame, _: Args) -> None:
    m.require_task(f.cred, f.pid)


def _exit_thread(m: Machine, f: Frame, a: OfThread) -> None:
    tid = f.thread(a)
    m.exit_thread(f.cred, f.pid, f.pid if tid is None else tid)


def _space(view: Any) -> Json:
    return plain(answers.Space.of(view))


def _segment(view: Any) -> Json:
    return plain(answers.Segment.of(view))


CALLS: Final[Mapping[str, Call]] = {
    **MEMORY_CALLS,
    **CLONE_CALLS,
    **VIEW_CALLS,
    **HEAP_CALLS,
    "vas_create": Call(
        arguments.VasCreate, lambda m, f, a: m.vas_create(f.cred, a.name, a.mode, a.sharing, a.lifetime)
    ),
    "vas_delete": Call(OfSpace, lambda m, f, a: m.vas_delete(f.cred, a.vid)),
    "vas_find": Call(Named, lambda m, f, a: m.vas_find(f.cred, a.name)),
    "vas_attach": Call(
        VasAttachTo, lambda m, f, a: m.vas_attach(f.cred, a.pid or f.pid, a.vid, a.type, a.lazy)
    ),
    "vas_detach": Call(SpaceOf, lambda m, f, a: m.vas_detach(f.cred, a.pid or f.pid, a.vid)),
    "vas_switch": Call(SwitchTo, _switch),
    "active_vas": Call(OfThread, lambda m, f, a: m.active_vas(f.cred, f.pid, f.thread(a))),
    "vas_getattr": Call(OfSpace, lambda m, f, a: m.vas_getattr(f.cred, a.vid), _space),
    "vas_setattr": Call(VasSetAttr, lambda m, f, a: m.vas_setattr(f.cred, a.vid, *a.given())),
    "vas_seg_create": Call(
        arguments.SegCreate,
        lambda m, f, a: m.vas_seg_create(f.cred, a.name, a.start, a.end, a.mode, a.sharing, a.lifetime),
    ),
    "vas_seg_delete": Call(OfSegment, lambda m, f, a: m.vas_seg_delete(f.cred, a.sid)),
    "vas_seg_find": Call(Named, lambda m, f, a: m.vas_seg_find(f.cred, a.name)),
    "vas_seg_attach": Call(SegAttachTo, lambda m, f, a: m.vas_seg_attach(f.cred, a.vid, a.sid, a.type)),
    "vas_seg_detach": Call(SegPlace, lambda m, f, a: m.vas_seg_detach(f.cred, a.vid, a.sid)),
    "vas_seg_getattr": Call(OfSegment, lambda m, f, a: m.vas_seg_getattr(f.cred, a.sid), _segment),
    "vas_seg_setattr": Call(SegSetAttr, lambda m, f, a: m.vas_seg_setattr(f.cred, a.sid, *a.given())),
    "fork": Call(OfThread, _fork),
    "thread": Call(
        OfThread, lambda m, f, a: m.thread(f.cred, f.pid, f.thread(a)), lambda tid: {"tid": tid, "active": 0}
    ),
    "exit_thread": Call(OfThread, _exit_thread),
    "exit": Call(Args, lambda m, f, a: m.exit(f.cred, f.pid)),
    "exec": Call(Args, lambda m, f, a: m.exec(f.cred, f.pid)),
    "prlimit": Call(arguments.Prlimit, lambda m, f, a: m.prlimit(f.cred, f.pid, a.resource, a.value)),
    "heartbeat": Call(Args, _heartbeat),
    "maps": Call(OfThread, lambda m, f, a: m.maps_text(f.cred, f.pid, f.thread(a))),
    "smaps": Call(OfThread, lambda m, f, a: m.smaps_text(f.cred, f.pid, f.thread(a))),
}
"""All but read and write, which are bound by hand because batches consist of them."""

_READ_MEMBERS = frozenset({"addr", "length", "tid"})
_WRITE_MEMBERS = frozenset({"addr", "data", "tid", "durability"})


def bind(frame: Frame, name: str, members: Mapping[str, Any]) -> Bound:
    """A call of a batch. EINVAL: unknown call, wrong arguments; E2BIG: more bytes read than an answer may hold."""
    if name == "read":
        return _bind_read(frame, members)
    if name == "write":
        return _bind_write(frame, members)
    call = CALLS.get(name)
    if call is None:
        raise bad_input(f"unknown call {name:.40}")
    return call.bind(frame, call.parse(members))


def load(frame: Frame, tid: int | None, addr: int, length: int) -> Bound:
    """A load ready to run, whose result is bytes. E2BIG: more than an answer may hold."""
    frame.spend(length)
    read, cred, pid = frame.machine.read, frame.cred, frame.pid
    return lambda: read(cred, pid, tid, addr, length)


def store(frame: Frame, tid: int | None, addr: int, data: bytes | memoryview, durable: bool) -> Bound:
    """A store ready to run, whose result is the number of bytes."""
    write, cred, pid = frame.machine.write, frame.cred, frame.pid
    return lambda: write(cred, pid, tid, addr, data, durable)


def _bind_read(frame: Frame, members: Mapping[str, Any]) -> Bound:
    if not members.keys() <= _READ_MEMBERS:
        raise bad_input("read takes addr, length and tid")
    found = load(frame, _thread(frame, members), _address(members), _integer(members, "length"))
    return lambda: base64(found())


def _bind_write(frame: Frame, members: Mapping[str, Any]) -> Bound:
    if not members.keys() <= _WRITE_MEMBERS:
        raise bad_input("write takes addr, data, tid and durability")
    addr, tid, text = _address(members), _thread(frame, members), members.get("data")
    how = members.get("durability", "commit")
    if how not in DURABILITY_NAMES:
        raise bad_input(f"durability is one of {', '.join(DURABILITY_NAMES)}")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise bad_input("data is not base64") from None
    return store(frame, tid, addr, data, how == "commit")


def _address(members: Mapping[str, Any]) -> int:
    try:
        return parse_address(members["addr"])
    except (KeyError, ValueError):
        raise bad_input("addr is missing or not an address") from None


def _integer(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    if type(value) is not int:
        raise bad_input(f"{name} is missing or not an integer")
    return value


def _thread(frame: Frame, members: Mapping[str, Any]) -> int | None:
    return frame.tid if members.get("tid") is None else _integer(members, "tid")


def refusal_of(refused: EngineError) -> EngineError:
    """The same refusal without the permission to keep what was done: inside an atomic batch nothing is kept."""
    whole = EngineError(refused.errno, refused.detail)
    whole.data.update(refused.data)
    return whole
