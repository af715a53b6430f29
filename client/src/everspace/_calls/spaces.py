"""The calls on spaces: VAS of the C interface."""

from collections.abc import Callable
from math import isfinite
from typing import Any, SupportsIndex, TypeVar
from urllib.parse import quote

from everspace._calls.call import (
    Call,
    Page,
    TaskState,
    ThreadState,
    access_type,
    an_id,
    given,
    if_still,
    integer,
    lasting,
    no_answer,
    no_value,
    page_of,
    plain_int,
    text,
)
from everspace.errors import errno_error
from everspace.models import Lock, Region, SegmentAttachment, VasAttr
from everspace.transport import Response

T = TypeVar("T")


def vas_create(name: str, mode: int, sharing: str = "exclusive", lifetime: str = "persistent") -> Call[int]:
    """POST /vas."""
    return _create(name, mode, sharing, lifetime, an_id)


def create_space(
    name: str, mode: int, sharing: str = "exclusive", lifetime: str = "persistent"
) -> Call[VasAttr]:
    """The same for the attributes."""
    return _create(name, mode, sharing, lifetime, VasAttr.from_json, attr_of)


def attr_of(response: Response) -> VasAttr:
    """Attributes with the tag of this state of them."""
    return VasAttr.from_json(response.json(), response.headers.get("etag", ""))


def _create(
    name: str,
    mode: int,
    sharing: str,
    lifetime: str,
    parse: Callable[[Any], T],
    answer: Callable[[Response], T] | None = None,
) -> Call[T]:
    body = {
        "name": text("name", name),
        "mode": integer(mode),
        "sharing": text("sharing", sharing),
        **lasting(lifetime),
    }
    return Call("vas_create", "POST", "/vas", parse, body, body, answer=answer, keyed=True)


def vas_delete(vid: SupportsIndex, if_match: str | None = None) -> Call[int]:
    """DELETE /vas/{vid}. With `if_match`, ESTALE if it has changed since."""
    vid, headers = integer(vid), if_still(if_match)
    path = f"/vas/{vid}"
    return Call("vas_delete", "DELETE", path, no_value, {"vid": vid}, headers=headers, answer=no_answer)


def vas_find(name: str) -> Call[int]:
    """GET /vas?name=; the list is empty where C says ESRCH."""
    return find_call("vas_find", "/vas", "space", name, an_id)


def find_space(name: str) -> Call[VasAttr]:
    """The same for the attributes."""
    return find_call("vas_find", "/vas", "space", name, VasAttr.from_json)


def find_call(call: str, path: str, noun: str, name: str, parse: Callable[[Any], T]) -> Call[T]:
    """The search for a name, of spaces and of segments alike."""

    def answer(response: Response) -> T:
        items = response.json()["items"]
        if not items:
            error = errno_error("ESRCH", f"no {noun} is named {name!r}")
            error.status, error.request_id = response.status, response.request_id
            raise error
        return parse(items[0])

    query = "name=" + quote(text("name", name), safe="", errors="surrogatepass")
    return Call(call, "GET", path, parse, {"name": name}, query=query, answer=answer, repeatable=True)


def vas_attach(pid: SupportsIndex, vid: SupportsIndex, type: int | str, lazy: bool = True) -> Call[int]:
    """PUT /tasks/{pid}/vas/{vid}; pid 0 is the caller's task."""
    pid, vid, wanted, lazy = integer(pid), integer(vid), access_type(type), bool(lazy)

    def effect(task: TaskState, thread: ThreadState, _: Any) -> None:
        if task.means(pid):
            task.attachments[vid] = (wanted, lazy)

    return Call(
        "vas_attach",
        "PUT",
        f"/tasks/{_whose(pid)}/vas/{vid}",
        no_value,
        {"pid": pid, "vid": vid, "type": wanted, "lazy": lazy},
        {"type": wanted, "lazy": lazy},
        answer=no_answer,
        repeatable=True,
        effect=effect,
    )


def vas_detach(pid: SupportsIndex, vid: SupportsIndex) -> Call[int]:
    """DELETE /tasks/{pid}/vas/{vid}; pid 0 is the caller's task."""
    pid, vid = integer(pid), integer(vid)

    def effect(task: TaskState, thread: ThreadState, _: Any) -> None:
        if task.means(pid):
            task.attachments.pop(vid, None)

    return Call(
        "vas_detach",
        "DELETE",
        f"/tasks/{_whose(pid)}/vas/{vid}",
        no_value,
        {"pid": pid, "vid": vid},
        answer=no_answer,
        effect=effect,
    )


