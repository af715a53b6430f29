"""everspace audit."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

ENTRY = {
    "id": 7,
    "time": "2026-11-21T13:30:00.250000Z",
    "until": None,
    "uid": 1001,
    "token_id": 4,
    "request_id": "r-1",
    "call": "vas_delete",
    "target": "/v1/vas/3",
    "status": 409,
    "errno": "EBUSY",
    "count": 1,
}
COMMAND = {
    "uid": None,
    "token_id": None,
    "request_id": "os-uid-0",
    "call": "token revoke",
    "target": "token 4",
}
DONE = {"status": 200, "errno": None, "count": 1}
LINES = (
    "2026-11-21T13:30:00Z uid 1001 vas_delete /v1/vas/3: 409 EBUSY\n"
    "2026-11-21T13:30:00Z nobody GET /v1/vas: 401, 5 times\n"
    "2026-11-21T13:30:00Z os-uid-0 token revoke token 4: 200\n"
)


def test_a_line_for_each_entry(cli: Any, fake: Any) -> None:
    stranger = {"uid": None, "call": "GET", "target": "/v1/vas", "status": 401, "errno": None, "count": 5}
    fake.told["audit"] = {"items": [ENTRY, ENTRY | stranger, ENTRY | COMMAND | DONE], "next": None}
    assert cli("audit") == (0, LINES, "")
    assert cli("audit", "--count", "1") == (0, LINES[: LINES.index("\n") + 1], "")
    assert json.loads(cli("audit", "--count", "1", "--json")[1]) == ENTRY


def test_what_is_asked_for(cli: Any, fake: Any) -> None:
    fake.told["audit"] = {"items": [], "next": None}
    options = ("--uid", "7", "--call", "mmap", "--errno", "ENOMEM", "--since", "2026-11-21T13:30:00+00:00")
    assert cli("audit", *options) == (0, "", "")
    asked = "uid=7&call=mmap&errno=ENOMEM&since=2026-11-21T13%3A30%3A00%2B00%3A00"
    assert fake.requests[-1].target == f"/v1/audit?{asked}"
    assert cli("audit", "--since", "2h")[0] == 0
    since = datetime.fromisoformat(unquote(fake.requests[-1].target.partition("since=")[2]))
    assert timedelta(hours=2) <= datetime.now(UTC) - since < timedelta(hours=3)
    assert cli("audit", "--since", "99999w")[0] == 0
    status, out, err = cli("audit", "--until", "yesterday")
    assert (status, out) == (2, "")
    assert "not a time: 'yesterday'" in err
