"""The account of the token and the audit journal, as objects."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import everspace
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response
from everspace.transport import Request, Response

ACCOUNT = {
    "uid": 1001,
    "gids": [100, 101],
    "name": "alice",
    "scopes": ["read", "write"],
    "expires": "2027-01-02T03:04:05Z",
    "quota": {"spaces": 3, "segments": None, "bytes": 8192, "tasks": None, "rate": 50},
    "usage": {"spaces": 1, "segments": 2, "bytes": 4096, "tasks": 0},
}


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "time": "2026-11-21T13:30:00.5Z",
        "until": None,
        "uid": 1001,
        "token_id": 4,
        "request_id": "r-1",
        "call": "vas_delete",
        "target": "/v1/vas/3",
        "status": 409,
        "errno": "EBUSY",
        "count": 1,
        **more,
    }


class Journal:
    """Answers as the service does, two entries at a time."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.targets.append(request.target)
        if request.target == "/v1/account":
            return json_response(ACCOUNT)
        second = "cursor=" in request.target
        items = (
            [entry(1)] if second else [entry(3, until="2026-11-21T13:30:01Z", count=2), entry(2, uid=None)]
        )
        return json_response({"items": items, "next": None if second else "a+b"})


def check(account: everspace.Account) -> None:
    assert (account.uid, account.gids, account.name) == (1001, (100, 101), "alice")
    assert account.scopes == ("read", "write")
    assert account.expires == datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert account.quota == everspace.Quota(spaces=3, segments=None, bytes=8192, tasks=None, rate=50)
    assert account.usage == everspace.Holdings(spaces=1, segments=2, bytes=4096, tasks=0)


def test_the_account() -> None:
    with everspace.connect(transport=HandlerTransport(Journal())) as client:
        check(client.account())


def test_the_journal_in_parts_newest_first() -> None:
    journal = Journal()
    with everspace.connect(transport=HandlerTransport(journal)) as client:
        found = list(client.audit(1001, call="vas_delete", errno="EBUSY"))
    assert [each.id for each in found] == [3, 2, 1]
    assert found[0].time == datetime(2026, 11, 21, 13, 30, 0, 500_000, UTC)
    assert (found[0].count, found[0].until) == (2, datetime(2026, 11, 21, 13, 30, 1, tzinfo=UTC))
    assert (found[1].uid, found[2].until) == (None, None)
    asked = "/v1/audit?uid=1001&call=vas_delete&errno=EBUSY"
    assert journal.targets == [asked, f"{asked}&cursor=a%2Bb"]


def test_times_are_asked_for_with_their_zone() -> None:
    journal = Journal()
    east = timezone(timedelta(hours=1))
    with everspace.connect(transport=HandlerTransport(journal)) as client:
        next(client.audit(since=datetime(2026, 1, 2, tzinfo=east), until=datetime(2026, 1, 3)))  # noqa: DTZ001
        with pytest.raises(TypeError, match="since must be a datetime"):
            next(client.audit(since="2026-01-02"))  # type: ignore[arg-type]
    (target,) = journal.targets
    assert "since=2026-01-02T00%3A00%3A00%2B01%3A00" in target
    assert "until=2026-01-03T00%3A00%3A00" in target
    assert target.rpartition("until=2026-01-03T00%3A00%3A00")[2]  # the local zone


async def test_the_async_twin() -> None:
    journal = Journal()
    async with everspace.aconnect(transport=AsyncHandlerTransport(journal)) as client:
        check(await client.account())
        assert [each.id async for each in client.audit()] == [3, 2, 1]
    assert journal.targets[1:] == ["/v1/audit", "/v1/audit?cursor=a%2Bb"]
