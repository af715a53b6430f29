"""`everspaced fsck DIR`: checks a data directory that no service owns; `--repair` mends what is provably safe to mend."""

import argparse
import logging
import sys
from typing import Final

from app.commands.options import Commands, directory

CLEAN: Final = 0
DAMAGED: Final = 1
REPAIRED: Final = 3
"""Exit statuses; 2 is that it could not be checked."""


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("fsck", help="check structure and checksums of a data directory")
    parser.add_argument(
        "data_dir", metavar="DIR", type=directory, help="a data directory that no service owns"
    )
    parser.add_argument("--repair", action="store_true", help="first mend what is provably safe to mend")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """A line for each repair and each problem that is left, or one line. Raises StoreUnusable and its kinds."""
    from storage.upkeep.fsck import check_dir
    from storage.upkeep.repair import repair

    logging.getLogger("storage").addHandler(logging.NullHandler())  # what went wrong is told, in one line
    repairs = problems = 0
    for done in repair(arguments.data_dir) if arguments.repair else ():
        sys.stdout.write(f"repaired: {done}\n")
        repairs += 1
    for problem in check_dir(arguments.data_dir):
        sys.stdout.write(f"{problem}\n")
        problems += 1
    if problems:
        return DAMAGED
    sys.stdout.write(f"{arguments.data_dir}: clean\n")
    return REPAIRED if repairs else CLEAN
