"""`python -m tests.load --seconds 60 --clients 64 [--seed S]`: the load test at length; `make load` starts it.

Ends with status 1 if a client was refused what no limit explains, read other bytes than it wrote or got no turn, or
if the service's own memory grew by more than the bound.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.load.load import GROWTH_MAX, MIB, load


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.clients} clients, {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = load(Path(folder), seed, options.seconds, options.clients)
    print(report.text())
    starved = [number for number in range(options.clients) if not report.record.made[number]]
    if starved:
        print(f"clients without a turn: {starved}")
    if report.growth > GROWTH_MAX:
        print(f"the service's own memory grew by more than {GROWTH_MAX // MIB} MiB")
    return 1 if starved or report.growth > GROWTH_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
