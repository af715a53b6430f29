"""Costs, simulated time, and the clock that adds them up."""

import dataclasses
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulated.costs import CALIBRATED, COST_MAX_NS, DEFAULTS, Clock, CostError, Costs, SimTime, Work

CHARGES = st.lists(st.tuples(st.sampled_from(Work), st.integers(0, 1000)), max_size=40)


def test_simulated_time_adds_to_itself_and_to_nothing_else() -> None:
    assert SimTime(3) + SimTime(4) == SimTime(7)
    assert SimTime(3) - SimTime(4) == SimTime(-1)
    assert SimTime(3) * 4 == SimTime(12)
    assert SimTime(3) < SimTime(4)
    assert str(SimTime(3)) == "3 simulated ns"
    measured: Any = 1.5
    for mix in (operator.add, operator.sub, operator.mul, operator.lt):
        with pytest.raises(TypeError):
            mix(SimTime(3), measured)
    with pytest.raises(TypeError):
        operator.add(measured, SimTime(3))
    number: Any = 3
    assert SimTime(3) != number


@given(ns=st.integers(0, 10**15), count=st.integers(1, 10**6))
def test_a_share_is_rounded_to_the_nearest(ns: int, count: int) -> None:
    assert abs(2 * (SimTime(ns).each(count).ns * count - ns)) <= count


def test_every_kind_of_work_has_a_default_and_a_source() -> None:
    assert [cost.work for cost in DEFAULTS] == list(Work)
    assert all(cost.ns > 0 and cost.each and cost.source for cost in DEFAULTS)
    assert sum(cost.source.startswith(CALIBRATED) for cost in DEFAULTS) == 6
    assert all("," not in cost.work for cost in DEFAULTS)


def test_given_costs_replace_defaults_by_name() -> None:
    costs = Costs({"syscall": 7, "ipi": 0})
    assert costs.of(Work.SYSCALL) == SimTime(7)
    assert costs.of(Work.IPI) == SimTime(0)
    assert costs.as_dict() == {**Costs().as_dict(), "syscall": 7, "ipi": 0}


@pytest.mark.parametrize("value", [-1, COST_MAX_NS + 1, 1.0, True, "1", None, [1], {"ns": 1}])
def test_a_cost_is_a_whole_number_of_ns(value: object) -> None:
    with pytest.raises(CostError, match=r"^syscall is not a whole number of ns"):
        Costs({"syscall": value})


@pytest.mark.parametrize("name", ["", "SYSCALL", "sys call", "syscall ", "costs"])
def test_unknown_costs_are_refused(name: str) -> None:
    with pytest.raises(CostError, match=r"is no cost$"):
        Costs({name: 1})


@given(charges=CHARGES)
def test_the_clock_is_the_sum_of_its_charges(charges: list[tuple[Work, int]]) -> None:
    costs = Costs()
    clock = Clock(costs)
    last = clock.now
    for work, times in charges:
        clock.charge(work, times)
        assert clock.now >= last
        last = clock.now
    bill = clock.bill()
    assert bill.time == clock.now == sum((costs.of(work) * n for work, n in bill.done.items()), SimTime(0))
    assert sum(bill.done.values()) == sum(times for _, times in charges)


@given(before=CHARGES, after=CHARGES)
def test_bills_of_parts_add_up(before: list[tuple[Work, int]], after: list[tuple[Work, int]]) -> None:
    clock, alone = Clock(Costs()), Clock(Costs())
    for work, times in before:
        clock.charge(work, times)
    start = clock.bill()
    for work, times in after:
        clock.charge(work, times)
        alone.charge(work, times)
    assert clock.since(start) == alone.bill()


def test_time_does_not_go_back() -> None:
    clock = Clock(Costs())
    with pytest.raises(ValueError, match="-1 times"):
        clock.charge(Work.IPI, -1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        clock.now.ns = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        clock.bill().done[Work.IPI] = 1  # type: ignore[index]
