"""everspace vas: spaces."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import everspace
from everspace.cli.core import OutputOption, save
from everspace.cli.shell import Shell, command
from everspace.cli.values import (
    Owner,
    Which,
    parse_mode,
    parse_owner,
    parse_which,
    show_mode,
    show_size,
    written,
)
from everspace.wire import hex_address

group = typer.Typer(help="Spaces: named address spaces that outlive every process.")

SpaceArgument = Annotated[
    Which, typer.Argument(parser=written(parse_which), metavar="SPACE", help="An id or a name.")
]
NameArgument = Annotated[str, typer.Argument(help="The name.")]
ModeOption = Annotated[
    int,
    typer.Option(parser=written(parse_mode), metavar="OCTAL", help="Permission bits.", show_default="600"),
]
SharingOption = Annotated[
    str, typer.Option(metavar="WHO", help="exclusive (one writer or many readers) or shared.")
]
ModeArgument = Annotated[
    int, typer.Argument(parser=written(parse_mode), metavar="MODE", help="Permission bits in octal.")
]
OwnerArgument = Annotated[
    Owner, typer.Argument(parser=written(parse_owner), metavar="OWNER", help="UID, UID:GID or :GID.")
]


def describe(attr: everspace.VasAttr) -> dict[str, Any]:
    """A space as JSON, in the members of the service."""
    members = asdict(attr)
    return {"id": members.pop("vid"), **members}


@command(group, "ls")
def list_spaces(shell: Shell) -> None:
    """List all spaces."""
    found = [space.seen for space in shell.client.spaces.list(limit=1000)]
    rows = [
        [str(a.vid), show_mode(a.mode), str(a.uid), str(a.gid), a.sharing, str(a.attach_count), a.name]
        for a in found
    ]
    header = [">VID", "MODE", ">UID", ">GID", "SHARING", ">TASKS", "NAME"]
    shell.table(header, rows, [describe(attr) for attr in found])


@command(group, "create")
def create(
    shell: Shell, name: NameArgument, mode: ModeOption = 0o600, sharing: SharingOption = "exclusive"
) -> None:
    """Make a space and print its id."""
    attr = shell.client.spaces.create(name, mode, sharing).seen
    shell.say(str(attr.vid), describe(attr))


@command(group, "find")
def find(shell: Shell, name: NameArgument) -> None:
    """Print the id of the space of that name."""
    attr = shell.client.spaces.find(name).seen
    shell.say(str(attr.vid), describe(attr))


@command(group, "core")
def core(shell: Shell, which: SpaceArgument, output: OutputOption = None) -> None:
    """Write an ELF core file of a space, for gdb and its like."""
    space = shell.space(which)
    save(shell, f"space {space.vid}", output or Path(f"core.vas.{space.vid}"), space.core)


@command(group, "rm")
def remove(shell: Shell, which: SpaceArgument) -> None:
    """Delete a space and all its memory."""
    space = shell.space(which)
    space.delete()
    shell.say(f"deleted space {space.vid}", {"id": space.vid})


@command(group, "chmod")
def chmod(shell: Shell, mode: ModeArgument, which: SpaceArgument) -> None:
    """Change who may read and write a space."""
    space = shell.space(which)
    space.chmod(mode)
    attr = space.attr()
    shell.say(f"space {attr.vid}: {show_mode(attr.mode)}", describe(attr))


@command(group, "chown")
def chown(shell: Shell, owner: OwnerArgument, which: SpaceArgument) -> None:
    """Change the owner of a space (root only)."""
    space = shell.space(which)
    space.chown(owner.uid, owner.gid)
    attr = space.attr()
    shell.say(f"space {attr.vid}: {attr.uid}:{attr.gid}", describe(attr))


@command(group, "regions")
def regions(shell: Shell, which: SpaceArgument) -> None:
    """Show what is mapped where in a space."""
    found = shell.space(which).regions()
    rows = [
        [
            f"{hex_address(r.start)}-{hex_address(r.end)}",
            r.perms,
            show_size(r.size),
            "-" if r.sid is None else f"segment {r.sid}",
        ]
        for r in found
    ]
    items = [{**asdict(r), "start": hex_address(r.start), "end": hex_address(r.end)} for r in found]
    shell.table(["RANGE", "PERMS", ">SIZE", "SHOWS"], rows, items)
