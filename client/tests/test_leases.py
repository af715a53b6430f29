"""Leases: renewed in time, seldom, and not after the end."""

import asyncio
import threading
from typing import Any

import everspace
from everspace import errors
from everspace._calls import memory
from everspace._calls.call import TaskState, ThreadState
from everspace._driver import Driver
from everspace._lease import LeaseBook
from everspace._session import Session, Settings
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

EMPTY = Response(204, {"everspace-instance": "1"})


def task(pid: int, lease: float, renewed_at: float = 0.0) -> TaskState:
    return TaskState(pid, None, lease, instance="1", renewed_at=renewed_at, threads=[ThreadState(pid)])


def test_a_lease_is_due_after_a_third() -> None:
    now = [0.0]
    book = LeaseBook(lambda: now[0])
    assert book.pause() == 60.0
    short, long = task(1, 3.0), task(2, 300.0)
    book.add(short)
    book.add(long)
    assert (book.due(), book.pause()) == ([], 1.0)
    now[0] = 1.0
    assert (book.due(), book.pause()) == ([short], 0.0)
    short.renewed_at = 1.0
    assert (book.due(), book.pause()) == ([], 1.0)
    now[0] = 2.5
    book.failed(short)
    assert (book.due(), round(book.pause(), 3)) == ([], 0.3)
    short.ended = True
    now[0] = 3.0
    assert book.due() == []
    assert book.tasks() == [long]


def driver(handler: Any, now: list[float]) -> tuple[Driver, HandlerTransport]:
    transport = HandlerTransport(handler)
    return Driver(transport, Session(Settings(), clock=lambda: now[0]), sleep=lambda _: None), transport


def test_a_heartbeat_renews_and_so_does_any_call() -> None:
    now = [0.0]
    made, transport = driver(lambda _: EMPTY, now)
    state = task(7, 30.0)
    made.book.add(state)
    assert made.renew() == 10.0
    assert transport.requests == []
    now[0] = 10.0
    assert made.renew() == 10.0
    (request,) = transport.requests
    assert (request.method, request.target, request.timeout) == ("POST", "/v1/tasks/7/heartbeat", 10.0)
    assert state.renewed_at == 10.0
    now[0] = 15.0
    made.perform(memory.msync(), state, state.threads[0])
    assert state.renewed_at == 15.0
    made.stop()
    assert transport.closed


def test_a_heartbeat_that_fails_is_tried_again_soon_and_one_for_a_lost_task_is_not() -> None:
    now = [20.0]

    def handle(request: Request) -> Response:
        if "/7/" in request.target:
            raise errors.TransportTimeoutError("silence")
        return problem_response("ESRCH", "no task")

    made, transport = driver(handle, now)
    made.book.add(task(7, 30.0))
    made.book.add(task(8, 30.0))
    assert made.renew() == 3.0
    assert [state.pid for state in made.book.tasks()] == [7]
    assert len(transport.requests) == 2


def spawn_and_beat(beats: threading.Event) -> Any:
    def handle(request: Request) -> Response:
        if request.target == "/v1/tasks":
            thread = {"tid": 7, "active": 0}
            task = {"pid": 7, "tid": 7, "uid": 0, "gids": [0], "name": None, "lease_s": 0.03}
            return json_response({**task, "threads": [thread], "attachments": []}, 201)
        if request.target.endswith("/heartbeat"):
            beats.set()
        return EMPTY

    return handle


def test_the_background_thread_beats_and_ends_with_the_client() -> None:
    beats, before = threading.Event(), set(threading.enumerate())
    client = everspace.connect(transport=HandlerTransport(spawn_and_beat(beats)))
    client.spawn()
    assert beats.wait(10)
    (renewing,) = set(threading.enumerate()) - before
    assert renewing.name == "everspace-leases" and renewing.daemon
    client.close()
    assert not renewing.is_alive()
    client.close()


def test_close_ends_the_tasks_unless_told_otherwise() -> None:
    for exit_tasks, last in ((True, "DELETE"), (False, "POST")):
        transport = HandlerTransport(spawn_and_beat(threading.Event()))
        client = everspace.connect(transport=transport)
        client.spawn()
        client.close(exit_tasks)
        assert transport.requests[-1].method == last


def test_a_client_that_is_forgotten_closes_its_transport() -> None:
    transport = HandlerTransport(spawn_and_beat(threading.Event()))
    client = everspace.connect(transport=transport)
    task = client.spawn()
    del client
    assert not transport.closed  # the task still needs it
    del task
    assert transport.closed


async def test_the_async_twin_beats_and_ends_with_the_client() -> None:
    beats = threading.Event()
    client = everspace.aconnect(transport=AsyncHandlerTransport(spawn_and_beat(beats)))
    await client.spawn()
    assert await asyncio.to_thread(beats.wait, 10)
    await client.close()
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "everspace-leases"] == []
    await client.close()
