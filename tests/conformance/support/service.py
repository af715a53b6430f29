"""A real service: the `everspaced` of this environment as a process over a data directory."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conformance.support.http import Http

BIN = Path(sys.executable).parent
EVERSPACED = str(BIN / "everspaced")
EVERSPACE = str(BIN / "everspace")
START_S = 60.0
STOP_S = 30.0
SETTINGS = ("EVERSPACE_", "PYTHONTRACEMALLOC")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of Everspace, so that no test depends on who runs it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return kept | dict(extra or {})


def run(command: list[str], *, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output as text."""
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(env), timeout=60, check=False
    )


def until(what: str, condition: Callable[[], bool], seconds: float = 10.0, pause: float = 0.01) -> None:
    """Poll until the condition holds; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Service:
    """One data directory and the process that serves it; may be killed and started again."""

    def __init__(self, data_dir: Path, env: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.stderr")
        self.port = 0
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: list[Http] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def root_token(self) -> str:
        return (self.data_dir / "root.token").read_text(encoding="ascii").strip()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self, *options: str) -> list[str]:
        return [EVERSPACED, "serve", "--data-dir", str(self.data_dir), "--port", str(self.port), *options]

    def start(self, port: int = 0) -> Self:
        """Start it and wait until it is ready; another process may take the port first, so try again."""
        for _ in range(5):
            self.port = port or free_port()
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command(), stdout=subprocess.DEVNULL, stderr=log, env=environment(self._env)
                )
            deadline = time.monotonic() + START_S
            while self._process.poll() is None:
                if self._ready():
                    return self
                if time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError(f"the service is not ready:\n{self.said()}")
                time.sleep(0.02)
            if "address already in use" not in self.said().lower():
                break
        raise AssertionError(
            f"the service ended with {self._process and self._process.returncode}:\n{self.said()}"
        )

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def said(self) -> str:
        """All that it has written on standard error."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: what a crash does to it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_S)

    def http(self, token: str | None = None) -> Http:
        """A connection to it as it runs now, of root unless another token is given; closed with the service."""
        made = Http(self.port, token or self.root_token)
        self._connections.append(made)
        return made

    def close(self) -> None:
        """End whatever of it is left."""
        for connection in self._connections:
            connection.close()
        if self.running():
            self.kill()

    def everspaced(self, command: str, *args: str) -> subprocess.CompletedProcess[str]:
        """`everspaced COMMAND …` with this data directory; `command` may be two words."""
        return run([EVERSPACED, *command.split(), "--data-dir", str(self.data_dir), *args])

    def account(self, uid: int, *gids: int, name: str | None = None) -> str:
        """Make an account as its administrator would; the token."""
        groups = [part for gid in gids for part in ("--gid", str(gid))]
        done = self.everspaced(
            "account create", "--uid", str(uid), *groups, *(["--name", name] if name else [])
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.strip()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
