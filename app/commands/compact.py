"""`everspaced compact DIR`: makes the store file of a data directory that no service owns as small as its content."""

import argparse
import logging
import sys

from app.commands.options import Commands, directory


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("compact", help="give back what a store file does not need")
    parser.add_argument(
        "data_dir", metavar="DIR", type=directory, help="a data directory that no service owns"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One line and 0. Raises StoreError and its kinds; then the store file is as it was."""
    from app.commands.progress import mebibytes, progress_bar
    from storage.upkeep.compaction import compact

    logging.getLogger("storage").addHandler(logging.NullHandler())  # what went wrong is raised, in one line
    with progress_bar("compact") as progress:
        done = compact(arguments.data_dir, progress)
    sys.stdout.write(f"{arguments.data_dir}: {mebibytes(done.after)}, was {mebibytes(done.before)}\n")
    return 0
