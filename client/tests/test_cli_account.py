"""everspace account."""

import json
from typing import Any

ACCOUNT = {
    "uid": 1001,
    "gids": [100, 101],
    "name": "alice",
    "scopes": ["read", "write"],
    "expires": None,
    "quota": {"spaces": 3, "segments": None, "bytes": 8192, "tasks": None, "rate": 50},
    "usage": {"spaces": 1, "segments": 2, "bytes": 4096, "tasks": 0},
}


def test_who_i_am_and_what_i_have(cli: Any, fake: Any) -> None:
    fake.told["account"] = ACCOUNT
    shown = (
        "alice: uid 1001, gids 100,101\n"
        "token: read,write, never expires\n"
        "WHAT        USED  QUOTA\n"
        "spaces         1      3\n"
        "segments       2      -\n"
        "bytes         4K     8K\n"
        "tasks          0      -\n"
        "requests/s           50\n"
    )
    assert cli("account") == (0, shown, "")
    assert json.loads(cli("account", "--json")[1]) == ACCOUNT
    fake.told["account"] = {**ACCOUNT, "expires": "2027-01-02T03:04:05Z"}
    assert "token: read,write, expires 2027-01-02T03:04:05Z\n" in cli("account")[1]
    assert json.loads(cli("account", "--json")[1])["expires"] == "2027-01-02T03:04:05Z"
