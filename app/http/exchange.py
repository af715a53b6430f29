"""One HTTP exchange without a framework: the hot routes read their bytes and answer through this."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope, Send

from app.accounts.auth import GrantPort
from app.errors import CLOSE, Header, HttpProblem, bad_input, too_big
from app.room import Room
from engine.credentials import Credentials
from engine.errors import ESRCH, EngineError
from everspace.wire import MEDIA_BYTES, MEDIA_JSON, parse_address

MEDIA_UNSAID: Final = "application/x-www-form-urlencoded"
"""What curl and urllib call a body whose type nobody told them; here it counts as no type."""
BYTES_HEADER: Header = (b"content-type", MEDIA_BYTES.encode("ascii"))
JSON_HEADER: Header = (b"content-type", MEDIA_JSON.encode("ascii"))
ID_DIGITS_MAX = 19
PIECE_BYTES: Final = 1 << 20
"""An answer that is larger is sent in pieces of so many bytes."""


Watching = Callable[[bytes | None], AbstractContextManager["asyncio.Future[None]"]]
SCOPE_EXCHANGE: Final = "everspace.exchange"
"""Where the scope of a request has its `Exchange`, for the control routes."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete: nothing is done, nobody is answered."""


class Exchange:
    """A request and the way to answer it. `common` are the headers of every answer.

    `grant` is what the token stands for, None while nobody is known; `operation` the operationId, "" where no route was
    reached; `errno` that of a refusal which has one; `status` 0 while nothing was answered. `watching` is that of the
    authenticator: who waits long for something learns by it that the token is good no longer. `held` are the bytes of `room`
    that its bodies take until the end. `made` is the path of what a call made, `replayed` says that it was made when it
    was asked for the first time.
    """

    __slots__ = (
        "common",
        "cred",
        "errno",
        "grant",
        "held",
        "made",
        "operation",
        "receive",
        "replayed",
        "room",
        "scope",
        "send",
        "status",
        "watching",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, common: list[Header]) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.common = common
        self.cred: Credentials = NOBODY
        self.grant: GrantPort | None = None
        self.operation = ""
        self.errno: str | None = None
        self.status = 0
        self.watching: Watching | None = None
        self.made = ""
        self.replayed = False
        self.room: Room | None = None
        self.held = 0

    @property
    def method(self) -> str:
        """GET, PUT, ..."""
        method: str = self.scope["method"]
        return method

    def header(self, wanted: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        for name, value in self.scope["headers"]:
            if name == wanted:
                found: bytes = value
                return found
        return None

    def query(self) -> dict[str, str]:
        """The query's parameters. EINVAL: one is named twice, or is not UTF-8."""
        return parse_query(self.scope["query_string"])

    async def body(self, limit: int, media: str) -> bytes | bytearray:
        """The whole body, in one buffer. E2BIG: over `limit` bytes; EINVAL: of another media type; EAGAIN: no room.

        Reading stops at the limit. Raises ClientGoneError if the body ends early.
        """
        self._require_media(media)
        expected = self._content_length()
        if expected is not None and expected > limit:
            raise too_big(f"a body of {expected} bytes; at most {limit} are taken")
        message = await self.receive()
        chunk: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            return _complete(chunk, expected, limit)
        buffer = bytearray()
        while message["type"] == "http.request":
            buffer += message.get("body", b"")
            if len(buffer) > limit:
                raise too_big(f"a body of more than {limit} bytes")
            self.hold(len(buffer) - self.held)
            if not message.get("more_body", False):
                return _complete(buffer, expected, limit)
            message = await self.receive()
        raise ClientGoneError

    async def reply(
        self, status: int, body: bytes | memoryview = b"", *headers: Header, length: int | None = None
    ) -> None:
        """Answer, completely. A 204 or 304 has neither body nor length; `length` is what a HEAD tells.

        A large body goes out in pieces, as fast as the client takes them. EAGAIN: no room for it; but what changed
        something is done, and its answer goes out.
        """
        if self.method == "HEAD":
            length, body = len(body) if length is None else length, b""
        if len(body) > PIECE_BYTES:
            self.hold(len(body), must=self.method != "GET")
        self.status = status
        fields = [*headers, *self.common]
        if status not in (204, 304):
            fields.append((b"content-length", b"%d" % (len(body) if length is None else length)))
        await self.send({"type": "http.response.start", "status": status, "headers": fields})
        first, last = 0, len(body) - PIECE_BYTES
        view = memoryview(body) if last > 0 else body
        while first < last:
            piece = view[first : first + PIECE_BYTES]
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            first += PIECE_BYTES
        await self.send({"type": "http.response.body", "body": view[first:] if first else body})

    def hold(self, count: int, *, must: bool = False) -> None:
        """Take room for `count` bytes of a body until the exchange is over. EAGAIN: there is none, unless it must be."""
        if self.room is not None and count > 0:
            self.room.take(self.cred, count, must=must)
            self.held += count

    def over(self) -> None:
        """The exchange has ended: what it held is free."""
        if self.room is not None and self.held:
            self.room.give(self.cred, self.held)
            self.held = 0

    def _content_length(self) -> int | None:
        text = self.header(b"content-length")
        if text is None:
            return None
        if not text.isdigit() or len(text) > ID_DIGITS_MAX:
            raise HttpProblem(400, "Content-Length is not a number", CLOSE)
        return int(text)

    def _require_media(self, media: str) -> None:
        given = (self.header(b"content-type") or media.encode("ascii")).partition(b";")[0].strip().lower()
        if given not in (media.encode("ascii"), MEDIA_UNSAID.encode("ascii")):
            raise bad_input(f"the body must be {media}")
        if self.header(b"content-encoding") is not None:
            raise bad_input("an encoded body is not taken")


NOBODY = Credentials(2**32 - 1, (2**32 - 1,))
"""Before a token was seen: owns nothing, is in no group."""


def parse_query(raw: bytes) -> dict[str, str]:
    """The parameters of a query. EINVAL: one is named twice, or is not UTF-8."""
    found: dict[str, str] = {}
    if not raw:
        return found
    for pair in raw.decode("latin-1").split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if "%" in pair or "+" in pair or not pair.isascii():
            name, value = _unquote(name), _unquote(value)
        if name in found:
            raise bad_input(f"{name:.40} is given twice")
        found[name] = value
    return found


def number(query: dict[str, str], name: str, default: int | None = None) -> int:
    """A length or an id of the query, perhaps with a sign for the engine to judge. EINVAL: missing without a default, no number."""
    text = query.get(name)
    if text is None:
        if default is None:
            raise bad_input(f"{name} is missing")
        return default
    digits = text.removeprefix("-")
    try:
        found = parse_address(digits)
    except ValueError:
        raise bad_input(f"{name} is not a number") from None
    return found if digits == text else -found


def address(query: dict[str, str], name: str) -> int:
    """An address of the query. EINVAL: missing, or not an address."""
    if name not in query:
        raise bad_input(f"{name} is missing")
    try:
        return parse_address(query[name])
    except ValueError as cause:
        raise bad_input(f"{name}: {cause}") from None


def optional_number(query: dict[str, str], name: str) -> int | None:
    """A number of the query, None if absent. EINVAL: no number."""
    return number(query, name) if name in query else None


def flag(query: dict[str, str], name: str) -> bool:
    """A truth value of the query, false if absent. EINVAL: neither true, false, 1 nor 0."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise bad_input(f"{name} is true or false")
    return text in ("true", "1")


def parse_id(text: Any) -> int:
    """An id out of a path: decimal digits, perhaps with a sign for the engine to judge. Raises ValueError."""
    if isinstance(text, str):
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= ID_DIGITS_MAX:
            return int(text)
    raise ValueError("not an id")


def object_id(text: str, what: str) -> int:
    """The id of a space or a segment. EINVAL: not a number, which is one way of being unknown."""
    try:
        return parse_id(text)
    except ValueError:
        raise bad_input(f"no {what} {text:.40}") from None


def task_id(text: str) -> int:
    """A pid. ESRCH: not a number."""
    try:
        return parse_id(text)
    except ValueError:
        raise EngineError(ESRCH, f"no task {text:.40}") from None


def _complete(body: bytes | bytearray, expected: int | None, limit: int) -> bytes | bytearray:
    if len(body) > limit:
        raise too_big(f"a body of {len(body)} bytes; at most {limit} are taken")
    if expected is not None and expected != len(body):
        raise bad_input(f"Content-Length is {expected}, the body has {len(body)} bytes")
    return body


def _unquote(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise bad_input("the query is not UTF-8") from None
