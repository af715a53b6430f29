"""everspace events: what happens, as it happens."""

import json
import sys
from typing import Annotated, Any

import typer

import everspace
from everspace.cli.shell import Shell
from everspace.cli.values import Which
from everspace.cli.vas import parse_space

KindsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KIND...", help='What they begin with, as in "space." or "task.exited".'),
]
VidOption = Annotated[
    Which | None,
    typer.Option(
        "--vas", parser=parse_space, metavar="SPACE", help="Only about this space.", show_default=False
    ),
]
SidOption = Annotated[
    Which | None,
    typer.Option(
        "--seg", parser=parse_space, metavar="SEGMENT", help="Only about this segment.", show_default=False
    ),
]
PidOption = Annotated[int | None, typer.Option("--pid", help="Only about this task.", show_default=False)]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="ID", help="Begin after the event with this id.", show_default=False),
]
CountOption = Annotated[
    int | None, typer.Option("--count", min=1, help="Leave after so many.", show_default=False)
]


def events(
    shell: Shell,
    kinds: KindsArgument = None,
    vas: VidOption = None,
    seg: SidOption = None,
    pid: PidOption = None,
    since: SinceOption = None,
    count: CountOption = None,
) -> None:
    """Print what happens until interrupted, a line each; with --json an object each."""
    vid = None if vas is None else shell.space(vas).vid
    sid = None if seg is None else shell.segment(seg).sid
    left = count
    with shell.client.events(*(kinds or ()), vid=vid, sid=sid, pid=pid, since=since) as found:
        for event in found:
            shell.write(json.dumps({"id": event.id, **event.data}) if shell.json else line_of(event))
            sys.stdout.flush()
            if left is not None:
                left -= 1
                if not left:
                    return


def line_of(event: everspace.Event) -> str:
    """The kind and its members: space.cloned vid=4 origin=3 name=copy."""
    members = [f"{name}={_shown(value)}" for name, value in event.data.items() if name != "kind"]
    return " ".join([event.kind, *members])


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_shown, value)) or "-"
    if isinstance(value, dict) and value.keys() == {"start", "end"}:
        return f"{value['start']}-{value['end']}"
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) or " " in value else value
