"""A modelled translation lookaside buffer: set-associative, least recently used out first, entries tagged by space.

It caches entries of page tables and knows nothing of them: who changes a page table has to invalidate here (mmu.py).
"""

from collections.abc import Callable, Iterator
from typing import Final

from engine.memory.page_table import PRESENT

UPPER_ENTRIES: Final = 32
"""Upper levels remembered, so that a miss near an earlier one reads the last level alone."""


class Tlb:
    """`capacity` entries in sets of `ways`. A key is (tag, virtual page number), a value a page-table entry.

    `leaf_bits` is the number of address bits that the last level of the page table translates.
    """

    __slots__ = ("_leaf_bits", "_sets", "_upper", "_ways", "capacity", "hits", "misses")

    def __init__(self, capacity: int, ways: int, leaf_bits: int) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._ways = ways
        self._leaf_bits = leaf_bits
        self._sets: list[dict[tuple[int, int], int]] = [{} for _ in range(capacity // ways)]
        self._upper: dict[tuple[int, int], None] = {}

    def lookup(self, tag: int, vpn: int, needed: int) -> int:
        """The entry, if one with all bits of `needed` is cached, else 0. The youngest of its set afterwards."""
        entries = self._set(tag, vpn)
        entry = entries.get((tag, vpn), 0)
        if not entry & PRESENT or entry & needed != needed:
            self.misses += 1
            return 0
        self.hits += 1
        del entries[tag, vpn]
        entries[tag, vpn] = entry
        return entry

    def insert(self, tag: int, vpn: int, entry: int) -> None:
        """Cache a page-table entry, in the place of the oldest of its set if that is full."""
        entries = self._set(tag, vpn)
        entries.pop((tag, vpn), None)
        if len(entries) == self._ways:
            del entries[next(iter(entries))]
        entries[tag, vpn] = entry

    def walk(self, tag: int, vpn: int) -> bool:
        """A miss: whether the upper levels of the page table are still known from an earlier one. They are now."""
        key = (tag, vpn >> self._leaf_bits)
        known = key in self._upper
        if known:
            del self._upper[key]
        elif len(self._upper) == UPPER_ENTRIES:
            del self._upper[next(iter(self._upper))]
        self._upper[key] = None
        return known

    def invalidate(self, tag: int, vpn: int, count: int) -> None:
        """Forget pages [vpn, vpn + count) of one tag, and all upper levels of it."""
        if count <= self.capacity:
            for page in range(vpn, vpn + count):
                self._set(tag, page).pop((tag, page), None)
        else:
            self._drop(lambda key: key[0] == tag and vpn <= key[1] < vpn + count)
        self._forget_upper(tag)

    def flush_tag(self, tag: int) -> None:
        """Forget everything of one tag."""
        self._drop(lambda key: key[0] == tag)
        self._forget_upper(tag)

    def flush(self) -> None:
        """Forget everything."""
        for entries in self._sets:
            entries.clear()
        self._upper.clear()

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._sets)

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """Everything cached: (tag, virtual page number, page-table entry)."""
        for entries in self._sets:
            for (tag, vpn), entry in entries.items():
                yield tag, vpn, entry

    def _set(self, tag: int, vpn: int) -> dict[tuple[int, int], int]:
        return self._sets[(vpn + tag) % len(self._sets)]

    def _drop(self, chosen: Callable[[tuple[int, int]], bool]) -> None:
        for entries in self._sets:
            for key in [key for key in entries if chosen(key)]:
                del entries[key]

    def _forget_upper(self, tag: int) -> None:
        for key in [key for key in self._upper if key[0] == tag]:
            del self._upper[key]
