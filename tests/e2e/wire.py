"""Clients that do not behave: sockets that send what the test says, when it says so, and read only then."""

import json
import re
import select
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Self

from tests.app.metered import samples
from tests.conformance.support.service import Service

PATIENCE_S = 60.0
LOOPBACK = "127.0.0.1"


class Client:
    """One connection of a client that is in no hurry."""

    def __init__(
        self,
        service: Service,
        *,
        source: str | None = None,
        buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.token = service.root_token
        self._early = b""
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE_S)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect((LOOPBACK, service.port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def head(self, method: str, target: str, **headers: object) -> bytes:
        """The head of a request of root's."""
        lines = {"host": LOOPBACK, "authorization": f"Bearer {self.token}"}
        lines |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
        fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode("ascii")

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def drip(self, data: bytes, pause: float = 0.1) -> None:
        """Send it a byte at a time, until it has been sent or there is an answer, or an end."""
        deadline = time.monotonic() + PATIENCE_S
        for number in range(len(data)):
            assert time.monotonic() < deadline, "nobody minds"
            if select.select([self.socket], [], [], pause)[0] and self._has_come():
                return
            try:
                self.send(data[number : number + 1])
            except OSError:
                return
        raise AssertionError("all of it was taken")

    def _has_come(self) -> bool:
        """Whether something, or the end, has come; TLS also sends what is for nobody."""
        self.socket.settimeout(0)
        try:
            self._early += self.socket.recv(1 << 16)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)
        return True

    def answer(self) -> bytes:
        """One answer, whole; without a Content-Length it has no body."""
        got, self._early = self._early, b""
        while b"\r\n\r\n" not in got:
            got += self._some()
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        while length is not None and len(body) < int(length[1]):
            body += self._some()
        return head + b"\r\n\r\n" + body

    def _some(self) -> bytes:
        part = self.socket.recv(1 << 16)
        assert part, "the connection ended"
        return part

    def rest(self) -> bytes:
        """All that comes until the end of the connection; a reset is an end."""
        parts, self._early = [self._early], b""
        try:
            while part := self.socket.recv(1 << 16):
                parts.append(part)
        except ConnectionError:
            pass
        return b"".join(parts)


def problem(answer: bytes) -> tuple[int, Mapping[str, str], dict[str, Any]]:
    """Status, headers and document of an answer that is a problem, and all of it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["content-type"] == "application/problem+json", answer
    assert int(headers["content-length"]) == len(body), answer
    document = json.loads(body)
    status = int(status_line.split(" ")[1])
    assert document["status"] == status
    assert document["detail"]
    return status, headers, document


def counted(service: Service, name: str, **labels: str) -> float:
    """A sample of /metrics."""
    text = service.http().call("GET", "/metrics").text
    return samples(text)["everspace_" + name, frozenset(labels.items())]
