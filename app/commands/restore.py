"""`everspaced restore FILE DIR`: verifies a backup, then makes a data directory of it."""

import argparse
import sys
from pathlib import Path

from app.commands.options import Commands, directory


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("restore", help="verify a backup and make a data directory of it")
    parser.add_argument("file", metavar="FILE", type=Path, help="a backup")
    parser.add_argument("data_dir", metavar="DIR", type=directory, nargs="?", help="made when missing")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--force", action="store_true", help="replace what is in DIR")
    what.add_argument("--verify", action="store_true", help="verify FILE and do nothing else; needs no DIR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One line and 0. Raises StoreError and its kinds; then DIR is as it was."""
    from app.commands.progress import progress_bar
    from storage.errors import StoreUnusable
    from storage.upkeep.restoring import restore, verify

    if arguments.data_dir is None and not arguments.verify:
        raise StoreUnusable("restore needs DIR, or --verify")
    with progress_bar("verify" if arguments.verify else "restore") as progress:
        if arguments.verify:
            totals = verify(arguments.file, progress)
            done = f"{arguments.file}: whole"
        else:
            totals = restore(arguments.file, arguments.data_dir, force=arguments.force, progress=progress)
            done = f"{arguments.data_dir}: restored"
    accounts = "with accounts" if totals.accounts else "without accounts"
    sys.stdout.write(f"{done}, {totals.rows} rows, {accounts}\n")
    return 0
