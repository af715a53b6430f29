"""HTTP/1.1 of a client without any I/O: a request becomes bytes, received bytes become a response.

Both socket transports drive the same `ResponseReader`: receive into `reader.buffer()`, tell `reader.received(n)`,
until it says that the response is complete. A body of known length is received straight into its final place.
"""

from io import BytesIO
from typing import Final

from everspace.errors import ConnectionLostError, ProtocolError
from everspace.transport import Request, Response, Sink

HEAD_BYTES_MAX: Final = 65_536
COPY_BYTES_MAX: Final = 16_384
"""A body up to this size is sent in one piece with its head: one copy is cheaper than a second packet."""
_BODY_STATUSES: Final = frozenset({200, 206})
_HEAD_SIZE: Final = 8_192
_PIECE_SIZE: Final = 65_536


def encode_request(request: Request, host: str) -> list[bytes | memoryview]:
    """The pieces to send, in order; a large body is not copied."""
    lines = [f"{request.method} {request.target} HTTP/1.1\r\nHost: {host}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in request.headers]
    size = len(request.body)
    if size or request.method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {size}\r\n")
    lines.append("\r\n")
    head = "".join(lines).encode("latin-1")
    if size == 0:
        return [head]
    return [head + request.body] if size <= COPY_BYTES_MAX else [head, request.body]


class ResponseReader:
    """Takes one response out of received bytes. `keep_alive` tells, at the end, if the connection may be used again."""

    def __init__(self, method: str, into: memoryview | None = None, sink: Sink | None = None) -> None:
        self.keep_alive = True
        self.begun = False  # whether any byte has come
        self._method = method
        self._into = into
        self._sink = sink
        self._left: int | None = None  # bytes that the sink still has to take
        self._sunk = 0
        self._room = bytearray(_HEAD_SIZE)
        self._filled = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._place: memoryview | None = None  # the final place of a body of known length
        self._store: BytesIO | None = None  # owner of _place, unless that is the caller's buffer
        self._chunks: ChunkDecoder | None = None
        self._body = bytearray()  # chunked or until the end of the connection
        self._in_body = False

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._place is not None:
            return self._place[self._filled :]
        if self._in_body:
            return memoryview(self._room)
        if self._filled == len(self._room):
            self._room = self._room + bytes(
                len(self._room)
            )  # not in place: the last view of it may be in use
        return memoryview(self._room)[self._filled :]

    def received(self, count: int) -> bool:
        """`count` bytes were put into `buffer()`; 0 is the end of the connection. True: the response is complete."""
        if count == 0:
            return self._ended()
        self.begun = True
        if self._place is not None:
            self._filled += count
            return self._filled == len(self._place)
        if self._in_body:
            return self._take(memoryview(self._room)[:count])
        self._filled += count
        return self._take_head()

    @property
    def head(self) -> Response | None:
        """Status and headers, once they are there."""
        return Response(self._status, self._headers) if self._in_body else None

    def response(self) -> Response:
        """The complete response."""
        if self._place is None:
            return Response(self._status, self._headers, bytes(self._body), self._sunk)
        if self._store is None:
            return Response(self._status, self._headers, b"", len(self._place))
        self._place.release()
        return Response(self._status, self._headers, self._store.getvalue())

    def _ended(self) -> bool:
        self.keep_alive = False
        if self._in_body and self._place is None and self._chunks is None and self._left is None:
            return True
        raise ConnectionLostError(
            "the service closed the connection in the middle of its answer"
            if self.begun
            else "the service closed the connection without an answer"
        )

    def _take_head(self) -> bool:
        end = self._room.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled >= HEAD_BYTES_MAX:
                raise ProtocolError(f"the answer's head is longer than {HEAD_BYTES_MAX} bytes")
            return False
        self._status, self._headers, self.keep_alive = parse_head(self._room[:end].decode("latin-1"))
        rest = bytes(memoryview(self._room)[end + 4 : self._filled])
        if 100 <= self._status < 200:
            self._room[: len(rest)] = rest
            self._filled = len(rest)
            return self._filled > 0 and self._take_head()
        return self._start_body(rest)

    def _start_body(self, rest: bytes) -> bool:
        self._in_body = True
        if self._method == "HEAD" or self._status in (204, 304):
            return self._finish(rest)
        if "transfer-encoding" in self._headers:
            if self._headers["transfer-encoding"].lower() != "chunked":
                raise ProtocolError("the answer has an unknown transfer encoding")
            self._chunks = ChunkDecoder(self._body)
        elif "content-length" in self._headers:
            size = content_length(self._headers["content-length"])
            if self._sink is None or self._status != 200:
                return self._start_sized(size, rest)
            self._left = size
        else:
            self.keep_alive = False
        if len(self._room) < _PIECE_SIZE:
            self._room = bytearray(_PIECE_SIZE)
        return (bool(rest) or self._left == 0) and self._take(memoryview(rest))

    def _start_sized(self, size: int, rest: bytes) -> bool:
        if size == 0:
            return self._finish(rest)
        if self._into is not None and self._status in _BODY_STATUSES and len(self._into) == size:
            self._place = self._into
        elif len(rest) >= size:
            self._body += rest[:size]
            return self._finish(rest[size:])
        else:
            try:
                self._store = BytesIO(bytes(size))
            except (MemoryError, OverflowError) as cause:
                raise ProtocolError(
                    f"the answer has {size} bytes, more than this process can hold"
                ) from cause
            self._place = self._store.getbuffer()
        self._filled = min(len(rest), size)
        self._place[: self._filled] = rest[: self._filled]
        return self._filled == size and self._finish(rest[size:])

    def _take(self, piece: memoryview) -> bool:
        if self._left is not None and self._sink is not None:
            taken = piece[: self._left]
            if taken:
                self._sink(taken)
            self._sunk += len(taken)
            self._left -= len(taken)
            return not self._left and self._finish(bytes(piece[len(taken) :]))
        if self._chunks is None:
            self._body += piece
            self._drain()
            return False
        done = self._chunks.feed(bytes(piece))
        self._drain()
        return done and self._finish(self._chunks.rest)

    def _drain(self) -> None:
        """Hand the sink what has been collected of a body of unknown length."""
        if self._sink is not None and self._status == 200 and self._body:
            self._sink(memoryview(bytes(self._body)))
            self._sunk += len(self._body)
            self._body.clear()

    def _finish(self, surplus: bytes) -> bool:
        if surplus:  # nothing was asked that this could answer
            self.keep_alive = False
        return True


class ChunkDecoder:
    """The chunked transfer encoding (RFC 9112, section 7.1). Trailers are skipped; `rest` is what followed."""

    def __init__(self, body: bytearray) -> None:
        self.rest = b""
        self._body = body
        self._raw = bytearray()
        self._left = 0  # bytes of the present chunk still to come
        self._state = "size"

    def feed(self, piece: bytes) -> bool:
        """Take more; True when the last chunk and the trailers have been read."""
        self._raw += piece
        while True:
            if self._state == "data":
                taken = self._raw[: self._left]
                self._body += taken
                del self._raw[: len(taken)]
                self._left -= len(taken)
                if self._left:
                    return False
                self._state = "gap"
            end = self._raw.find(b"\r\n")
            if end < 0:
                if len(self._raw) > HEAD_BYTES_MAX:
                    raise ProtocolError("the answer has a chunk line without end")
                return False
            line = bytes(self._raw[:end])
            del self._raw[: end + 2]
            if self._line(line):
                self.rest = bytes(self._raw)
                return True

    def _line(self, line: bytes) -> bool:
        if self._state == "gap":
            if line:
                raise ProtocolError("the answer has a chunk that is longer than it says")
            self._state = "size"
        elif self._state == "trailer":
            return not line
        else:
            digits = line.partition(b";")[0].strip()
            if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
                raise ProtocolError("the answer has a chunk without a size")
            self._left = int(digits, 16)
            self._state = "data" if self._left else "trailer"
        return False


def parse_head(text: str) -> tuple[int, dict[str, str], bool]:
    """Status, headers by lower-case name (repeated ones joined by a comma), and whether the connection stays."""
    lines = text.split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if (
        version not in ("HTTP/1.1", "HTTP/1.0")
        or not (rest[:3].isascii() and rest[:3].isdigit())
        or len(rest) < 3
    ):
        raise ProtocolError(f"the answer is not HTTP/1.1: {lines[0]!r:.60}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError(f"the answer has a broken header: {line!r:.60}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    connection = headers.get("connection", "").lower()
    return int(rest[:3]), headers, version == "HTTP/1.1" and "close" not in connection


def content_length(value: str) -> int:
    """The value of Content-Length; a list of equal values counts as one (RFC 9110, section 8.6)."""
    values = {part.strip() for part in value.split(",")}
    only = values.pop()
    if values or not (only.isascii() and only.isdigit()) or len(only) > 18:
        raise ProtocolError(f"the answer has no usable length: {value!r:.60}")
    return int(only)
