"""The calls on segments: VAS segments of the C interface, and their bytes by offset."""

from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from everspace._calls.call import (
    Buffer,
    Call,
    Page,
    a_durability,
    access_type,
    address,
    an_id,
    given,
    if_still,
    integer,
    lasting,
    no_answer,
    no_value,
    page_of,
    readable,
    text,
    writable,
)
from everspace._calls.spaces import find_call, paging
from everspace.errors import UnexpectedAnswerError
from everspace.models import SegAttr
from everspace.transport import Response
from everspace.wire import MEDIA_BYTES

T = TypeVar("T")
RANGE_CANNOT_BE_HAD = 416


def vas_seg_create(
    name: str,
    start: SupportsIndex,
    end: SupportsIndex,
    mode: int,
    sharing: str = "exclusive",
    lifetime: str = "persistent",
) -> Call[int]:
    """POST /segments."""
    return _create(name, start, end, mode, sharing, lifetime, an_id)


def create_segment(
    name: str,
    start: SupportsIndex,
    end: SupportsIndex,
    mode: int,
    sharing: str = "exclusive",
    lifetime: str = "persistent",
) -> Call[SegAttr]:
    """The same for the attributes."""
    return _create(name, start, end, mode, sharing, lifetime, SegAttr.from_json, attr_of)


def attr_of(response: Response) -> SegAttr:
    """Attributes with the tag of this state of them."""
    return SegAttr.from_json(response.json(), response.headers.get("etag", ""))


def _create(
    name: str,
    start: SupportsIndex,
    end: SupportsIndex,
    mode: int,
    sharing: str,
    lifetime: str,
    parse: Callable[[Any], T],
    answer: Callable[[Response], T] | None = None,
) -> Call[T]:
    body = {
        "name": text("name", name),
        "start": address(start),
        "end": address(end),
        "mode": integer(mode),
        "sharing": text("sharing", sharing),
        **lasting(lifetime),
    }
    return Call("vas_seg_create", "POST", "/segments", parse, body, body, answer=answer, keyed=True)


def vas_seg_delete(sid: SupportsIndex, if_match: str | None = None) -> Call[int]:
    """DELETE /segments/{sid}. With `if_match`, ESTALE if it has changed since."""
    sid, headers = integer(sid), if_still(if_match)
    path = f"/segments/{sid}"
    return Call("vas_seg_delete", "DELETE", path, no_value, {"sid": sid}, headers=headers, answer=no_answer)


def vas_seg_find(name: str) -> Call[int]:
    """GET /segments?name=; the list is empty where C says ESRCH."""
    return find_call("vas_seg_find", "/segments", "segment", name, an_id)


def find_segment(name: str) -> Call[SegAttr]:
    """The same for the attributes."""
    return find_call("vas_seg_find", "/segments", "segment", name, SegAttr.from_json)


def vas_seg_attach(vid: SupportsIndex, sid: SupportsIndex, type: int | str) -> Call[int]:
    """PUT /vas/{vid}/segments/{sid}."""
    vid, sid, wanted = integer(vid), integer(sid), access_type(type)
    return Call(
        "vas_seg_attach",
        "PUT",
        f"/vas/{vid}/segments/{sid}",
        no_value,
        {"vid": vid, "sid": sid, "type": wanted},
        {"type": wanted},
        answer=no_answer,
        repeatable=True,
    )


def vas_seg_detach(vid: SupportsIndex, sid: SupportsIndex) -> Call[int]:
    """DELETE /vas/{vid}/segments/{sid}."""
    vid, sid = integer(vid), integer(sid)
    path = f"/vas/{vid}/segments/{sid}"
    return Call("vas_seg_detach", "DELETE", path, no_value, {"vid": vid, "sid": sid}, answer=no_answer)


def vas_seg_getattr(sid: SupportsIndex) -> Call[SegAttr]:
    """GET /segments/{sid}."""
    sid = integer(sid)
    args, path = {"sid": sid}, f"/segments/{sid}"
    return Call("vas_seg_getattr", "GET", path, SegAttr.from_json, args, answer=attr_of, repeatable=True)


