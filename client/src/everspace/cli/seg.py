"""everspace seg: segments."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

import everspace
from everspace.cli.shell import Shell, command
from everspace.cli.values import (
    End,
    Which,
    parse_end,
    parse_place,
    parse_which,
    show_mode,
    show_size,
    written,
)
from everspace.cli.vas import (
    ModeArgument,
    ModeOption,
    NameArgument,
    OwnerArgument,
    SharingOption,
    SpaceArgument,
)
from everspace.wire import hex_address

group = typer.Typer(help="Segments: named memory at a fixed address, shown in any number of spaces.")

SegmentArgument = Annotated[
    Which, typer.Argument(parser=written(parse_which), metavar="SEGMENT", help="An id or a name.")
]
StartArgument = Annotated[
    int, typer.Argument(parser=written(parse_place), metavar="START", help="The first address.")
]
EndArgument = Annotated[
    End,
    typer.Argument(
        parser=written(parse_end), metavar="END", help="The address behind the last one, or +SIZE as in +64K."
    ),
]
TypeOption = Annotated[str, typer.Option("--type", metavar="TYPE", help="ro, wo or rw.")]


def describe(attr: everspace.SegAttr) -> dict[str, Any]:
    """A segment as JSON, in the members of the service."""
    members = asdict(attr)
    return {
        "id": members.pop("sid"),
        **members,
        "start": hex_address(attr.start),
        "end": hex_address(attr.end),
        "size": attr.size,
    }


@command(group, "ls")
def list_segments(shell: Shell) -> None:
    """List all segments."""
    found = [segment.seen for segment in shell.client.segments.list(limit=1000)]
    rows = [
        [
            str(a.sid),
            show_mode(a.mode),
            str(a.uid),
            str(a.gid),
            a.sharing,
            str(a.attach_count),
            f"{hex_address(a.start)}-{hex_address(a.end)}",
            show_size(a.size),
            a.name,
        ]
        for a in found
    ]
    header = [">SID", "MODE", ">UID", ">GID", "SHARING", ">SPACES", "RANGE", ">SIZE", "NAME"]
    shell.table(header, rows, [describe(attr) for attr in found])


@command(group, "create")
def create(
    shell: Shell,
    name: NameArgument,
    start: StartArgument,
    end: EndArgument,
    mode: ModeOption = 0o600,
    sharing: SharingOption = "exclusive",
) -> None:
    """Make a segment of zeros and print its id."""
    attr = shell.client.segments.create(name, start, end.after(start), mode, sharing).seen
    shell.say(str(attr.sid), describe(attr))


@command(group, "find")
def find(shell: Shell, name: NameArgument) -> None:
    """Print the id of the segment of that name."""
    attr = shell.client.segments.find(name).seen
    shell.say(str(attr.sid), describe(attr))


@command(group, "rm")
def remove(shell: Shell, which: SegmentArgument) -> None:
    """Delete a segment and its bytes."""
    segment = shell.segment(which)
    segment.delete()
    shell.say(f"deleted segment {segment.sid}", {"id": segment.sid})


@command(group, "chmod")
def chmod(shell: Shell, mode: ModeArgument, which: SegmentArgument) -> None:
    """Change who may read and write a segment."""
    segment = shell.segment(which)
    segment.chmod(mode)
    attr = segment.attr()
    shell.say(f"segment {attr.sid}: {show_mode(attr.mode)}", describe(attr))


@command(group, "chown")
def chown(shell: Shell, owner: OwnerArgument, which: SegmentArgument) -> None:
    """Change the owner of a segment (root only)."""
    segment = shell.segment(which)
    segment.chown(owner.uid, owner.gid)
    attr = segment.attr()
    shell.say(f"segment {attr.sid}: {attr.uid}:{attr.gid}", describe(attr))


@command(group, "attach")
def attach(shell: Shell, which: SegmentArgument, where: SpaceArgument, how: TypeOption = "rw") -> None:
    """Show a segment in a space."""
    if how not in ("ro", "wo", "rw"):
        raise typer.BadParameter(f"{how!r} is not ro, wo or rw", param_hint="--type")
    segment, space = shell.segment(which), shell.space(where)
    segment.attach(space, how)
    said = {"sid": segment.sid, "vid": space.vid, "type": how}
    shell.say(f"segment {segment.sid} is in space {space.vid} ({how})", said)


@command(group, "detach")
def detach(shell: Shell, which: SegmentArgument, where: SpaceArgument) -> None:
    """Show it there no longer."""
    segment, space = shell.segment(which), shell.space(where)
    segment.detach(space)
    said = {"sid": segment.sid, "vid": space.vid}
    shell.say(f"segment {segment.sid} is no longer in space {space.vid}", said)
