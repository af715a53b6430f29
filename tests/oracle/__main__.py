"""`python -m tests.oracle`: compare the engine with the kernel until they differ, and show where, small."""

import argparse
import random
import sys
import time

from tests.oracle.calls import SIGNATURES
from tests.oracle.kernel import Missing
from tests.oracle.modes import MODES
from tests.oracle.oracle import Oracle
from tests.oracle.support import unsupported


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=40, help="in each sequence")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the first sequence; the next has the next seed"
    )
    parser.add_argument("--mode", choices=[*MODES, "all"], default="all")
    parser.add_argument("--only", default="", help=f"kinds of call, with commas: {','.join(SIGNATURES)}")
    parser.add_argument("--no-shrink", action="store_true", help="show the sequence as it was")
    parser.add_argument("--no-residency", action="store_true", help="do not compare mincore at the end")
    parser.add_argument(
        "--keep-going", type=int, default=1, metavar="N", help="stop a mode after N differences"
    )
    return parser.parse_args()


def compare(name: str, first: int, options: argparse.Namespace) -> int:
    """Differences in one mode."""
    began = time.monotonic()
    differences = done = 0
    only = [call for call in options.only.split(",") if call]
    try:
        opened = Oracle(MODES[name], residency=not options.no_residency)
    except Missing as reason:
        print(f"{name}: left out: {reason}")
        return 0
    with opened as oracle:
        print(f"{name}: from seed {first}, kernel {oracle.kernel.can}", flush=True)
        for seed in range(first, first + options.sequences):
            found = oracle.difference(oracle.generate(seed, options.calls, only))
            done += 1
            if found is None:
                continue
            differences += 1
            if not options.no_shrink:
                found = oracle.shrunk(found)
            print(
                f"\nmake oracle MODE={name} CALLS={options.calls} SEED={seed} N=1 differs:\n{found}",
                flush=True,
            )
            if differences >= options.keep_going:
                break
    print(
        f"{name}: {done} sequences, {differences} differences, {time.monotonic() - began:.1f} s", flush=True
    )
    return differences


def main() -> int:
    """1 when the two differ, 2 when this machine cannot tell."""
    options = arguments()
    reason = unsupported()
    if reason is not None:
        print(reason)
        return 2
    first = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    names = list(MODES) if options.mode == "all" else [options.mode]
    return 1 if sum(compare(name, first, options) for name in names) else 0


if __name__ == "__main__":
    sys.exit(main())
