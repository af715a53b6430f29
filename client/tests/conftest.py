"""What the client's tests share: a small HTTP server on a real socket whose behaviour each test chooses."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Script = Callable[[socket.socket, int], None]
"""Plays one connection: the accepted socket and how many connections there were before it."""


class Playhouse:
    """Listens, and gives every accepted connection to the script, one thread each."""

    def __init__(self, script: Script, path: Path | None = None) -> None:
        self.accepted = 0
        self._script = script
        self._threads: list[threading.Thread] = []
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
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
    monkeypatch.delenv("EVERSPACE_URL", raising=False)
    monkeypatch.delenv("EVERSPACE_TOKEN", raising=False)
