"""HTTP/1.1 connections with bounds that uvicorn does not have: how many there are, how large a head is, how slow a client may be.

What a connection is at is looked at twice a second, all of them in one go, so that a request pays for a few counters
and no timer:

    HEAD   the head of a request is awaited, the first one or one that has begun    head_timeout        -> 408, or closed
    BODY   a body is awaited                                                        body_rate, a window -> 408
    WRITE  the client takes too little of an answer                                 body_rate, a window -> cut off
    BUSY   the service works on it, or the connection idles, which uvicorn ends     -

A window is `stall_timeout` long; in each, `body_rate` times that many bytes have to move, at least one.
"""

import asyncio
import contextlib
import fcntl
import logging
import struct
import termios
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.errors import bad_input, errno_problem, http_problem, problem_body
from app.http.headers import RAW
from app.settings import Settings
from engine.errors import EngineError
from everspace.wire import MEDIA_PROBLEM

HEAD_BYTES_MAX: Final = 64 * 1024
"""Bytes of a request's line and headers that are buffered; whoever sends more is cut off with 431."""
ETIMEDOUT: Final = "ETIMEDOUT"

HEAD: Final = "head"
BODY: Final = "body"
WRITE: Final = "write"
BUSY: Final = "busy"
TOTAL: Final = "total"
PEER: Final = "peer"

log = logging.getLogger("everspace.connections")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers of connections, seconds, and bytes a second; see `app.settings.Settings`."""

    connections: int
    connections_per_peer: int
    head_timeout: float
    body_rate: int
    stall_timeout: float

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        """As they are set."""
        return cls(
            settings.connections,
            settings.connections_per_peer,
            settings.head_timeout,
            settings.body_rate,
            settings.stall_timeout,
        )


class Connections:
    """All connections of one server, those in their handshake too. `refused` counts those over a limit, `cut` those that were too slow."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.open: set[Connection] = set()
        self.refused = Counter({TOTAL: 0, PEER: 0})
        self.cut = Counter({HEAD: 0, BODY: 0, WRITE: 0})
        self.late_seconds = 0.0
        """By which the event loop came too late to look, in all."""
        self._peers: Counter[str] = Counter()

    def admit(self, connection: "Connection") -> str | None:
        """Let a connection in, if it is not in already; else the limit that keeps it out."""
        if connection in self.open:
            return None
        limit = self._reached(connection.peer)
        if limit is not None:
            self.refused[limit] += 1
            log.info("a connection of %s was refused: limit %s", connection.peer, limit)
            return limit
        if connection.peer is not None:
            self._peers[connection.peer] += 1
        self.open.add(connection)
        return None

    def _reached(self, peer: str | None) -> str | None:
        if len(self.open) >= self.bounds.connections:
            return TOTAL
        return PEER if peer is not None and self._peers[peer] >= self.bounds.connections_per_peer else None

    def leave(self, connection: "Connection") -> None:
        """A connection is gone."""
        if connection not in self.open:
            return
        self.open.remove(connection)
        peer = connection.peer
        if peer is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]

    def look(self, now: float) -> None:
        """End what is too slow. `now` is in seconds, of a clock that never goes back."""
        for connection in list(self.open):
            try:
                connection.look(now)
            except Exception:  # whatever is wrong with one must not end the others
                log.exception("a connection of %s could not be looked at", connection.peer)
                self.leave(connection)
                connection.abort()


class Outgoing:
    """A transport that drops what is written after its end.

    uvloop raises then, and before it has told anybody that the client is gone.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, if there is anybody."""
        if not self.is_closing():
            self._write(data)


