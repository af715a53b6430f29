"""Tags are given out, run out and are recycled by generations."""

from hypothesis import given
from hypothesis import strategies as st

from engine.geometry import TOY
from engine.journal import Journal
from engine.memory.frames import FramePool
from engine.memory.memory_object import MemoryObject
from engine.simulated.tags import Context, Tags
from tests.simulation.unions import make_union

LOADS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), max_size=80)


def contexts(count: int) -> list[Context]:
    pool, journal = FramePool(TOY, 4), Journal()
    return [Context(make_union(TOY, MemoryObject(pool, journal))) for _ in range(count)]


def test_a_space_keeps_its_tag_while_there_are_enough() -> None:
    tags, spaces = Tags(8, 1), contexts(8)
    assert not any(tags.load(0, space) for space in spaces * 3)
    assert sorted(space.tag for space in spaces) == list(range(1, 9))
    assert (tags.assigned, tags.rollovers) == (8, 0)


def test_when_they_run_out_every_cpu_flushes_before_its_next_space() -> None:
    tags, spaces = Tags(4, 2), contexts(6)
    tags.load(1, spaces[0])
    assert [tags.load(0, space) for space in spaces[1:4]] == [False, False, False]
    assert tags.load(0, spaces[4])
    assert tags.rollovers == 1
    assert tags.must_flush(1)
    assert tags.load(1, spaces[5])
    assert not tags.must_flush(1)


def test_what_a_cpu_is_using_keeps_its_number() -> None:
    tags, spaces = Tags(4, 2), contexts(6)
    tags.load(1, spaces[0])
    number = spaces[0].tag
    for space in spaces[1:] * 5:
        tags.load(0, space)
        assert space.tag != number
    assert tags.rollovers > 3
    tags.load(0, spaces[0])
    assert spaces[0].tag == number


@given(loads=LOADS, count=st.integers(5, 12))
def test_spaces_in_use_never_share_a_number(loads: list[tuple[int, int]], count: int) -> None:
    """Neither what CPUs use now, nor what a CPU may still have entries of."""
    tags, spaces = Tags(count, 3), contexts(12)
    using: dict[int, Context] = {}
    cached: dict[int, dict[int, Context]] = {0: {}, 1: {}, 2: {}}
    for cpu, number in loads:
        space = spaces[number]
        if tags.load(cpu, space):
            cached[cpu].clear()
        using[cpu] = space
        assert 1 <= space.tag <= count
        assert cached[cpu].setdefault(space.tag, space) is space
        numbers = {user: context.tag for user, context in using.items()}
        for user, context in using.items():
            assert all(
                numbers[user] != numbers[other] or context is using[other] for other in using if other != user
            )
