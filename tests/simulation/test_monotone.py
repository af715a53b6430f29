"""What has to grow grows, what must not does not."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry import X86_64
from engine.machine import Machine
from engine.simulated.costs import Costs, SimTime, Work
from engine.simulated.mmu import TAGS_MIN, Hardware
from engine.simulated.simulation import Simulation
from engine.simulated.table1 import (
    FEW_TAGS,
    REGION_COUNTS,
    SPACE_COUNTS,
    TASK_COUNTS,
    Figure,
    Table,
    attach_regions,
    switch_through,
    table1,
)

SPACES = 5
MOVES = st.lists(
    st.tuples(st.integers(0, SPACES), st.lists(st.integers(0, 9), max_size=6)), min_size=1, max_size=40
)
"""Spaces to switch into (0: none), and which pages to read there."""


@pytest.fixture(scope="module")
def table() -> Table:
    return table1(Costs())


def rising(figures: list[Figure]) -> bool:
    return all(first.each < second.each for first, second in pairwise(figures))


def test_more_regions_make_an_eager_attach_dearer_and_a_lazy_one_not(table: Table) -> None:
    rows = table.attaching
    assert [row.regions for row in rows] == list(REGION_COUNTS)
    assert rising([row.attach_eager for row in rows])
    assert len({row.attach_lazy.each for row in rows}) == 1


def test_more_regions_make_no_switch_dearer_but_a_fork(table: Table) -> None:
    assert len({row.switch.each for row in table.attaching}) == 1
    assert rising([row.fork for row in table.attaching])


def test_who_attached_eagerly_has_no_faults_left(table: Table) -> None:
    for row in table.attaching:
        assert Work.FAULT not in row.use_eager.bill.done
        assert row.use_lazy.bill.done[Work.FAULT] == row.pages
        assert row.use_eager.each < row.use_lazy.each


def test_lazy_pays_below_the_number_of_pages_that_the_table_names() -> None:
    row = attach_regions(Costs(), Hardware(tags=0), 16)
    share = (row.use_lazy.each - row.use_eager.each).ns / row.pages
    extra = (row.attach_eager.each - row.attach_lazy.each).ns
    assert (row.break_even - 1) * share < extra <= row.break_even * share


def test_tags_never_make_a_switch_dearer(table: Table) -> None:
    by_tags = {
        tags: [row.switch.each for row in table.switching if row.tags == tags]
        for tags in (0, table.few_tags, table.hardware.tags)
    }
    assert all(some <= none for none, some in zip(by_tags[0], by_tags[table.few_tags], strict=True))
    assert all(
        many <= some for some, many in zip(by_tags[table.few_tags], by_tags[table.hardware.tags], strict=True)
    )


def test_with_fewer_tags_than_spaces_flushes_return(table: Table) -> None:
    for row in table.switching:
        flushes = row.switch.bill.done.get(Work.TLB_FLUSH, 0)
        if row.tags == 0:
            assert flushes == row.switch.times
        elif row.tags < row.spaces:
            assert 0 < flushes < row.switch.times
            assert row.switch.bill.done[Work.TAG_ASSIGN] > 0
        else:
            assert flushes == 0


@pytest.mark.parametrize("tags", [TAGS_MIN, 4, FEW_TAGS])
def test_one_space_more_than_tags_is_where_flushes_begin(tags: int) -> None:
    enough = switch_through(Costs(), Hardware(tags=tags), tags)
    short = switch_through(Costs(), Hardware(tags=tags), tags + 1)
    assert Work.TLB_FLUSH not in enough.switch.bill.done
    assert short.switch.bill.done[Work.TLB_FLUSH] > 0
    assert enough.switch.each < short.switch.each <= switch_through(Costs(), Hardware(tags=0), 4).switch.each


@settings(max_examples=60)
@given(moves=MOVES, tags=st.integers(TAGS_MIN, 8), entries=st.sampled_from([4, 8, 64]))
def test_no_history_of_switches_is_dearer_with_tags(
    moves: list[tuple[int, list[int]]], tags: int, entries: int
) -> None:
    """Memory that is there, one CPU, switches and loads: with tags, however few, it takes no longer."""
    hardware = Hardware(tlb_entries=entries, ways=4, tags=tags)
    tagged, few, untagged = (travelled(moves, replace(hardware, tags=number)) for number in (4096, tags, 0))
    assert tagged <= untagged
    assert few <= untagged


def travelled(moves: list[tuple[int, list[int]]], hardware: Hardware) -> SimTime:
    sim = Simulation(Machine(X86_64, 64), hardware=hardware)
    pid = sim.spawn()
    page, start = X86_64.page_size, X86_64.user_end - 10 * X86_64.page_size
    for number in range(10):
        sim.write(pid, start + number * page, b"x")
    vids = [0]
    for number in range(SPACES):
        vids.append(sim.vas_create(pid, f"space-{number}"))
        sim.vas_attach(pid, vids[-1], lazy=False)
    before = sim.clock.bill()
    for where, pages in moves:
        sim.vas_switch(pid, vids[where])
        for number in pages:
            sim.read(pid, start + number * page, 1)
    return sim.clock.since(before).time


def test_each_further_task_makes_a_shootdown_dearer_and_tags_do_too(table: Table) -> None:
    """The price of tags: who has left the space still knows its pages."""
    rows = table.unmapping
    assert [row.tasks for row in rows] == list(TASK_COUNTS)
    assert rising([row.tagged for row in rows])
    assert all(row.untagged.each <= row.tagged.each for row in rows)
    assert [row.tagged.bill.done.get(Work.IPI, 0) for row in rows] == [count - 1 for count in TASK_COUNTS]


def test_spaces_are_counted_up(table: Table) -> None:
    assert sorted({row.spaces for row in table.switching}) == list(SPACE_COUNTS)


def test_the_same_arguments_give_the_same_table(table: Table) -> None:
    again = table1(Costs())
    assert again.compared == table.compared
    assert again.switching == table.switching
    assert (again.attaching, again.unmapping) == (table.attaching, table.unmapping)