class Connection(HttpToolsProtocol):
    """One connection. `received` counts the bytes of the client, `requests` the heads that were begun."""

    peer: str | None = None
    made = False
    """Whether there is a transport: behind TLS, whether the handshake is over."""
    _head: int | None = None
    """Bytes of the unfinished head, None outside one."""
    _body = False
    """Whether a head is complete and its body is not."""
    _doing: tuple[str, int, int] = (BUSY, 0, 0)
    """What it was at when it was looked at: phase, request, and how often writing had gone on."""
    _since = 0.0
    _moved = 0

    def __init__(
        self, connections: Connections, config: uvicorn.Config, state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, state, app_state)
        self._all = connections
        self.received = 0
        self.requests = 0
        self._resumed = 0

    # --- what uvicorn calls

    def connection_made(self, transport: Any) -> None:
        """A client; over a limit it is told so and let go."""
        super().connection_made(cast("asyncio.Transport", Outgoing(transport)))
        self.made = True
        if self.peer is None and self.client:
            self.peer = self.client[0]
        if self._all.admit(self) is not None:
            self._answer(http_problem(503, "too many connections"), b"retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was left."""
        self._all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self.received += len(data)
        super().data_received(data)
        if self._head is None or self.transport.is_closing():
            return
        self._head += len(data)
        if self._head > HEAD_BYTES_MAX:
            self._answer(http_problem(431, f"more than {HEAD_BYTES_MAX} bytes of head"))

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._head = 0
        self.requests += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of the head."""
        self._head = None
        self._body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The end of the body."""
        self._body = False
        super().on_message_complete()

    def resume_writing(self) -> None:
        """The client has taken most of what was to be written."""
        self._resumed += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._answer(errno_problem(bad_input("this is no HTTP/1.1 request")))

    # --- too slow

    def look(self, now: float) -> None:
        """End the connection if its client is too slow. A handshake is ended by who waits for it."""
        if not self.made:
            return
        phase = self._phase()
        if phase == BUSY:
            self._doing = (BUSY, 0, 0)
            return
        bounds = self._all.bounds
        doing = (phase, self.requests, self._resumed)
        if doing != self._doing:
            self._doing, self._since, self._moved = doing, now, self._progress(phase)
        elif phase == HEAD:
            if now - self._since >= bounds.head_timeout:
                self._cut(phase)
        elif now - self._since >= bounds.stall_timeout:
            moved = self._progress(phase)
            if moved - self._moved < max(1, bounds.body_rate * bounds.stall_timeout):
                self._cut(phase)
            self._since, self._moved = now, moved

    def _phase(self) -> str:
        if self.flow.write_paused or self.transport.is_closing():
            return WRITE
        if self._answering:
            return BODY if self._body and not self.flow.read_paused else BUSY
        if self._body:
            return BODY  # of a request that was answered without it
        return HEAD if self.timeout_keep_alive_task is None else BUSY

    @property
    def _answering(self) -> bool:
        """Whether there is a request whose answer is not complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _progress(self, phase: str) -> int:
        """Bytes that have moved, from a start of its own for each phase."""
        return self.received if phase == BODY else -self._unsent()

    def _unsent(self) -> int:
        """Bytes that the client has not taken: here and in the kernel, which would hide a slow reader for minutes."""
        size: int = self.transport.get_write_buffer_size()
        opened = self.transport.get_extra_info("socket")
        if opened is not None:  # there is none when TLS has failed meanwhile
            with contextlib.suppress(OSError):
                size += struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return size

    def _cut(self, phase: str) -> None:
        self._all.cut[phase] += 1
        log.info("a connection of %s was ended: too slow with its %s", self.peer, phase)
        if phase == WRITE:
            self.transport.abort()
        elif (phase == HEAD and self._head is None) or (phase == BODY and not self._answering):
            self.transport.close()  # nothing was asked, or it has been answered without its body
        else:
            self._answer(errno_problem(EngineError(ETIMEDOUT, f"the {phase} of the request came too slowly")))

    def _answer(self, problem: dict[str, object], *headers: bytes) -> None:
        """Answer for the service, which learns that the client has left, and close."""
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        status = HTTPStatus(int(str(problem["status"])))
        body = problem_body(problem)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_PROBLEM}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        self.transport.write(b"".join((head.encode("ascii"), RAW, *headers, b"\r\n", body)))
        self.transport.close()

    def abort(self) -> None:
        """End it at once, whatever it is at. A handshake is ended by who waits for it."""
        if self.made:
            self.transport.abort()
