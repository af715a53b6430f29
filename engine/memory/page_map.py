"""An object's pages: page index -> frame, a radix tree whose parts are shared between copies until written.

The upper levels of the tree are one table, keyed by the leaf's number; a leaf is an array of `LEAF_PAGES` entries. A
copy shares the whole table and costs the same for a page and for a gigabyte; the first write after it copies the table
(one step for each leaf), each first write into a leaf copies that leaf.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.memory.frames import FramePool, Frames

LEAF_SHIFT: Final = 9
LEAF_PAGES: Final = 1 << LEAF_SHIFT


PageNumbers = NDArray[np.int64]
"""Page indexes, ascending."""


class Leaf:
    """`LEAF_PAGES` entries; `refs` counts the tables that hold it.

    `huge`: they are consecutive frames that were allocated as one huge page, and none was replaced since.
    """

    __slots__ = ("entries", "huge", "refs")

    def __init__(self, entries: Frames) -> None:
        self.entries = entries
        self.huge = False
        self.refs = 1


class Table:
    """Leaves by number; `refs` counts the page maps that hold it."""

    __slots__ = ("leaves", "refs")

    def __init__(self, leaves: dict[int, Leaf]) -> None:
        self.leaves = leaves
        self.refs = 1


def leaf_spans(first: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """Split pages [first, first + count) by leaf: (leaf number, low, high, position of low in the range)."""
    page, end = first, first + count
    while page < end:
        low = page & (LEAF_PAGES - 1)
        high = min(LEAF_PAGES, low + end - page)
        yield page >> LEAF_SHIFT, low, high, page - first
        page += high - low


class PageMap:
    """The entries of one object. `new_leaf(number)` makes a leaf's entries when it is first needed.

    `has_huge`: there are or were huge pages.
    """

    __slots__ = ("_new_leaf", "_pool", "_table", "has_huge")

    def __init__(self, pool: FramePool, new_leaf: Callable[[int], Frames]) -> None:
        self._pool = pool
        self._new_leaf = new_leaf
        self._table = Table({})
        self.has_huge = False

    def share_from(self, other: "PageMap") -> None:
        """Become a copy of `other`; this map must be empty. Costs nothing in pages."""
        self._table = other._table
        self._table.refs += 1
        self.has_huge = other.has_huge

    def copy(self) -> "PageMap":
        """A map that shows what this one shows now, leaves that do not exist yet included. Costs nothing in pages."""
        other = PageMap(self._pool, self._new_leaf)
        other.share_from(self)
        return other

    def leaf(self, number: int) -> Frames | None:
        """The entries of a leaf for reading, or None when it has none of its own yet."""
        leaf = self._table.leaves.get(number)
        return None if leaf is None else leaf.entries

    def writable_leaf(self, number: int) -> Frames:
        """The entries of a leaf, shared with no other map."""
        return self.own_leaf(number).entries

    def own_leaf(self, number: int) -> Leaf:
        """A leaf that is shared with no other map. ENOMEM: it is a new one, and there are too many."""
        table = self._table
        if table.refs > 1:
            table = self._own_table()
        leaf = table.leaves.get(number)
        if leaf is None:
            self._pool.charge_leaf()
            leaf = table.leaves[number] = Leaf(self._new_leaf(number))
        elif leaf.refs > 1:
            leaf.refs -= 1
            self._pool.leaves += 1
            self._pool.hold(leaf.entries)
            leaf = table.leaves[number] = Leaf(leaf.entries.copy())
        return leaf

    def present(self, first: int, count: int) -> list[int]:
        """Numbers of the existing leaves that touch pages [first, first + count), ascending."""
        low, high = first >> LEAF_SHIFT, (first + count - 1) >> LEAF_SHIFT
        leaves = self._table.leaves
        if high - low < len(leaves):
            return [number for number in range(low, high + 1) if number in leaves]
        return sorted(number for number in leaves if low <= number <= high)

    def is_exclusive(self, number: int) -> bool:
        """Whether nobody shares this existing leaf."""
        return self._table.refs == 1 and self._table.leaves[number].refs == 1

    def entry(self, page: int) -> int:
        """The entry of one page."""
        number = page >> LEAF_SHIFT
        leaf = self._table.leaves.get(number)
        entries = self._new_leaf(number) if leaf is None else leaf.entries
        return entries.item(page & (LEAF_PAGES - 1))

    def set_entry(self, page: int, entry: int) -> None:
        """Replace the entry of one page. Reference counts are the caller's."""
        self.writable_leaf(page >> LEAF_SHIFT)[page & (LEAF_PAGES - 1)] = entry
        self.split(page >> LEAF_SHIFT)

    def mark_huge(self, number: int) -> None:
        """The entries of a leaf are one huge page now."""
        self._table.leaves[number].huge = True
        self.has_huge = True

    def is_huge(self, number: int) -> bool:
        """Whether a leaf is one huge page."""
        leaf = self._table.leaves.get(number)
        return leaf is not None and leaf.huge

    def huge_pages(self, first: int, count: int) -> int:
        """Pages of [first, first + count) that are in huge pages which lie in it wholly."""
        low, high = -(-first >> LEAF_SHIFT), (first + count) >> LEAF_SHIFT
        leaves = self._table.leaves
        if high - low < len(leaves):
            whole = (leaves[number] for number in range(low, high) if number in leaves)
        else:
            whole = (leaf for number, leaf in leaves.items() if low <= number < high)
        return LEAF_PAGES * sum(leaf.huge for leaf in whole)

    def split(self, number: int) -> None:
        """A huge page is 512 pages from now on; nothing that can be read changes."""
        leaf = self._table.leaves.get(number)
        if leaf is not None and leaf.huge:
            leaf.huge = False

    def substitute(self, first: int, entries: Frames) -> None:
        """Replace entries by others of the same bytes, for everybody who shares their leaves."""
        for number, low, high, position in leaf_spans(first, len(entries)):
            leaf = self._table.leaves.get(number)
            if leaf is not None:
                leaf.entries[low:high] = entries[position : position + high - low]

    def entries(self, first: int, count: int) -> Frames:
        """A copy of the entries of pages [first, first + count); missing leaves read as new ones."""
        number, low = first >> LEAF_SHIFT, first & (LEAF_PAGES - 1)
        if low + count <= LEAF_PAGES:
            leaf = self.leaf(number)
            return (self._new_leaf(number) if leaf is None else leaf)[low : low + count].copy()
        gathered = np.empty(count, np.int64)
        for number, low, high, position in leaf_spans(first, count):
            leaf = self.leaf(number)
            source = self._new_leaf(number) if leaf is None else leaf
            gathered[position : position + high - low] = source[low:high]
        return gathered

    def gather(self, pages: PageNumbers) -> Frames:
        """The entries of single pages, which ascend."""
        gathered = np.empty(len(pages), np.int64)
        for number, where in _by_leaf(pages):
            leaf = self.leaf(number)
            source = self._new_leaf(number) if leaf is None else leaf
            gathered[where] = source[pages[where] & (LEAF_PAGES - 1)]
        return gathered

    def scatter(self, pages: PageNumbers, entries: Frames) -> None:
        """Replace the entries of single pages, which ascend. Reference counts are the caller's."""
        for number, where in _by_leaf(pages):
            self.writable_leaf(number)[pages[where] & (LEAF_PAGES - 1)] = entries[where]
            self.split(number)

    def set_entries(self, first: int, entries: Frames) -> None:
        """Replace entries from page `first` on. Reference counts are the caller's."""
        for number, low, high, position in leaf_spans(first, len(entries)):
            self.writable_leaf(number)[low:high] = entries[position : position + high - low]
            self.split(number)

    def resident(self) -> int:
        """Pages that have a frame of their own."""
        return sum(int(np.count_nonzero(leaf.entries > 1)) for leaf in self._table.leaves.values())

    def clear(self) -> None:
        """Give everything back; the map is empty afterwards."""
        table, self._table = self._table, Table({})
        table.refs -= 1
        if table.refs:
            return
        for leaf in table.leaves.values():
            leaf.refs -= 1
            if not leaf.refs:
                self._pool.leaves -= 1
                self._pool.release(leaf.entries)

    def numbers_from(self, hand: int) -> list[int]:
        """Numbers of all existing leaves, ascending from `hand` and then round from the lowest."""
        numbers = sorted(self._table.leaves)
        turn = bisect_left(numbers, hand)
        return numbers[turn:] + numbers[:turn]

    @property
    def table(self) -> Table:
        """The leaves; for `check`, which counts references."""
        return self._table

    def _own_table(self) -> Table:
        """A table of this map's alone, made of the one that it shares."""
        table = self._table
        table.refs -= 1
        for leaf in table.leaves.values():
            leaf.refs += 1
        table = self._table = Table(dict(table.leaves))
        return table


def _by_leaf(pages: PageNumbers) -> Iterator[tuple[int, slice]]:
    """Split ascending page indexes by leaf: (leaf number, positions)."""
    numbers = pages >> LEAF_SHIFT
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(pages)]
    for low, high in pairwise(edges):
        if low < high:
            yield int(numbers[low]), slice(low, high)


def absent_leaf(number: int) -> Frames:
    """The leaf of an object that nothing was stored for: ABSENT everywhere."""
    return np.zeros(LEAF_PAGES, np.int64)
