"""Clones, images, roots, heaps, views and slots: what each call sends, alone, async, in a batch and as an object's method."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace.testing import (
    AsyncHandlerTransport,
    HandlerTransport,
    batch_calls,
    json_response,
    problem_response,
)
from everspace.transport import Request, Response

TASK = {
    "pid": 7, "tid": 7, "uid": 0, "gids": [0], "name": None, "lease_s": 60.0,
    "threads": [{"tid": 7, "active": 0}], "attachments": [],
}  # fmt: skip
SPACE = {
    "id": 4, "name": "copy", "mode": 384, "uid": 0, "gid": 0, "sharing": "lockable", "attach_count": 0,
    "origin": 3, "snapshot": True, "lifetime": "transient", "image": True,
}  # fmt: skip
SEGMENT = {**SPACE, "start": "0x100000000000", "end": "0x100000002000", "size": 8192}
HEAP = {
    "size": 8192, "overhead": 192, "allocated": 96, "free": 7904, "largest_free": 7888, "blocks": 2, "free_blocks": 1,
}  # fmt: skip
A = 0x1000_0000_0000
EMPTY = Response(204)
VALUE = json_response({"value": 5})
LINEAGE = {"origins": [2, 1], "clones": [9]}

LOCK = {
    "kind": "segment", "id": 5, "holders": [{"pid": 7, "tid": 8, "vid": 4, "exclusive": True}], "waiters": [],
}  # fmt: skip
HELD = everspace.Lock("segment", 5, (everspace.LockUser(7, 8, 4, True),), ())

Row = tuple[str, tuple[Any, ...], str, str, Any, Any, Response, Any, Any]
# name, arguments, method, path, body, args in a batch, the answer, the value in a batch, the result
ROWS: tuple[Row, ...] = (
    ("vas_create", ("s", 0o600, "lockable", "transient"), "POST", "/vas",
     {"name": "s", "mode": 384, "sharing": "lockable", "lifetime": "transient"}, None, json_response(SPACE, 201), 4, 4),
    ("vas_seg_create", ("s", A, A + 8192, 0o600, "shared", "transient"), "POST", "/segments",
     {"name": "s", "start": hex(A), "end": hex(A + 8192), "mode": 384, "sharing": "shared", "lifetime": "transient"},
     None, json_response(SEGMENT, 201), 4, 4),
    ("vas_setattr", (3, None, None, None, None, "new", "persistent"), "PATCH", "/vas/3",
     {"name": "new", "lifetime": "persistent"}, {"vid": 3, "name": "new", "lifetime": "persistent"}, EMPTY, 0, 0),
    ("vas_seg_setattr", (3, None, None, None, None, "new"), "PATCH", "/segments/3", {"name": "new"},
     {"sid": 3, "name": "new"}, EMPTY, 0, 0),
    ("vas_clone", (3, "copy"), "POST", "/vas/3/clone", {"name": "copy"}, {"vid": 3, "name": "copy"},
     json_response(SPACE, 201), 4, 4),
    ("vas_snapshot", (3, "copy"), "POST", "/vas/3/snapshot", {"name": "copy"}, {"vid": 3, "name": "copy"},
     json_response(SPACE, 201), 4, 4),
    ("vas_seg_clone", (3, "copy"), "POST", "/segments/3/clone", {"name": "copy"}, {"sid": 3, "name": "copy"},
     json_response(SEGMENT, 201), 4, 4),
    ("vas_seg_snapshot", (3, "copy"), "POST", "/segments/3/snapshot", {"name": "copy"}, {"sid": 3, "name": "copy"},
     json_response(SEGMENT, 201), 4, 4),
    ("vas_reset", (4,), "POST", "/vas/4/reset", {}, {"vid": 4}, json_response(SPACE), 0, 0),
    ("vas_seg_reset", (4,), "POST", "/segments/4/reset", {}, {"sid": 4}, json_response(SEGMENT), 0, 0),
    ("vas_lineage", (4,), "GET", "/vas/4/lineage", None, {"vid": 4}, json_response(LINEAGE), LINEAGE,
     everspace.Lineage((2, 1), (9,))),
    ("vas_seg_lineage", (4,), "GET", "/segments/4/lineage", None, {"sid": 4}, json_response(LINEAGE), LINEAGE,
     everspace.Lineage((2, 1), (9,))),
    ("vas_fork", (), "POST", "/tasks/7/vas_fork", {}, None, json_response(SPACE, 201), 4, 4),
    ("vas_fork", ("image",), "POST", "/tasks/7/vas_fork", {"name": "image"}, None, json_response(SPACE, 201), 4, 4),
    ("vas_exec", (4,), "POST", "/tasks/7/vas_exec", {"vid": 4}, None, json_response(TASK), 0, 0),
    ("vas_mmap", (3, A, 4096, 3, 50), "POST", "/vas/3/mmap",
     {"addr": hex(A), "length": 4096, "prot": 3, "flags": 50},
     {"vid": 3, "addr": hex(A), "length": 4096, "prot": 3, "flags": 50}, json_response({"addr": hex(A)}), hex(A), A),
    ("vas_munmap", (3, A, 4096), "POST", "/vas/3/munmap", {"addr": hex(A), "length": 4096},
     {"vid": 3, "addr": hex(A), "length": 4096}, VALUE, 0, 0),
    ("vas_mprotect", (3, A, 4096, 1), "POST", "/vas/3/mprotect", {"addr": hex(A), "length": 4096, "prot": 1},
     {"vid": 3, "addr": hex(A), "length": 4096, "prot": 1}, VALUE, 0, 0),
    ("vas_malloc", (24,), "POST", "/tasks/7/heap", {"size": 24}, None, json_response({"addr": hex(A)}), hex(A), A),
    ("vas_malloc", (24, 5), "POST", "/tasks/7/heap", {"size": 24, "sid": 5}, None, json_response({"addr": hex(A)}),
     hex(A), A),
    ("vas_free", (A,), "DELETE", f"/tasks/7/heap/{A:#x}", None, {"addr": hex(A)}, EMPTY, 0, 0),
    ("heap_usage", (5,), "GET", "/segments/5/heap", None, {"sid": 5}, json_response(HEAP), HEAP,
     everspace.HeapUsage(8192, 192, 96, 7904, 7888, 2, 1)),
    ("vas_set_root", ("a/ü ", A), "PUT", "/tasks/7/roots/a%2F%C3%BC%20", {"addr": hex(A)},
     {"name": "a/ü ", "addr": hex(A)}, json_response({"addr": hex(A)}), 0, 0),
    ("vas_get_root", ("..",), "GET", "/tasks/7/roots/..", None, {"name": ".."}, json_response({"addr": hex(A)}),
     hex(A), A),
    ("mmview", (everspace.MMVIEW_CREATE,), "POST", "/tasks/7/mmview", {"op": 0}, None, VALUE, 5, 5),
    ("mmview", (everspace.MMVIEW_DELETE, 5), "POST", "/tasks/7/mmview", {"op": 1, "id": 5}, None, VALUE, 5, 5),
    ("mmview", (everspace.MMVIEW_CURRENT,), "POST", "/tasks/7/mmview", {"op": 2}, None, VALUE, 5, 5),
    ("mmview", (everspace.MMVIEW_MIGRATE, -1), "POST", "/tasks/7/mmview", {"op": 3, "id": -1}, None, VALUE, 5, 5),
    ("mmview", (everspace.MMVIEW_UNSHARE, A, 4096), "POST", "/tasks/7/mmview",
     {"op": 4, "addr": hex(A), "len": 4096}, None, VALUE, 5, 5),
    ("mmview", (everspace.MMVIEW_SHARE, A, 4096), "POST", "/tasks/7/mmview", {"op": 5, "addr": hex(A), "len": 4096},
     None, VALUE, 5, 5),
    ("mmview", (everspace.MMVIEW_SWITCH_BASE,), "POST", "/tasks/7/mmview", {"op": 6}, None, VALUE, 5, 5),
    ("mmview", (99, 1), "POST", "/tasks/7/mmview", {"op": 99, "id": 1}, None, VALUE, 5, 5),
    ("mmview_create", (), "POST", "/tasks/7/mmview_create", {}, None, VALUE, 5, 5),
    ("mmview_migrate", (2,), "POST", "/tasks/7/mmview_migrate", {"id": 2}, None, VALUE, 5, 5),
    ("mmview_delete", (2,), "POST", "/tasks/7/mmview_delete", {"id": 2}, None, VALUE, 5, 5),
    ("mmview_unshare", (A, 4096), "POST", "/tasks/7/mmview_unshare", {"addr": hex(A), "len": 4096}, None, VALUE, 5, 5),
    ("new_as", (), "POST", "/tasks/7/new_as", {}, None, VALUE, 5, 5),
    ("switch_as", (5,), "POST", "/tasks/7/switch_as", {"n": 5}, None, json_response({"value": 0}), 0, 0),
    ("smaps", (), "GET", "/proc/7/smaps", None, {}, Response(200, {}, b"text\n"), "text\n", "text\n"),
)  # fmt: skip
IDS = [f"{row[0]}{row[1]}" for row in ROWS]


def after_spawn(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """A spawn, then what `answer` says, then exits."""
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        return json_response(TASK, 201) if len(seen) == 1 else answer(request)

    return handle


def check(request: Request, method: str, path: str, body: Any) -> None:
    assert (request.method, request.target) == (method, f"/v1{path}")
    assert (json.loads(bytes(request.body)) if request.body else None) == body


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_each_call(row: Row) -> None:
    name, args, method, path, body, _, answer, _, result = row
    transport = HandlerTransport(after_spawn(lambda _: answer))
    with everspace.connect(transport=transport) as client:
        assert getattr(client.spawn(), name)(*args) == result
        check(transport.requests[1], method, path, body)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
async def test_each_call_async(row: Row) -> None:
    name, args, method, path, body, _, answer, _, result = row
    transport = AsyncHandlerTransport(after_spawn(lambda _: answer))
    async with everspace.aconnect(transport=transport) as client:
        task = await client.spawn()
        assert await getattr(task, name)(*args) == result
        check(transport.requests[1], method, path, body)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_each_call_in_a_batch(row: Row) -> None:
    name, args, _, _, body, batched, _, value, result = row
    answer = json_response({"results": [{"value": value}]})
    transport = HandlerTransport(after_spawn(lambda _: answer))
    with everspace.connect(transport=transport) as client:
        with client.spawn().batch() as batch:
            handle = getattr(batch, name)(*args)
        assert handle.result() == result
        sent = batch_calls(transport.requests[1])
        assert sent == [{"call": name, "args": body if batched is None else batched}]


def test_a_thread_says_its_tid_where_the_service_takes_it() -> None:
    def answer(request: Request) -> Response:
        if request.target.endswith("/threads"):
            return json_response({"tid": 8}, 201)
        return json_response({"addr": "0x1000", "value": 1, "id": 3})

    transport = HandlerTransport(after_spawn(answer))
    with everspace.connect(transport=transport) as client:
        thread = client.spawn().thread()
        thread.vas_malloc(8)
        check(transport.requests[-1], "POST", "/tasks/7/heap", {"size": 8, "tid": 8})
        thread.vas_free(0x1000)
        check(transport.requests[-1], "DELETE", "/tasks/7/heap/0x1000?tid=8", None)
        thread.vas_set_root("r", 0x1000)
        check(transport.requests[-1], "PUT", "/tasks/7/roots/r?tid=8", {"addr": "0x1000"})
        thread.vas_get_root("r")
        check(transport.requests[-1], "GET", "/tasks/7/roots/r?tid=8", None)
        thread.new_as()
        check(transport.requests[-1], "POST", "/tasks/7/new_as", {"tid": 8})
        thread.mmview(2)
        check(transport.requests[-1], "POST", "/tasks/7/mmview", {"op": 2, "tid": 8})
        thread.vas_fork("i")
        check(transport.requests[-1], "POST", "/tasks/7/vas_fork", {"name": "i", "tid": 8})
        thread.vas_exec(3)
        check(transport.requests[-1], "POST", "/tasks/7/vas_exec", {"vid": 3})
        thread.vas_clone(3, "c")
        check(transport.requests[-1], "POST", "/vas/3/clone", {"name": "c"})


def test_vas_exec_takes_threads_and_attachments_along() -> None:
    def answer(request: Request) -> Response:
        return json_response({"tid": 9}, 201) if request.target.endswith("/threads") else EMPTY

    with everspace.connect(transport=HandlerTransport(after_spawn(answer))) as client:
        task = client.spawn()
        task.thread()
        task.vas_attach(0, 3, "rw")
        task.vas_switch(3)
        task.vas_exec(4)
        assert (task.active, task._task.attachments, len(task._task.threads)) == (0, {}, 1)


MISTAKES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("mmview", (0, 1, 2)), ("mmview", (4, 1, 2, 3)), ("mmview", ("0",)), ("mmview", (1, 1.0)), ("switch_as", ("1",)),
    ("vas_clone", (1, None)), ("vas_clone", ("1", "n")), ("vas_fork", (5,)), ("vas_malloc", (1.5,)), ("vas_free", ("0x1",)),
    ("vas_set_root", (b"r", 1)), ("vas_get_root", (None,)), ("vas_create", ("n", 0, "shared", None)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "args"), MISTAKES)
def test_mistakes_of_the_caller_send_nothing(name: str, args: tuple[Any, ...]) -> None:
    transport = HandlerTransport(after_spawn(lambda _: EMPTY))
    with everspace.connect(transport=transport) as client:
        task = client.spawn()
        with pytest.raises(TypeError):
            getattr(task, name)(*args)
        assert len(transport.requests) == 1


@pytest.mark.parametrize(
    ("name", "args", "answer"),
    [
        ("new_as", (), json_response({})),
        ("new_as", (), json_response({"value": "1"})),
        ("vas_lineage", (1,), json_response({"origins": [1]})),
        ("heap_usage", (1,), json_response({"size": 1})),
        ("vas_malloc", (1,), json_response({"addr": "x"})),
        ("vas_clone", (1, "n"), json_response({"name": "n"}, 201)),
    ],
)
def test_answers_of_another_shape_are_protocol_errors(
    name: str, args: tuple[Any, ...], answer: Response
) -> None:
    transport = HandlerTransport(after_spawn(lambda _: answer))
    with everspace.connect(transport=transport) as client, pytest.raises(errors.ProtocolError):
        getattr(client.spawn(), name)(*args)


def test_how_long_a_batch_may_take() -> None:
    answer = json_response({"results": [{"value": 0}] * 3})
    transport = HandlerTransport(after_spawn(lambda _: answer))
    with everspace.connect(transport=transport, timeout=30.0) as client:
        task = client.spawn()
        for vids, timeouts, atomic, patience in (
            ((1, 0, 2), (2.0, None, 3.0), False, 35.0),  # back to the original space nobody waits
            ((1, 0, 2), (None, None, 3.0), False, None),
            ((1, 0, 2), (None, 0.0, None), True, 30.0),  # an atomic batch does not wait
        ):
            with task.batch(atomic) as batch:
                for vid, timeout in zip(vids, timeouts, strict=True):
                    batch.vas_switch(vid, timeout)
            assert transport.requests[-1].timeout == patience
        task.vas_switch(0)
        assert transport.requests[-1].timeout == 30.0


# -- objects -------------------------------------------------------------------------------------------------------


def service(request: Request) -> Response:
    """One space or segment, its clone, lists in two parts."""
    path, _, query = request.target.removeprefix("/v1").partition("?")
    item = SPACE if path.startswith("/vas") else SEGMENT
    following = None if "cursor" in query else "c"
    answers: dict[str, Any] = {
        "lineage": LINEAGE,
        "usage": {"logical": 3, "shared": 1, "private": 2},
        "heap": HEAP,
        "mmap": {"addr": "0x1000"},
        "lock": {"items": [LOCK], "next": following},
        "diff": {
            "items": [
                {
                    "start": "0x1000" if following else "0x3000",
                    "end": "0x2000" if following else "0x5000",
                    "kind": "changed" if following else "left",
                }
            ],
            "next": following,
        },
        "roots": {"items": [{"name": "a" if following else "b/c", "addr": "0x10"}], "next": following},
    }
    last = path.rpartition("/")[2]
    if "/roots/" in path:
        return json_response({"addr": "0x10"})
    if last in ("clone", "snapshot"):
        return json_response({**item, "id": 8, "name": json.loads(bytes(request.body))["name"]}, 201)
    return json_response(answers.get(last, item))


SPACE_LOG = [
    "GET /vas/4", 'PATCH /vas/4 {"name": "new"}', 'PATCH /vas/4 {"lifetime": "persistent"}',
    'POST /vas/4/clone {"name": "c"}', 'POST /vas/4/snapshot {"name": "s"}', "POST /vas/4/reset {}", "GET /vas/4/lineage",
    "GET /vas/4/usage", "GET /vas/4/diff?other=9", "GET /vas/4/diff?other=9&cursor=c", "GET /vas/4/roots",
    "GET /vas/4/roots?cursor=c", 'PUT /vas/4/roots/a%2Fb {"addr": "0x10"}', "GET /vas/4/roots/a%2Fb",
    "DELETE /vas/4/roots/a%2Fb", 'POST /vas/4/mmap {"addr": "0x0", "length": 4096, "prot": 3, "flags": 34}',
    'POST /vas/4/munmap {"addr": "0x1000", "length": 4096}',
    'POST /vas/4/mprotect {"addr": "0x1000", "length": 4096, "prot": 1}', "GET /vas/4/lock", "GET /vas/4/lock?cursor=c",
]  # fmt: skip
SEGMENT_LOG = [
    "GET /segments/4", 'PATCH /segments/4 {"name": "new"}', 'PATCH /segments/4 {"lifetime": "transient"}',
    'POST /segments/4/clone {"name": "c"}', 'POST /segments/4/snapshot {"name": "s"}', "POST /segments/4/reset {}",
    "GET /segments/4/lineage", "GET /segments/4/usage", "GET /segments/4/diff?other=8", "GET /segments/4/diff?other=8&cursor=c",
    "GET /segments/4/heap",
]  # fmt: skip
RUNS = [everspace.Difference(0x1000, 0x2000, "changed"), everspace.Difference(0x3000, 0x5000, "left")]


def test_runs_that_were_cut_between_pages_are_whole() -> None:
    parts = [
        [("0x1000", "0x2000", "changed")],
        [],
        [("0x2000", "0x3000", "changed"), ("0x3000", "0x4000", "left")],
        [("0x5000", "0x6000", "left")],
        [("0x6000", "0x7000", "left")],
        [],
    ]

    def answer(request: Request) -> Response:
        number = int(request.target.partition("cursor=")[2] or 0)
        items = [{"start": start, "end": end, "kind": kind} for start, end, kind in parts[number]]
        return json_response({"items": items, "next": str(number + 1) if number + 1 < len(parts) else None})

    with everspace.connect(transport=HandlerTransport(answer)) as client:
        for thing in (
            everspace.Space(client, everspace.VasAttr.from_json(SPACE)),
            everspace.Segment(client, everspace.SegAttr.from_json(SEGMENT)),
        ):
            assert [(run.start, run.end, run.kind) for run in thing.diff(9)] == [
                (0x1000, 0x3000, "changed"),
                (0x3000, 0x4000, "left"),
                (0x5000, 0x7000, "left"),
            ]


def log(transport: Any) -> list[str]:
    return [
        f"{request.method} {request.target.removeprefix('/v1')} {bytes(request.body).decode()}".strip()
        for request in transport.requests
    ]


def test_spaces() -> None:
    transport = HandlerTransport(service)
    with everspace.connect(transport=transport) as client:
        space = client.spaces.get(4)
        assert (space.seen.origin, space.seen.snapshot, space.seen.lifetime, space.seen.image) == (
            3, True, "transient", True,
        )  # fmt: skip
        space.rename("new")
        assert (space.name, space.vid) == ("new", 4)
        space.set_lifetime("persistent")
        assert (space.clone("c").name, space.snapshot("s").vid) == ("c", 8)
        space.reset()
        assert space.lineage() == everspace.Lineage((2, 1), (9,))
        assert space.usage() == everspace.Usage(3, 1, 2)
        assert list(space.diff(9)) == RUNS
        assert [run.size for run in RUNS] == [4096, 8192]
        assert space.roots() == {"a": 16, "b/c": 16}
        space.set_root("a/b", 16)
        assert space.get_root("a/b") == 16
        space.delete_root("a/b")
        assert space.mmap(0, 4096, 3, 34) == 0x1000
        space.munmap(0x1000, 4096)
        space.mprotect(0x1000, 4096, 1)
        assert space.locks() == [HELD, HELD]
    assert log(transport) == SPACE_LOG


def test_segments() -> None:
    transport = HandlerTransport(service)
    with everspace.connect(transport=transport) as client:
        segment = client.segments.get(4)
        segment.rename("new")
        assert segment.name == "new"
        segment.set_lifetime("transient")
        other = segment.clone("c")
        assert (other.sid, segment.snapshot("s").name) == (8, "s")
        segment.reset()
        assert segment.lineage().origins == (2, 1)
        assert segment.usage().private == 2
        assert list(segment.diff(other)) == RUNS
        assert segment.heap().blocks == 2
    assert log(transport) == SEGMENT_LOG


async def test_spaces_async() -> None:
    transport = AsyncHandlerTransport(service)
    async with everspace.aconnect(transport=transport) as client:
        space = await client.spaces.get(4)
        await space.rename("new")
        assert space.name == "new"
        await space.set_lifetime("persistent")
        assert ((await space.clone("c")).name, (await space.snapshot("s")).vid) == ("c", 8)
        await space.reset()
        assert await space.lineage() == everspace.Lineage((2, 1), (9,))
        assert await space.usage() == everspace.Usage(3, 1, 2)
        assert [run async for run in space.diff(9)] == RUNS
        assert await space.roots() == {"a": 16, "b/c": 16}
        await space.set_root("a/b", 16)
        assert await space.get_root("a/b") == 16
        await space.delete_root("a/b")
        assert await space.mmap(0, 4096, 3, 34) == 0x1000
        await space.munmap(0x1000, 4096)
        await space.mprotect(0x1000, 4096, 1)
        assert await space.locks() == [HELD, HELD]
    assert log(transport) == SPACE_LOG


async def test_segments_async() -> None:
    transport = AsyncHandlerTransport(service)
    async with everspace.aconnect(transport=transport) as client:
        segment = await client.segments.get(4)
        await segment.rename("new")
        await segment.set_lifetime("transient")
        other = await segment.clone("c")
        assert (other.sid, (await segment.snapshot("s")).name) == (8, "s")
        await segment.reset()
        assert (await segment.lineage()).origins == (2, 1)
        assert (await segment.usage()).private == 2
        assert [run async for run in segment.diff(other)] == RUNS
        assert (await segment.heap()).blocks == 2
    assert log(transport) == SEGMENT_LOG


def test_refusals_come_as_the_errors_of_their_errno() -> None:
    transport = HandlerTransport(lambda _: problem_response("EPERM", "a snapshot"))
    with everspace.connect(transport=transport) as client, pytest.raises(PermissionError, match="snapshot"):
        everspace.Space(client, everspace.VasAttr.from_json(SPACE)).reset()
