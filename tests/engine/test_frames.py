"""Frames, page maps and page tables: who holds what, and what a copy costs."""

import numpy as np
import pytest

from engine.errors import EngineError
from engine.geometry import TOY
from engine.invariant import InvariantError
from engine.memory.frames import ZERO_FRAME, FramePool, runs
from engine.memory.page_map import LEAF_PAGES, PageMap, absent_leaf
from engine.memory.page_table import FRAME_SHIFT, PRESENT, WRITABLE, PageTable


@pytest.fixture
def pool() -> FramePool:
    return FramePool(TOY, 8)


def entries(*numbers: int) -> "np.typing.NDArray[np.int64]":
    return np.array(numbers, np.int64)


# -- frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "split"),
    [
        ([5], [(0, 5, 1)]),
        ([5, 6, 7], [(0, 5, 3)]),
        ([5, 7, 8, 2], [(0, 5, 1), (1, 7, 2), (3, 2, 1)]),
        ([3, 2], [(0, 3, 1), (1, 2, 1)]),
    ],
)
def test_frames_are_split_into_runs(frames: list[int], split: list[tuple[int, int, int]]) -> None:
    assert runs(entries(*frames)) == split


def test_bytes_go_through_scattered_frames_in_order(pool: FramePool) -> None:
    frames = entries(4, 5, 2, 7)
    data = bytes(range(50))
    pool.write(frames, 7, memoryview(data))
    assert pool.read(frames, 7, 50) == data
    assert pool.read(frames, 0, 64) == bytes(7) + data + bytes(7)
    assert pool.read(entries(5), 0, 16) == data[9:25]


def test_a_frame_is_free_again_when_its_last_holder_lets_go(pool: FramePool) -> None:
    frames = pool.allocate(3, zeroed=True)
    pool.hold(frames[:2])
    pool.release(frames)
    assert pool.free_count == 6
    pool.release(frames[:2])
    assert pool.free_count == 8
    assert pool.free_frames() == set(range(2, 10))
    with pytest.raises(InvariantError, match="I5"):
        pool.release(frames[:1])


def test_the_zero_frame_is_not_counted(pool: FramePool) -> None:
    pool.hold(entries(ZERO_FRAME, 0, -1))
    pool.release(entries(ZERO_FRAME, 0, -1))
    assert pool.refs.sum() == 0


def test_used_frames_come_back_zeroed_when_asked(pool: FramePool) -> None:
    frames = pool.allocate(8, zeroed=False)
    pool.pages[frames] = 7
    pool.release(frames)
    again = pool.allocate(8, zeroed=True)
    assert not pool.pages[again].any()
    assert sorted(again.tolist()) == sorted(frames.tolist())


def test_more_frames_than_there_are_is_enomem_and_takes_none(pool: FramePool) -> None:
    pool.allocate(6, zeroed=False)
    with pytest.raises(EngineError, match="ENOMEM: 3 page frames wanted, 2 of 8 free"):
        pool.allocate(3, zeroed=False)
    assert pool.free_count == 2
    assert len(pool.allocate(0, zeroed=True)) == 0


def test_reserve_asks_for_what_is_missing_only(pool: FramePool) -> None:
    asked: list[int] = []
    pool.on_shortage(asked.append)
    pool.reserve(8)
    pool.allocate(6, zeroed=False)
    pool.reserve(2)
    pool.reserve(5)
    assert asked == [3]


def test_scattered_free_frames_are_joined_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[int] = []
    real = FramePool._coalesce

    def counting(pool: FramePool) -> None:
        joined.append(len(pool._free))
        real(pool)

    monkeypatch.setattr(FramePool, "_coalesce", counting)
    pool = FramePool(TOY, 1 << 14)
    frames = pool.allocate(1 << 14, zeroed=False)
    for frame in range(0, 1 << 14, 2):
        pool.release(frames[frame : frame + 1])
    assert len(joined) <= 4
    assert pool.free_count == len(pool.free_frames()) == 1 << 13
    for frame in range(1, 1 << 14, 2):
        pool.release(frames[frame : frame + 1])
    assert len(pool.allocate(1 << 14, zeroed=False)) == 1 << 14


