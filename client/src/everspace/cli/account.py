"""everspace account: who the token stands for, what it may have and has."""

from dataclasses import asdict
from typing import Any

import everspace
from everspace.cli.shell import Shell
from everspace.cli.values import show_size, show_time


def account(shell: Shell) -> None:
    """Print who the token stands for, what it is good for, the quota, and what is used of it."""
    found = shell.client.account()
    if shell.json:
        shell.say("", described(found))
        return
    shell.write(f"{found.name}: uid {found.uid}, gids {','.join(map(str, found.gids))}")
    expires = "never expires" if found.expires is None else f"expires {show_time(found.expires)}"
    shell.write(f"token: {','.join(found.scopes)}, {expires}")
    rows = [
        [name, _shown(name, getattr(found.usage, name)), _shown(name, getattr(found.quota, name))]
        for name in ("spaces", "segments", "bytes", "tasks")
    ]
    rows.append(["requests/s", "", _shown("rate", found.quota.rate)])
    shell.table(["WHAT", ">USED", ">QUOTA"], rows, [])


def described(found: everspace.Account) -> dict[str, Any]:
    """An account as JSON, in the members of the service."""
    expires = None if found.expires is None else show_time(found.expires, exact=True)
    return {**asdict(found), "expires": expires}


def _shown(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    return show_size(value) if name == "bytes" else str(value)
