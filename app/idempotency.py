"""Idempotency-Key: which key a request has, and what was asked under it (draft-ietf-httpapi-idempotency-key-header).

The fingerprint is of the method, the path, the query and the members of the body. The task and the thread that the
request is about are told apart from that: they go with the service, what a call did to a space does not.
"""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from app.errors import bad_input
from app.http import strict_json
from app.http.exchange import parse_query

KEY_LENGTH_MAX: Final = 255
SPELLED_BYTES_MAX: Final = 1 << 20
"""Of a body that is looked into; a longer one is the same only if all its bytes are."""
UID_BYTES: Final = 4
NAME_BYTES: Final = UID_BYTES + 32
"""Of a receipt's name: the uid, and the SHA-256 of the key."""

_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
_BARE: Final = re.compile(r"[!#-~]+")


class Subject(NamedTuple):
    """The task and the thread that a request is about."""

    pid: str = ""
    tid: str = ""


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
    name = uid.to_bytes(UID_BYTES) + sha256(parse_key(values[0])).digest()
    path, pid = _without_pid(asked.scope["path"])
    query = parse_query(asked.scope["query_string"])
    tid = query.pop("tid", "")
    fingerprint = sha256(json.dumps([asked.method, path, sorted(query.items())]).encode("ascii"))
    members = _members(body)
    if members is None:
        fingerprint.update(body)
    else:
        tid = str(members.pop("tid", tid))
        fingerprint.update(json.dumps(members, sort_keys=True).encode("ascii"))
    return Key(uid, name, fingerprint.digest(), Subject(pid, tid))


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


def _members(body: bytes | bytearray) -> dict[str, Any] | None:
    """Those of a JSON object, none of no body; None for any other body."""
    if not body:
        return {}
    try:
        value = strict_json.loads(body) if len(body) <= SPELLED_BYTES_MAX else None
    except strict_json.JsonError:
        return None
    return value if isinstance(value, dict) else None
