"""Clients that are slow, silent, many or gone: each is ended in its time, and nobody else waits for it."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import everspace
from tests.app.metered import samples
from tests.conformance.support.service import Service, until
from tests.e2e.wire import Client, counted, problem

BASE = 0x1000_0000_0000
MIB = 1 << 20
SETTINGS = {
    "EVERSPACE_HEAD_TIMEOUT": "1",
    "EVERSPACE_STALL_TIMEOUT": "1",
    "EVERSPACE_BODY_RATE": "1000",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with little patience."""
    with Service(tmp_path_factory.mktemp("slow") / "data", SETTINGS) as started:
        yield started
        assert "Traceback" not in started.said()


@pytest.fixture
def task(service: Service) -> Iterator[everspace.Task]:
    """A task with 64 MiB of its own."""
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as spawned:
        spawned.mmap(BASE, 64 * MIB, 3, 0x32)
        yield spawned


def memory(task: everspace.Task, length: int | None = None) -> str:
    """The target of a store, or of a load."""
    return f"/v1/tasks/{task.pid}/memory?addr={BASE:#x}" + (f"&len={length}" if length else "")


@contextmanager
def one_is_cut(service: Service, phase: str) -> Iterator[None]:
    """Inside, one connection is ended for its slowness, and no other for that phase."""
    before = counted(service, "connections_cut_total", phase=phase)
    yield
    until("it is cut", lambda: counted(service, "connections_cut_total", phase=phase) == before + 1, 60)


def waits_for_nobody(task: everspace.Task) -> None:
    """Others are served."""
    assert task.write(BASE + MIB, b"others") == 6
    assert task.read(BASE + MIB, 6) == b"others"


def test_a_head_of_a_byte_at_a_time_is_not_waited_for(service: Service, task: everspace.Task) -> None:
    with one_is_cut(service, "head"), Client(service) as slow:
        slow.drip(slow.head("GET", "/v1/vas", x_padding="x" * 1000))
        waits_for_nobody(task)
        status, headers, document = problem(slow.rest())
    assert (status, document["errno"], headers["connection"]) == (408, "ETIMEDOUT", "close")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_connection_that_says_nothing_is_closed_without_a_word(service: Service) -> None:
    with Client(service) as silent:
        assert silent.rest() == b""


def test_empty_lines_do_not_keep_a_connection(service: Service) -> None:
    with Client(service) as client:
        client.send(client.head("GET", "/healthz"))
        assert client.answer().startswith(b"HTTP/1.1 200")
        client.send(b"\r\n")
        assert client.rest() == b""


def test_a_body_of_a_byte_at_a_time_writes_nothing(service: Service, task: everspace.Task) -> None:
    before = task.read(BASE, 4096)
    with one_is_cut(service, "body"), Client(service) as slow:
        slow.send(slow.head("PUT", memory(task), content_length=4096))
        slow.drip(b"x" * 4096)
        waits_for_nobody(task)
        status, _, document = problem(slow.rest())
    assert (status, document["errno"]) == (408, "ETIMEDOUT")
    assert task.read(BASE, 4096) == before


def test_the_rest_of_a_refused_body_is_not_waited_for_either(service: Service) -> None:
    with one_is_cut(service, "body"), Client(service) as slow:
        slow.token = "nobody's"
        slow.send(slow.head("PUT", "/v1/tasks/1/memory?addr=0", content_length=4096) + b"x")
        assert slow.answer().startswith(b"HTTP/1.1 401")
        slow.drip(b"x" * 4095)


def test_a_reader_that_never_reads_is_cut_off(service: Service, task: everspace.Task) -> None:
    with Client(service, buffer=4096) as stuck:
        with one_is_cut(service, "write"):
            stuck.send(stuck.head("GET", memory(task, 64 * MIB)))
            waits_for_nobody(task)
        assert len(stuck.rest()) < 64 * MIB


def test_a_reader_that_is_slow_and_goes_on_gets_everything(service: Service, task: everspace.Task) -> None:
    length, before = 8 * MIB, counted(service, "connections_cut_total", phase="write")
    with Client(service, buffer=65536) as slow:
        slow.send(slow.head("GET", memory(task, length), connection="close"))
        got = 0
        while part := slow.socket.recv(65536):
            got += len(part)
            waits_for_nobody(task)
    assert got > length
    assert counted(service, "connections_cut_total", phase="write") == before


