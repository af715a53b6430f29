"""Derived translations: virtual page -> frame and write permission. Dropping any of them changes nothing readable.

The upper levels are one table keyed by the leaf's number; a leaf is an array. An entry is frame << 2 | WRITABLE |
PRESENT, 0 when nothing is cached.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from engine.memory.frames import Frames
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, PageNumbers, leaf_spans

if TYPE_CHECKING:
    from engine.memory.memory_object import MemoryObject

PRESENT: Final = 1
WRITABLE: Final = 2
FRAME_SHIFT: Final = 2


Observer = Callable[[int, int, int], None]
"""Told that pages [vpn, vpn + count) lost `removed` > 0 entries: observer(vpn, count, removed)."""
EVERYTHING: Final = 1 << 62
"""More pages than any range has."""
RECENT_MAX: Final = 1024
LEAVES_MAX: Final = 4096
"""More leaves than that, 8 GiB of memory in use, are not kept: the table begins anew."""


class PageTable:
    """Translations of one union. `built` counts entries ever filled in, `shot_down` those taken out again.

    `recent` are pages lately stored to: page -> (object, its page, where its frame starts in all memory, in bytes).
    What is in it has a writable entry; it is emptied when any entry goes.
    `observer`, if there is one, is told whenever entries are taken out: what caches them must forget them too.
    """

    __slots__ = ("_leaves", "built", "observer", "recent", "shot_down")

    def __init__(self) -> None:
        self._leaves: dict[int, Frames] = {}
        self.built = 0
        self.shot_down = 0
        self.observer: Observer | None = None
        self.recent: dict[int, tuple[MemoryObject, int, int]] = {}

    def entry(self, vpn: int) -> int:
        """The entry of one page, 0 if there is none."""
        leaf = self._leaves.get(vpn >> LEAF_SHIFT)
        return 0 if leaf is None else leaf.item(vpn & (LEAF_PAGES - 1))

    def entries(self, vpn: int, count: int) -> Frames:
        """The entries of pages [vpn, vpn + count); not to be written to."""
        number, low = vpn >> LEAF_SHIFT, vpn & (LEAF_PAGES - 1)
        if low + count <= LEAF_PAGES:
            leaf = self._leaves.get(number)
            return np.zeros(count, np.int64) if leaf is None else leaf[low : low + count]
        gathered = np.zeros(count, np.int64)
        for number, low, high, position in leaf_spans(vpn, count):
            leaf = self._leaves.get(number)
            if leaf is not None:
                gathered[position : position + high - low] = leaf[low:high]
        return gathered

    def fill(self, vpn: int, frames: Frames, *, writable: bool) -> None:
        """Map pages from `vpn` on to `frames`."""
        entries = frames << FRAME_SHIFT | (PRESENT | WRITABLE if writable else PRESENT)
        self.built += len(frames)
        for number, low, high, position in leaf_spans(vpn, len(frames)):
            leaf = self._leaves.get(number)
            if leaf is None:
                leaf = self._new_leaf(number)
            leaf[low:high] = entries[position : position + high - low]

    def fill_one(self, vpn: int, frame: int, *, writable: bool) -> None:
        """`fill` of one page."""
        self.built += 1
        leaf = self._leaves.get(vpn >> LEAF_SHIFT)
        if leaf is None:
            leaf = self._new_leaf(vpn >> LEAF_SHIFT)
        leaf[vpn & (LEAF_PAGES - 1)] = frame << FRAME_SHIFT | (PRESENT | WRITABLE if writable else PRESENT)

    def _new_leaf(self, number: int) -> Frames:
        if len(self._leaves) >= LEAVES_MAX:
            self.drop()
        leaf = self._leaves[number] = np.zeros(LEAF_PAGES, np.int64)
        return leaf

    def remember(self, vpn: int, obj: "MemoryObject", page: int, start: int) -> None:
        """Put a page that has a writable entry among the recent ones."""
        if len(self.recent) >= RECENT_MAX:
            self.recent.clear()
        self.recent[vpn] = (obj, page, start)

    def zap(self, vpn: int, count: int) -> None:
        """Forget pages [vpn, vpn + count); costs what is present, not what is named."""
        if not self._leaves or (count == 1 and not self.entry(vpn)):
            return
        self.recent.clear()
        for number, low, high in self._parts(vpn, count):
            leaf = self._leaves[number]
            removed = int(np.count_nonzero(leaf[low:high]))
            self.shot_down += removed
            if self.observer is not None and removed:
                self.observer((number << LEAF_SHIFT) + low, high - low, removed)
            if low == 0 and high == LEAF_PAGES:
                del self._leaves[number]
            else:
                leaf[low:high] = 0

    def drop(self) -> None:
        """Forget everything."""
        if self.observer is not None and (removed := self.present()):
            self.observer(0, EVERYTHING, removed)
        self._leaves.clear()
        self.recent.clear()

    def present(self) -> int:
        """Entries in the table now."""
        return sum(int(np.count_nonzero(leaf)) for leaf in self._leaves.values())

    def any_present(self, vpn: int, count: int) -> bool:
        """Whether pages [vpn, vpn + count) have an entry."""
        return any(self._leaves[number][low:high].any() for number, low, high in self._parts(vpn, count))

    def frames_in(self, vpn: int, count: int) -> tuple[PageNumbers, Frames]:
        """The pages of [vpn, vpn + count) that have an entry, ascending, and the frame of each."""
        pages, frames = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number, low, high in sorted(self._parts(vpn, count)):
            part = self._leaves[number][low:high]
            here = np.flatnonzero(part)
            pages.append(here + ((number << LEAF_SHIFT) + low))
            frames.append(part[here] >> FRAME_SHIFT)
        return np.concatenate(pages), np.concatenate(frames)

    def _parts(self, vpn: int, count: int) -> list[tuple[int, int, int]]:
        """The existing leaves that hold a part of [vpn, vpn + count): (number, low, high)."""
        first, last = vpn >> LEAF_SHIFT, (vpn + count - 1) >> LEAF_SHIFT
        if last - first < len(self._leaves):
            numbers = [number for number in range(first, last + 1) if number in self._leaves]
        else:
            numbers = [number for number in self._leaves if first <= number <= last]
        starts = [(number, number << LEAF_SHIFT) for number in numbers]
        return [
            (number, max(vpn - start, 0), min(vpn + count - start, LEAF_PAGES)) for number, start in starts
        ]

    def walk(self) -> Iterator[tuple[int, int]]:
        """Every entry: (virtual page number, entry)."""
        for number in sorted(self._leaves):
            leaf = self._leaves[number]
            for low in np.flatnonzero(leaf).tolist():
                yield (number << LEAF_SHIFT) + low, int(leaf[low])
