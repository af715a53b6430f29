"""Batches: many calls, one request, a result each."""

import asyncio
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
CHILD = {**TASK, "pid": 9, "tid": 9, "threads": [{"tid": 9, "active": 0}]}
SPACE = {"id": 3, "name": "s", "mode": 384, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0}


def answering(answer: Response) -> Any:
    def handle(request: Request) -> Response:
        if request.target == "/v1/tasks":
            return json_response(TASK, 201)
        if request.target.endswith("/threads"):
            return json_response({"tid": 8}, 201)
        return answer if "/batch" in request.target else Response(204)

    return handle


def prepared(answer: Response) -> tuple[everspace.Task, HandlerTransport, everspace.Client]:
    transport = HandlerTransport(answering(answer))
    client = everspace.connect(transport=transport)
    return client.spawn(), transport, client


RESULTS = [
    {"value": 3}, {"value": 0}, {"value": 0}, {"value": "0x100000000000"}, {"value": 5}, {"value": "Ynl0ZXM="},
    {"value": SPACE}, {"errno": "EBUSY", "detail": "held", "holder": "7"}, {"value": {"tid": 8}}, {"value": CHILD},
    {"value": "maps\n"}, {"value": 3}, {"value": 0}, {"value": "0x5000"}, {"value": 0}, {"value": "AQA="}, {"value": 0},
    {"value": 0}, {"value": 8388608},
]  # fmt: skip


def fill(batch: Any) -> list[everspace.Handle[Any]]:
    return [
        batch.vas_create("s", 0o600),
        batch.vas_attach(0, 3, everspace.O_RDWR),
        batch.vas_switch(3),
        batch.mmap(0x100000000000, 4096, 3, 0x32),
        batch.write(0x100000000000, b"bytes"),
        batch.read(0x100000000000, 5),
        batch.vas_getattr(3),
        batch.vas_delete(3),
        batch.thread(),
        batch.fork(),
        batch.maps(),
        batch.active_vas(),
        batch.write(0, b"x", "relaxed"),
        batch.mremap(0, 4096, 8192, everspace.MREMAP_MAYMOVE),
        batch.madvise(0, 4096, everspace.MADV_DONTNEED),
        batch.mincore(0, 8192),
        batch.mlock(0, 4096),
        batch.munlock(0, 4096),
        batch.prlimit("stack", 4096),
    ]


def check(request: Request, handles: list[everspace.Handle[Any]]) -> None:
    assert (request.method, request.target) == ("POST", "/v1/tasks/7/batch")
    assert dict(request.headers)["Everspace-Instance"] == "1"
    assert batch_calls(request) == [
        {"call": "vas_create", "args": {"name": "s", "mode": 384, "sharing": "exclusive"}},
        {"call": "vas_attach", "args": {"pid": 0, "vid": 3, "type": "rw", "lazy": True}},
        {"call": "vas_switch", "args": {"vid": 3}},
        {"call": "mmap", "args": {"addr": "0x100000000000", "length": 4096, "prot": 3, "flags": 50}},
        {"call": "write", "args": {"addr": "0x100000000000", "data": "Ynl0ZXM="}},
        {"call": "read", "args": {"addr": "0x100000000000", "length": 5}},
        {"call": "vas_getattr", "args": {"vid": 3}},
        {"call": "vas_delete", "args": {"vid": 3}},
        {"call": "thread", "args": {}},
        {"call": "fork", "args": {}},
        {"call": "maps", "args": {}},
        {"call": "active_vas", "args": {}},
        {"call": "write", "args": {"addr": "0x0", "durability": "relaxed", "data": "eA=="}},
        {
            "call": "mremap",
            "args": {"old_addr": "0x0", "old_size": 4096, "new_size": 8192, "flags": 1, "new_addr": "0x0"},
        },
        {"call": "madvise", "args": {"addr": "0x0", "length": 4096, "advice": 4}},
        {"call": "mincore", "args": {"addr": "0x0", "length": 8192}},
        {"call": "mlock", "args": {"addr": "0x0", "length": 4096, "flags": 0}},
        {"call": "munlock", "args": {"addr": "0x0", "length": 4096}},
        {"call": "prlimit", "args": {"resource": "stack", "value": 4096}},
    ]
    values = [handle.result() for handle in handles[:7]]
    assert values == [
        3,
        0,
        0,
        0x100000000000,
        5,
        b"bytes",
        everspace.VasAttr(3, "s", 0o600, 0, 0, "exclusive", 0),
    ]
    with pytest.raises(errors.BusyError, match="EBUSY: held") as caught:
        handles[7].result()
    assert caught.value.problem["holder"] == "7"
    assert handles[8].result().tid == 8
    assert handles[9].result().pid == 9
    assert [handle.result() for handle in handles[10:]] == [
        "maps\n",
        3,
        0,
        0x5000,
        0,
        b"\x01\x00",
        0,
        0,
        8388608,
    ]


