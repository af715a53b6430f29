"""everspace vas: spaces."""

from dataclasses import asdict
from pathlib import Path
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

parse_space = written(parse_which)
SpaceArgument = Annotated[Which, typer.Argument(parser=parse_space, metavar="SPACE", help="An id or a name.")]
OtherArgument = Annotated[
    Which, typer.Argument(parser=parse_space, metavar="OTHER", help="What it is compared with.")
]
PidArgument = Annotated[int, typer.Argument(metavar="PID", help="The task's id.")]
ForkNameArgument = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The name of the new space.", show_default="CP-PID-VID")
]
NameArgument = Annotated[str, typer.Argument(help="The name.")]
ModeOption = Annotated[
    int,
    typer.Option(parser=written(parse_mode), metavar="OCTAL", help="Permission bits.", show_default="600"),
]
SharingOption = Annotated[
    str,
    typer.Option(
        metavar="WHO",
        help="exclusive (one writer or many readers), shared, or lockable (who switches in takes a lock).",
    ),
]
ModeArgument = Annotated[
    int, typer.Argument(parser=written(parse_mode), metavar="MODE", help="Permission bits in octal.")
]
OwnerArgument = Annotated[
    Owner, typer.Argument(parser=written(parse_owner), metavar="OWNER", help="UID, UID:GID or :GID.")
]


def describe(attr: everspace.VasAttr) -> dict[str, Any]:
    """A space as JSON, in the members of the service."""
    members = {name: value for name, value in asdict(attr).items() if name != "etag" or value}
    return {"id": members.pop("vid"), **members}


@command(group, "ls")
def list_spaces(shell: Shell) -> None:
    """List all spaces."""
    found = [space.seen for space in shell.client.spaces.list(limit=1000)]
    rows = [
        [
            str(a.vid),
            show_mode(a.mode),
            str(a.uid),
            str(a.gid),
            a.sharing,
            str(a.attach_count),
            kind_of(a),
            a.name,
        ]
        for a in found
    ]
    header = [">VID", "MODE", ">UID", ">GID", "SHARING", ">TASKS", "KIND", "NAME"]
    shell.table(header, rows, [describe(attr) for attr in found])


@command(group, "create")
def create(
    shell: Shell,
    name: NameArgument,
    mode: ModeOption = 0o600,
    sharing: SharingOption = "exclusive",
    lifetime: LifetimeOption = "persistent",
) -> None:
    """Make a space and print its id."""
    attr = shell.client.spaces.create(name, mode, sharing, lifetime).seen
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


@command(group, "clone")
def clone(shell: Shell, which: SpaceArgument, name: CopyArgument) -> None:
    """Copy a space and its segments; print the new id."""
    attr = shell.space(which).clone(name).seen
    shell.say(str(attr.vid), describe(attr))


@command(group, "snapshot")
def snapshot(shell: Shell, which: SpaceArgument, name: CopyArgument) -> None:
    """Copy it so that nobody can change the copy."""
    attr = shell.space(which).snapshot(name).seen
    shell.say(str(attr.vid), describe(attr))


@command(group, "reset")
def reset(shell: Shell, which: SpaceArgument) -> None:
    """Make a clone what it was when it was cloned."""
    space = shell.space(which)
    space.reset()
    shell.say(f"space {space.vid} is again as it was cloned from {space.seen.origin}", describe(space.attr()))


@command(group, "diff")
def diff(shell: Shell, which: SpaceArgument, other: OtherArgument) -> None:
    """Show where two spaces differ, page by page."""
    show_differences(shell, shell.space(which).diff(shell.space(other)))


@command(group, "lineage")
def lineage(shell: Shell, which: SpaceArgument) -> None:
    """Show its origins, nearest first, and its clones."""
    show_lineage(shell, shell.space(which).lineage())


@command(group, "usage")
def usage(shell: Shell, which: SpaceArgument) -> None:
    """Show its bytes: all, shared with clones, its own."""
    show_usage(shell, shell.space(which).usage())


@command(group, "rename")
def rename(shell: Shell, which: SpaceArgument, name: NameArgument) -> None:
    """Give a space another name."""
    space = shell.space(which)
    space.rename(name)
    shell.say(f"space {space.vid} is now {name}", describe(space.seen))


@command(group, "roots")
def roots(shell: Shell, which: SpaceArgument) -> None:
    """List the named addresses of a space."""
    found = shell.space(which).roots()
    items = [{"name": name, "addr": hex_address(addr)} for name, addr in found.items()]
    shell.table(["ADDRESS", "NAME"], [[item["addr"], item["name"]] for item in items], items)


@command(group, "fork")
def fork(shell: Shell, pid: PidArgument, name: ForkNameArgument = None) -> None:
    """Make a space of a task's memory; print its id."""
    vid = shell.client.task(pid).vas_fork(name)
    shell.say(str(vid), describe(shell.client.spaces.get(vid).seen) if shell.json else None)


@command(group, "exec")
def execute(shell: Shell, which: SpaceArgument, pid: PidArgument) -> None:
    """Give a task the memory that `vas fork` kept."""
    space = shell.space(which)
    shell.client.task(pid).vas_exec(space.vid)
    shell.say(f"task {pid} runs what is in space {space.vid}", {"pid": pid, "vid": space.vid})


@command(group, "locks")
def locks(shell: Shell, which: SpaceArgument) -> None:
    """Show who is in a lockable space, and who waits."""
    found = shell.space(which).locks()
    rows = [
        [
            f"{lock.kind} {lock.id}",
            state,
            "exclusive" if user.exclusive else "shared",
            str(user.pid),
            str(user.tid),
            str(user.vid),
        ]
        for lock in found
        for state, users in (("held", lock.holders), ("waits", lock.waiters))
        for user in users
    ]
    header = ["LOCK", "STATE", "HOW", ">PID", ">TID", ">VID"]
    shell.table(header, rows, [asdict(lock) for lock in found])
