"""client.events: what is asked, what is told, and going on after whatever happens to the connection."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace._sse import LINE_BYTES_MAX, EventReader
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

MEDIA = {"content-type": "text/event-stream"}
HELLO = b"retry: 1000\nid: i-0\n\n"


def frame(number: int, kind: str = "space.created", **members: Any) -> bytes:
    data = json.dumps({"kind": kind, **members})
    return f"id: i-{number}\nevent: {kind}\ndata: {data}\n\n".encode()


def told(*frames: bytes) -> Response:
    return Response(200, MEDIA, b"".join(frames))


# -- text/event-stream ---------------------------------------------------------------------------------------------


def test_events_are_the_same_however_they_are_cut() -> None:
    text = HELLO + b": heartbeat\n\n" + frame(1, vid=3) + b"id: i-2\n\n" + frame(3, "space.written", vid=3, ranges=[
        {"start": "0x1000", "end": "0x2000"}]).replace(b"\n", b"\r\n")  # fmt: skip
    for size in (1, 2, 3, 7, len(text)):
        reader = EventReader()
        found = [e for n in range(0, len(text), size) for e in reader.feed(text[n : n + size])]
        assert [(e.id, e.kind, e.vid) for e in found] == [
            ("i-1", "space.created", 3),
            ("i-3", "space.written", 3),
        ]
        assert (reader.position, reader.start) == ("i-3", "i-0")
    assert found[1].ranges == ((0x1000, 0x2000),)
    assert (found[0].ranges, found[0].sid, found[0].pid) == ((), None, None)
    assert hash(found[0]) == hash(found[0])


def test_an_event_in_several_lines_and_without_a_name() -> None:
    reader = EventReader()
    (event,) = reader.feed(b'id: i-1\ndata: {"kind":\ndata:"lost"}\n\n')
    assert (event.kind, event.id) == ("lost", "i-1")


def test_half_an_event_is_forgotten_with_its_connection() -> None:
    reader = EventReader("i-4")
    assert reader.feed(frame(5)[:-1]) == []
    reader.begin_anew()
    assert [event.id for event in reader.feed(frame(5))] == ["i-5"]


@pytest.mark.parametrize(
    "text", [b"data: {\n\n", b"data: []\n\n", b"data: 5\n\n", b"data: \xff\n\n", b"x" * (LINE_BYTES_MAX + 2)]
)
def test_what_is_no_event_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(errors.ProtocolError):
        EventReader().feed(text)


# -- what is asked, and what it comes to ---------------------------------------------------------------------------


def script(*answers: Response | Exception) -> Callable[[Request], Response]:
    """One answer after the other."""
    left = list(answers)

    def handle(_: Request) -> Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


def asked(transport: Any) -> list[tuple[str, str | None]]:
    return [(request.target, dict(request.headers).get("Last-Event-ID")) for request in transport.requests]


def test_kinds_and_ids_are_asked_for() -> None:
    transport = HandlerTransport(script(told(HELLO), told(HELLO), told(HELLO)))
    client = everspace.connect(token="t", transport=transport, timeout=5.0)
    client.events().close()
    client.events("space.", "task.exited", vid=3, sid=4, pid=5).close()
    client.events(since="i-7").close()
    assert asked(transport) == [
        ("/v1/events", None),
        ("/v1/events?kind=space.,task.exited&vid=3&sid=4&pid=5", None),
        ("/v1/events", "i-7"),
    ]
    headers = dict(transport.requests[0].headers)
    assert (headers["Accept"], headers["Authorization"]) == ("text/event-stream", "Bearer t")
    assert [request.timeout for request in transport.requests] == [
        45.0
    ] * 3  # longer than the heartbeats are apart
    for bad in ("a b", "a&b", "", "a=b"):
        with pytest.raises(ValueError, match="kind"):
            client.events(bad)
    with pytest.raises(TypeError):
        client.events(vid="3")  # type: ignore[arg-type]
    client.close()


LOST = errors.ConnectionLostError("gone")
DOWN = errors.CannotConnectError("nobody")
STOPPING = json_response({"status": 503, "title": "x", "detail": "x"}, 503, headers={"retry-after": "0"})


def test_it_goes_on_where_it_was() -> None:
    answers = (
        told(HELLO, frame(1), frame(2)),
        LOST,
        DOWN,
        STOPPING,
        told(frame(3), b"id: i-9\n\n"),
        told(frame(10)),
    )
    transport = HandlerTransport(script(*answers))
    client = everspace.connect(transport=transport)
    events = client.events()
    assert events.position == "i-0"
    assert next(events).id == "i-1"
    assert events.position == "i-1"  # i-2 is here, but nobody has seen it
    assert [next(events).id for _ in range(3)] == ["i-2", "i-3", "i-10"]
    assert [since for _, since in asked(transport)] == [None, "i-2", "i-2", "i-2", "i-2", "i-9"]
    events.close()
    assert list(events) == []
    client.close()


def test_what_is_no_passing_trouble_is_raised() -> None:
    for answer, error in (
        (problem_response("EINVAL", "no id"), errors.InvalidArgumentError),
        (problem_response("EAGAIN", "too many"), errors.TryAgainError),
        (json_response({"status": 401, "title": "x", "detail": "x"}, 401), errors.AuthenticationError),
        (Response(200, {"content-type": "text/html"}, b"<html>"), errors.ProtocolError),
        (DOWN, errors.CannotConnectError),
    ):
        client = everspace.connect(transport=HandlerTransport(script(answer)))
        with pytest.raises(error):
            client.events()
        client.close()
    revoked = json_response({"status": 401, "title": "x", "detail": "x"}, 401)
    client = everspace.connect(transport=HandlerTransport(script(told(HELLO), revoked)))
    events = client.events()
    with pytest.raises(errors.AuthenticationError):
        next(events)
    assert list(events) == []  # it has ended
    client.close()


def test_a_service_that_stays_away_is_given_up_after_the_timeout() -> None:
    client = everspace.connect(transport=HandlerTransport(script(told(HELLO), *[DOWN] * 50)), timeout=0.2)
    events = client.events()
    with pytest.raises(errors.CannotConnectError):
        next(events)
    client.close()


def test_a_transport_that_cannot_stream_says_so() -> None:
    class Plain:
        def send(self, request: Request) -> Response:
            raise AssertionError(request)

        def close(self) -> None:
            pass

    with everspace.connect(transport=Plain()) as client, pytest.raises(TypeError, match="Plain"):
        client.events()


async def test_the_async_twin() -> None:
    answers = (told(HELLO, frame(1), frame(2)), LOST, STOPPING, told(frame(3)), told(frame(4)))
    transport = AsyncHandlerTransport(script(*answers))
    async with everspace.aconnect(transport=transport) as client:
        async with client.events("space.", vid=3) as events:
            assert events.position == "i-0"
            found = []
            async for event in events:
                found.append(event.id)
                if event.id == "i-4":
                    break
            assert events.position == "i-4"
        assert found == ["i-1", "i-2", "i-3", "i-4"]
        assert [event async for event in events] == []
    assert asked(transport) == [
        ("/v1/events?kind=space.&vid=3", since) for since in (None, "i-2", "i-2", "i-2", "i-3")
    ]


async def test_the_async_twin_raises_alike() -> None:
    async with everspace.aconnect(
        transport=AsyncHandlerTransport(script(problem_response("EINVAL", "no")))
    ) as client:
        with pytest.raises(errors.InvalidArgumentError):
            await anext(client.events())
    answers = script(told(HELLO), *[DOWN] * 50)
    async with everspace.aconnect(transport=AsyncHandlerTransport(answers), timeout=0.2) as client:
        with pytest.raises(errors.CannotConnectError):
            await anext(client.events())


# -- over sockets --------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Station:
    """Plays a service whose first connection breaks in the middle of an event; the second one stays."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.over = threading.Event()

    def __call__(self, sock: socket.socket, number: int) -> None:
        self.requests.append(sock.recv(65536))
        if number == 0:
            sock.sendall(HEAD + chunk(HELLO) + chunk(frame(1)) + chunk(frame(2)[:20]))
            return
        sock.sendall(HEAD + chunk(frame(2) + frame(3)[:10]))
        sock.sendall(chunk(frame(3)[10:]) + chunk(b": heartbeat\n\n"))
        sock.recv(1)  # until the client leaves
        self.over.set()


