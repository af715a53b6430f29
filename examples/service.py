"""Starting, killing and asking a service of one's own, as the examples do it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
READY_SECONDS_MAX = 30.0


class Service:
    """`everspaced serve` on a data directory, as a process that can be killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        """The root token, which the service wrote at its first start."""
        return (self.data_dir / "root.token").read_text().strip()

    def start(self) -> int:
        """Start the service and wait until it is ready; returns the process id."""
        command = [
            str(BIN / "everspaced"),
            "serve",
            "--data-dir",
            str(self.data_dir),
            "--port",
            str(self.port),
        ]
        log = (self.data_dir.parent / "service.log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start:\n{Path(log.name).read_text()}")
            time.sleep(0.02)
        return self.process.pid

    def is_ready(self) -> bool:
        """Whether GET /readyz answers 200."""
        try:
            return self.request("GET", "/readyz")[0] == http.client.OK
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is written, nothing is said good-bye to."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM, the clean way; without effect on a service that is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def request(self, method: str, path: str) -> tuple[int, str]:
        """One plain HTTP request without the SDK, as curl would make it: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            known = (self.data_dir / "root.token").exists()
            connection.request(
                method, path, headers={"Authorization": f"Bearer {self.token}"} if known else {}
            )
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def get_json(self, path: str) -> dict[str, object]:
        """The JSON object behind a path."""
        status, body = self.request("GET", path)
        if status != http.client.OK:
            raise SystemExit(f"GET {path}: {status} {body}")
        answer: dict[str, object] = json.loads(body)
        return answer

    def everspace(self, *arguments: str) -> str:
        """Run the command line tool with these arguments; what it printed."""
        environment = os.environ | {"EVERSPACE_URL": self.url, "EVERSPACE_TOKEN": self.token}
        done = subprocess.run(
            [BIN / "everspace", *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


@contextmanager
def own_service() -> Iterator[Service]:
    """A service that runs on a directory of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="everspace-example-") as folder:
        service = Service(Path(folder) / "data")
        service.start()
        try:
            yield service
        finally:
            service.stop()


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
