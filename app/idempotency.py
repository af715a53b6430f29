"""Idempotency-Key: which key a request has, and what was asked under it (draft-ietf-httpapi-idempotency-key-header).

The fingerprint is of the method, the path, the query and the members of the body. The task and the thread that the
request is about are told apart from that: they go with the service, what a call did to a space does not.
"""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from app import strict_json
from app.errors import bad_input

KEY_LENGTH_MAX: Final = 255
UID_BYTES: Final = 4
NAME_BYTES: Final = UID_BYTES + 32
"""Of a receipt's name: the uid, and the SHA-256 of the key."""

_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
_BARE: Final = re.compile(r"[!#-~]+")


class Subject(NamedTuple):
    """The task and the thread that a request is about."""

    pid: str = ""
    tid: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an account, and what was asked under it. `name` is the receipt's; `fingerprint` leaves the subject out."""

    uid: int
    name: bytes
    fingerprint: bytes
    subject: Subject


class Asked(Protocol):
    """What the fingerprint of a request is made of."""

    @property
    def method(self) -> str: ...

    @property
    def scope(self) -> Any: ...


def key_of(asked: Asked, uid: int, body: bytes | bytearray) -> Key | None:
    """The key of a request with that whole body; None if it has none. EINVAL: malformed, or given twice."""
    values = [value for name, value in asked.scope["headers"] if name == b"idempotency-key"]
    if not values:
        return None
    if len(values) > 1:
        raise bad_input("Idempotency-Key is given twice")
    path, pid = _without_pid(asked.scope["path"])
    rest, tid = _without_tid(body)
    told = "\n".join((asked.method, path, asked.scope["query_string"].decode("latin-1"), ""))
    return Key(
        uid,
        uid.to_bytes(UID_BYTES) + sha256(parse_key(values[0])).digest(),
        sha256(told.encode("utf-8", "surrogatepass") + rest).digest(),
        Subject(pid, tid),
    )


def parse_key(value: bytes) -> bytes:
    """The key that a header tells: a quoted string as the draft has it, or the same without quotes. EINVAL."""
    text = value.decode("latin-1").strip()
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        text = re.sub(r'\\(["\\])', r"\1", quoted[1])
    elif _BARE.fullmatch(text) is None:
        raise bad_input("Idempotency-Key is a string of printable ASCII in quotes")
    if len(text) > KEY_LENGTH_MAX:
        raise bad_input(f"Idempotency-Key has more than {KEY_LENGTH_MAX} characters")
    return text.encode("ascii")


def _without_pid(path: str) -> tuple[str, str]:
    """/v1/tasks/7/mmap -> /v1/tasks//mmap, 7."""
    parts = path.split("/")
    if len(parts) > 4 and parts[2] == "tasks":
        return "/".join((*parts[:3], "", *parts[4:])), parts[3]
    return path, ""


def _without_tid(body: bytes | bytearray) -> tuple[bytes, int | None]:
    """A JSON object in one spelling without its `tid`, and that; any other body as it is. No body is no members."""
    try:
        value = strict_json.loads(body) if body else {}
    except strict_json.JsonError:
        return bytes(body), None
    if not isinstance(value, dict):
        return bytes(body), None
    tid = value.pop("tid", None)
    return json.dumps(value, sort_keys=True).encode("ascii"), tid if isinstance(tid, int) else None
