"""A pair: something of ours, the peer that it is compared with, and how the two are measured in turns."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Measure = Callable[[], float]
"""One round: seconds for one operation."""


@dataclass(frozen=True)
class Pair:
    """`ours` and `peer` do the same for their users; `versus` says what the peer is."""

    name: str
    versus: str
    ours: Measure
    peer: Measure
    unit: str = "us"


@dataclass(frozen=True)
class Result:
    """Medians over the rounds; `ratio` is the median of the rounds' own ratios, above 1 when ours is faster."""

    pair: Pair
    ours: float
    peer: float
    ratio: float
    ratio_min: float
    ratio_max: float

    def row(self) -> dict[str, object]:
        """What goes into latest.json; times in the pair's unit."""
        return {
            "name": f"{self.pair.name} / {self.pair.versus}",
            "ours": round(self.ours, 3),
            "peer": round(self.peer, 3),
            "unit": self.pair.unit,
            "ratio": round(self.ratio, 3),
        }


SCALE = {"ns": 1e9, "us": 1e6, "ms": 1e3}


def compare(pair: Pair, rounds: int) -> Result:
    """Measure both in turns, each first in every other round; one round to warm up is thrown away."""
    ours: list[float] = []
    peers: list[float] = []
    for number in range(rounds + 1):
        turns = [(pair.ours, ours), (pair.peer, peers)]
        for measure, kept in turns if number % 2 else reversed(turns):
            kept.append(measure())
    ours, peers = ours[1:], peers[1:]
    ratios = [peer / own for own, peer in zip(ours, peers, strict=True)]
    scale = SCALE[pair.unit]
    return Result(
        pair,
        statistics.median(ours) * scale,
        statistics.median(peers) * scale,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def per_operation(work: Callable[[], object], operations: int) -> float:
    """Seconds for one of the `operations` that `work` does."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / operations
