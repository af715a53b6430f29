"""What every call sends and how it reads the answer: one row each, through the sync and the async client."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

TASK = {
    "pid": 7,
    "tid": 7,
    "uid": 0,
    "gids": [0],
    "name": "t",
    "lease_s": 60.0,
    "threads": [{"tid": 7, "active": 0}],
    "attachments": [{"vid": 3, "type": "rw", "lazy": True}],
    "counters": {"minor_faults": 2},
}
SPACE = {
    "id": 3,
    "name": "s",
    "mode": 384,
    "uid": 0,
    "gid": 0,
    "sharing": "exclusive",
    "attach_count": 1,
    "more": [],
}
SEGMENT = {**SPACE, "id": 5, "start": "0x100000000000", "end": "0x100000002000", "size": 8192}
VAS_ATTR = everspace.VasAttr(3, "s", 0o600, 0, 0, "exclusive", 1)
SEG_ATTR = everspace.SegAttr(5, "s", 0o600, 0, 0, "exclusive", 1, 0x100000000000, 0x100000002000)
A = 0x100000000000
OCTETS = Response(200, {}, b"bytes")
EMPTY = Response(204)

Row = tuple[str, tuple[Any, ...], str, str, Any, Response, Any]
# name, arguments, method, target, body, the service's answer, the result
ROWS: list[Row] = [
    ("vas_create", ("a/é", 0o640), "POST", "/v1/vas", {"name": "a/é", "mode": 416, "sharing": "exclusive"},
     json_response(SPACE, 201), 3),
    ("vas_delete", (3,), "DELETE", "/v1/vas/3", None, EMPTY, 0),
    ("vas_find", ("a b&c=é/\n",), "GET", "/v1/vas?name=a%20b%26c%3D%C3%A9%2F%0A", None,
     json_response({"items": [SPACE], "next": None}), 3),
    ("vas_attach", (0, 3, 2), "PUT", "/v1/tasks/7/vas/3", {"type": "rw", "lazy": True}, json_response({}), 0),
    ("vas_attach", (9, 3, "ro", False), "PUT", "/v1/tasks/9/vas/3", {"type": "ro", "lazy": False}, EMPTY, 0),
    ("vas_attach", (-1, -3, 3), "PUT", "/v1/tasks/-1/vas/-3", {"type": 3, "lazy": True}, EMPTY, 0),
    ("vas_detach", (0, 3), "DELETE", "/v1/tasks/7/vas/3", None, EMPTY, 0),
    ("vas_switch", (3,), "PUT", "/v1/tasks/7/threads/7/active", {"vid": 3}, json_response({"vid": 3}), 0),
    ("vas_switch", (0, 1.5), "PUT", "/v1/tasks/7/threads/7/active", {"vid": 0, "timeout_s": 1.5}, EMPTY, 0),
    ("active_vas", (), "GET", "/v1/tasks/7/threads/7/active", None, json_response({"vid": 3}), 3),
    ("vas_getattr", (3,), "GET", "/v1/vas/3", None, json_response(SPACE), VAS_ATTR),
    ("vas_setattr", (3, 0o666), "PATCH", "/v1/vas/3", {"mode": 438}, json_response(SPACE), 0),
    ("vas_setattr", (3, None, 1, 2, "shared"), "PATCH", "/v1/vas/3", {"uid": 1, "gid": 2, "sharing": "shared"},
     EMPTY, 0),
    ("vas_seg_create", ("s", A, A + 8192, 0o600, "shared"), "POST", "/v1/segments",
     {"name": "s", "start": "0x100000000000", "end": "0x100000002000", "mode": 384, "sharing": "shared"},
     json_response(SEGMENT, 201), 5),
    ("vas_seg_delete", (5,), "DELETE", "/v1/segments/5", None, EMPTY, 0),
    ("vas_seg_find", ("s",), "GET", "/v1/segments?name=s", None, json_response({"items": [SEGMENT], "next": None}), 5),
    ("vas_seg_attach", (3, 5, 0), "PUT", "/v1/vas/3/segments/5", {"type": "ro"}, EMPTY, 0),
    ("vas_seg_detach", (3, 5), "DELETE", "/v1/vas/3/segments/5", None, EMPTY, 0),
    ("vas_seg_getattr", (5,), "GET", "/v1/segments/5", None, json_response(SEGMENT), SEG_ATTR),
    ("vas_seg_setattr", (5, 0o600), "PATCH", "/v1/segments/5", {"mode": 384}, EMPTY, 0),
    ("read", (A, 5), "GET", "/v1/tasks/7/memory?addr=0x100000000000&len=5", None, OCTETS, b"bytes"),
    ("read", (A, 0), "GET", "/v1/tasks/7/memory?addr=0x100000000000&len=0", None, Response(200), b""),
    ("write", (A, b"bytes"), "PUT", "/v1/tasks/7/memory?addr=0x100000000000", b"bytes", EMPTY, 5),
    ("write", (A, bytearray(b"by"), "relaxed"), "PUT", "/v1/tasks/7/memory?addr=0x100000000000&durability=relaxed",
     b"by", EMPTY, 2),
    ("mmap", (A, 4096, 3, 0x32), "POST", "/v1/tasks/7/mmap",
     {"addr": "0x100000000000", "length": 4096, "prot": 3, "flags": 50}, json_response({"addr": hex(A)}), A),
    ("munmap", (A, 4096), "POST", "/v1/tasks/7/munmap", {"addr": "0x100000000000", "length": 4096}, EMPTY, 0),
    ("mprotect", (A, 4096, 1), "POST", "/v1/tasks/7/mprotect",
     {"addr": "0x100000000000", "length": 4096, "prot": 1}, EMPTY, 0),
    ("brk", (), "POST", "/v1/tasks/7/brk", {"addr": "0x0"}, json_response({"addr": "0x5000"}), 0x5000),
    ("mremap", (A, 4096, 8192, 1), "POST", "/v1/tasks/7/mremap",
     {"old_addr": hex(A), "old_size": 4096, "new_size": 8192, "flags": 1, "new_addr": "0x0"},
     json_response({"addr": "0x5000"}), 0x5000),
    ("mremap", (A, 1, 2, 3, A + 4096), "POST", "/v1/tasks/7/mremap",
     {"old_addr": hex(A), "old_size": 1, "new_size": 2, "flags": 3, "new_addr": hex(A + 4096)},
     json_response({"addr": hex(A + 4096)}), A + 4096),
    ("madvise", (A, 4096, everspace.MADV_VAS_PRIVATE), "POST", "/v1/tasks/7/madvise",
     {"addr": hex(A), "length": 4096, "advice": 18}, json_response({"value": 0}), 0),
    ("mincore", (A, 8192), "POST", "/v1/tasks/7/mincore", {"addr": hex(A), "length": 8192},
     json_response({"value": "AQA="}), b"\x01\x00"),
    ("mlock", (A, 4096), "POST", "/v1/tasks/7/mlock", {"addr": hex(A), "length": 4096, "flags": 0}, EMPTY, 0),
    ("mlock", (A, 4096, 1), "POST", "/v1/tasks/7/mlock", {"addr": hex(A), "length": 4096, "flags": 1}, EMPTY, 0),
    ("munlock", (A, 4096), "POST", "/v1/tasks/7/munlock", {"addr": hex(A), "length": 4096}, EMPTY, 0),
    ("msync", (), "POST", "/v1/tasks/7/msync", {"addr": "0x0", "length": 0, "flags": 4}, EMPTY, 0),
    ("msync", (A, 4096, everspace.MS_ASYNC), "POST", "/v1/tasks/7/msync",
     {"addr": hex(A), "length": 4096, "flags": 1}, EMPTY, 0),
    ("prlimit", ("stack",), "POST", "/v1/tasks/7/prlimit", {"resource": "stack"}, json_response({"value": 2**64 - 1}),
     everspace.RLIM_INFINITY),
    ("prlimit", ("data", 4096), "POST", "/v1/tasks/7/prlimit", {"resource": "data", "value": 4096},
     json_response({"value": 5}), 5),
    ("exec", (), "POST", "/v1/tasks/7/exec", {}, json_response(TASK), 0),
    ("maps", (), "GET", "/v1/proc/7/maps", None, Response(200, {}, b"0000-1000 rw-p\n"), "0000-1000 rw-p\n"),
    ("info", (), "GET", "/v1/tasks/7", None, json_response(TASK),
     everspace.TaskInfo(7, 7, 0, (0,), "t", 60.0, (everspace.ThreadInfo(7, 0),), (everspace.Attachment(3, 2, True),),
                        {"minor_faults": 2})),
    ("heartbeat", (), "POST", "/v1/tasks/7/heartbeat", b"", EMPTY, 0),
    ("exit", (), "DELETE", "/v1/tasks/7", None, EMPTY, 0),
]  # fmt: skip
IDS = [f"{row[0]}{row[1]}" for row in ROWS]


def after_spawn(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Spawns and exits are answered in the usual way, the rest by `answer`."""
    spawned: list[bool] = []

    def handle(request: Request) -> Response:
        if not spawned:
            spawned.append(True)
            return json_response(TASK, 201)
        return answer(request)

    return handle


