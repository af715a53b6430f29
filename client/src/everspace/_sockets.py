"""The default transport: HTTP/1.1 over sockets, a pool of kept connections, usable from any thread.

A kept connection that the service has closed meanwhile is found out before anything is sent on it, so that even
a call that must not be repeated gets a new connection. If it is closed in the very moment of sending, a request
of which no byte got out is sent again, and so is one that is repeatable. Redirects are not followed and no
proxy is asked: the token goes to the given host alone.
"""

import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from everspace._http1 import ResponseReader, encode_request
from everspace._url import Endpoint, trust_of
from everspace.errors import (
    CannotConnectError,
    ConnectionLostError,
    TransportError,
    TransportTimeoutError,
)
from everspace.transport import Request, Response

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 4.0
"""A connection kept longer is not used again: many servers close an idle one after five seconds."""
KEPT_MAX: Final = 32


class NothingSentError(Exception):
    """The connection turned out to be closed before a byte of the request had left."""


class Connection:
    """One connection and what is needed to reuse it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.used = False
        self.idle_since = 0.0
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)

    def is_quiet(self) -> bool:
        """Whether nothing has come, not even the end, since the last answer."""
        if self._poll is None:
            return not select.select([self.sock], [], [], 0)[0]
        return not self._poll.poll(0)

    def exchange(self, request: Request, host: str) -> tuple[Response, bool]:
        """Send and receive; the second value tells whether the connection may be used again."""
        reader = ResponseReader(request.method, request.into, request.sink)
        whole = self.open(encode_request(request, host), request.timeout)
        while not self.receive(reader, request.timeout):
            continue
        self.used = True
        return reader.response(), reader.keep_alive and whole

    def open(self, pieces: list[bytes | memoryview], timeout: float | None) -> bool:
        """Begin an exchange: nothing may be silent for longer than `timeout` seconds. Whether all was sent."""
        self.sock.settimeout(timeout)
        return self._send(pieces)

    def receive(self, reader: ResponseReader, timeout: float | None) -> bool:
        """Receive once; whether the answer is complete. Raises TransportTimeoutError, ConnectionLostError."""
        try:
            count = self.sock.recv_into(reader.buffer())
        except TimeoutError as cause:
            raise TransportTimeoutError(f"no answer within {timeout} s") from cause
        except OSError as cause:
            raise lost(cause, not (self.used or reader.begun)) from cause
        return reader.received(count)

    def _send(self, pieces: list[bytes | memoryview]) -> bool:
        """False: the service closed its ear in the middle, but may have answered already."""
        sent = False
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[self.sock.send(view) :]
                    sent = True
        except TimeoutError as cause:
            raise TransportTimeoutError("the service does not take the request") from cause
        except OSError as cause:
            if not sent:
                raise NothingSentError from cause
            return False
        return True

    def close(self) -> None:
        """Close it; never fails."""
        self.sock.close()


def lost(cause: Exception | None, first: bool) -> TransportError:
    """The end of a connection. `first`: before any answer on it, where TLS tells of a hand-shake that was refused:
    who wants a certificate of ours says so only after we have begun to send, and looks at nothing of it.
    """
    if first and type(cause).__module__ == "ssl":
        return CannotConnectError(f"the service refuses the connection: {cause}")
    return ConnectionLostError(f"the connection was lost before the answer: {cause or 'closed'}")


class SocketStream:
    """An answer without an end, on a connection of its own. `close` ends a wait for its next piece in another thread, too."""

    def __init__(self, connection: Connection, request: Request, host: str) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._reader = ResponseReader(request.method, sink=lambda piece: self._pieces.append(bytes(piece)))
        self._timeout = request.timeout
        self._complete = False
        self._closed = False
        connection.open(encode_request(request, host), request.timeout)
        while (head := self._reader.head) is None:
            self._receive()
        if head.status != 200:
            while not self._complete:
                self._receive()
            head = self._reader.response()
        self.head = head

    def __iter__(self) -> Iterator[bytes]:
        while True:
            while self._pieces:
                yield self._pieces.pop(0)
            if self._complete or not self._heard():
                return

    def _heard(self) -> bool:
        """Receive once; false when it was closed meanwhile, which ends it without an error."""
        try:
            self._receive()
        except TransportError:
            if not self._closed:
                raise
        return not self._closed

    def _receive(self) -> None:
        self._complete = self._connection.receive(self._reader, self._timeout)

    def close(self) -> None:
        """End it; never fails."""
        self._closed = True
        with suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class SocketTransport:
    """See the module. `connect` and `clock` are there for tests."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connect: Callable[[Endpoint, float], socket.socket] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._host = endpoint.authority
        self._connect = connect or Connector()
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: list[Connection] = []
        self._streams: weakref.WeakSet[SocketStream] = weakref.WeakSet()
        self._pid = os.getpid()
        self._closed = False

    def send(self, request: Request) -> Response:
        """One request, one response. Raises TransportError."""
        if self._closed:
            raise TransportError("the client is closed")
        connection = self._take()
        if connection is not None:
            try:
                return self._exchange(connection, request)
            except ConnectionLostError:
                if not request.repeatable:
                    raise
            except NothingSentError:
                connection = None
        try:
            return self._exchange(self._open(request), request)
        except NothingSentError as cause:
            raise ConnectionLostError("the service closed the connection at once") from cause

    def stream(self, request: Request) -> SocketStream:
        """An answer without an end, on a connection of its own. Raises TransportError."""
        if self._closed:
            raise TransportError("the client is closed")
        connection = self._open(request)
        try:
            opened = SocketStream(connection, request, self._host)
        except NothingSentError as cause:
            connection.close()
            raise ConnectionLostError("the service closed the connection at once") from cause
        except BaseException:
            connection.close()
            raise
        self._streams.add(opened)
        return opened

    def close(self) -> None:
        """Close all kept connections and end all streams; requests under way end by themselves."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()
        for stream in list(self._streams):
            stream.close()

    def _exchange(self, connection: Connection, request: Request) -> Response:
        reusable = False
        try:
            response, reusable = connection.exchange(request, self._host)
        finally:
            if not reusable:
                connection.close()
        self._keep(connection)
        return response

    def _open(self, request: Request) -> Connection:
        limit = CONNECT_SECONDS if request.timeout is None else min(CONNECT_SECONDS, request.timeout)
        try:
            return Connection(self._connect(self._endpoint, limit))
        except (OSError, UnicodeError) as cause:
            why = (
                "no answer"
                if isinstance(cause, TimeoutError)
                else getattr(cause, "strerror", None) or str(cause)
            )
            raise CannotConnectError(f"cannot reach the service at {self._endpoint}: {why}") from cause

    def _take(self) -> Connection | None:
        """A kept connection that is still good; the last one used is the likeliest."""
        if self._pid != os.getpid():
            self._after_fork()
        oldest = self._clock() - IDLE_SECONDS
        while True:
            with self._lock:
                if not self._kept:
                    return None
                connection = self._kept.pop()
            if connection.idle_since >= oldest and connection.is_quiet():
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        if connection.sock.fileno() < 0:
            return
        connection.idle_since = self._clock()
        with self._lock:
            if not self._closed and len(self._kept) < KEPT_MAX:
                self._kept.append(connection)
                return
        connection.close()

    def _after_fork(self) -> None:
        """In a child of os.fork: the parent's connections are the parent's."""
        self._lock = threading.Lock()
        kept, self._kept, self._pid = self._kept, [], os.getpid()
        for connection in kept:
            connection.close()


class Connector:
    """Opens sockets: TCP (small packets at once, dead peers found out), Unix, TLS."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    def __call__(self, endpoint: Endpoint, timeout: float) -> socket.socket:
        if endpoint.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(endpoint.path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return self._secure(sock, endpoint) if endpoint.tls else sock

    def _secure(self, sock: socket.socket, endpoint: Endpoint) -> socket.socket:
        try:
            if self._tls is None:
                self._tls = trust_of(endpoint)
            return self._tls.wrap_socket(sock, server_hostname=endpoint.host)
        except BaseException:
            sock.close()
            raise
