"""Spaces and segments as objects, sync and async."""

import asyncio
import json
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

SPACE = {"id": 3, "name": "lab", "mode": 384, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0}
SEGMENT = {**SPACE, "id": 5, "name": "heap", "start": "0x100000000000", "end": "0x100000002000", "size": 8192}
REGION = {"start": "0x100000000000", "end": "0x100000001000", "prot": 3, "shared": False, "sid": None}
TASK = {
    "pid": 7, "tid": 7, "uid": 0, "gids": [0], "name": None, "lease_s": 60.0,
    "threads": [{"tid": 7, "active": 0}], "attachments": [],
}  # fmt: skip


def service(request: Request) -> Response:
    """Answers every route with one space, one segment, or two pages of two."""
    path, _, query = request.target.removeprefix("/v1").partition("?")
    headers = dict(request.headers)
    if path == "/tasks":
        return json_response(TASK, 201)
    if path.endswith("/data"):
        return data(request, headers)
    if path in ("/vas", "/segments"):
        item = SPACE if path == "/vas" else SEGMENT
        if request.method == "POST":
            return json_response(item, 201)
        if query.startswith("name="):
            return json_response(
                {"items": [item] if query in ("name=lab", "name=heap") else [], "next": None}
            )
        later = [] if "cursor=" in query else [item]
        return json_response({"items": [item, *later], "next": "c" if later else None})
    if path.endswith("/regions"):
        return json_response({"items": [REGION], "next": None if "cursor" in query else "c"})
    if path == "/vas/3/segments":
        return json_response(
            {"items": [{"sid": 5, "type": "ro"}], "next": None if "cursor" in query else "c"}
        )
    if request.method == "GET":
        return json_response(SPACE if path.startswith("/vas") else SEGMENT)
    return Response(204)


def data(request: Request, headers: dict[str, str]) -> Response:
    """The bytes of the segment: 10 of them."""
    if request.method == "PATCH":
        if headers.get("If-Match", '"1"') != '"1"':
            return problem_response("ESTALE", "changed")
        return Response(204)
    first, _, last = headers["Range"].removeprefix("bytes=").partition("-")
    if int(first) >= 10:
        return json_response({"status": 416, "title": "no such range"}, 416)
    return Response(206, {"etag": '"1"'}, b"0123456789"[int(first) : int(last) + 1])


def log(transport: Any) -> list[str]:
    return [
        f"{request.method} {request.target.removeprefix('/v1')} {bytes(request.body).decode()}".strip()
        for request in transport.requests
    ]


CREATE = {
    "name": "heap",
    "start": "0x100000000000",
    "end": "0x100000002000",
    "mode": 384,
    "sharing": "exclusive",
}
EXPECTED = [
    'POST /vas {"name": "lab", "mode": 384, "sharing": "exclusive"}',
    "GET /vas/3",
    "GET /vas?name=lab",
    "GET /vas?limit=2",
    "GET /vas?limit=2&cursor=c",
    "GET /vas/3",
    'PATCH /vas/3 {"mode": 416}',
    'PATCH /vas/3 {"uid": 1, "gid": 2}',
    'PATCH /vas/3 {"sharing": "shared"}',
    "GET /vas/3/regions",
    "GET /vas/3/regions?cursor=c",
    "GET /vas/3/segments",
    "GET /vas/3/segments?cursor=c",
    f"POST /segments {json.dumps(CREATE)}",
    "GET /segments/5",
    "GET /segments?name=heap",
    "GET /segments",
    "GET /segments?cursor=c",
    "GET /segments/5",
    'PATCH /segments/5 {"mode": 416}',
    'PATCH /segments/5 {"uid": 1}',
    'PATCH /segments/5 {"sharing": "shared"}',
    'PUT /vas/3/segments/5 {"type": "rw"}',
    'PUT /vas/9/segments/5 {"type": "ro"}',
    "DELETE /vas/3/segments/5",
    'POST /tasks {"lease_s": 60.0}',
    'PUT /tasks/7/vas/3 {"type": "ro", "lazy": false}',
    'PUT /tasks/7/threads/7/active {"vid": 3}',
    'PUT /tasks/7/threads/7/active {"vid": 0}',
    'PUT /tasks/7/threads/7/active {"vid": 3}',
    'PUT /tasks/7/threads/7/active {"vid": 0}',
    "DELETE /tasks/7/vas/3",
    "DELETE /tasks/7",
    "DELETE /vas/3",
    "DELETE /segments/5",
]


def test_spaces_and_segments() -> None:
    transport = HandlerTransport(service)
    with everspace.connect(transport=transport) as client:
        space = client.spaces.create("lab")
        assert (space.vid, space.name, repr(space)) == (3, "lab", "<Space 3 'lab'>")
        assert client.spaces.get(3).seen == client.spaces.find("lab").seen == space.seen
        assert [each.vid for each in client.spaces.list(limit=2)] == [3, 3, 3]
        assert space.attr().mode == 0o600
        space.chmod(0o640)
        space.chown(1, 2)
        space.set_sharing("shared")
        regions = space.regions()
        assert [(region.perms, region.size) for region in regions] == [("rw-p", 4096)] * 2
        assert space.segments() == [everspace.SegmentAttachment(5, everspace.O_RDONLY)] * 2
        segment = client.segments.create("heap", 0x100000000000, 0x100000002000)
        assert (segment.sid, segment.size, segment.start, segment.end) == (
            5,
            8192,
            0x100000000000,
            0x100000002000,
        )
        assert repr(segment) == "<Segment 5 'heap' 0x100000000000-0x100000002000>"
        assert client.segments.get(5).seen == client.segments.find("heap").seen == segment.seen
        assert [each.sid for each in client.segments.list()] == [5, 5, 5]
        assert segment.attr().mode == 0o600
        segment.chmod(0o640)
        segment.chown(uid=1)
        segment.set_sharing("shared")
        segment.attach(space)
        segment.attach(9, "ro")
        segment.detach(space)
        with client.spawn() as task, space.attach(task, "ro", lazy=False) as attached:
            with attached.switch():
                assert task.active == 3
            assert task.active == 0
            attached.switch()
        space.delete()
        segment.delete()
    assert log(transport) == EXPECTED


