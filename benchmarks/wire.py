"""Small requests to the service against a plain FastAPI application; calls alone against calls in a batch."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import everspace
from benchmarks.pairs import Pair, per_operation
from examples.service import Service, free_port

REQUESTS = 500
BATCH = 1000
ALONE = 200
START_SECONDS_MAX = 30.0


class Connection:
    """A raw connection that sends the same bytes again and again; costs the client next to nothing."""

    def __init__(self, port: int, target: str, token: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.request = f"GET {target} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n".encode()
        answer = self.ask()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"GET {target}: {answer.decode(errors='replace')}")
        self.length = len(answer)

    def ask(self) -> bytes:
        """One request; what came first of the response."""
        self.socket.sendall(self.request)
        answer = self.socket.recv(65536)
        while b"\r\n\r\n" not in answer or len(answer) < getattr(self, "length", 0):
            answer += self.socket.recv(65536)
        return answer

    def seconds(self) -> float:
        """One round: seconds for a request."""

        def work() -> None:
            for _ in range(REQUESTS):
                self.ask()

        return per_operation(work, REQUESTS)


@contextmanager
def echo_service() -> Iterator[int]:
    """benchmarks/echo.py under uvicorn with the same event loop and parser as ours; its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.echo:app", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the FastAPI peer did not start") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def reading(task: everspace.Task, address: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """Reads of 8 bytes over the SDK, in one batch and alone: seconds a read."""

    def batched() -> None:
        with task.batch() as batch:
            for number in range(BATCH):
                batch.read(address + 8 * (number % 512), 8)

    def alone() -> None:
        for number in range(ALONE):
            task.read(address + 8 * (number % 512), 8)

    return lambda: per_operation(batched, BATCH), lambda: per_operation(alone, ALONE)


@contextmanager
def pairs(folder: Path) -> Iterator[list[Pair]]:
    """A service in `folder`, with a task that has one page."""
    service = Service(folder / "service")
    service.start()
    try:
        with (
            echo_service() as port,
            everspace.connect(service.url, service.token) as client,
            client.spawn(name="bench", lease=600.0) as task,
        ):
            flags = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
            address = task.mmap(0, 4096, everspace.PROT_READ | everspace.PROT_WRITE, flags)
            target = f"/v1/tasks/{task.pid}/memory?addr={address:#x}&len=8"
            ours = Connection(service.port, target, service.token)
            peer = Connection(port, "/echo?value=8")
            batched, alone = reading(task, address)
            yield [
                Pair(
                    "read of 8 bytes over HTTP, raw client",
                    "FastAPI echo with a model",
                    ours.seconds,
                    peer.seconds,
                ),
                Pair(
                    f"read of 8 bytes in a batch of {BATCH}, SDK", "the same read alone, SDK", batched, alone
                ),
            ]
    finally:
        service.stop()