def test_every_call_gets_its_own_result() -> None:
    task, transport, client = prepared(json_response({"results": RESULTS}))
    with task.batch() as batch:
        handles = fill(batch)
        assert len(batch) == len(handles) == 19
        assert not handles[0].done
        with pytest.raises(RuntimeError, match="not been sent"):
            handles[0].result()
    assert all(handle.done for handle in handles)
    assert len(transport.requests) == 2
    check(transport.requests[1], handles)
    assert task.active == 3
    assert repr(handles[0]) == "<Handle of vas_create: returned 3>"
    client.close()


def test_exec_in_a_batch_takes_the_attachments_along() -> None:
    task, _, client = prepared(json_response({"results": [{"value": 0}, {"value": 0}, {"value": 0}]}))
    with task.batch() as batch:
        batch.vas_attach(0, 3, "rw")
        batch.vas_switch(3)
        done = batch.exec()
    assert (done.result(), task.active, task._task.attachments) == (0, 0, {})
    client.close()


def test_the_async_twin() -> None:
    async def main() -> None:
        transport = AsyncHandlerTransport(answering(json_response({"results": RESULTS})))
        async with everspace.aconnect(transport=transport) as client:
            task = await client.spawn()
            async with task.batch() as batch:
                handles = fill(batch)
            check(transport.requests[1], handles)
            async with task.batch():
                pass
            with pytest.raises(KeyError):
                async with task.batch() as batch:
                    batch.msync()
                    raise KeyError
            assert len(transport.requests) == 2
            transport.handler = lambda _: problem_response("EFAULT", "no", index=0)
            with pytest.raises(errors.BadAddressError):
                async with task.batch(atomic=True) as batch:
                    batch.read(0, 1)

    asyncio.run(main())


def test_a_failed_atomic_batch_raises_on_leaving() -> None:
    task, transport, client = prepared(problem_response("EFAULT", "no page", index=1, address="0x2000"))
    with pytest.raises(errors.BadAddressError) as caught, task.batch(atomic=True) as batch:
        handles = [batch.write(0x1000, b"a"), batch.write(0x2000, b"b")]
    assert transport.requests[1].target == "/v1/tasks/7/batch?atomic=true"
    assert (caught.value.index, caught.value.address) == (1, 0x2000)
    for handle in handles:
        with pytest.raises(errors.BadAddressError):
            handle.result()
    client.close()


def test_a_thread_names_itself_in_the_query() -> None:
    task, transport, client = prepared(json_response({"results": [{"value": 0}]}))
    with task.thread().batch(atomic=True) as batch:
        batch.msync()
    assert transport.requests[-1].target == "/v1/tasks/7/batch?atomic=true&tid=8"
    client.close()


def test_an_exception_inside_sends_nothing() -> None:
    task, transport, client = prepared(json_response({"results": []}))
    with pytest.raises(KeyError), task.batch() as batch:
        handle = batch.msync()
        raise KeyError
    assert len(transport.requests) == 1
    with pytest.raises(KeyError):
        handle.result()
    with pytest.raises(RuntimeError, match="has been sent"):
        batch.msync()
    with task.batch():
        pass
    assert len(transport.requests) == 1
    client.close()


def test_results_that_do_not_match_are_protocol_errors() -> None:
    task, _, client = prepared(json_response({"results": [{"value": 1}]}))
    with pytest.raises(errors.ProtocolError), task.batch() as batch:
        batch.msync()
        batch.msync()
    with task.batch() as batch:
        handle = batch.read(0, 1)
    with pytest.raises(errors.ProtocolError):
        handle.result()
    client.close()
    task, _, client = prepared(json_response({"results": {}}))
    with pytest.raises(errors.ProtocolError), task.batch() as batch:
        batch.msync()
    client.close()
