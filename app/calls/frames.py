"""The framed form of a batch, the service's half: frames become calls, results become frames. See everspace.wire.frames."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from app.calls.call import Bound, Frame, failing
from app.calls.table import load, store
from app.errors import bad_input, too_big
from app.http import strict_json
from app.outcomes import Waiting
from engine.errors import EngineError
from everspace.wire.frames import (
    BYTES,
    CALL,
    FRAME,
    LOAD,
    OF_LOAD,
    OF_STORE,
    REFUSAL,
    RELAXED,
    STORE,
    VALUE,
    FramesError,
    count_of,
    document,
    frames_of,
)

CALL_BYTES_MAX: Final = 1 << 20
"""Of a call in JSON: all are short but stores, which have frames of their own."""
Asked = tuple[str, Bound, Waiting | None]
"""A call's name, the call ready to run, and how it waits if it may."""


def calls_of(frame: Frame, body: bytes | bytearray, limit: int, bind: Callable[[Any], Asked]) -> list[Asked]:
    """The calls of a request; `bind` makes them of those in JSON, and None of JSON that is none.

    EINVAL: malformed frames; E2BIG: more than `limit` calls. A call whose JSON is malformed fails in its turn.
    """
    try:
        count = count_of(body)
        if count > limit:
            raise too_big(f"{count} calls; at most {limit} are taken")
        return _calls_of(frame, body, bind)
    except FramesError as cause:
        raise bad_input(f"the body is not a batch in frames: {cause}") from None


def _calls_of(frame: Frame, body: bytes | bytearray, bind: Callable[[Any], Asked]) -> list[Asked]:
    asked: list[Asked] = []
    add, view = asked.append, memoryview(body)
    read_load, load_size = LOAD.unpack_from, LOAD.size
    for kind, start, end in frames_of(body):
        if kind == OF_LOAD:
            if end - start != load_size:
                raise FramesError(f"a load of {end - start} bytes")
            tid, addr, length = read_load(body, start)
            try:
                add(("read", load(frame, tid or frame.tid, addr, length), None))
            except EngineError as refused:
                add(("read", failing(refused), None))
        elif kind == OF_STORE:
            data = start + STORE.size
            if data > end:
                raise FramesError(f"a store of {end - start} bytes")
            tid, addr, flags = STORE.unpack_from(body, start)
            if flags & ~RELAXED:
                raise FramesError(f"a store with flags {flags:#x}")
            add(("write", store(frame, tid or frame.tid, addr, view[data:end], not flags), None))
        elif kind == CALL:
            add(_in_json(body, start, end, bind))
        else:
            raise FramesError(f"a frame of kind {kind}")
    return asked


def _in_json(body: bytes | bytearray, start: int, end: int, bind: Callable[[Any], Asked]) -> Asked:
    if end - start > CALL_BYTES_MAX:
        return (
            "",
            failing(too_big(f"a call of {end - start} bytes; a frame of JSON has at most {CALL_BYTES_MAX}")),
            None,
        )
    try:
        return bind(strict_json.loads(body[start:end]))
    except strict_json.JsonError:
        return bind(None)


def answer(results: Iterable[tuple[int, bytes]]) -> bytes:
    """The document of the results, each with its kind."""
    pieces: list[bytes] = []
    head = FRAME.pack
    for kind, payload in results:
        pieces.append(head(len(payload), kind))
        pieces.append(payload)
    return document(len(pieces) // 2, pieces)


def value(found: Any) -> tuple[int, bytes]:
    """A result's kind and payload."""
    if type(found) is bytes:
        return BYTES, found
    return VALUE, json.dumps(found).encode("ascii")


def refusal(problem: dict[str, Any]) -> tuple[int, bytes]:
    """A refusal's kind and payload."""
    return REFUSAL, json.dumps(problem).encode("ascii")
