"""What the client's tests share: an HTTP server on a real socket that plays a script, and a fake service."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from everspace.cli.app import run
from everspace.testing import HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

Script = Callable[[socket.socket, int], None]
"""Plays one connection: the accepted socket and how many connections there were before it."""


class Playhouse:
    """Listens, and gives every accepted connection to the script, one thread each."""

    def __init__(self, script: Script, path: Path | None = None) -> None:
        self.accepted = 0
        self._script = script
        self._threads: list[threading.Thread] = []
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
            self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.url = f"unix:{path}"
        self._main = threading.Thread(target=self._accept, daemon=True)
        self._main.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number, self.accepted = self.accepted, self.accepted + 1
            thread = threading.Thread(target=self._play, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, sock: socket.socket, number: int) -> None:
        with sock:
            try:
                self._script(sock, number)
            except ConnectionError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._main.join(5)
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def playhouse() -> Iterator[Callable[..., Playhouse]]:
    """Opens playhouses and closes them at the end."""
    opened: list[Playhouse] = []

    def open_one(script: Script, path: Path | None = None) -> Playhouse:
        opened.append(Playhouse(script, path))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not see the developer's service."""
    for name in ("URL", "TOKEN", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"EVERSPACE_{name}", raising=False)


DESCENT = {"origin": 0, "snapshot": False, "lifetime": "persistent"}


class FakeService:
    """Just enough of the service for the command line: spaces, segments with bytes, tasks with memory."""

    def __init__(self) -> None:
        self.spaces: dict[int, dict[str, Any]] = {}
        self.segments: dict[int, dict[str, Any]] = {}
        self.bytes: dict[int, bytearray] = {}
        self.writes: list[tuple[int, int]] = []
        self.tasks: dict[int, dict[str, Any]] = {}
        self.memory: dict[int, bytes] = {}
        self.told: dict[str, Any] = {}
        """What GET and POST of the last part of a path answer."""
        self.events = b""
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        path, _, query = request.target.partition("?")
        parts = path.removeprefix("/prefix").strip("/").split("/")
        if parts == ["version"]:
            return json_response({"version": "0", "instance": "1", "arch": "x86_64", "page_size": 4096})
        if parts[1] == "events":
            return Response(200, {"content-type": "text/event-stream"}, self.events)
        if parts[1] in ("account", "audit"):
            return json_response(self.told[parts[1]])
        sent = bytes(request.body)
        body = json.loads(sent) if sent.startswith(b"{") else {}
        known = {"vas": self.spaces, "segments": self.segments, "tasks": self.tasks, "proc": self.tasks}[
            parts[1]
        ]
        if len(parts) == 2:
            if request.method == "POST":
                return self.make(parts[1], known, body)
            name = unquote(query.removeprefix("name=")) if query.startswith("name=") else None
            found = [item for item in known.values() if name in (None, item["name"])]
            return json_response({"items": found, "next": None})
        number = int(parts[2])
        if number not in known:
            return problem_response("ESRCH" if known is self.tasks else "EINVAL", f"no {parts[1]} {number}")
        return self.act(request, known, number, parts[3:], body)

    def make(self, kind: str, known: dict[int, dict[str, Any]], body: dict[str, Any]) -> Response:
        number = len(known) + 1
        if kind == "tasks":
            shape = {"pid": number, "tid": number, "uid": 0, "gids": [0], "attachments": []}
            known[number] = {**shape, "name": None, "threads": [{"tid": number, "active": 0}], **body}
            return json_response(known[number], 201)
        if any(item["name"] == body["name"] for item in known.values()):
            return problem_response("EEXIST", f"the name {body['name']!r} is taken")
        known[number] = {"id": number, "uid": 0, "gid": 0, "attach_count": 0, **DESCENT, **body}
        if kind == "segments":
            self.bytes[number] = bytearray(int(body["end"], 16) - int(body["start"], 16))
            known[number]["size"] = len(self.bytes[number])
        return json_response(known[number], 201)

    def act(
        self,
        request: Request,
        known: dict[int, dict[str, Any]],
        number: int,
        rest: list[str],
        body: dict[str, Any],
    ) -> Response:
        headers = dict(request.headers)
        if rest and rest[-1] in self.told:
            return json_response(self.told[rest[-1]])
        match (request.method, *rest):
            case ("GET",):
                return json_response(known[number])
            case ("PATCH",):
                known[number].update(body)
            case ("POST", "clone" | "snapshot" | "fork" as how):
                return self.copy(known, number, how, body)
            case ("DELETE",):
                if known[number].get("attach_count"):
                    return problem_response("EBUSY", f"space {number} is attached (pid 7)")
                del known[number]
            case ("GET", "data"):
                first, last = headers["Range"].removeprefix("bytes=").split("-")
                return Response(206, {}, bytes(self.bytes[number][int(first) : int(last) + 1]))
            case ("PATCH", "data"):
                place = int(headers["Content-Range"].removeprefix("bytes ").split("-")[0])
                self.bytes[number][place : place + len(request.body)] = request.body
                self.writes.append((place, len(request.body)))
            case ("GET", "regions"):
                return json_response({"items": known[number].get("regions", []), "next": None})
            case ("GET", "memory"):
                start, length = (
                    int(part.partition("=")[2], 0) for part in request.target.partition("?")[2].split("&")[:2]
                )
                return Response(200, {}, self.memory[number][start : start + length])
            case ("GET", "core" | "maps" | "smaps" as file):
                target = request.target.removeprefix("/v1")
                return Response(200, {}, (target if file == "core" else known[number][file]).encode())
        return Response(204)

    def copy(self, known: dict[int, dict[str, Any]], number: int, how: str, body: dict[str, Any]) -> Response:
        """A clone, a snapshot, or a child."""
        new = len(known) + 1
        descent = {"id": new, "origin": number, "snapshot": how == "snapshot"}
        known[new] = {**known[number], **body, **({"pid": new, "tid": new} if how == "fork" else descent)}
        return json_response(known[new], 201)


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fake() -> FakeService:
    """An empty service."""
    return FakeService()


@pytest.fixture
def cli(fake: FakeService, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line tool against the fake service: exit status, standard output, standard error."""
    monkeypatch.setattr("everspace.client.SocketTransport", lambda _: HandlerTransport(fake))

    def run_it(*arguments: str) -> tuple[int, str, str]:
        status = run(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run_it
