"""SIGTERM: what is under way is finished or refused, nothing acknowledged is lost, nobody is waited for without end."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import everspace
from tests.conformance.support.service import STOP_S, Service, until
from tests.e2e.wire import Client, problem

BASE = 0x1000_0000_0000
MIB = 1 << 20
PAGE = 4096


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that gives two seconds to what is under way."""
    with Service(tmp_path / "data", {"EVERSPACE_SHUTDOWN_GRACE": "2"}) as started:
        yield started
        started.close()
        assert "Traceback" not in started.said()


@pytest.fixture
def segment(service: Service) -> str:
    """The target of stores into a segment."""
    with everspace.connect(service.url, service.root_token) as client:
        made = client.segments.create("kept", BASE, BASE + 64 * MIB, 0o600)
        return f"/v1/segments/{made.sid}/data"


def patch(client: Client, target: str, start: int, data: bytes, total: int | None = None) -> bytes:
    """A store by offset; `total` is what it says that it will send."""
    length = total or len(data)
    head = client.head(
        "PATCH",
        target,
        content_type="application/octet-stream",
        content_length=length,
        content_range=f"bytes {start}-{start + length - 1}/*",
        **({"expect": "100-continue"} if total else {}),
    )
    return head + data


def begin(client: Client, target: str, data: bytes, total: int) -> None:
    """Send the beginning of a store; the service has begun to read it."""
    client.send(patch(client, target, 0, b"", total))
    assert client.answer().startswith(b"HTTP/1.1 100")
    client.send(data)


def term(service: Service) -> None:
    """SIGTERM, without waiting."""
    os.kill(service.pid, signal.SIGTERM)


def load(service: Service, target: str, start: int, length: int) -> bytes:
    """A load by offset."""
    headers = {"Range": f"bytes={start}-{start + length - 1}"}
    return service.http().call("GET", target, headers=headers, status=206).body


def test_under_load_each_answer_is_whole_and_kept(service: Service, segment: str) -> None:
    """Eight clients count, each in a page of its own, until they are refused or their connection ends."""
    clients = 8
    acknowledged = [0] * clients
    ends: list[bytes] = []
    running = threading.Barrier(clients + 1)

    def count(number: int) -> None:
        with Client(service) as client:
            for value in range(1, 1_000_000):
                if value == 5:
                    running.wait(30)
                try:
                    client.send(patch(client, segment, number * PAGE, value.to_bytes(8, "little")))
                    answer = client.answer()
                except (OSError, AssertionError):
                    return
                if not answer.startswith(b"HTTP/1.1 20"):
                    ends.append(answer)
                    return
                acknowledged[number] = value

    threads = [threading.Thread(target=count, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    running.wait(30)
    assert service.stop() == 0
    for thread in threads:
        thread.join(30)
    for answer in ends:
        status, headers, _ = problem(answer)
        assert (status, headers["retry-after"]) == (503, "1")
    assert "cut off" not in service.said()
    service.start()
    for number, value in enumerate(acknowledged):
        kept = int.from_bytes(load(service, segment, number * PAGE, 8), "little")
        assert value >= 4
        assert value <= kept <= value + 1


def test_a_large_answer_is_finished(service: Service, segment: str) -> None:
    service.http().call("PATCH", segment, raw=b"x" * MIB, headers={"Content-Range": f"bytes 0-{MIB - 1}/*"})
    with Client(service, buffer=PAGE) as reader:
        reader.send(reader.head("GET", segment, range=f"bytes=0-{32 * MIB - 1}"))
        assert reader.socket.recv(1) == b"H"
        term(service)
        body = reader.rest()
    assert len(body) > 32 * MIB
    assert stopped(service) == 0
    assert "cut off" not in service.said()


def test_a_body_that_does_not_come_is_given_up(service: Service, segment: str) -> None:
    with Client(service) as slow, Client(service, buffer=PAGE) as stuck:
        begin(slow, segment, b"never", PAGE)
        stuck.send(stuck.head("GET", segment, range=f"bytes=0-{32 * MIB - 1}"))
        assert stuck.socket.recv(1) == b"H"
        term(service)
        assert slow.rest() == b""
        assert stopped(service) == 0
    assert "2 connections are cut off" in service.said()
    service.start()
    assert load(service, segment, 0, 5) == bytes(5)


def test_a_body_that_comes_in_time_is_stored(service: Service, segment: str) -> None:
    data = b"in time" * 100
    with Client(service) as late, Client(service) as idle:
        begin(late, segment, data[:10], len(data))
        term(service)
        assert idle.rest() == b""  # the service is stopping by now
        late.send(data[10:])
        assert late.rest().startswith(b"HTTP/1.1 20")
    assert stopped(service) == 0
    service.start()
    assert load(service, segment, 0, len(data)) == data


def test_streams_end_and_waits_are_refused(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client:
        one, two = client.spawn(), client.spawn()
        vid = one.vas_create("locked", 0o666, "lockable")
        one.vas_seg_attach(
            vid, one.vas_seg_create("locked", BASE, BASE + PAGE, 0o666, "lockable"), everspace.O_RDWR
        )
        for each in (one, two):
            each.vas_attach(0, vid, everspace.O_RDWR)
        one.vas_switch(vid)
        with Client(service) as stream, Client(service) as waiting:
            stream.send(stream.head("GET", "/v1/events"))
            assert stream.socket.recv(1) == b"H"
            body = json.dumps({"vid": vid}).encode("ascii")
            target = f"/v1/tasks/{two.pid}/threads/{two.pid}/active"
            waiting.send(
                waiting.head("PUT", target, content_type="application/json", content_length=len(body)) + body
            )
            until("it waits", lambda: len(client.spaces.get(vid).locks()[0].waiters) == 1)
            term(service)
            assert stream.rest().endswith(b"0\r\n\r\n")  # a whole stream
            status, headers, _ = problem(waiting.rest())
            assert (status, headers["retry-after"]) == (503, "1")
    assert stopped(service) == 0
    assert "cut off" not in service.said()


def test_idle_connections_end_at_once(service: Service) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(Client(service)) for _ in range(50)]
        for client in idle[::2]:
            client.send(client.head("GET", "/healthz"))
            assert client.answer().startswith(b"HTTP/1.1 200")
        term(service)
        for client in idle:
            assert client.rest() == b""
    assert stopped(service) == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", service.port), timeout=5)
    assert "cut off" not in service.said()


def stopped(service: Service) -> int:
    """The exit status of a service that was told to stop."""
    process = service._process
    assert process is not None
    return process.wait(STOP_S)


def test_sighup_ends_no_service(service: Service) -> None:
    os.kill(service.pid, signal.SIGHUP)
    assert service.http().request("GET", "/readyz").status == 200
    assert service.stop() == 0
