"""everspace seg: segments."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

import everspace
from everspace.cli.clones import (
    CopyArgument,
    LifetimeOption,
    kind_of,
    show_differences,
    show_lineage,
    show_usage,
)
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
OtherArgument = Annotated[
    Which, typer.Argument(parser=written(parse_which), metavar="OTHER", help="What it is compared with.")
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
    members = {name: value for name, value in asdict(attr).items() if name != "etag" or value}
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
            kind_of(a),
            a.name,
        ]
        for a in found
    ]
    header = [">SID", "MODE", ">UID", ">GID", "SHARING", ">SPACES", "RANGE", ">SIZE", "KIND", "NAME"]
    shell.table(header, rows, [describe(attr) for attr in found])


@command(group, "create")
def create(
    shell: Shell,
    name: NameArgument,
    start: StartArgument,
    end: EndArgument,
    mode: ModeOption = 0o600,
    sharing: SharingOption = "exclusive",
    lifetime: LifetimeOption = "persistent",
) -> None:
    """Make a segment of zeros and print its id."""
    attr = shell.client.segments.create(name, start, end.after(start), mode, sharing, lifetime).seen
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


@command(group, "clone")
def clone(shell: Shell, which: SegmentArgument, name: CopyArgument) -> None:
    """Copy a segment; print the new id."""
    attr = shell.segment(which).clone(name).seen
    shell.say(str(attr.sid), describe(attr))


@command(group, "snapshot")
def snapshot(shell: Shell, which: SegmentArgument, name: CopyArgument) -> None:
    """Copy it so that nobody can change the copy."""
    attr = shell.segment(which).snapshot(name).seen
    shell.say(str(attr.sid), describe(attr))


@command(group, "reset")
def reset(shell: Shell, which: SegmentArgument) -> None:
    """Make a clone what it was when it was cloned."""
    segment = shell.segment(which)
    segment.reset()
    shell.say(
        f"segment {segment.sid} is again as it was cloned from {segment.seen.origin}",
        describe(segment.attr()),
    )


@command(group, "diff")
def diff(shell: Shell, which: SegmentArgument, other: OtherArgument) -> None:
    """Show where two segments of one range differ."""
    show_differences(shell, shell.segment(which).diff(shell.segment(other)))


@command(group, "lineage")
def lineage(shell: Shell, which: SegmentArgument) -> None:
    """Show its origins, nearest first, and its clones."""
    show_lineage(shell, shell.segment(which).lineage())


@command(group, "usage")
def usage(shell: Shell, which: SegmentArgument) -> None:
    """Show its bytes: all, shared with clones, its own."""
    show_usage(shell, shell.segment(which).usage())


@command(group, "rename")
def rename(shell: Shell, which: SegmentArgument, name: NameArgument) -> None:
    """Give a segment another name."""
    segment = shell.segment(which)
    segment.rename(name)
    shell.say(f"segment {segment.sid} is now {name}", describe(segment.seen))


@command(group, "heap")
def heap(shell: Shell, which: SegmentArgument) -> None:
    """Show how full the heap in a segment is."""
    found = asdict(shell.segment(which).heap())
    if shell.json:
        shell.say("", found)
        return
    for what, value in found.items():
        shell.write(f"{what:<12} {value}")
