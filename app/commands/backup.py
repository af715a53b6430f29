"""`everspaced backup DIR FILE`: one file with everything in a data directory, also while a service uses it."""

import argparse
import sys
from pathlib import Path

from app.commands.options import Commands, directory


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("backup", help="write a backup of a data directory, also while it is served")
    parser.add_argument("data_dir", metavar="DIR", type=directory, help="a data directory, in use or not")
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup; replaces one of the same name")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One line and 0. Raises StoreError and its kinds; then FILE is as it was."""
    from app.commands.progress import mebibytes, progress_bar
    from storage.upkeep.backup import back_up

    with progress_bar("backup") as progress:
        totals = back_up(arguments.data_dir, arguments.file, progress)
    size = mebibytes(arguments.file.stat().st_size)
    accounts = (
        "and the accounts" if totals.accounts else "no accounts: they are not kept in the data directory"
    )
    sys.stdout.write(f"{arguments.file}: {size}, {totals.rows} rows, {accounts}\n")
    return 0
