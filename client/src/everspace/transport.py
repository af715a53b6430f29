"""The one seam between the SDK and the network: a transport sends a request and returns the response.

Everything above it (calls, retries, leases, tasks) is the same for every transport, and tests put a fake here.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from everspace.errors import ProtocolError
from everspace.wire import HEADER_INSTANCE, HEADER_REQUEST_ID

Body = bytes | memoryview
Sink = Callable[[memoryview], object]
"""Takes the next piece of a body; the memory is used again when it returns."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `target` is path and query, already encoded; `headers` hold no Host and no lengths, but a token.

    `timeout` is the longest silence in seconds (None: wait without end). `repeatable` says that doing it twice
    equals doing it once. `into`, if given, receives the body of a 200 or 206 whose length fits exactly.
    `sink`, if given, takes the body of a 200 piece by piece, as it comes; what it raises ends the exchange.
    `waits`: the service may keep it waiting for what other requests do, so it must not keep those waiting.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: Body = b""
    timeout: float | None = 30.0
    repeatable: bool = False
    into: memoryview | None = None
    waits: bool = False
    sink: Sink | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One complete response; header names are in lower case. `filled`: so many bytes went into `Request.into` or `sink`."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    filled: int = 0

    @property
    def instance(self) -> str:
        """Which start of the service answered."""
        return self.headers.get(_INSTANCE, "")

    @property
    def request_id(self) -> str:
        """What the service logged the request under."""
        return self.headers.get(_REQUEST_ID, "")

    def json(self) -> Any:
        """The body as JSON; ProtocolError if it is not."""
        try:
            return json.loads(self.body)
        except ValueError as cause:
            raise ProtocolError(f"the answer is not JSON: {self.body[:60]!r}") from cause


class Transport(Protocol):
    """Sends from any thread. Raises TransportError and nothing else."""

    def send(self, request: Request) -> Response: ...

    def close(self) -> None: ...


class Stream(Protocol):
    """An answer whose body goes on: `head` has the status and the headers; iterating gives the pieces as they come."""

    @property
    def head(self) -> Response: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class StreamingTransport(Transport, Protocol):
    """A transport that can follow events, too."""

    def stream(self, request: Request) -> Stream: ...


class AsyncTransport(Protocol):
    """The same on one event loop."""

    async def send(self, request: Request) -> Response: ...

    async def close(self) -> None: ...


class AsyncStream(Protocol):
    """The same on one event loop."""

    @property
    def head(self) -> Response: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class AsyncStreamingTransport(AsyncTransport, Protocol):
    """A transport that can follow events, too."""

    async def stream(self, request: Request) -> AsyncStream: ...


_INSTANCE = HEADER_INSTANCE.lower()
_REQUEST_ID = HEADER_REQUEST_ID.lower()
