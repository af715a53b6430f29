"""`everspaced fsck DIR`: checks a data directory that no service owns, and changes nothing."""

import argparse
import sys
from pathlib import Path

from app.commands.options import Commands


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("fsck", help="check structure and checksums of a data directory")
    parser.add_argument("data_dir", metavar="DIR", type=Path, help="a data directory that no service owns")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """A line for each problem and status 1, or one line and 0. Raises StoreUnusable and its kinds."""
    from storage.fsck import check_dir

    problems = 0
    for problem in check_dir(arguments.data_dir):
        sys.stdout.write(f"{problem}\n")
        problems += 1
    if not problems:
        sys.stdout.write(f"{arguments.data_dir}: clean\n")
    return 1 if problems else 0
