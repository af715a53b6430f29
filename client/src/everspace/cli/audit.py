"""everspace audit: what was done, and what was refused."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final

import typer

import everspace
from everspace.cli.shell import Shell
from everspace.cli.values import show_time, written

UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str) -> datetime:
    """2026-11-21, 2026-11-21T13:30, 2026-11-21T13:30:00+01:00, of the local zone if it names none; 90m, 12h, 30d, 4w ago."""
    ago = re.fullmatch(r"([0-9]{1,5})([mhdw])", text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a time: {text!r} (2026-11-21T13:30, 12h)") from None


UidOption = Annotated[int | None, typer.Option("--uid", help="Only what this uid did.", show_default=False)]
CallOption = Annotated[
    str | None, typer.Option("--call", metavar="CALL", help="Only this call.", show_default=False)
]
ErrnoOption = Annotated[
    str | None,
    typer.Option("--errno", metavar="ERRNO", help="Only what was refused so.", show_default=False),
]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since", parser=written(parse_time), metavar="TIME", help="Only from then on.", show_default=False
    ),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option(
        "--until", parser=written(parse_time), metavar="TIME", help="Only before then.", show_default=False
    ),
]
CountOption = Annotated[int, typer.Option("--count", min=1, help="So many at most.")]


def audit(
    shell: Shell,
    uid: UidOption = None,
    call: CallOption = None,
    errno: ErrnoOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    count: CountOption = 100,
) -> None:
    """Print what this account did and was refused, newest first; for root what all did. With --json an object each."""
    entries = shell.client.audit(uid, call, errno, since, until)
    for entry in islice(entries, count):
        shell.write(json.dumps(described(entry)) if shell.json else line_of(entry))


def described(entry: everspace.AuditEntry) -> dict[str, Any]:
    """An entry as JSON, in the members of the service."""
    until = None if entry.until is None else show_time(entry.until, exact=True)
    return {**asdict(entry), "time": show_time(entry.time, exact=True), "until": until}


def line_of(entry: everspace.AuditEntry) -> str:
    """2026-11-21T13:30:00Z uid 1001 vas_delete /v1/vas/3: 409 EBUSY, 2 times."""
    who = "nobody" if entry.uid is None else f"uid {entry.uid}"
    if entry.uid is None and entry.request_id.startswith("os-uid-"):
        who = entry.request_id
    result = f"{entry.status} {entry.errno}" if entry.errno else str(entry.status)
    times = f", {entry.count} times" if entry.count > 1 else ""
    return f"{show_time(entry.time)} {who} {entry.call} {entry.target}: {result}{times}"