def vas_switch(vid: SupportsIndex, timeout: float | None = None) -> Call[int]:
    """PUT /tasks/{pid}/threads/{tid}/active. The service waits up to `timeout` seconds, None: without end."""
    vid = integer(vid)
    if timeout is not None and not isfinite(timeout):
        raise ValueError("a timeout is a finite number of seconds, or None to wait without end")

    def effect(task: TaskState, thread: ThreadState, _: Any) -> None:
        thread.active = vid

    return Call(
        "vas_switch",
        "PUT",
        "/tasks/{pid}/threads/{tid}/active",
        no_value,
        given(vid=vid, timeout=timeout),
        given(vid=vid, timeout_s=timeout),
        answer=no_answer,
        repeatable=True,
        wait=0.0 if vid == 0 else timeout if timeout is None else max(0.0, float(timeout)),
        effect=effect,
    )


def active_vas() -> Call[int]:
    """GET /tasks/{pid}/threads/{tid}/active."""

    def parse(value: Any) -> int:
        return plain_int(value["vid"] if isinstance(value, dict) else value)

    return Call("active_vas", "GET", "/tasks/{pid}/threads/{tid}/active", parse, repeatable=True)


def vas_getattr(vid: SupportsIndex) -> Call[VasAttr]:
    """GET /vas/{vid}."""
    vid = integer(vid)
    path = f"/vas/{vid}"
    return Call("vas_getattr", "GET", path, VasAttr.from_json, {"vid": vid}, answer=attr_of, repeatable=True)


def vas_setattr(
    vid: SupportsIndex,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    sharing: str | None = None,
    name: str | None = None,
    lifetime: str | None = None,
    if_match: str | None = None,
) -> Call[int]:
    """PATCH /vas/{vid}; None leaves as it is. With `if_match`, ESTALE if it has changed since."""
    vid = integer(vid)
    body = given(mode=mode, uid=uid, gid=gid, sharing=sharing, name=name, lifetime=lifetime)
    args = {"vid": vid, **body}
    return Call(
        "vas_setattr",
        "PATCH",
        f"/vas/{vid}",
        no_value,
        args,
        body,
        headers=if_still(if_match),
        answer=no_answer,
        repeatable=if_match is None,
    )


def vas_list(cursor: str | None = None, limit: int | None = None) -> Call[Page[VasAttr]]:
    """GET /vas, one page."""
    return Call(
        "vas_list", "GET", "/vas", page_of(VasAttr.from_json), query=paging(cursor, limit), repeatable=True
    )


def vas_regions(vid: SupportsIndex, cursor: str | None = None) -> Call[Page[Region]]:
    """GET /vas/{vid}/regions, one page."""
    path = f"/vas/{integer(vid)}/regions"
    return Call(
        "vas_regions", "GET", path, page_of(Region.from_json), query=paging(cursor, None), repeatable=True
    )


def vas_segments(vid: SupportsIndex, cursor: str | None = None) -> Call[Page[SegmentAttachment]]:
    """GET /vas/{vid}/segments, one page."""
    path = f"/vas/{integer(vid)}/segments"
    parse = page_of(SegmentAttachment.from_json)
    return Call("vas_segments", "GET", path, parse, query=paging(cursor, None), repeatable=True)


def vas_locks(vid: SupportsIndex, cursor: str | None = None) -> Call[Page[Lock]]:
    """GET /vas/{vid}/lock, one page."""
    path = f"/vas/{integer(vid)}/lock"
    return Call(
        "vas_locks", "GET", path, page_of(Lock.from_json), query=paging(cursor, None), repeatable=True
    )


def paging(cursor: str | None, limit: int | None) -> str:
    """The query of a list."""
    parts = [] if limit is None else [f"limit={integer(limit)}"]
    if cursor is not None:
        parts.append("cursor=" + quote(cursor, safe=""))
    return "&".join(parts)


def _whose(pid: int) -> str:
    return "{pid}" if pid == 0 else str(pid)
