"""`make bench`: all pairs, a table, and latest.json beside this file."""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from benchmarks import clones, durability, engine, gups, locks, memory, peers, wire
from benchmarks.pairs import Pair, Result, compare

LATEST = Path(__file__).with_name("latest.json")
ROUNDS = 9


def results(rounds: int, folder: Path) -> Iterator[Result]:
    """Every pair's result, as it is measured."""
    program = peers.build(folder)
    for pair in chain(engine.pairs(program), memory.pairs(), gups.pairs()):
        yield compare(pair, rounds)
    for pairs in (durability.pairs, clones.pairs, locks.pairs, wire.pairs):
        with pairs(folder) as prepared:
            for pair in prepared:
                yield compare(pair, rounds)


def line(result: Result) -> str:
    """One row of the table."""
    pair: Pair = result.pair
    times = f"{result.ours:10.2f} {result.peer:10.2f} {pair.unit}"
    spread = f"{result.ratio_min:.1f}..{result.ratio_max:.1f}"
    return f"{pair.name:45} {times} {result.ratio:8.1f}x  {spread:>14}  {pair.versus}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print(
        f"{os.cpu_count()} CPUs; {rounds} rounds in turns; medians; a ratio above 1 means that ours is faster\n"
    )
    print(f"{'ours':45} {'ours':>10} {'peer':>10}    {'ratio':>9}  {'min..max':>14}  peer")
    rows = []
    with tempfile.TemporaryDirectory(prefix="everspace-bench-") as folder:
        for result in results(rounds, Path(folder)):
            print(line(result), flush=True)
            rows.append(result.row())
    LATEST.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {LATEST.relative_to(Path.cwd()) if LATEST.is_relative_to(Path.cwd()) else LATEST}")


if __name__ == "__main__":
    main()
