"""Which HTTP client under the SDK? One bare uvicorn, the same requests by each candidate in turn, medians of rounds.

Run: `python client/benchmarks/transports.py` (needs uvicorn and httpx2, both in the development environment).
The figures of the day of the decision are in docs/adr/2026-11-21-client-transport.md.
"""

import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import h11
import httpx2
import uvicorn

from everspace._sockets import SocketTransport
from everspace._url import parse_url
from everspace.transport import Request

HOST = "127.0.0.1"
ROUNDS = 9
HEADERS = {"Authorization": "Bearer abcdefghijklmnopqrstuvwxyz0123456789", "X-Request-Id": "0123456789ab-1f"}
BIG = bytes(16 << 20)
JOBS = [
    ("GET of a small JSON", "GET", "/", b"", 300),
    ("PUT of 4 KiB", "PUT", "/", BIG[:4096], 300),
    ("GET of 4 KiB", "GET", "/4096", b"", 300),
    ("GET of 16 MiB", "GET", "/16777216", b"", 3),
    ("PUT of 16 MiB", "PUT", "/", BIG, 3),
]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Takes any body; answers as many bytes as the path says, or a small JSON."""
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    if scope["type"] != "http":
        return
    path = scope["path"].strip("/")
    body = BIG[: int(path)] if path else b'{"id": 17, "name": "lab"}'
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Candidate(Protocol):
    def __call__(self, method: str, path: str, body: bytes) -> int: ...


def by_http_client(port: int) -> Candidate:
    connection = http.client.HTTPConnection(HOST, port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def go(method: str, path: str, body: bytes) -> int:
        connection.request(method, path, body or None, HEADERS)
        return len(connection.getresponse().read())

    return go


def by_httpx2(port: int) -> Candidate:
    client = httpx2.Client(base_url=f"http://{HOST}:{port}", headers=HEADERS)
    return lambda method, path, body: len(client.request(method, path, content=body or None).content)


def by_h11(port: int) -> Candidate:
    sock = socket.create_connection((HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    state = h11.Connection(h11.CLIENT)

    def go(method: str, path: str, body: bytes) -> int:
        headers = [("Host", HOST), *HEADERS.items(), ("Content-Length", str(len(body)))]
        sock.sendall(state.send(h11.Request(method=method, target=path, headers=headers)) or b"")
        if body:
            for piece in state.send_with_data_passthrough(h11.Data(data=body)) or []:
                sock.sendall(piece)
        state.send(h11.EndOfMessage())
        taken: list[bytes] = []
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                state.receive_data(sock.recv(262_144))
            elif isinstance(event, h11.Data):
                taken.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                state.start_next_cycle()
                return len(b"".join(taken))

    return go


def by_everspace(port: int) -> Candidate:
    transport = SocketTransport(parse_url(f"http://{HOST}:{port}"))
    headers = tuple(HEADERS.items())
    return lambda method, path, body: len(transport.send(Request(method, path, headers, body)).body)


CANDIDATES: dict[str, Callable[[int], Candidate]] = {
    "http.client": by_http_client,
    "httpx2": by_httpx2,
    "h11": by_h11,
    "everspace": by_everspace,
}


def measure(port: int) -> None:
    """Candidates in turn, so that a noisy moment hits all of them."""
    ready = {name: make(port) for name, make in CANDIDATES.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for job, method, path, body, count in JOBS:
            for name, go in ready.items():
                go(method, path, body)
                start = time.perf_counter()
                for _ in range(count):
                    go(method, path, body)
                times.setdefault((job, name), []).append((time.perf_counter() - start) / count * 1e6)
    sys.stdout.write(
        f"| {'us, min / median / max':22} | " + " | ".join(f"{name:22}" for name in ready) + " |\n"
    )
    for job, *_ in JOBS:
        cells = []
        for name in ready:
            each = times[job, name]
            cells.append(f"{min(each):6.0f} /{statistics.median(each):6.0f} /{max(each):6.0f}")
        sys.stdout.write(f"| {job:22} | " + " | ".join(cells) + " |\n")


def main() -> None:
    """Serve in a child on one processor, measure on the other."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    service = subprocess.Popen([sys.executable, __file__, str(port)])  # noqa: S603 - ourselves
    try:
        os.sched_setaffinity(0, {0})
        for _ in range(200):
            try:
                socket.create_connection((HOST, port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        measure(port)
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        uvicorn.run(app, host=HOST, port=int(sys.argv[1]), log_level="warning", lifespan="off")
    else:
        main()
