"""How pairs are measured in turns, with measurements that are made up."""

from collections.abc import Callable, Iterator

import pytest

from benchmarks.pairs import Pair, compare


def made_up(name: str, seconds: list[float], order: list[str]) -> Callable[[], float]:
    values: Iterator[float] = iter(seconds)

    def measure() -> float:
        order.append(name)
        return next(values)

    return measure


def test_the_ratio_is_the_median_of_the_rounds_own_ratios_without_the_first() -> None:
    order: list[str] = []
    ours = made_up("ours", [9.0, 1.0, 2.0, 4.0], order)
    peer = made_up("peer", [9.0, 4.0, 4.0, 4.0], order)
    result = compare(Pair("a", "b", ours, peer, "ms"), rounds=3)
    assert (result.ours, result.peer) == (2000.0, 4000.0)
    assert (result.ratio_min, result.ratio, result.ratio_max) == (1.0, 2.0, 4.0)


def test_the_two_take_turns_and_neither_is_always_first() -> None:
    order: list[str] = []
    compare(Pair("a", "b", made_up("ours", [1.0] * 5, order), made_up("peer", [1.0] * 5, order)), rounds=4)
    assert order == ["peer", "ours", "ours", "peer"] * 2 + ["peer", "ours"]


@pytest.mark.parametrize(("unit", "shown"), [("ns", 2e9), ("us", 2e6), ("ms", 2e3)])
def test_a_row_shows_times_in_the_pairs_unit_and_a_ratio_above_1_when_ours_is_faster(
    unit: str, shown: float
) -> None:
    pair = Pair("a", "b", lambda: 2.0, lambda: 6.0, unit)
    assert compare(pair, rounds=1).row() == {
        "name": "a / b",
        "ours": shown,
        "peer": 3 * shown,
        "unit": unit,
        "ratio": 3.0,
    }
