"""The modelled TLB by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.memory.page_table import FRAME_SHIFT, PRESENT, WRITABLE
from engine.simulated.mmu import Hardware
from engine.simulated.tlb import UPPER_ENTRIES, Tlb

READ = PRESENT
WRITE = PRESENT | WRITABLE


def entry(frame: int, *, writable: bool = True) -> int:
    return frame << FRAME_SHIFT | (WRITE if writable else READ)


def test_what_was_put_in_is_found_under_its_tag_alone() -> None:
    tlb = Tlb(8, 2, 9)
    tlb.insert(1, 5, entry(70))
    assert tlb.lookup(1, 5, READ) == entry(70)
    assert tlb.lookup(2, 5, READ) == 0
    assert tlb.lookup(1, 6, READ) == 0
    assert (tlb.hits, tlb.misses) == (1, 2)


def test_a_store_needs_the_write_bit() -> None:
    tlb = Tlb(8, 2, 9)
    tlb.insert(1, 5, entry(70, writable=False))
    assert tlb.lookup(1, 5, WRITE) == 0
    tlb.insert(1, 5, entry(70))
    assert tlb.lookup(1, 5, WRITE) == entry(70)
    assert len(tlb) == 1


def test_the_oldest_of_a_set_goes() -> None:
    tlb = Tlb(4, 2, 9)  # two sets: even and odd pages
    for page in (0, 2):
        tlb.insert(0, page, entry(page + 2))
    tlb.lookup(0, 0, READ)
    tlb.insert(0, 4, entry(9))
    tlb.insert(0, 1, entry(8))
    assert sorted(vpn for _, vpn, _ in tlb.entries()) == [0, 1, 4]


@pytest.mark.parametrize("count", [2, 1 << 62])
def test_a_range_of_one_tag_is_taken_out(count: int) -> None:
    tlb = Tlb(16, 4, 9)
    for tag in (1, 2):
        for page in range(4):
            tlb.insert(tag, page, entry(2 + page))
    tlb.invalidate(1, 1, count)
    kept = {vpn for tag, vpn, _ in tlb.entries() if tag == 1}
    assert kept == ({0, 3} if count == 2 else {0})
    assert sum(1 for tag, _, _ in tlb.entries() if tag == 2) == 4


def test_a_tag_or_everything_is_flushed() -> None:
    tlb = Tlb(16, 4, 9)
    for tag in (1, 2):
        tlb.insert(tag, 7, entry(5))
        tlb.walk(tag, 7)
    tlb.flush_tag(1)
    assert [tag for tag, _, _ in tlb.entries()] == [2]
    assert not tlb.walk(1, 7)
    assert tlb.walk(2, 7)
    tlb.flush()
    assert len(tlb) == 0
    assert not tlb.walk(2, 7)


def test_upper_levels_are_remembered_near_an_earlier_miss() -> None:
    tlb = Tlb(16, 4, 9)
    assert [tlb.walk(0, vpn) for vpn in (0, 511, 512, 1)] == [False, True, False, True]
    assert not tlb.walk(1, 0)
    for number in range(2, UPPER_ENTRIES + 1):
        tlb.walk(0, number << 9)
    assert not tlb.walk(0, 512)  # the least recently used of one more than there is room for
    tlb.invalidate(0, 3 << 9, 1)
    assert not tlb.walk(0, 4 << 9)  # as on x86, all of the tag went


ACTIONS = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 2), st.integers(0, 9), st.integers(2, 9)),
    st.tuples(st.just("invalidate"), st.integers(0, 2), st.integers(0, 9), st.integers(1, 40)),
    st.tuples(st.just("flush_tag"), st.integers(0, 2)),
    st.tuples(st.just("flush")),
)


@given(actions=st.lists(ACTIONS, max_size=60), ways=st.sampled_from([1, 2, 8]))
def test_it_knows_nothing_but_what_was_put_in_last(actions: list[tuple[object, ...]], ways: int) -> None:
    tlb = Tlb(8, ways, 9)
    model: dict[tuple[int, int], int] = {}
    for name, *values in actions:
        numbers = [int(str(value)) for value in values]
        match name, numbers:
            case "insert", [tag, vpn, frame]:
                tlb.insert(tag, vpn, entry(frame))
                model[tag, vpn] = entry(frame)
            case "invalidate", [tag, vpn, count]:
                tlb.invalidate(tag, vpn, count)
                model = {
                    key: e for key, e in model.items() if key[0] != tag or not vpn <= key[1] < vpn + count
                }
            case "flush_tag", [tag]:
                tlb.flush_tag(tag)
                model = {key: e for key, e in model.items() if key[0] != tag}
            case _:
                tlb.flush()
                model = {}
        assert len(tlb) <= 8
        assert all(model.get((tag, vpn)) == held for tag, vpn, held in tlb.entries())


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpus": 0},
        {"cpus": 65},
        {"ways": 0},
        {"tlb_entries": 0},
        {"tlb_entries": 510},
        {"tlb_entries": 1 << 17},
        {"tags": 2},
        {"tags": -1},
        {"tags": 1 << 17},
        {"cpus": 4, "tags": 5},
    ],
)
def test_hardware_that_cannot_be_built(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"not|neither"):
        Hardware(**wrong)
