"""What `everspace task core` and `everspace vas core` share: where a core file goes."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from everspace._download import Target
from everspace.cli.shell import Shell
from everspace.cli.values import show_size

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A file, or - for standard output; by default one named after the id.",
        show_default=False,
    ),
]


def save(shell: Shell, what: str, path: Path, download: Callable[[Target], int]) -> None:
    """Download to `path` and say how much it was; on standard output there are the bytes alone."""
    if str(path) == "-":
        if sys.stdout.isatty():
            raise typer.BadParameter("a core file is nothing for a terminal", param_hint="--output")
        download(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    size = download(path)
    shell.say(f"{what}: {show_size(size)} written to {path}", {"path": str(path), "bytes": size})
