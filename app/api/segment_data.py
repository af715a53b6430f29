"""Bytes of a segment by offset: GET and PATCH /v1/segments/{sid}/data, with ranges, ETags and preconditions."""

import secrets
from dataclasses import dataclass

from app.api.memory import is_durable
from app.errors import Header, too_big
from app.http import ranges
from app.http.etags import Conditions
from app.http.exchange import BYTES_HEADER, Exchange, object_id
from app.routes import hot
from app.routes.hot import HotRoute
from app.service import Service
from everspace.wire import MEDIA_BYTES

ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")


@dataclass(slots=True)
class Answer:
    """What was read in one transaction: `pieces` are the bytes of `spans`, of the whole segment if that is None."""

    etag: str
    size: int
    status: int
    spans: list[ranges.Span] | None
    pieces: list[bytes]


async def read_data(exchange: Exchange, service: Service, sid_text: str) -> None:
    """200 with all bytes, 206 with those of Range, 304; HEAD without them. E2BIG: more than one answer may hold."""
    sid = object_id(sid_text, "segment")
    found = await service.executor.run(lambda: _read(exchange, service, sid))
    headers = [ACCEPT_RANGES, _etag_header(found.etag)]
    if found.status == 304:
        await exchange.reply(304, b"", *headers)
    elif found.spans is None:
        await exchange.reply(200, b"".join(found.pieces), BYTES_HEADER, *headers, length=found.size)
    elif len(found.spans) == 1:
        part = ranges.content_range(found.spans[0], found.size)
        await exchange.reply(206, found.pieces[0], BYTES_HEADER, part, *headers)
    else:
        body, media = _multipart(found)
        await exchange.reply(206, body, media, *headers)


async def write_data(exchange: Exchange, service: Service, sid_text: str) -> None:
    """204: the body now is the bytes that Content-Range names. ESTALE: If-Match names another state; EINVAL."""
    sid = object_id(sid_text, "segment")
    durable = is_durable(exchange.query())
    data = await exchange.body(service.settings.body_limit, MEDIA_BYTES)
    machine, cred = service.machine, exchange.cred
    conditions = Conditions.of(exchange.scope["headers"])

    def write() -> str:
        nonlocal conditions
        size = machine.vas_seg_getattr(cred, sid).size
        machine.seg_write(cred, sid, 0, b"")  # EACCES goes before everything that tells of the bytes
        if conditions is not None:
            conditions.judge(_etag(service, machine.seg_version(cred, sid), sid))
        offset = ranges.written(exchange.header(b"content-range"), len(data), size)
        machine.seg_write(cred, sid, offset, data, durable)
        conditions = None  # if it is taken back and made again, it was answered: the condition held
        return _etag(service, machine.seg_version(cred, sid), sid)

    etag = await service.executor.run(write, wait=durable)
    await exchange.reply(204, b"", _etag_header(etag))


def _read(exchange: Exchange, service: Service, sid: int) -> Answer:
    machine, cred = service.machine, exchange.cred
    size = machine.vas_seg_getattr(cred, sid).size
    machine.seg_read(cred, sid, 0, 0)  # EACCES goes before everything that tells of the bytes
    etag = _etag(service, machine.seg_version(cred, sid), sid)
    conditions = Conditions.of(exchange.scope["headers"])
    if conditions is not None:
        conditions.require_match(etag)
    if conditions is not None and conditions.unchanged(etag):
        return Answer(etag, size, 304, None, [])
    wanted = None
    if exchange.method == "GET" and ranges.still_same(exchange.header(b"if-range"), etag):
        given = exchange.header(b"range")
        wanted = ranges.requested(None if given is None else given.decode("latin-1"), size)
    if exchange.method == "HEAD":
        return Answer(etag, size, 200, None, [])
    spans = [(0, size)] if wanted is None else wanted
    total, limit = sum(stop - start for start, stop in spans), service.settings.body_limit
    if total > limit:
        raise too_big(f"{total} bytes; at most {limit} are given at once: use Range")
    pieces = [machine.seg_read(cred, sid, start, stop - start) for start, stop in spans]
    return Answer(etag, size, 200 if wanted is None else 206, wanted, pieces)


def _etag(service: Service, version: int, sid: int) -> str:
    """Strong: two states of a segment never share one. Versions count anew with each start, so it names the start."""
    return f'"{service.instance}.{sid}.{version}"'


def _etag_header(etag: str) -> Header:
    return b"etag", etag.encode("ascii")


def _multipart(found: Answer) -> tuple[bytes, Header]:
    """multipart/byteranges, RFC 9110 section 14.6."""
    boundary = secrets.token_hex(16).encode("ascii")
    lines: list[bytes] = []
    for span, piece in zip(found.spans or (), found.pieces, strict=True):
        part = ranges.content_range(span, found.size)
        lines += [b"--" + boundary, *(b": ".join(field) for field in (BYTES_HEADER, part)), b"", piece]
    body = b"\r\n".join([*lines, b"--" + boundary + b"--", b""])
    return body, (b"content-type", b"multipart/byteranges; boundary=" + boundary)


_CONDITIONS = [hot.header("If-Match", "Strong ETag; ESTALE unless it is still the segment's.")]

SEGMENT_DATA = HotRoute(
    "/v1/segments/{sid}/data",
    {"GET": read_data, "HEAD": read_data, "PATCH": write_data},
    {
        "get": {
            "operationId": "seg_read",
            "tags": ["segments"],
            "summary": "Read bytes by offset",
            "description": "All bytes, or those of Range. EINVAL: unknown; EACCES: the mode's read bit; ESTALE: If-Match; E2BIG: use Range.",
            "parameters": [
                hot.path_id("sid"),
                hot.header("Range", "bytes=FIRST-LAST and the other forms of RFC 9110."),
                hot.header(
                    "If-Range", "Strong ETag; everything is sent if it is not the segment's any more."
                ),
                hot.header("If-None-Match", "ETag; 304 if it is still the segment's."),
                *_CONDITIONS,
            ],
            "responses": {
                "200": {"description": "All bytes.", "content": hot.BINARY},
                "206": {
                    "description": "The bytes of one range; multipart/byteranges for several.",
                    "content": {**hot.BINARY, "multipart/byteranges": hot.BINARY[MEDIA_BYTES]},
                },
                "304": {"description": "Not changed."},
            },
        },
        "patch": {
            "operationId": "seg_write",
            "tags": ["segments"],
            "summary": "Write bytes by offset",
            "description": "The bytes that Content-Range names. EINVAL; EACCES: the mode's write bit; EPERM: a snapshot; ESTALE: If-Match; E2BIG.",
            "parameters": [
                hot.path_id("sid"),
                {**hot.header("Content-Range", "bytes FIRST-LAST/* or /SIZE."), "required": True},
                hot.DURABILITY,
                *_CONDITIONS,
                hot.header("If-None-Match", "Tags; ESTALE if one of them is the segment's."),
            ],
            "requestBody": {"required": True, "content": hot.BINARY},
            "responses": {"204": {"description": "Written, all of it."}},
        },
    },
)
