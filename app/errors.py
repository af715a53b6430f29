"""Every refusal as one kind of answer: an RFC 9457 problem document.

EngineError(errno)   from the engine, or raised here for a caller's mistake -> status by everspace.wire.ERRNO_STATUS
HttpProblem(status)  what HTTP itself refuses and no errno names: 401, 404 and 405 of a route, 414, 416, 431, 503
"""

import errno as errno_module
import json
import os
from http import HTTPStatus
from typing import Final

from engine.address import VirtRange
from engine.errors import EAGAIN, EDQUOT, EngineError
from everspace.wire import ERRNO_STATUS, MEDIA_PROBLEM, hex_address

E2BIG: Final = "E2BIG"
EIO: Final = "EIO"
ESTALE: Final = "ESTALE"

ADDRESS_MEMBERS: Final = frozenset({"address", "addr", "start", "end"})
"""Data members of a problem whose integers are addresses: they travel as hex strings."""

Header = tuple[bytes, bytes]

CLOSE: Final[Header] = (b"connection", b"close")
"""Sent where the rest of a request is not read."""


class HttpProblem(Exception):
    """A refusal by HTTP status alone. `headers` go out with the answer."""

    def __init__(self, status: int, detail: str, *headers: Header) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class CannotListenError(OSError):
    """The service cannot start where it is to listen. The message is one line."""


def bad_input(detail: str) -> EngineError:
    """EINVAL: the request itself is malformed."""
    return EngineError("EINVAL", detail)


def too_big(detail: str) -> EngineError:
    """E2BIG: over one of the service's limits."""
    return EngineError(E2BIG, detail)


def complaint(where: tuple[int | str, ...], message: str) -> str:
    """Where in the arguments something is wrong, and what."""
    place = ".".join(str(step)[:40] for step in where)
    text = message.removeprefix("Value error, ")
    return f"{place}: {text}" if place else text


def status_of(refused: EngineError) -> int:
    """The HTTP status of an errno."""
    return ERRNO_STATUS[refused.errno]


def errno_problem(refused: EngineError, **members: object) -> dict[str, object]:
    """The problem document of an engine error; its data, and `members`, become members of the document."""
    number = getattr(errno_module, refused.errno)
    problem: dict[str, object] = {
        "status": status_of(refused),
        "title": os.strerror(number),
        "detail": refused.detail,
        "errno": refused.errno,
    }
    for name, value in (*refused.data.items(), *members.items()):
        problem.setdefault(name, render(name, value))
    return problem


def http_problem(status: int, detail: str) -> dict[str, object]:
    """The problem document of a bare HTTP refusal: no errno."""
    return {"status": status, "title": HTTPStatus(status).phrase, "detail": detail}


def render(name: str, value: object) -> object:
    """One data member as JSON: addresses as hex strings, ranges as their two ends."""
    if isinstance(value, VirtRange):
        return {"start": hex_address(value.start), "end": hex_address(value.end)}
    if name in ADDRESS_MEMBERS and isinstance(value, int) and not isinstance(value, bool):
        return hex_address(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def problem_body(problem: dict[str, object]) -> bytes:
    """The document as bytes: pure ASCII, so that nothing a caller sent can make it unprintable."""
    return json.dumps(problem, allow_nan=False).encode("ascii")


PROBLEM_HEADER: Final[Header] = (b"content-type", MEDIA_PROBLEM.encode("ascii"))


RETRY_S: Final = {EAGAIN: 1, EDQUOT: 60}
"""Seconds after which it may be worth while to ask again. A quota is full until somebody deletes something or raises it."""


def answer_of(refused: EngineError | HttpProblem) -> tuple[int, bytes, list[Header]]:
    """Status, body and headers of a refusal."""
    if isinstance(refused, HttpProblem):
        body = problem_body(http_problem(refused.status, refused.detail))
        return refused.status, body, [PROBLEM_HEADER, *refused.headers]
    headers = [PROBLEM_HEADER]
    if refused.errno == E2BIG:
        headers.append(CLOSE)
    if refused.errno in RETRY_S:
        headers.append((b"retry-after", b"%d" % RETRY_S[refused.errno]))
        headers += limit_headers(refused)
    return status_of(refused), problem_body(errno_problem(refused)), headers


def limit_headers(refused: EngineError) -> list[Header]:
    """Which quota it was that is used up, as draft-ietf-httpapi-ratelimit-headers has it."""
    quota, used = refused.data.get("quota"), refused.data.get("used")
    if not isinstance(quota, int) or not isinstance(used, int):
        return []
    name = f'"{refused.data["resource"]}"'
    return [
        (b"ratelimit-policy", f"{name};q={quota}".encode("ascii")),
        (b"ratelimit", f"{name};r={max(0, quota - used)}".encode("ascii")),
    ]


def bug_answer() -> tuple[int, bytes, list[Header]]:
    """What a caller learns of a defect of the service: EIO, and nothing of its inside."""
    return answer_of(EngineError(EIO, "internal error; the service's log has it under this request's id"))
