"""Transports for tests, yours and ours: a function answers instead of a service.

def answer(request: Request) -> Response:
    return json_response({"id": 3}, status=201)

client = everspace.connect(transport=HandlerTransport(answer))
"""

import binascii
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from everspace.transport import Request, Response
from everspace.wire import ERRNO_STATUS, HEADER_INSTANCE, MEDIA_JSON, MEDIA_PROBLEM, frames, hex_address

Handler = Callable[[Request], Response]


class HandlerTransport:
    """Hands every request to `handler`; `requests` remembers them, `closed` tells of `close()`."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[Request] = []
        self.closed = False

    def send(self, request: Request) -> Response:
        """Ask the handler."""
        self.requests.append(request)
        return self.handler(request)

    def stream(self, request: Request) -> "ToldStream":
        """Ask the handler; the stream ends after what it answers."""
        return ToldStream(self.send(request))

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class AsyncHandlerTransport:
    """The same for the async client."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[Request] = []
        self.closed = False

    async def send(self, request: Request) -> Response:
        """Ask the handler."""
        self.requests.append(request)
        return self.handler(request)

    async def stream(self, request: Request) -> "AsyncToldStream":
        """Ask the handler; the stream ends after what it answers."""
        return AsyncToldStream(await self.send(request))

    async def close(self) -> None:
        """Remember it."""
        self.closed = True


class ToldStream:
    """A stream of which all is known."""

    def __init__(self, response: Response) -> None:
        self.head = response

    def __iter__(self) -> Iterator[bytes]:
        yield self.head.body

    def close(self) -> None:
        """Nothing to do."""


class AsyncToldStream:
    """The same for the async client."""

    def __init__(self, response: Response) -> None:
        self.head = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.head.body

    async def close(self) -> None:
        """Nothing to do."""


def json_response(
    value: Any, status: int = 200, instance: str = "1", headers: Mapping[str, str] | None = None
) -> Response:
    """A response with a JSON body, from the given start of the service."""
    return Response(
        status,
        {"content-type": MEDIA_JSON, HEADER_INSTANCE.lower(): instance, **(headers or {})},
        json.dumps(value).encode(),
    )


def problem_response(errno: str, detail: str, instance: str = "1", **data: Any) -> Response:
    """A refusal with its problem document."""
    status = ERRNO_STATUS[errno]
    problem = {"status": status, "title": errno, "detail": detail, "errno": errno, **data}
    return json_response(problem, status, instance, {"content-type": MEDIA_PROBLEM})


def batch_calls(request: Request) -> list[Any]:
    """The calls of a batch, as {"call", "args"} each, out of a request in frames. ValueError: it is none."""
    body, calls = bytes(request.body), []
    for kind, start, end in frames.frames_of(body):
        if kind == frames.OF_LOAD:
            tid, addr, length = frames.LOAD.unpack_from(body, start)
            name, args = "read", {"addr": hex_address(addr), "length": length}
        elif kind == frames.OF_STORE:
            tid, addr, flags = frames.STORE.unpack_from(body, start)
            data = binascii.b2a_base64(body[start + frames.STORE.size : end], newline=False)
            name, args = "write", {"addr": hex_address(addr), "data": data.decode("ascii")}
            args |= {"durability": "relaxed"} if flags else {}
        else:
            calls.append(json.loads(body[start:end]))
            continue
        calls.append({"call": name, "args": args | ({"tid": tid} if tid else {})})
    return calls
