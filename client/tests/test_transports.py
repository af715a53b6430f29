"""Both socket transports against real sockets: the same rules, sync and async."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from everspace import errors
from everspace._sockets import SocketTransport
from everspace._streams import AT_ONCE_MAX, StreamTransport
from everspace._url import parse_url
from everspace.transport import Request, Response

GET = Request("GET", "/v1/x", timeout=5.0, repeatable=True)
POST = Request("POST", "/v1/x", body=b"{}", timeout=5.0)


class Opener(Protocol):
    def __call__(self, script: Callable[[socket.socket, int], None], path: Path | None = None) -> Any: ...


def sync_sender(url: str) -> Callable[[Iterable[Request]], list[Response | Exception]]:
    def send_all(requests: Iterable[Request]) -> list[Response | Exception]:
        transport = SocketTransport(parse_url(url))
        results: list[Response | Exception] = []
        for request in requests:
            try:
                results.append(transport.send(request))
            except errors.VasError as error:
                results.append(error)
        transport.close()
        return results

    return send_all


def async_sender(url: str) -> Callable[[Iterable[Request]], list[Response | Exception]]:
    async def send_all(requests: Iterable[Request]) -> list[Response | Exception]:
        transport = StreamTransport(parse_url(url))
        results: list[Response | Exception] = []
        for request in requests:
            try:
                results.append(await transport.send(request))
            except errors.VasError as error:
                results.append(error)
        await transport.close()
        return results

    return lambda requests: asyncio.run(send_all(requests))


SENDERS = pytest.mark.parametrize("sender", [sync_sender, async_sender])
Sender = Callable[[str], Callable[[Iterable[Request]], list[Response | Exception]]]


def receive(sock: socket.socket) -> bytes:
    """One whole request, or b"" at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    ]
    while lengths and len(body) < int(lengths[0]):
        body += sock.recv(1 << 20)
    return head + b"\r\n\r\n" + body


def reply(sock: socket.socket, body: bytes = b"ok", head: bytes = b"HTTP/1.1 200 OK\r\n") -> None:
    sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def serve_forever(sock: socket.socket, _: int) -> None:
    while request := receive(sock):
        reply(sock, request.partition(b"\r\n\r\n")[2] or b"ok")


def body_of(result: Response | Exception) -> bytes:
    assert isinstance(result, Response), result
    return result.body


@SENDERS
@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_one_connection_serves_many_requests(
    sender: Sender, where: str, playhouse: Opener, tmp_path: Path
) -> None:
    house = playhouse(serve_forever, tmp_path / "s" if where == "unix" else None)
    big = bytes(range(256)) * 40_000
    echo = Request("PUT", "/", body=memoryview(big), timeout=5.0)
    results = sender(house.url)([GET, POST, echo, GET])
    assert [body_of(result) for result in results] == [b"ok", b"{}", big, b"ok"]
    assert house.accepted == 1


@SENDERS
def test_a_connection_closed_while_kept_is_found_out_before_sending(
    sender: Sender, playhouse: Opener
) -> None:
    closed = threading.Semaphore(1)

    def one_each(sock: socket.socket, _: int) -> None:
        receive(sock)
        reply(sock)
        sock.shutdown(socket.SHUT_RDWR)
        closed.release()

    def after_the_close() -> Iterator[Request]:
        for _ in range(3):
            assert closed.acquire(timeout=5)
            yield POST

    house = playhouse(one_each)
    results = sender(house.url)(after_the_close())
    assert [body_of(result) for result in results] == [b"ok"] * 3
    assert house.accepted == 3


@SENDERS
@pytest.mark.parametrize(("request_", "requests_seen"), [(GET, 3), (POST, 2)])
def test_a_lost_answer_is_asked_for_again_only_if_repeatable(
    sender: Sender, request_: Request, requests_seen: int, playhouse: Opener
) -> None:
    seen: list[bytes] = []

    def second_is_lost(sock: socket.socket, number: int) -> None:
        while request := receive(sock):
            seen.append(request)
            if len(seen) == 2:
                return
            reply(sock)

    first, second = sender(playhouse(second_is_lost).url)([GET, request_])
    assert body_of(first) == b"ok"
    assert isinstance(second, errors.ConnectionLostError if request_ is POST else Response)
    assert len(seen) == requests_seen


@SENDERS
def test_a_fresh_connection_that_breaks_is_an_error(sender: Sender, playhouse: Opener) -> None:
    def hang_up(sock: socket.socket, _: int) -> None:
        receive(sock)

    (result,) = sender(playhouse(hang_up).url)([GET])
    assert isinstance(result, errors.ConnectionLostError)
    assert isinstance(result, ConnectionError)


@SENDERS
def test_an_early_refusal_of_a_large_body_is_heard(sender: Sender, playhouse: Opener) -> None:
    heard = threading.Event()

    def refuse(sock: socket.socket, _: int) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 20):
            pass
        heard.set()

    (result,) = sender(playhouse(refuse).url)([Request("PUT", "/", body=bytes(30_000_000), timeout=5.0)])
    assert isinstance(result, Response)
    assert (result.status, result.body) == (413, b"big")


@SENDERS
def test_silence_is_a_timeout(sender: Sender, playhouse: Opener) -> None:
    leave = threading.Event()

    def say_nothing(sock: socket.socket, _: int) -> None:
        receive(sock)
        leave.wait(10)

    house = playhouse(say_nothing)
    (result,) = sender(house.url)([Request("GET", "/", timeout=0.05, repeatable=True)])
    leave.set()
    assert isinstance(result, errors.TransportTimeoutError)
    assert isinstance(result, TimeoutError)


