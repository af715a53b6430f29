"""`python -m tests.oracle`: compare the engine with the kernel until the first difference, and show it small."""

import argparse
import random
import sys
import time
from collections.abc import Sequence

from tests.oracle import simulated
from tests.oracle.compare import difference, shrink
from tests.oracle.generate import WEIGHTS, generate
from tests.oracle.kernel import Kernel
from tests.oracle.play import Record, Step


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=40, help="in each sequence")
    parser.add_argument("--seed", type=int, default=None, help="of the first sequence; the next has the next seed")
    parser.add_argument("--only", default="", help=f"kinds of call, with commas: {','.join(WEIGHTS)}")
    parser.add_argument("--no-shrink", action="store_true", help="show the sequence as it was")
    parser.add_argument("--no-residency", action="store_true", help="do not compare mincore at the end of processes")
    parser.add_argument("--keep-going", type=int, default=1, metavar="N", help="stop after N differences")
    return parser.parse_args()


def main() -> int:
    """1 when the two differ."""
    options = arguments()
    first = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    only = [name for name in options.only.split(",") if name]
    began = time.monotonic()
    differences = 0
    with Kernel() as kernel:
        print(f"seed {first}; the kernel's side: {kernel.can}")

        def seen(records: list[Record]) -> list[Record]:
            return [entry for entry in records if not options.no_residency or entry[0] != "end: mincore"]

        def real(steps: Sequence[Step]) -> list[Record]:
            return seen(kernel.run(steps))

        def engine(steps: Sequence[Step]) -> list[Record]:
            return seen(simulated.run(steps, with_heap=kernel.can["brk"]))

        for seed in range(first, first + options.sequences):
            calls = generate(seed, options.calls, only)
            found = difference(calls, real, engine)
            if found is None:
                continue
            differences += 1
            if not options.no_shrink:
                found = shrink(found, real, engine)
            print(f"\nthe sequence of seed {seed} ({options.calls} calls) differs:\n{found}")
            if differences >= options.keep_going:
                break
        else:
            seed = first + options.sequences
    print(f"{seed - first} sequences, {differences} differences, {time.monotonic() - began:.1f} s")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
