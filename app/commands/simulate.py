"""`everspaced simulate`: the cost model on the real engine. Needs no data directory and no service."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from app.commands.options import Commands

if TYPE_CHECKING:
    from engine.simulated.costs import Costs

Complain = Callable[[str], NoReturn]
"""Reports a bad option and does not return."""


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser(
        "simulate", help="spaces against processes on a simulated machine"
    ).add_subparsers(dest="action", metavar="ACTION", required=True)
    table = actions.add_parser("table1", help="create and switch; tags, lazy attach, number of regions")
    _add_costs(table)
    table.add_argument("--json", action="store_true", help="print one JSON value")
    table.add_argument("--plot", metavar="FILE.svg", type=Path, help="draw the figures, too")
    table.add_argument(
        "--tags", metavar="N", type=_count, default=16, help="tags where they are to run out; by default 16"
    )
    table.add_argument(
        "--tlb-entries", metavar="N", type=_count, default=512, help="entries of the TLB; by default 512"
    )
    table.add_argument(
        "--tlb-ways", metavar="N", type=_count, default=4, help="entries in each of its sets; by default 4"
    )
    table.set_defaults(run=lambda arguments: run_table1(arguments, table.error))
    costs = actions.add_parser("costs", help="print the table of costs as a file for --costs")
    _add_costs(costs)
    costs.set_defaults(run=run_costs)


def run_table1(arguments: argparse.Namespace, complain: Complain) -> int:
    """Tables and bars, or JSON. Raises OSError when the plot cannot be written; nothing is printed then."""
    from app.simulated import svg, text
    from engine.simulated.costs import Costs
    from engine.simulated.mmu import TAGS_MIN, Hardware
    from engine.simulated.table1 import table1

    try:
        hardware = Hardware(tlb_entries=arguments.tlb_entries, ways=arguments.tlb_ways)
    except ValueError as error:
        complain(str(error))
    if not TAGS_MIN <= arguments.tags < hardware.tags:
        complain(f"{arguments.tags} tags are not {TAGS_MIN} to {hardware.tags - 1}")
    with contextlib.ExitStack() as files:
        plot = files.enter_context(arguments.plot.open("w", encoding="utf-8")) if arguments.plot else None
        table = table1(arguments.costs or Costs(), hardware, arguments.tags)
        if plot is not None:
            plot.write(svg.draw(table))
    if arguments.json:
        sys.stdout.write(json.dumps(text.as_json(table), indent=2) + "\n")
    else:
        sys.stdout.write(text.render(table))
    return 0


def run_costs(arguments: argparse.Namespace) -> int:
    """All costs, with what they mean and where they are from."""
    from app.simulated.costs_file import costs_as_toml
    from engine.simulated.costs import Costs

    sys.stdout.write(costs_as_toml(arguments.costs or Costs()))
    return 0


def _add_costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--costs", metavar="FILE", type=_costs, help="simulated ns by name, as TOML or, in a .json file, JSON"
    )


def _costs(text: str) -> "Costs":
    from app.simulated.costs_file import read_costs
    from engine.simulated.costs import CostError

    try:
        return read_costs(Path(text))
    except CostError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999")
    return int(text)