@SENDERS
def test_a_slow_answer_that_moves_is_no_timeout(sender: Sender, playhouse: Opener) -> None:
    def trickle(sock: socket.socket, _: int) -> None:
        receive(sock)
        pause = threading.Event()
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
            sock.sendall(bytes([byte]))
            pause.wait(0.02)

    (result,) = sender(playhouse(trickle).url)([Request("GET", "/", timeout=0.5)])
    assert body_of(result) == b"ok"


@SENDERS
def test_nobody_there(sender: Sender, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"unix:{tmp_path}/none", "http://a..b:1"):
        (result,) = sender(url)([POST])
        assert isinstance(result, errors.CannotConnectError)
        assert url.removeprefix("unix:") in str(result)


@SENDERS
def test_an_answer_that_is_not_http(sender: Sender, playhouse: Opener) -> None:
    def ssh(sock: socket.socket, _: int) -> None:
        sock.sendall(b"SSH-2.0-x\r\n\r\n")
        receive(sock)

    (result,) = sender(playhouse(ssh).url)([GET])
    assert isinstance(result, errors.ProtocolError)


@SENDERS
def test_a_body_goes_into_the_callers_buffer(sender: Sender, playhouse: Opener) -> None:
    buffer = bytearray(5)

    def five(sock: socket.socket, _: int) -> None:
        receive(sock)
        reply(sock, b"12345")

    (result,) = sender(playhouse(five).url)([Request("GET", "/", timeout=5.0, into=memoryview(buffer))])
    assert isinstance(result, Response)
    assert (result.filled, bytes(buffer)) == (5, b"12345")


@SENDERS
def test_tls_is_verified(sender: Sender, playhouse: Opener) -> None:
    def plain(sock: socket.socket, _: int) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 speak plainly\r\n\r\n")

    (result,) = sender(playhouse(plain).url.replace("http:", "https:"))([GET])
    assert isinstance(result, errors.CannotConnectError)


def test_a_closed_transport_says_so(playhouse: Opener) -> None:
    transport = SocketTransport(parse_url(playhouse(serve_forever).url))
    transport.send(GET)
    transport.close()
    with pytest.raises(errors.TransportError, match="closed"):
        transport.send(GET)


def test_an_old_connection_is_not_used_again(playhouse: Opener) -> None:
    house = playhouse(serve_forever)
    now = [100.0]
    transport = SocketTransport(parse_url(house.url), clock=lambda: now[0])
    transport.send(GET)
    now[0] += 3.0
    transport.send(GET)
    assert house.accepted == 1
    now[0] += 10.0
    transport.send(GET)
    assert house.accepted == 2
    transport.close()


def test_threads_have_connections_of_their_own(playhouse: Opener) -> None:
    together = threading.Barrier(4, timeout=10)

    def wait_for_all(sock: socket.socket, _: int) -> None:
        while receive(sock):
            together.wait()
            reply(sock)

    house = playhouse(wait_for_all)
    transport = SocketTransport(parse_url(house.url))
    threads = [threading.Thread(target=transport.send, args=(GET,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    transport.close()
    assert house.accepted == 4


def test_a_forked_child_leaves_the_parents_connections_alone(playhouse: Opener) -> None:
    house = playhouse(serve_forever)
    transport = SocketTransport(parse_url(house.url))
    transport.send(GET)
    ran: list[bool] = []
    real = os.getpid
    try:
        os.getpid = lambda: -1
        transport.send(GET)
        ran.append(True)
    finally:
        os.getpid = real
    transport.close()
    assert (ran, house.accepted) == ([True], 2)


async def test_a_cancelled_call_does_not_spoil_the_next(playhouse: Opener) -> None:
    leave = threading.Event()

    def first_hangs(sock: socket.socket, number: int) -> None:
        receive(sock)
        if number == 0:
            leave.wait(10)
        reply(sock, b"%d" % number)

    house = playhouse(first_hangs)
    transport = StreamTransport(parse_url(house.url))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await transport.send(GET)
    response = await transport.send(GET)
    leave.set()
    assert response.body == b"1"
    await transport.close()


async def test_many_at_once(playhouse: Opener) -> None:
    house = playhouse(serve_forever)
    transport = StreamTransport(parse_url(house.url))
    bodies = [bytes([n]) * (n * 5000 + 1) for n in range(20)]
    responses = await asyncio.gather(
        *(transport.send(Request("PUT", "/", body=body, timeout=5.0)) for body in bodies)
    )
    assert [response.body for response in responses] == bodies
    await transport.close()


async def test_a_crowd_shares_some_connections_and_who_waits_takes_no_turn(playhouse: Opener) -> None:
    leave = threading.Event()

    def hold_the_waiting(sock: socket.socket, _: int) -> None:
        while request := receive(sock):
            if b"/waiting" in request:
                leave.wait(10)
            reply(sock)

    house = playhouse(hold_the_waiting)
    transport = StreamTransport(parse_url(house.url))
    waiting = [
        asyncio.create_task(transport.send(Request("PUT", "/waiting", timeout=20.0, waits=True)))
        for _ in range(AT_ONCE_MAX + 1)
    ]
    responses = await asyncio.gather(*(transport.send(GET) for _ in range(10 * AT_ONCE_MAX)))
    leave.set()
    responses += await asyncio.gather(*waiting)
    await transport.close()
    assert {response.body for response in responses} == {b"ok"}
    assert house.accepted <= 2 * AT_ONCE_MAX + 1
