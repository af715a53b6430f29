"""The async twin of `_sockets`: the same rules on one event loop, received straight into the body's place."""

import asyncio
import select
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from everspace._http1 import ResponseReader, encode_request
from everspace._sockets import CONNECT_SECONDS, IDLE_SECONDS, lost
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

AT_ONCE_MAX: Final = 64
"""Requests under way together; more wait for their turn, since connections beyond that only cost."""
_SLICE_BYTES: Final = 262_144
"""A large body goes to the event loop in slices: it would copy all of what the socket does not take at once."""


class Exchange(asyncio.BufferedProtocol):
    """One connection; at most one request at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.is_open = True
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._timeout: float | None = None
        self._heard = 0.0
        self._surplus = memoryview(bytearray(1))
        self._first = True  # nothing has been answered yet
        self._timer: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self.heard: Callable[[], None] | None = None
        """Told whenever something came."""

    @property
    def head(self) -> Response | None:
        """Status and headers of the answer that is under way, once they are there."""
        return None if self._reader is None else self._reader.head

    def is_quiet(self) -> bool:
        """Whether nothing has come, not even the end: the event loop may not have had its turn yet."""
        return self.is_open and not self._poll.poll(0)

    async def send(self, request: Request, host: str) -> Response:
        """Send and receive; afterwards `is_open` tells whether the connection may be used again."""
        transport = self._transport
        if transport is None or not self.is_open:
            raise ConnectionLostError("the connection is closed")
        reader = ResponseReader(request.method, request.into, request.sink)
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._reader, self._answer = reader, answer
        self._timeout, self._heard = request.timeout, self._loop.time()
        if request.timeout is not None:
            self._timer = self._loop.call_later(request.timeout, self._watch, answer)
        try:
            for piece in encode_request(request, host):
                await self._write(transport, memoryview(piece), answer)
            response = await answer
            self._first = False
            if not reader.keep_alive:
                self.is_open = False
            return response
        except BaseException:
            self.is_open = False
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, though the caller was cancelled meanwhile
            raise
        finally:
            self._reader = self._answer = None
            if self._timer is not None:
                self._timer.cancel()
            if not self.is_open:
                self.close()

    async def _write(
        self, transport: asyncio.Transport, view: memoryview, answer: "asyncio.Future[Response]"
    ) -> None:
        for start in range(0, len(view), _SLICE_BYTES):
            if answer.done():  # an early answer, or the end of the connection
                self.is_open = False
                return
            transport.write(view[start : start + _SLICE_BYTES])
            if self._writable is not None:
                await asyncio.wait((self._writable, answer), return_when=asyncio.FIRST_COMPLETED)

    def _watch(self, answer: "asyncio.Future[Response]") -> None:
        """Give up after a silence; called again while something is still heard."""
        if answer.done() or self._timeout is None:
            return
        left = self._heard + self._timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._watch, answer)
        else:
            answer.set_exception(TransportTimeoutError(f"no answer within {self._timeout} s"))

    def close(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio: the connection stands."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Of asyncio: where to receive."""
        return self._surplus if self._reader is None else self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Of asyncio: so many bytes were received."""
        self._heard = self._loop.time()
        self._advance(nbytes)

    def eof_received(self) -> bool:
        """Of asyncio: the service has closed its side."""
        self._advance(0)
        self.is_open = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio: it is over."""
        self.is_open = False
        self.resume_writing()
        if self._answer is not None and not self._answer.done():
            error = lost(exc, self._first and not (self._reader is not None and self._reader.begun))
            error.__cause__ = exc
            self._answer.set_exception(error)

    def pause_writing(self) -> None:
        """Of asyncio: enough is waiting to be sent."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Of asyncio: more may be sent."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _advance(self, count: int) -> None:
        answer, reader = self._answer, self._reader
        if answer is None or reader is None or answer.done():
            self.is_open = False
            return
        try:
            if reader.received(count):
                answer.set_result(reader.response())
        except (TransportError, OSError, ValueError) as error:  # the last two: of a sink that takes no more
            answer.set_exception(error)
        if self.heard is not None:
            self.heard()


class ExchangeStream:
    """An answer without an end, on a connection of its own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._sending: asyncio.Task[Response] | None = None
        self.head = Response(0)

    async def start(self, request: Request, host: str) -> None:
        """Send, and wait for the head. Raises TransportError."""
        request = replace(request, sink=self._take)
        self._exchange.heard = self._news.set
        sending = asyncio.get_running_loop().create_task(self._exchange.send(request, host))
        sending.add_done_callback(lambda _: self._news.set())
        self._sending = sending
        try:
            while (head := self._exchange.head) is None and not sending.done():
                await self._wait()
            self.head = await sending if head is None or head.status != 200 else head
        except BaseException:
            await self.close()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._sending is None:
                return
            if self._sending.done():
                self._sending.result()
                if not self._pieces:
                    return
            elif not self._pieces:
                await self._wait()

    def _take(self, piece: memoryview) -> None:
        self._pieces.append(bytes(piece))

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def close(self) -> None:
        """End it."""
        sending, self._sending = self._sending, None
        self._news.set()
        if sending is not None:
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()  # seen: who closes does not ask any more
        self._exchange.close()


