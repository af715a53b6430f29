"""`everspaced migrate DIR`: brings a data directory that no service owns to the format of this release."""

import argparse
import sys

from app.commands.options import Commands, directory


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("migrate", help="bring a data directory to the format of this release")
    parser.add_argument(
        "data_dir", metavar="DIR", type=directory, help="a data directory that no service owns"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One line and 0. Raises StoreError and its kinds; then nothing was changed."""
    from storage.rows.format import VERSION
    from storage.upkeep.migration import migrate

    now = "now" if migrate(arguments.data_dir) else "already"
    sys.stdout.write(f"{arguments.data_dir}: format {VERSION} {now}\n")
    return 0
