"""A long crash run: `python -m tests.crash --rounds N [--minutes M] [--seed S]`; `make crash N=…` starts it.

A round is one of each kind of harm; see rounds.py and service_rounds.py. Ends with status 1 at the first loss, and
leaves the directory of that round behind.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

from tests.crash import rounds, service_rounds
from tests.crash.family import Family
from tests.crash.rounds import Figures
from tests.crash.victims import Nursery

Kind = Callable[[Path, int, Figures], object]


def history(where: Path, seed: int, figures: Figures) -> None:
    """A random history of machine and store."""
    family = Family(where, seed)
    with family.life.told(), rounds.directory(where):
        for _ in range(400):
            family.step()
        family.compare()
        family.life.crash()
        family.compare()
        family.life.end()
    figures.histories += 1


def kinds(nursery: Nursery) -> dict[str, Kind]:
    """Name and function of each kind of harm."""
    return {
        "kills at seams": lambda where, seed, figures: rounds.kills_at_seams(
            nursery, where, seed, 33, figures
        ),
        "kills at random": lambda where, seed, figures: rounds.kills_at_random(
            nursery, where, seed, 40, figures
        ),
        "kills at calls": lambda where, seed, figures: rounds.kills_at_calls(where, seed, 15, figures),
        "errors at calls": lambda where, seed, figures: rounds.errors_at_calls(where, seed, 200, figures),
        "power failures": lambda where, seed, figures: rounds.power_failures(where, seed, 30, figures),
        "histories": history,
        "kills of the service": lambda where, seed, figures: service_rounds.kills_of_the_service(
            where, seed, 10, figures
        ),
        "errors of the service": lambda where, seed, figures: service_rounds.errors_of_the_service(
            where, seed, 60, figures
        ),
    }


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round after this time")
    parser.add_argument("--seed", type=int, default=SystemRandom().getrandbits(32))
    options = parser.parse_args()
    figures, begun = Figures(), time.monotonic()
    where = Path(tempfile.mkdtemp(prefix="everspace-crash-"))
    with Nursery() as nursery:
        for number in range(options.rounds):
            if time.monotonic() - begun > 60 * options.minutes:
                break
            seed = options.seed + number
            for name, kind in kinds(nursery).items():
                try:
                    kind(where / f"{number} {name}", seed, figures)
                except BaseException:
                    print(f"LOSS or failure: {name}, --seed {seed} --rounds 1; see {where}", file=sys.stderr)
                    raise
            print(f"round {number + 1}, seed {seed}: {figures}", flush=True)
    where.rmdir()
    print(f"{figures}; 0 losses; {time.monotonic() - begun:.0f} s, from seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
