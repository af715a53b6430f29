"""The calls about the caller's account and the audit journal."""

from datetime import datetime
from typing import SupportsIndex
from urllib.parse import urlencode

from everspace._calls.call import Call, Page, given, integer, page_of, text
from everspace.accounts import Account, AuditEntry


def account() -> Call[Account]:
    """GET /account."""
    return Call("account", "GET", "/account", Account.from_json, repeatable=True)


def audit(
    uid: SupportsIndex | None = None,
    call: str | None = None,
    errno: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Call[Page[AuditEntry]]:
    """GET /audit, one page."""
    query = given(
        uid=None if uid is None else integer(uid),
        call=None if call is None else text("call", call),
        errno=None if errno is None else text("errno", errno),
        since=_written("since", since),
        until=_written("until", until),
        cursor=cursor,
        limit=limit,
    )
    parse = page_of(AuditEntry.from_json)
    return Call("audit", "GET", "/audit", parse, query=urlencode(query), repeatable=True)


def _written(what: str, when: datetime | None) -> str | None:
    """As the wire has it; one without a zone is of the local one. TypeError: not a datetime."""
    if when is None:
        return None
    if not isinstance(when, datetime):
        raise TypeError(f"{what} must be a datetime, not {type(when).__name__}")
    return (when if when.tzinfo is not None else when.astimezone()).isoformat()