# -- page maps ---------------------------------------------------------------------------------------------------


def filled(pool: FramePool, pages: list[int]) -> PageMap:
    """A map with a frame at each of `pages`."""
    made = PageMap(pool, absent_leaf)
    for page in pages:
        made.set_entries(page, pool.allocate(1, zeroed=True))
    return made


def test_a_copy_copies_nothing_until_it_is_written_and_then_one_leaf(pool: FramePool) -> None:
    original = filled(pool, [0, 1, LEAF_PAGES, 5 * LEAF_PAGES])
    copy = PageMap(pool, absent_leaf)
    copy.share_from(original)
    assert copy.table is original.table
    assert pool.free_count == 4
    copy.writable_leaf(0)
    leaves, copied = original.table.leaves, copy.table.leaves
    assert [leaves[number] is copied[number] for number in sorted(leaves)] == [False, True, True]
    assert pool.refs[original.entries(0, 2)].tolist() == [2, 2]
    assert pool.refs[original.entries(LEAF_PAGES, 1)].tolist() == [1]
    assert not original.is_exclusive(1)
    assert original.is_exclusive(0)
    copy.clear()
    assert original.is_exclusive(1)
    original.clear()
    assert pool.free_count == 8


def test_entries_are_read_and_set_across_leaves(pool: FramePool) -> None:
    pages = PageMap(pool, absent_leaf)
    first = LEAF_PAGES - 2
    pages.set_entries(first, entries(10, 11, 12, 13))
    assert pages.entries(first - 1, 6).tolist() == [0, 10, 11, 12, 13, 0]
    assert pages.gather(entries(first, first + 3, 10 * LEAF_PAGES)).tolist() == [10, 13, 0]
    pages.scatter(entries(first + 1, first + 2), entries(20, 21))
    assert pages.entries(first, 4).tolist() == [10, 20, 21, 13]
    assert pages.present(0, 1 << 40) == [0, 1]
    assert pages.present(LEAF_PAGES, 1) == [1]
    assert pages.present(2 * LEAF_PAGES, LEAF_PAGES) == []


def test_leaves_are_walked_round_from_a_hand(pool: FramePool) -> None:
    pages = PageMap(pool, absent_leaf)
    for number in (1, 4, 9):
        pages.writable_leaf(number)
    assert [pages.numbers_from(hand) for hand in (0, 4, 5, 10)] == [
        [1, 4, 9],
        [4, 9, 1],
        [9, 1, 4],
        [1, 4, 9],
    ]


# -- page tables -------------------------------------------------------------------------------------------------


def test_a_table_tells_frames_and_rights() -> None:
    table = PageTable()
    table.fill(LEAF_PAGES - 1, entries(7, 8), writable=True)
    table.fill(LEAF_PAGES, entries(8), writable=False)
    assert table.entry(LEAF_PAGES - 1) == 7 << FRAME_SHIFT | PRESENT | WRITABLE
    assert table.entry(LEAF_PAGES) == 8 << FRAME_SHIFT | PRESENT
    assert table.entry(0) == table.entry(1 << 40) == 0
    assert (table.entries(LEAF_PAGES - 2, 4) >> FRAME_SHIFT).tolist() == [0, 7, 8, 0]
    assert [vpn for vpn, _ in table.walk()] == [LEAF_PAGES - 1, LEAF_PAGES]
    assert (table.present(), table.built) == (2, 3)


@pytest.mark.parametrize(
    ("vpn", "count", "left"),
    [
        (0, LEAF_PAGES, [512]),
        (511, 1, [0, 512]),
        (0, 1 << 62, []),
        (512, LEAF_PAGES, [0, 511]),
        (1, 510, [0, 511, 512]),
    ],
)
def test_zapping_forgets_exactly_the_range(vpn: int, count: int, left: list[int]) -> None:
    table = PageTable()
    for page in (0, 511, 512):
        table.fill(page, entries(9), writable=True)
    assert table.any_present(vpn, count) is (len(left) < 3)
    table.zap(vpn, count)
    assert [page for page, _ in table.walk()] == left
    assert table.shot_down == 3 - len(left)
    assert not table.any_present(vpn, count)
    table.drop()
    assert table.present() == 0
