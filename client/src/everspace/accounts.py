"""Who calls, what he may have and has, and what he did: the account of a token, and entries of the audit journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may own at most, and `rate`, its requests a second; None: no limit."""

    spaces: int | None
    segments: int | None
    bytes: int | None
    tasks: int | None
    rate: int | None

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(item["spaces"], item["segments"], item["bytes"], item["tasks"], item["rate"])


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an account owns; `bytes` are of the pages that are kept for its spaces and segments."""

    spaces: int
    segments: int
    bytes: int
    tasks: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(item["spaces"], item["segments"], item["bytes"], item["tasks"])


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the token stands for. `scopes` are what it is good for: "read", "write", "audit"; `expires` None: never."""

    uid: int
    gids: tuple[int, ...]
    name: str
    scopes: tuple[str, ...]
    expires: datetime | None
    quota: Quota
    usage: Holdings

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(
            item["uid"],
            tuple(item["gids"]),
            item["name"],
            tuple(item["scopes"]),
            _time(item["expires"]),
            Quota.from_json(item["quota"]),
            Holdings.from_json(item["usage"]),
        )


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that was done or refused, `count` times from `time` to `until` (None: once) with the same result.

    `uid` and `token_id` are None where no token was good, and for commands of the administrator. `call` is the name of
    the call, or a command; `errno` is None if it was done.
    """

    id: int
    time: datetime
    until: datetime | None
    uid: int | None
    token_id: int | None
    request_id: str
    call: str
    target: str
    status: int
    errno: str | None
    count: int

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(
            item["id"],
            datetime.fromisoformat(item["time"]),
            _time(item["until"]),
            item["uid"],
            item["token_id"],
            item["request_id"],
            item["call"],
            item["target"],
            item["status"],
            item["errno"],
            item["count"],
        )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