def check(request: Request, method: str, target: str, body: Any) -> None:
    assert (request.method, request.target) == (method, target)
    headers = dict(request.headers)
    if isinstance(body, dict):
        assert json.loads(bytes(request.body)) == body
        assert headers["Content-Type"] == "application/json"
    else:
        assert bytes(request.body) == (body or b"")
        assert headers.get("Content-Type") == ("application/octet-stream" if body else None)
    assert headers["Authorization"] == "Bearer token"
    assert headers["X-Request-Id"]
    own = target.startswith(("/v1/tasks/7", "/v1/proc/7"))
    assert headers.get("Everspace-Instance") == ("1" if own else None)


@pytest.mark.parametrize(("name", "args", "method", "target", "body", "answer", "result"), ROWS, ids=IDS)
def test_each_call(
    name: str, args: tuple[Any, ...], method: str, target: str, body: Any, answer: Response, result: Any
) -> None:
    transport = HandlerTransport(after_spawn(lambda _: answer))
    with everspace.connect(token="token", transport=transport) as client:
        task = client.spawn("t")
        assert getattr(task, name)(*args) == result
        check(transport.requests[1], method, target, body)


@pytest.mark.parametrize(("name", "args", "method", "target", "body", "answer", "result"), ROWS, ids=IDS)
async def test_each_call_async(
    name: str, args: tuple[Any, ...], method: str, target: str, body: Any, answer: Response, result: Any
) -> None:
    transport = AsyncHandlerTransport(after_spawn(lambda _: answer))
    async with everspace.aconnect(token="token", transport=transport) as client:
        task = await client.spawn("t")
        assert await getattr(task, name)(*args) == result
        check(transport.requests[1], method, target, body)


