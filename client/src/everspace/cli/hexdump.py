"""everspace hexdump: bytes of a segment or of a task's memory, as hexdump -C shows them."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer

from everspace.cli.seg import SegmentArgument
from everspace.cli.shell import Shell, command
from everspace.cli.task import PidArgument, TidOption
from everspace.cli.values import parse_place, parse_size, written
from everspace.wire import hex_address

group = typer.Typer(help="Show bytes, as hexdump -C does.")

WIDTH: Final = 16
LengthOption = Annotated[
    int,
    typer.Option(
        "--length", "-n", parser=written(parse_size), metavar="SIZE", help="How many bytes, as in 256 or 4K."
    ),
]
OffsetArgument = Annotated[
    int, typer.Argument(parser=written(parse_size), metavar="[OFFSET]", help="Bytes from its start.")
]
AddressArgument = Annotated[
    int, typer.Argument(parser=written(parse_place), metavar="ADDR", help="The first address.")
]


@command(group, "seg")
def dump_segment(
    shell: Shell, which: SegmentArgument, offset: OffsetArgument = 0, length: LengthOption = 256
) -> None:
    """Show bytes of a segment; its addresses are those it has in every space."""
    segment = shell.segment(which)
    _show(shell, segment.start + offset, segment.pread(offset, length))


@command(group, "task")
def dump_task(
    shell: Shell, pid: PidArgument, addr: AddressArgument, length: LengthOption = 256, tid: TidOption = None
) -> None:
    """Show memory of a task, as a thread of it sees it now."""
    _show(shell, addr, shell.client.task(pid).of_thread(tid).read(addr, length))


def _show(shell: Shell, start: int, data: bytes) -> None:
    if shell.json:
        shell.say("", {"addr": hex_address(start), "length": len(data), "hex": data.hex()})
        return
    for line in dump(start, data):
        shell.write(line)


def dump(start: int, data: bytes) -> Iterator[str]:
    """Lines of address, hex and characters; lines like the one before become one *."""
    digits = max(8, len(f"{start + len(data):x}"))
    before, starred = b"", False
    for place in range(0, len(data), WIDTH):
        row = data[place : place + WIDTH]
        if row == before:
            if not starred:
                yield "*"
            starred = True
            continue
        before, starred = row, False
        left, right = row[: WIDTH // 2].hex(" "), row[WIDTH // 2 :].hex(" ")
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{start + place:0{digits}x}  {left:<23}  {right:<23}  |{text}|"
    if data:
        yield f"{start + len(data):0{digits}x}"