def test_the_async_twin() -> None:
    async def main() -> list[str]:
        transport = AsyncHandlerTransport(service)
        async with everspace.aconnect(transport=transport) as client:
            space = await client.spaces.create("lab")
            await client.spaces.get(3)
            await client.spaces.find("lab")
            assert [each.vid async for each in client.spaces.list(limit=2)] == [3, 3, 3]
            assert (await space.attr()).mode == 0o600
            await space.chmod(0o640)
            await space.chown(1, 2)
            await space.set_sharing("shared")
            assert len(await space.regions()) == len(await space.segments()) == 2
            segment = await client.segments.create("heap", 0x100000000000, 0x100000002000)
            await client.segments.get(5)
            await client.segments.find("heap")
            assert [each.sid async for each in client.segments.list()] == [5, 5, 5]
            assert (await segment.attr()).size == 8192
            await segment.chmod(0o640)
            await segment.chown(uid=1)
            await segment.set_sharing("shared")
            await segment.attach(space)
            await segment.attach(9, "ro")
            await segment.detach(space)
            async with client.spawn() as task, space.attach(task, "ro", lazy=False) as attached:
                async with attached.switch():
                    assert task.active == 3
                assert task.active == 0
                await attached.switch()
            await space.delete()
            await segment.delete()
        return log(transport)

    assert asyncio.run(main()) == EXPECTED


def test_bytes_by_offset() -> None:
    transport = HandlerTransport(service)
    client = everspace.connect(transport=transport)
    segment = client.segments.get(5)
    assert [segment.pread(2, 3), segment.pread(8, 5), segment.pread(10, 1), segment.pread(0, 0)] == [
        b"234",
        b"89",
        b"",
        b"",
    ]
    buffer = bytearray(4)
    assert (segment.preadinto(8, buffer), bytes(buffer)) == (2, b"89\0\0")
    assert segment.preadinto(99, buffer) == segment.preadinto(0, bytearray()) == 0
    assert (segment.pwrite(4, b"abc"), segment.pwrite(4, b"")) == (3, 0)
    assert dict(transport.requests[-1].headers)["Content-Range"] == "bytes 4-6/*"
    segment.pwrite(4, b"abc", "relaxed")
    assert transport.requests[-1].target == "/v1/segments/5/data?durability=relaxed"
    assert segment.etag() == '"1"'
    assert segment.pwrite(0, b"x", if_match='"1"') == 1
    assert [request.repeatable for request in transport.requests if request.method == "PATCH"] == [
        True,
        True,
        False,
    ]
    with pytest.raises(errors.StaleError):
        segment.pwrite(0, b"x", if_match='"0"')
    with pytest.raises(ValueError, match="ETag"):
        segment.pwrite(0, b"x", if_match="1\r\nX: y")
    for mistake in (lambda: segment.pread(-1, 1), lambda: segment.pwrite(-1, b"x")):
        with pytest.raises(ValueError, match="negative"):
            mistake()


async def test_bytes_by_offset_async() -> None:
    async with everspace.aconnect(transport=AsyncHandlerTransport(service)) as client:
        segment = await client.segments.get(5)
        assert [await segment.pread(2, 3), await segment.pread(10, 1), await segment.pread(0, 0)] == [
            b"234",
            b"",
            b"",
        ]
        buffer = bytearray(2)
        assert (await segment.preadinto(0, buffer), bytes(buffer)) == (2, b"01")
        assert await segment.preadinto(99, buffer) == await segment.preadinto(0, bytearray()) == 0
        assert (await segment.pwrite(0, b"abc"), await segment.pwrite(0, b""), await segment.etag()) == (
            3,
            0,
            '"1"',
        )


def test_nobody_of_that_name() -> None:
    client = everspace.connect(transport=HandlerTransport(service))
    for find in (client.spaces.find, client.segments.find):
        with pytest.raises(errors.NoSuchProcessError):
            find("nobody")


def test_a_block_that_fails_keeps_its_own_error() -> None:
    def dying(request: Request) -> Response:
        if request.method == "DELETE" or "active" in request.target:
            raise errors.CannotConnectError("gone")
        return service(request)

    client = everspace.connect(transport=HandlerTransport(dying))
    space = client.spaces.get(3)

    def fail() -> None:
        with client.spawn() as task, space.attach(task):
            raise KeyError

    with pytest.raises(KeyError) as caught:
        fail()
    assert caught.value.__notes__ == ["leaving the block failed too: gone"] * 2
    with pytest.raises(errors.CannotConnectError), client.spawn():
        pass
    client.close()