def connected(
    answer: Callable[[Request], Response],
) -> tuple[everspace.Client, everspace.Task, HandlerTransport]:
    transport = HandlerTransport(after_spawn(answer))
    client = everspace.connect(token="token", transport=transport)
    return client, client.spawn(), transport


def test_spawn_says_name_and_lease() -> None:
    client, _, transport = connected(lambda _: EMPTY)
    check(transport.requests[0], "POST", "/v1/tasks", {"lease_s": 60.0})
    client.close()


def test_a_thread_says_its_tid_where_it_matters() -> None:
    def answer(request: Request) -> Response:
        if request.target.endswith("/threads"):
            return json_response({"tid": 8}, 201)
        return json_response({"addr": "0x1000", "vid": 0})

    client, task, transport = connected(answer)
    with task.thread() as thread:
        assert (thread.pid, thread.tid) == (7, 8)
        thread.mmap(0, 4096, 1, 34)
        check(transport.requests[-1], "POST", "/v1/tasks/7/mmap",
              {"addr": "0x0", "length": 4096, "prot": 1, "flags": 34, "tid": 8})  # fmt: skip
        thread.read(0, 1)
        assert transport.requests[-1].target == "/v1/tasks/7/memory?addr=0x0&len=1&tid=8"
        thread.write(0, b"x")
        assert transport.requests[-1].target == "/v1/tasks/7/memory?addr=0x0&tid=8"
        thread.maps()
        assert transport.requests[-1].target == "/v1/proc/7/maps?tid=8"
        thread.vas_switch(3)
        assert transport.requests[-1].target == "/v1/tasks/7/threads/8/active"
        assert (thread.active, task.active) == (3, 0)
    assert (transport.requests[-1].method, transport.requests[-1].target) == (
        "DELETE",
        "/v1/tasks/7/threads/8",
    )
    client.close()


