"""The map of regions: one way to change it, which splits, merges, counts, tells and can be taken back."""

from itertools import product

import pytest

from engine.access import READ_WRITE, Access
from engine.errors import EngineError
from engine.geometry import TOY
from engine.journal import Journal
from engine.memory.frames import FramePool
from engine.memory.memory_object import MemoryObject
from engine.regions.vm_flags import GROWS_DOWN
from engine.regions.vma import Vma, VmaMap

PAGE = TOY.page_size
SHIFT = TOY.page_shift


class Kept:
    """A map, its journal, and what its owner was told."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.obj = MemoryObject(FramePool(TOY, 4), self.journal)
        self.told: list[tuple[list[str], list[str]]] = []
        self.map = VmaMap(self.obj, SHIFT, lambda went, came: self.told.append((shown(went), shown(came))))

    def vma(self, first: int, last: int, access: Access = READ_WRITE, **other: bool) -> Vma:
        return Vma(first * PAGE, last * PAGE, access, self.obj, first, **other)

    def put(self, first: int, last: int, access: Access = READ_WRITE) -> None:
        self.map.replace(first * PAGE, last * PAGE, [self.vma(first, last, access)])

    def cut(self, first: int, last: int) -> None:
        self.map.replace(first * PAGE, last * PAGE, ())


def shown(vmas: object) -> list[str]:
    """Regions as "first-last rights", in pages."""
    return [f"{v.start // PAGE}-{v.end // PAGE} {v.access}" for v in vmas]  # type: ignore[attr-defined]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_cutting_the_middle_splits_and_each_part_shows_its_own_pages(kept: Kept) -> None:
    kept.put(1, 5)
    kept.cut(2, 3)
    assert shown(kept.map) == ["1-2 rw-", "3-5 rw-"]
    assert [vma.offset for vma in kept.map] == [1, 3]
    assert kept.told[-1] == (["1-5 rw-"], ["1-2 rw-", "3-5 rw-"])


def test_what_differs_in_nothing_merges_on_both_sides(kept: Kept) -> None:
    kept.put(1, 2)
    kept.put(3, 4)
    kept.put(2, 3)
    assert shown(kept.map) == ["1-4 rw-"]
    assert kept.told[-1] == (["1-2 rw-", "3-4 rw-"], ["1-4 rw-"])


@pytest.mark.parametrize(
    "other",
    [
        {"access": Access.READ},
        {"shared": True},
        {"flags": GROWS_DOWN},
        {"moved": 1},
        {"sid": 1},
        {"type": 0},
        {"offset": 7},
    ],
)
def test_what_differs_in_anything_stays_apart(kept: Kept, other: dict[str, object]) -> None:
    kept.put(1, 2)
    right = {"access": READ_WRITE, "obj": kept.obj, "offset": 2, **other}
    kept.map.replace(2 * PAGE, 3 * PAGE, [Vma(2 * PAGE, 3 * PAGE, **right)])  # type: ignore[arg-type]
    assert len(kept.map) == 2


def test_lookups_agree_with_a_list(kept: Kept) -> None:
    for first, last in ((1, 2), (3, 5), (8, 9)):
        kept.put(first, last, Access(first % 8))
    for address in range(-1, 16 * PAGE, PAGE // 4):
        expected = [vma for vma in kept.map if vma.start <= address < vma.end]
        assert kept.map.find(address) == (expected[0] if expected else None)
    for first, last in product(range(11), repeat=2):
        if first < last:
            start, end = first * PAGE, last * PAGE
            expected = [vma for vma in kept.map if vma.start < end and start < vma.end]
            assert kept.map.overlapping(start, end) == expected
            assert kept.map.last_overlapping(start, end) == (expected[-1] if expected else None)


def test_a_change_that_changes_nothing_is_not_told(kept: Kept) -> None:
    kept.put(1, 3)
    told = len(kept.told)
    kept.put(2, 3)
    kept.cut(5, 6)
    assert len(kept.told) == told


def test_changes_are_taken_back_newest_first(kept: Kept) -> None:
    kept.put(1, 3)
    kept.put(4, 6, Access.READ)
    before = list(kept.map)
    transactions = []
    for first, last, access in ((2, 5, Access.NONE), (0, 9, READ_WRITE), (3, 4, Access.READ)):
        transactions.append(kept.journal.begin())
        kept.put(first, last, access)
        kept.cut(first, first + 1)
        kept.journal.end()
    for transaction in reversed(transactions):
        transaction.rollback()
    assert list(kept.map) == before
    assert kept.map.find(4 * PAGE) == before[1]


def test_too_many_regions_are_refused_before_anything_changes(kept: Kept) -> None:
    kept.map.limit = 2
    kept.put(1, 4)
    kept.cut(2, 3)
    with pytest.raises(EngineError, match="ENOMEM"):
        kept.put(6, 7)
    assert shown(kept.map) == ["1-2 rw-", "3-4 rw-"]
    kept.put(2, 3)
    assert shown(kept.map) == ["1-4 rw-"]