def test_who_waits_for_the_service_is_not_slow(service: Service, task: everspace.Task) -> None:
    """A lock that is not free, and a stream on which nothing happens, while three silent ones after another are ended."""
    vid = task.vas_create("locked", 0o666, "lockable")
    sid = task.vas_seg_create("locked", BASE + (1 << 40), BASE + (1 << 40) + 4096, 0o666, "lockable")
    task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as other:
        for each in (task, other):
            each.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        stream = service.http().open("/v1/events", {})
        with Client(service) as waiting:
            body = json.dumps({"vid": vid}).encode("ascii")
            target = f"/v1/tasks/{other.pid}/threads/{other.pid}/active"
            head = waiting.head(
                "PUT", target, content_type="application/json", content_length=len(body), connection="close"
            )
            waiting.send(head + body)
            for _ in range(3):
                with Client(service) as silent:
                    assert silent.rest() == b""
            task.vas_switch(0)
            assert waiting.rest().startswith(b"HTTP/1.1 20")
        while not (line := stream.readline()).startswith(b"event: "):
            assert line


def test_hundreds_of_idle_connections_hinder_nobody(service: Service, task: everspace.Task) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            assert_served(stack.enter_context(Client(service)))
        waits_for_nobody(task)
        assert counted(service, "connections") > 300


def test_one_address_has_so_many_connections_and_others_have_theirs(tmp_path: Path) -> None:
    with Service(tmp_path / "data", {"EVERSPACE_CONNECTIONS_PER_PEER": "5"}) as service, ExitStack() as stack:
        clients = [stack.enter_context(Client(service, source="127.0.0.2")) for _ in range(5)]
        for client in clients:
            assert_served(client)
        with Client(service, source="127.0.0.2") as one_more:
            status, headers, _ = problem(one_more.rest())
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert counted(service, "connections_refused_total", limit="peer") == 1
        for client in clients:
            assert_served(client)
        clients[0].socket.close()
        until("there is room", lambda: has_room(service, "127.0.0.2"))


def test_there_are_so_many_connections_and_those_that_are_there_stay(tmp_path: Path) -> None:
    with Service(tmp_path / "data", {"EVERSPACE_CONNECTIONS": "5"}) as service, ExitStack() as stack:
        http = service.http()
        assert http.get("/version")
        clients = [stack.enter_context(Client(service)) for _ in range(4)]
        for client in clients:
            assert_served(client)
        with Client(service) as one_more:
            assert problem(one_more.rest())[0] == 503
        assert samples(http.call("GET", "/metrics").text)[
            "everspace_connections_refused_total", frozenset({("limit", "total")})
        ] == 1  # fmt: skip
        clients[0].socket.close()
        until("there is room", lambda: has_room(service))


def assert_served(client: Client) -> None:
    """Ask something, and read the answer."""
    client.send(client.head("GET", "/healthz"))
    assert client.answer().startswith(b"HTTP/1.1 200")


def has_room(service: Service, source: str | None = None) -> bool:
    """Whether a connection is let in."""
    with Client(service, source=source) as client:
        client.send(client.head("GET", "/healthz", connection="close"))
        return client.rest().startswith(b"HTTP/1.1 200")


def test_who_leaves_in_the_middle_has_done_nothing(service: Service, task: everspace.Task) -> None:
    before = task.read(BASE, 4096)
    with Client(service) as leaver:
        leaver.send(leaver.head("PUT", memory(task), content_length=4096) + b"x" * 4000)
        leaver.socket.shutdown(socket.SHUT_WR)
        assert leaver.rest() == b""
    assert task.read(BASE, 4096) == before


def test_what_is_not_http_gets_a_problem(service: Service) -> None:
    with Client(service) as client:
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n")
        status, _, document = problem(client.rest())
    assert (status, document["errno"]) == (400, "EINVAL")


def test_a_head_that_is_too_large_gets_a_problem(service: Service) -> None:
    with Client(service) as client:
        client.send(client.head("GET", "/healthz", x_padding="x" * 66_000)[:-2])
        status, _, _ = problem(client.rest())
    assert status == 431


def test_a_request_that_was_answered_without_its_body_gets_no_second_answer(service: Service) -> None:
    with one_is_cut(service, "body"), Client(service) as slow:
        slow.send(b"POST /v1/vas HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        said = slow.rest()
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 401 ")