def test_exec_takes_threads_and_attachments_along() -> None:
    def answer(request: Request) -> Response:
        if request.target.endswith("/threads"):
            return json_response({"tid": 9}, 201)
        return json_response(TASK) if request.target.endswith("/exec") else EMPTY

    client, task, transport = connected(answer)
    thread = task.thread()
    task.vas_attach(0, 3, "rw")
    task.vas_switch(3)
    assert task.active == 3
    assert task.exec() == 0
    assert task.active == 0
    assert (task._task.attachments, len(task._task.threads)) == ({}, 1)
    thread.munmap(A, 4096)
    check(transport.requests[-1], "POST", "/v1/tasks/7/munmap", {"addr": hex(A), "length": 4096, "tid": 9})
    client.close()


def test_switch_may_wait_longer_than_the_http_timeout() -> None:
    client, task, transport = connected(lambda _: EMPTY)
    for timeout, patience in ((None, None), (100.0, 130.0), (0.0, 30.0), (-1.0, 30.0), (1e300, 1e8)):
        task.vas_switch(1, timeout)
        assert transport.requests[-1].timeout == patience
    task.vas_switch(vid=1, timeout=2)
    task.munmap(0, 1)
    assert transport.requests[-1].timeout == 30.0
    client.close()


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_is_above_0(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        everspace.connect(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        everspace.aconnect(timeout=timeout)


def test_readinto_fills_the_callers_buffer() -> None:
    client, task, transport = connected(lambda _: OCTETS)
    buffer = bytearray(5)
    assert (task.readinto(A, buffer), bytes(buffer)) == (5, b"bytes")
    assert transport.requests[-1].into is not None
    with pytest.raises(errors.ProtocolError):
        task.readinto(A, bytearray(4))
    with pytest.raises(TypeError):
        task.readinto(A, b"fixed")
    client.close()


@pytest.mark.parametrize("find", ["vas_find", "vas_seg_find"])
def test_find_without_a_match_is_esrch(find: str) -> None:
    client, task, _ = connected(lambda _: json_response({"items": [], "next": None}))
    with pytest.raises(ProcessLookupError) as caught:
        getattr(task, find)("nobody")
    assert "nobody" in str(caught.value)
    client.close()


MISTAKES: list[tuple[str, tuple[Any, ...], type[Exception]]] = [
    ("vas_attach", (0, 1, "rx"), ValueError),
    ("vas_attach", (0, 1, None), TypeError),
    ("vas_attach", (0, "1", 0), TypeError),
    ("vas_create", (None, 0o600), TypeError),
    ("vas_create", (b"bytes", 0o600), TypeError),
    ("vas_create", ("n", "rw"), TypeError),
    ("vas_create", ("n", 0o600, None), TypeError),
    ("vas_find", (1,), TypeError),
    ("vas_seg_create", ("n", 1.5, 2, 0), TypeError),
    ("write", (0, "text"), TypeError),
    ("write", (0, 5), TypeError),
    ("write", (0, b"", "maybe"), ValueError),
    ("write", (0, memoryview(b"abcd")[::2]), TypeError),
    ("read", (0, "1"), TypeError),
    ("read", (0, 1.0), TypeError),
    ("mmap", ("0x0", 1, 1, 1), TypeError),
    ("mremap", (0, 1.0, 1), TypeError),
    ("madvise", (0, 1, "huge"), TypeError),
    ("prlimit", (7, 1), TypeError),
    ("prlimit", ("stack", "1"), TypeError),
    ("vas_switch", (1, float("inf")), ValueError),
    ("vas_switch", (1, float("nan")), ValueError),
]


@pytest.mark.parametrize(("name", "args", "error"), MISTAKES)
def test_mistakes_of_the_caller_send_nothing(
    name: str, args: tuple[Any, ...], error: type[Exception]
) -> None:
    client, task, transport = connected(lambda _: EMPTY)
    with pytest.raises(error):
        getattr(task, name)(*args)
    assert len(transport.requests) == 1
    client.close()


def test_what_the_service_can_judge_goes_to_the_service() -> None:
    client, task, transport = connected(lambda _: problem_response("EINVAL", "no"))
    for call in (
        lambda: task.vas_create("", 0o600),
        lambda: task.vas_create("x" * 1000, -1, "whatever"),
        lambda: task.vas_find("\ud800\0"),
        lambda: task.vas_attach(-5, -6, 77),
        lambda: task.mmap(-1, -1, -1, -1),
        lambda: task.mremap(-1, -1, 2**70, -1, -1),
        lambda: task.prlimit("nothing", -1),
        lambda: task.read(2**70, 2**70),
        lambda: task.vas_seg_create("s", -1, -2, 0),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            call()
    assert len(transport.requests) == 10
    client.close()


@pytest.mark.parametrize(
    ("name", "args", "answer"),
    [
        ("vas_create", ("n", 0), json_response({}, 201)),
        ("vas_create", ("n", 0), json_response({"id": "3"}, 201)),
        ("vas_create", ("n", 0), Response(201, {}, b"<html>")),
        ("vas_getattr", (1,), json_response({"id": 1})),
        ("vas_getattr", (1,), json_response([])),
        ("vas_find", ("n",), json_response({"things": []})),
        ("vas_find", ("n",), json_response([])),
        ("brk", (), json_response({"addr": "zero"})),
        ("mincore", (0, 1), json_response({"value": "no base64"})),
        ("mincore", (0, 1), json_response({"value": 1})),
        ("prlimit", ("stack",), json_response({"value": "8"})),
        ("prlimit", ("stack",), json_response({})),
        ("active_vas", (), json_response(None)),
        ("maps", (), Response(200, {}, b"\xff")),
        ("read", (0, 1), Response(302, {"location": "http://elsewhere/"})),
    ],
)
def test_answers_of_another_shape_are_protocol_errors(
    name: str, args: tuple[Any, ...], answer: Response
) -> None:
    client, task, _ = connected(lambda _: answer)
    with pytest.raises(errors.ProtocolError):
        getattr(task, name)(*args)
    client.close()


def test_a_handle_on_somebody_elses_task() -> None:
    transport = HandlerTransport(lambda _: json_response(TASK))
    client = everspace.connect(transport=transport)
    task = client.task(7)
    assert (task.pid, task.name, task.info().uid, client.task_info(7).pid) == (7, "t", 0, 7)
    assert [info.pid for info in everspace.connect(transport=HandlerTransport(pages)).tasks()] == [7, 7, 7]
    client.close()
    assert [request.method for request in transport.requests] == ["GET", "GET", "GET"]


def pages(request: Request) -> Response:
    """Two pages of tasks."""
    if "cursor" in request.target:
        assert request.target == "/v1/tasks?cursor=a%2Fb%3D"
        return json_response({"items": [TASK], "next": None})
    return json_response({"items": [TASK, TASK], "next": "a/b="})


def test_version_and_readiness() -> None:
    transport = HandlerTransport(
        lambda _: json_response({"version": "1", "instance": "i", "arch": "x86_64", "page_size": 4096})
    )
    client = everspace.connect(transport=transport)
    assert client.version() == everspace.Version("1", "i", "x86_64", 4096)
    assert client.ready()
    transport.handler = lambda _: json_response({}, 503)
    assert not client.ready()
    assert [request.target for request in transport.requests] == ["/version", "/readyz", "/readyz"]
    assert "Authorization" not in dict(transport.requests[0].headers)


def test_async_entering_and_awaiting() -> None:
    async def main() -> list[str]:
        transport = AsyncHandlerTransport(lambda r: json_response({**TASK, "id": 3, "tid": 7}, 201))
        client = await everspace.aconnect(transport=transport)
        async with client.spawn() as task, task.fork() as child:
            assert child.pid == task.pid == 7
            async with task.thread() as thread:
                assert thread.tid == 7
        await client.close()
        return [f"{request.method} {request.target}" for request in transport.requests]

    assert asyncio.run(main()) == [
        "POST /v1/tasks",
        "POST /v1/tasks/7/fork",
        "POST /v1/tasks/7/threads",
        "DELETE /v1/tasks/7/threads/7",
        "DELETE /v1/tasks/7",
        "DELETE /v1/tasks/7",
    ]
