"""Every sequence of up to four calls over the eight pages of the toy's arena keeps every rule."""

from collections.abc import Callable

import pytest

from engine.regions.address_space import AddressSpace
from engine.regions.vma import Vma, VmaMap
from tests.engine.sequences import KINDS, PAGES, search

DEPTH = 4
RANGES = PAGES * (PAGES + 1) // 2


@pytest.mark.timeout(600)  # half a minute of one processor, which may be a busy one
def test_every_sequence_of_four_calls_over_eight_pages_keeps_every_rule() -> None:
    """6 kinds of calls on each of 36 ranges, and fork: 217 calls, 217 + 217² + 217³ + 217⁴ sequences.

    They are looked at in far fewer steps, for most do the same: see sequences.py. The numbers are those of the search;
    another engine may have other states, but a search that sees less than this has lost something.
    """
    done = search(DEPTH)
    calls = (len(KINDS) - 1) * RANGES + 1
    print(f"{sum(calls**length for length in range(1, DEPTH + 1)):,} sequences: {done}")
    assert calls == 217
    assert done.sequences[1:3] == [7, 164]
    assert done.sequences[4] > 200_000
    assert done.states[4] > 20_000


def forgets_to_split(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Vma, "part", lambda vma, start, end, page_shift: vma._replace(start=start, end=end))


def keeps_what_was_unmapped(patch: pytest.MonkeyPatch) -> None:
    def unmap(owner: AddressSpace, start: int, end: int) -> None:
        owner.vmas.replace(start, end, ())

    patch.setattr(AddressSpace, "unmap", unmap)


def overlaps(patch: pytest.MonkeyPatch) -> None:
    real = VmaMap._first_index
    patch.setattr(VmaMap, "_first_index", lambda vmas, address: real(vmas, address) + 1)


@pytest.mark.parametrize("break_it", [forgets_to_split, keeps_what_was_unmapped, overlaps])
def test_a_broken_engine_is_caught_within_three_calls(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - it may well fall over before a rule is looked at
        search(3)