class StreamTransport:
    """See the module. Belongs to the event loop that it is first used on."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._host = endpoint.authority
        self._kept: list[Exchange] = []
        self._streams: weakref.WeakSet[ExchangeStream] = weakref.WeakSet()
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def send(self, request: Request) -> Response:
        """One request, one response. Raises TransportError."""
        if request.waits:
            return await self._send(request)
        async with self._turns:
            return await self._send(request)

    async def _send(self, request: Request) -> Response:
        if self._closed:
            raise TransportError("the client is closed")
        kept = self._take()
        if kept is not None:
            try:
                return await self._exchange(kept, request)
            except ConnectionLostError:
                if not request.repeatable:
                    raise
        return await self._exchange(await self._open(request), request)

    async def stream(self, request: Request) -> ExchangeStream:
        """An answer without an end, on a connection of its own. Raises TransportError."""
        if self._closed:
            raise TransportError("the client is closed")
        opened = ExchangeStream(await self._open(request))
        await opened.start(request, self._host)
        self._streams.add(opened)
        return opened

    async def close(self) -> None:
        """Close all kept connections and end all streams; requests under way end by themselves."""
        self._closed = True
        for stream in list(self._streams):
            await stream.close()
        while self._kept:
            self._kept.pop().close()
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    async def _exchange(self, exchange: Exchange, request: Request) -> Response:
        response = await exchange.send(request, self._host)
        if exchange.is_open:
            exchange.idle_since = time.monotonic()
            if self._closed or len(self._kept) >= AT_ONCE_MAX:
                exchange.close()
            else:
                self._kept.append(exchange)
        return response

    def _secure(self) -> "ssl.SSLContext | None":
        if self._endpoint.tls and self._tls is None:
            self._tls = trust_of(self._endpoint)
        return self._tls

    def _take(self) -> Exchange | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._kept:
            exchange = self._kept.pop()
            if exchange.idle_since >= oldest and exchange.is_quiet():
                return exchange
            exchange.close()
        return None

    async def _open(self, request: Request) -> Exchange:
        limit = CONNECT_SECONDS if request.timeout is None else min(CONNECT_SECONDS, request.timeout)
        where, loop = self._endpoint, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit):
                if where.path:
                    _, exchange = await loop.create_unix_connection(Exchange, where.path)
                else:
                    _, exchange = await loop.create_connection(
                        Exchange, where.host, where.port, ssl=self._secure()
                    )
        except (OSError, UnicodeError) as cause:
            why = (
                "no answer"
                if isinstance(cause, TimeoutError)
                else getattr(cause, "strerror", None) or str(cause)
            )
            raise CannotConnectError(f"cannot reach the service at {where}: {why}") from cause
        return exchange
