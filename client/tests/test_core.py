"""Downloads that are never held: over both transports, into files, and what is left of those that fail."""

import asyncio
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace._download import sink_of
from everspace._http1 import ResponseReader
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

SIZE = 3_000_000
CONTENT = bytes(range(250)) * (SIZE // 250)
TASK = {
    "pid": 7, "tid": 7, "uid": 0, "gids": [0], "name": "w", "lease_s": 60.0,
    "threads": [{"tid": 7, "active": 0}], "attachments": [], "counters": {},
}  # fmt: skip
SPACE = {
    "id": 3, "name": "lab", "mode": 384, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0, "segments": [],
}  # fmt: skip


def through(wire: bytes, step: int, method: str = "GET") -> tuple[Response, bytes, bool]:
    """The response, what the sink got, and whether the connection stays."""
    got = bytearray()
    reader = ResponseReader(method, sink=lambda piece: got.extend(piece))
    while True:
        place = reader.buffer()
        count = min(step, len(place), len(wire))
        place[:count] = wire[:count]
        wire = wire[count:]
        if reader.received(count):
            return reader.response(), bytes(got), reader.keep_alive


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_a_body_goes_into_the_sink_piece_by_piece(step: int) -> None:
    response, got, stays = through(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", step)
    assert (response.body, response.filled, got, stays) == (b"", 11, b"hello world", True)


def test_an_empty_body_and_surplus_bytes() -> None:
    response, got, stays = through(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 99)
    assert (response.filled, got, stays) == (0, b"", True)
    _, got, stays = through(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", 99)
    assert (got, stays) == (b"he", False)


@pytest.mark.parametrize("head", [b"403 Forbidden", b"206 Partial Content"])
def test_nothing_else_goes_into_the_sink(head: bytes) -> None:
    response, got, _ = through(b"HTTP/1.1 " + head + b"\r\nContent-Length: 2\r\n\r\nno", 99)
    assert (response.body, response.filled, got) == (b"no", 0, b"")


def test_a_body_cut_short_is_a_lost_connection() -> None:
    with pytest.raises(errors.ConnectionLostError):
        through(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello", 99)


def serving(body: bytes, promised: int | None = None) -> Callable[[socket.socket, int], None]:
    """A service with one task, whose core is `body`."""

    def play(sock: socket.socket, _: int) -> None:
        while True:
            data = b""
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65536)
                if not piece:
                    return
                data += piece
            if b"/core " not in data:
                told = json.dumps(TASK).encode()
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
                continue
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (promised or len(body)))
            sock.sendall(body)
            if promised is not None:
                return

    return play


@pytest.mark.parametrize("twin", ["sync", "async"])
class TestOverSockets:
    """Both transports."""

    def download(self, twin: str, url: str, target: Any) -> int:
        async def asynchronously() -> int:
            async with everspace.aconnect(url, timeout=10) as client:
                return await (await client.task(7)).core(target)

        if twin == "async":
            return asyncio.run(asynchronously())
        with everspace.connect(url, timeout=10) as client:
            return client.task(7).core(target)

    def test_into_a_file(self, twin: str, playhouse: Any, tmp_path: Path) -> None:
        path = tmp_path / "core"
        path.write_bytes(b"an older one")
        assert self.download(twin, playhouse(serving(CONTENT)).url, path) == SIZE
        assert path.read_bytes() == CONTENT
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [path]

    def test_into_an_open_file(self, twin: str, playhouse: Any) -> None:
        sink = io.BytesIO()
        assert self.download(twin, playhouse(serving(CONTENT)).url, sink) == SIZE
        assert sink.getvalue() == CONTENT

    def test_what_fails_leaves_the_older_file(self, twin: str, playhouse: Any, tmp_path: Path) -> None:
        path = tmp_path / "core"
        path.write_bytes(b"an older one")
        with pytest.raises(errors.ConnectionLostError):
            self.download(twin, playhouse(serving(CONTENT, SIZE + 1)).url, str(path))
        assert path.read_bytes() == b"an older one"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("closed file")])
    def test_a_file_that_takes_no_more(self, twin: str, playhouse: Any, error: Exception) -> None:
        class Full:
            def write(self, piece: Any) -> None:
                raise error

        with pytest.raises(type(error), match=str(error).rpartition("] ")[2]):
            self.download(twin, playhouse(serving(CONTENT)).url, Full())


def answer(request: Request) -> Response:
    path = request.target.removeprefix("/v1")
    if path.endswith("/core") or "/core?" in path:
        return Response(200, {}, path.encode())
    if path.startswith("/vas"):
        return json_response({"items": [SPACE], "next": None} if "?" in path else SPACE)
    return json_response(TASK)


def test_what_is_asked_for() -> None:
    client = everspace.connect(transport=HandlerTransport(answer))
    task, space = client.task(7), client.spaces.get(3)
    for core, target in (
        (task.core, "/tasks/7/core"),
        (task.of_thread(9).core, "/tasks/7/core?tid=9"),
        (space.core, "/vas/3/core"),
    ):
        sink = io.BytesIO()
        assert core(sink) == len(target)
        assert sink.getvalue().decode() == target


async def test_what_is_asked_for_by_the_async_client() -> None:
    client = everspace.aconnect(transport=AsyncHandlerTransport(answer))
    space = await client.spaces.get(3)
    sink = io.BytesIO()
    task = await client.task(7)
    assert (await task.core(sink), await space.core(sink)) == (13, 11)
    assert sink.getvalue() == b"/tasks/7/core/vas/3/core"


def test_a_refusal_writes_nothing(tmp_path: Path) -> None:
    client = everspace.connect(transport=HandlerTransport(lambda _: problem_response("EPERM", "not yours")))
    with pytest.raises(PermissionError):
        client.task(7).core(tmp_path / "core")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "error"), [("none/core", FileNotFoundError), ("", IsADirectoryError)])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, name: str, error: type[OSError]) -> None:
    path = tmp_path / name
    client = everspace.connect(transport=HandlerTransport(answer))
    with pytest.raises(error) as caught:
        client.task(7).core(path)
    assert Path(caught.value.filename) == path


def test_a_target_that_is_no_regular_file_is_not_replaced() -> None:
    with sink_of("/dev/null") as sink:
        sink(memoryview(b"gone"))
    assert Path("/dev/null").is_char_device()


def test_cores_on_the_command_line(
    cli: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("task", "spawn")
    cli("vas", "create", "lab")
    assert cli("task", "core", "1") == (0, "task 1: 13 written to core.1\n", "")
    assert cli("vas", "core", "lab", "-o", "named") == (0, "space 1: 11 written to named\n", "")
    assert cli("task", "core", "1", "--tid", "4", "-o", "x", "--json")[1] == '{"path": "x", "bytes": 19}\n'
    assert Path("core.1").read_text() == "/tasks/1/core"
    assert Path("named").read_text() == "/vas/1/core"
    assert Path("x").read_text() == "/tasks/1/core?tid=4"
    assert cli("task", "core", "9", "-o", "none")[0] == 1
    assert not Path("none").exists()