@pytest.mark.parametrize("unix", [False, True])
def test_over_sockets(playhouse: Any, tmp_path: Path, unix: bool) -> None:
    station = Station()
    house = playhouse(station, tmp_path / "socket" if unix else None)
    client = everspace.connect(house.url)
    events = client.events()
    assert [next(events).id for _ in range(3)] == ["i-1", "i-2", "i-3"]
    assert b"last-event-id: i-1" in station.requests[1].lower()
    waiting = threading.Thread(target=lambda: found.append(next(events, None)))
    found: list[Any] = []
    waiting.start()
    events.close()  # from another thread
    waiting.join(10)
    assert found == [None]
    assert station.over.wait(10)
    client.close()


def test_closing_the_client_ends_its_streams(playhouse: Any) -> None:
    station = Station()
    client = everspace.connect(playhouse(station).url)
    events = client.events()
    assert [next(events).id for _ in range(3)] == ["i-1", "i-2", "i-3"]
    client.close()
    assert next(events, None) is None
    assert station.over.wait(10)


async def test_over_sockets_async(playhouse: Any) -> None:
    station = Station()
    async with everspace.aconnect(playhouse(station).url) as client:
        async with client.events() as events:
            assert [(await anext(events)).id for _ in range(3)] == ["i-1", "i-2", "i-3"]
            waiting = asyncio.create_task(anext(events, None))
            await asyncio.sleep(0)
            await events.close()
            assert await waiting is None
        later = client.events()
        assert [(await anext(later)).id for _ in range(2)] == ["i-2", "i-3"]
    assert await anext(later, None) is None
    assert b"last-event-id: i-1" in station.requests[1].lower()


def refuse(sock: socket.socket, _: int) -> None:
    body = b'{"status": 429, "title": "x", "detail": "too many", "errno": "EAGAIN"}'
    sock.recv(65536)
    head = b"HTTP/1.1 429 Too Many\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
    sock.sendall(head % len(body) + body)


async def test_a_refusal_over_sockets_has_its_problem(playhouse: Any) -> None:
    url = playhouse(refuse).url
    with everspace.connect(url) as client, pytest.raises(errors.TryAgainError, match="too many"):
        client.events()
    async with everspace.aconnect(url) as aclient:
        with pytest.raises(errors.TryAgainError, match="too many"):
            await anext(aclient.events())


async def test_an_async_stream_that_is_cancelled_is_closed(playhouse: Any) -> None:
    station = Station()
    async with everspace.aconnect(playhouse(station).url) as client:
        events: AsyncIterator[everspace.Event] = client.events()
        for _ in range(3):
            await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await asyncio.to_thread(station.over.wait, 10)
