"""What `everspace vas` and `everspace seg` show of clones alike: kinds, lineage, usage, differences."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer

import everspace
from everspace.cli.shell import Shell
from everspace.cli.values import show_size
from everspace.wire import hex_address

CopyArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the new one.")]
LifetimeOption = Annotated[
    str, typer.Option(metavar="HOW", help="persistent, or transient: gone with the last detach.")
]


def kind_of(attr: everspace.VasAttr | everspace.SegAttr) -> str:
    """What is special about it: clone:3, snapshot:3, image, transient; "-" for nothing."""
    found = []
    if attr.origin:
        found.append(f"{'snapshot' if attr.snapshot else 'clone'}:{attr.origin}")
    if isinstance(attr, everspace.VasAttr) and attr.image:
        found.append("image")
    if attr.lifetime != "persistent":
        found.append(attr.lifetime)
    return ",".join(found) or "-"


def show_lineage(shell: Shell, lineage: everspace.Lineage) -> None:
    """Two lines."""
    if shell.json:
        shell.say("", asdict(lineage))
        return
    for what, ids in (("cloned from", lineage.origins), ("clones", lineage.clones)):
        shell.write(f"{what:<12} {' '.join(map(str, ids)) or '-'}")


def show_usage(shell: Shell, usage: everspace.Usage) -> None:
    """A line each."""
    if shell.json:
        shell.say("", asdict(usage))
        return
    for what, size in asdict(usage).items():
        shell.write(f"{what:<8} {show_size(size)}")


def show_differences(shell: Shell, found: Iterable[everspace.Difference]) -> None:
    """As they come: there may be many."""
    if shell.json:
        items = [{"start": hex_address(d.start), "end": hex_address(d.end), "kind": d.kind} for d in found]
        shell.say("", items)
        return
    for difference in found:
        where = f"{hex_address(difference.start)}-{hex_address(difference.end)}"
        shell.write(f"{where}  {difference.kind:<7}  {show_size(difference.size)}")
