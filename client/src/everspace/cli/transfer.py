"""everspace seg import, everspace seg export: files into segments and back."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

import everspace
from everspace.cli.seg import SegmentArgument, describe, group
from everspace.cli.shell import Shell, command
from everspace.cli.values import Which, parse_place, show_size, written
from everspace.cli.vas import ModeOption

__all__ = ["export_file", "group", "import_file"]

PIECE: Final = 4 << 20
"""Bytes of one request; each is durable and atomic by itself."""
HOLE: Final = 64 << 10
"""Zeros are skipped in runs of this many bytes."""
QUIET_BELOW: Final = 16 << 20
"""A shorter transfer shows no progress."""
_ZEROS: Final = bytes(PIECE)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A file, or - for standard input or output.")
]
AtOption = Annotated[
    int | None,
    typer.Option(
        "--at",
        parser=written(parse_place),
        metavar="START",
        help="Where a new segment begins.",
        show_default=False,
    ),
]


@command(group, "import")
def import_file(
    shell: Shell, path: FileArgument, which: SegmentArgument, at: AtOption = None, mode: ModeOption = 0o600
) -> None:
    """Fill a segment from a file. One that does not exist is made, with --at START, as large as the file."""
    if str(path) == "-":
        segment = shell.segment(which)
        total = _fill(segment, sys.stdin.buffer, None, skip_zeros=False)
    else:
        with path.open("rb") as file:
            size = path.stat().st_size
            segment, fresh = _segment_for(shell, which, size, at, mode)
            if size > segment.size:
                raise typer.BadParameter(
                    f"{path} has {size} bytes, segment {segment.sid} only {segment.size}", param_hint="FILE"
                )
            total = _fill(segment, file, size, skip_zeros=fresh)
    said = {**describe(segment.attr()), "bytes": total}
    shell.say(f"segment {segment.sid}: {show_size(total)} imported", said)


@command(group, "export")
def export_file(shell: Shell, which: SegmentArgument, path: FileArgument) -> None:
    """Write the bytes of a segment to a file; runs of zeros become holes."""
    segment = shell.segment(which)
    if str(path) == "-":
        for piece in _pieces(segment, progress=False):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with path.open("wb") as file:
        for piece in _pieces(segment, progress=True):
            for start in range(0, len(piece), HOLE):
                run = piece[start : start + HOLE]
                if _is_zero(run):
                    file.seek(len(run), 1)
                else:
                    file.write(run)
        file.truncate(segment.size)
    shell.say(
        f"segment {segment.sid}: {show_size(segment.size)} exported",
        {"id": segment.sid, "bytes": segment.size},
    )


def _segment_for(
    shell: Shell, which: Which, size: int, at: int | None, mode: int
) -> tuple[everspace.Segment, bool]:
    """The segment to fill, and whether it was just made, so that it holds zeros."""
    try:
        return shell.segment(which), False
    except everspace.NoSuchProcessError:
        if at is None:
            raise typer.BadParameter(
                f"there is no segment {which.name!r} yet: say with --at START where to make it",
                param_hint="SEGMENT",
            ) from None
    page = shell.client.version().page_size
    return shell.client.segments.create(which.name, at, at + max(1, -(-size // page)) * page, mode), True


def _fill(segment: everspace.Segment, file: BinaryIO, size: int | None, *, skip_zeros: bool) -> int:
    offset = 0
    buffer = memoryview(bytearray(PIECE))
    with _progress(f"import into segment {segment.sid}", size) as moved:
        while count := _read_full(file, buffer):
            piece = buffer[:count]
            if not (skip_zeros and _is_zero(piece)):
                segment.pwrite(offset, piece)
            offset += count
            moved(count)
    return offset


def _pieces(segment: everspace.Segment, *, progress: bool) -> Iterator[bytes]:
    with _progress(f"export of segment {segment.sid}", segment.size if progress else None) as moved:
        for offset in range(0, segment.size, PIECE):
            piece = segment.pread(offset, min(PIECE, segment.size - offset))
            yield piece
            moved(len(piece))


def _read_full(file: BinaryIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends: pipes give what they have."""
    filled = 0
    while filled < len(buffer):
        count = file.readinto(buffer[filled:])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled


def _is_zero(piece: bytes | memoryview) -> bool:
    return (
        bytes(piece) == _ZEROS[: len(piece)]
    )  # a copy, but compared by memcmp: views are compared byte by byte


@contextmanager
def _progress(title: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if a person watches and it takes long enough to be worth it."""
    if size is None or size < QUIET_BELOW or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(title, total=size)
        yield lambda count: bars.advance(bar, count)