def vas_seg_setattr(
    sid: SupportsIndex,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    sharing: str | None = None,
    name: str | None = None,
    lifetime: str | None = None,
    if_match: str | None = None,
) -> Call[int]:
    """PATCH /segments/{sid}; None leaves as it is. With `if_match`, ESTALE if it has changed since."""
    sid = integer(sid)
    body = given(mode=mode, uid=uid, gid=gid, sharing=sharing, name=name, lifetime=lifetime)
    args = {"sid": sid, **body}
    path = f"/segments/{sid}"
    return Call(
        "vas_seg_setattr",
        "PATCH",
        path,
        no_value,
        args,
        body,
        headers=if_still(if_match),
        answer=no_answer,
        repeatable=if_match is None,
    )


def vas_seg_list(cursor: str | None = None, limit: int | None = None) -> Call[Page[SegAttr]]:
    """GET /segments, one page."""
    parse = page_of(SegAttr.from_json)
    return Call("vas_seg_list", "GET", "/segments", parse, query=paging(cursor, limit), repeatable=True)


def seg_pread(sid: SupportsIndex, offset: SupportsIndex, length: SupportsIndex) -> Call[bytes]:
    """GET /segments/{sid}/data with Range. Short at the end of the segment and empty behind it, as pread(2)."""
    return Call(
        "seg_pread",
        "GET",
        f"/segments/{integer(sid)}/data",
        bytes,
        headers=(("Range", _range(offset, length)),),
        answer=lambda response: response.body,
        repeatable=True,
    )


def seg_preadinto(sid: SupportsIndex, offset: SupportsIndex, buffer: Buffer) -> Call[int]:
    """The same, straight into the caller's buffer; the number of bytes that were there."""
    into = writable(buffer)

    def answer(response: Response) -> int:
        return fill(into, response)

    return Call(
        "seg_preadinto",
        "GET",
        f"/segments/{integer(sid)}/data",
        integer,
        headers=(("Range", _range(offset, len(into))),),
        into=into,
        answer=answer,
        repeatable=True,
    )


def seg_pwrite(
    sid: SupportsIndex,
    offset: SupportsIndex,
    data: Buffer,
    durability: str = "commit",
    if_match: str | None = None,
) -> Call[int]:
    """PATCH /segments/{sid}/data with Content-Range. With `if_match`, ESTALE if the segment changed since."""
    view = readable(data)
    first = _offset(offset)
    where = f"bytes {first}-{first + len(view) - 1}/*"
    headers = (("Content-Type", MEDIA_BYTES), ("Content-Range", where), *if_still(if_match))
    return Call(
        "seg_pwrite",
        "PATCH",
        f"/segments/{integer(sid)}/data",
        integer,
        query="" if a_durability(durability) == "commit" else "durability=relaxed",
        headers=headers,
        payload=view,
        answer=lambda _: len(view),
        repeatable=if_match is None,
    )


def seg_etag(sid: SupportsIndex) -> Call[str]:
    """The strong ETag of the bytes, read together with the first of them."""
    return Call(
        "seg_etag",
        "GET",
        f"/segments/{integer(sid)}/data",
        str,
        headers=(("Range", "bytes=0-0"),),
        answer=lambda response: response.headers["etag"],
        repeatable=True,
    )


def is_end(error: UnexpectedAnswerError) -> bool:
    """Whether a refusal says that the offset lies at or behind the end of the segment."""
    return error.status == RANGE_CANNOT_BE_HAD


def fill(into: memoryview, response: Response) -> int:
    """Bring a body into the caller's buffer, if the transport has not done so already."""
    if response.filled:
        return response.filled
    count = len(response.body)
    if count > len(into):
        raise ValueError("more bytes than asked for")
    into[:count] = response.body
    return count


def _offset(value: SupportsIndex) -> int:
    offset = integer(value)
    if offset < 0:
        raise ValueError("an offset is not negative")
    return offset


def _range(offset: SupportsIndex, length: SupportsIndex) -> str:
    first = _offset(offset)
    return f"bytes={first}-{first + integer(length) - 1}"
