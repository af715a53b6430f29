"""Pages that stay resident while calls that wait for other pages need them."""

from collections.abc import Iterator, Sequence

import numpy as np

from engine.errors import PagesNeeded
from engine.memory.frames import runs
from engine.memory.page_map import LEAF_SHIFT, leaf_spans

Part = tuple[int, int]
"""Pages [low, high) of one leaf."""


class Pins:
    """What is pinned of one memory, by leaf."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[int, list[Part]] = {}

    def add(self, need: PagesNeeded) -> None:
        """What the call needs stays."""
        for number, part in _parts_of(need):
            self._parts.setdefault(number, []).append(part)

    def remove(self, need: PagesNeeded) -> None:
        """The reverse of one `add` of the same need."""
        for number, part in _parts_of(need):
            parts = self._parts[number]
            parts.remove(part)
            if not parts:
                del self._parts[number]

    def of_leaf(self, number: int) -> Sequence[Part]:
        """What is pinned of a leaf."""
        return self._parts.get(number, ())

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Everything that is pinned: (first page, count)."""
        for number, parts in self._parts.items():
            for low, high in parts:
                yield (number << LEAF_SHIFT) + low, high - low


def _parts_of(need: PagesNeeded) -> set[tuple[int, Part]]:
    """What a need names, by leaf."""
    ranges = [*need.spans, *((first, count) for _, first, count in runs(np.array(need.pages, np.int64)))]
    return {
        (number, (low, high)) for first, count in ranges for number, low, high, _ in leaf_spans(first, count)
    }
