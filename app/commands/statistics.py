"""`everspaced statistics DIR`: how much a data directory holds, also while a service uses it."""

import argparse
import json
import sys
from dataclasses import asdict

from app.commands.options import Commands, directory


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "statistics", help="print how much a data directory holds, also while it is served"
    )
    parser.add_argument("data_dir", metavar="DIR", type=directory, help="a data directory, in use or not")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """A line for each figure, or one JSON object, and 0. Raises StoreUnusable and its kinds."""
    from storage.upkeep.offline import statistics_of

    figures = asdict(statistics_of(arguments.data_dir))
    if arguments.json:
        sys.stdout.write(f"{json.dumps(figures)}\n")
    else:
        sys.stdout.writelines(f"{name:<14} {figure}\n" for name, figure in figures.items())
    return 0
