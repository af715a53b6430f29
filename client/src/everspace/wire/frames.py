"""The framed form of a batch: bytes as they are, without base64, and loads and stores without JSON.

Like the rest of `everspace.wire` this is what client and service agree on, pure standard library and no state. A
document is its head and its frames, one for each call or result; integers are little-endian.

    head     0  4  magic "EVF1"          frame   0  4  size of the payload, bytes
             4  4  number of frames              4  1  kind
                                                 5     payload

    of a request                                 of an answer
    0 call   JSON {"call", "args"}               0 value    JSON
    1 load   0 4 tid, 4 8 addr, 12 8 length      1 bytes    what a load found
    2 store  0 4 tid, 4 8 addr, 12 1 flags,      2 refusal  JSON {"errno", "detail", …}
             13 the bytes

A tid of 0 is the thread of the request. Of the flags bit 0 says that the store is relaxed; the others are 0.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812 - the module's own name says nothing
from typing import Any, Final

MEDIA_FRAMES: Final = "application/vnd.everspace.frames"

MAGIC: Final = b"EVF1"
HEAD: Final = Struct("<4sI")
FRAME: Final = Struct("<IB")
LOAD: Final = Struct("<IQQ")
STORE: Final = Struct("<IQB")
WHOLE_LOAD: Final = Struct("<IBIQQ")
"""A load with the head of its frame."""
WHOLE_STORE: Final = Struct("<IBIQB")
"""A store with the head of its frame, without its bytes."""
RELAXED: Final = 1
PAYLOAD_BYTES_MAX: Final = 2**32 - 1

CALL, OF_LOAD, OF_STORE = 0, 1, 2
"""Kinds of a request's frames."""
VALUE, BYTES, REFUSAL = 0, 1, 2
"""Kinds of an answer's frames."""


class FramesError(ValueError):
    """The bytes are not such a document. The message is one line."""


def load(addr: int, length: int) -> bytes:
    """The frame of a load. FramesError: a number that it cannot hold."""
    try:
        return WHOLE_LOAD.pack(LOAD.size, OF_LOAD, 0, addr, length)
    except StructError as cause:
        raise FramesError(str(cause)) from None


def store_head(addr: int, length: int, *, relaxed: bool) -> bytes:
    """The frame of a store up to its bytes. FramesError: a number that it cannot hold."""
    try:
        return WHOLE_STORE.pack(STORE.size + length, OF_STORE, 0, addr, RELAXED if relaxed else 0)
    except StructError as cause:
        raise FramesError(str(cause)) from None


def call(name: str, args: Mapping[str, Any]) -> bytes:
    """The frame of any other call."""
    return framed(CALL, json.dumps({"call": name, "args": args}).encode())


def framed(kind: int, payload: bytes) -> bytes:
    """A frame."""
    return FRAME.pack(len(payload), kind) + payload


def document(count: int, frames: Iterable[bytes | memoryview]) -> bytes:
    """A document of `count` frames, which may come in pieces."""
    return HEAD.pack(MAGIC, count) + b"".join(frames)


def count_of(body: bytes | bytearray) -> int:
    """How many frames the head tells. FramesError: there is no head."""
    if len(body) < HEAD.size:
        raise FramesError("it is shorter than its head")
    magic, count = HEAD.unpack_from(body)
    if magic != MAGIC:
        raise FramesError(f"it does not begin with {MAGIC.decode()}")
    found: int = count
    return found


def frames_of(body: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each payload. FramesError: cut off, or more than the head tells."""
    position, end = HEAD.size, len(body)
    last = end - FRAME.size
    read_head, head_size = FRAME.unpack_from, FRAME.size
    for number in range(count_of(body)):
        if position > last:
            raise FramesError(f"frame {number} is cut off")
        size, kind = read_head(body, position)
        start = position + head_size
        position = start + size
        if position > end:
            raise FramesError(f"frame {number} is cut off")
        yield kind, start, position
    if position != end:
        raise FramesError(f"{end - position} bytes follow the last frame")
