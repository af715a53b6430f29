"""Regions: what was asked for, in address order.

`VmaMap.replace` is the only way regions change; it splits, merges, counts against the limit, can be undone, and tells
the owner what came and went.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from engine.access import Access
from engine.address import VirtRange
from engine.constants import MAP_COUNT_MAX, O_RDWR
from engine.errors import ENOMEM, EngineError
from engine.journal import Journal
from engine.memory_object import MemoryObject


@dataclass(frozen=True, slots=True)
class Vma:
    """[start, end) in bytes shows `obj` from page `offset` with rights `access`.

    `sid` is the segment it is a window on (0: none), `type` the type that segment is attached with. `grows_down`
    marks a stack.
    """

    start: int
    end: int
    access: Access
    obj: MemoryObject
    offset: int
    shared: bool = False
    sid: int = 0
    type: int = O_RDWR
    grows_down: bool = False

    @property
    def range(self) -> VirtRange:
        """[start, end) as a value."""
        return VirtRange(self.start, self.end)

    def page_of(self, address: int, page_shift: int) -> int:
        """The object's page that `address` shows."""
        return self.offset + ((address - self.start) >> page_shift)

    def part(self, start: int, end: int, page_shift: int) -> "Vma":
        """The region cut down to [start, end), page aligned and inside it."""
        return replace(self, start=start, end=end, offset=self.page_of(start, page_shift))

    def merges_with(self, right: "Vma", page_shift: int) -> bool:
        """Whether `right` follows immediately and differs in nothing but its place."""
        return (
            self.end == right.start
            and self.access == right.access
            and self.obj is right.obj
            and self.shared == right.shared
            and self.sid == right.sid
            and self.type == right.type
            and self.grows_down == right.grows_down
            and self.page_of(self.end, page_shift) == right.offset
        )


RegionsChanged = Callable[[Sequence[Vma], Sequence[Vma]], None]
"""Told (regions that went, regions that came) after each change."""


class VmaMap:
    """Disjoint regions in two parallel sorted lists (starts for bisect, regions)."""

    __slots__ = ("_changed", "_journal", "_page_shift", "_starts", "_vmas")

    def __init__(self, journal: Journal, page_shift: int, changed: RegionsChanged) -> None:
        self._journal = journal
        self._page_shift = page_shift
        self._changed = changed
        self._starts: list[int] = []
        self._vmas: list[Vma] = []

    def __len__(self) -> int:
        return len(self._vmas)

    def __iter__(self) -> Iterator[Vma]:
        return iter(self._vmas)

    def find(self, address: int) -> Vma | None:
        """The region that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        vma = self._vmas[index]
        return vma if address < vma.end else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Regions that share a byte with [start, end), ascending."""
        return self._vmas[self._first_index(start) : bisect_left(self._starts, end)]

    def last_overlapping(self, start: int, end: int) -> Vma | None:
        """The highest region that shares a byte with [start, end)."""
        index = bisect_left(self._starts, end) - 1
        if index < 0 or self._vmas[index].end <= start:
            return None
        return self._vmas[index]

    def replace(self, start: int, end: int, inner: Sequence[Vma]) -> None:
        """Make `inner` (ascending, inside [start, end)) all that lies in [start, end).

        Regions across the edges are split, neighbours that differ in nothing are merged. ENOMEM: too many regions.
        """
        shift = self._page_shift
        low, high = self._first_index(start), bisect_left(self._starts, end)
        pieces = list(inner)
        if low < high and self._vmas[low].start < start:
            pieces.insert(0, self._vmas[low].part(self._vmas[low].start, start, shift))
        if low < high and self._vmas[high - 1].end > end:
            pieces.append(self._vmas[high - 1].part(end, self._vmas[high - 1].end, shift))
        if pieces and low > 0 and self._vmas[low - 1].merges_with(pieces[0], shift):
            low -= 1
            pieces.insert(0, self._vmas[low])
        if pieces and high < len(self._vmas) and pieces[-1].merges_with(self._vmas[high], shift):
            pieces.append(self._vmas[high])
            high += 1
        came = _merged(pieces, shift)
        went = self._vmas[low:high]
        if came == went:
            return
        if len(self._vmas) - len(went) + len(came) > MAP_COUNT_MAX:
            raise EngineError(ENOMEM, f"more than {MAP_COUNT_MAX} regions")
        self._set(low, high, came)
        if self._journal.active:
            bounds = [*went, *came]
            span = min(vma.start for vma in bounds), max(vma.end for vma in bounds)
            self._journal.undo(lambda: self._put_back(span, went))
        self._changed(went, came)

    def _put_back(self, span: tuple[int, int], vmas: list[Vma]) -> None:
        self._set(bisect_left(self._starts, span[0]), bisect_left(self._starts, span[1]), vmas)

    def _set(self, low: int, high: int, vmas: list[Vma]) -> None:
        self._vmas[low:high] = vmas
        self._starts[low:high] = [vma.start for vma in vmas]

    def _first_index(self, address: int) -> int:
        """Index of the lowest region that ends above `address`."""
        index = bisect_right(self._starts, address) - 1
        return index if index >= 0 and self._vmas[index].end > address else index + 1


def _merged(pieces: Sequence[Vma], page_shift: int) -> list[Vma]:
    merged: list[Vma] = []
    for piece in pieces:
        if merged and merged[-1].merges_with(piece, page_shift):
            merged[-1] = replace(merged[-1], end=piece.end)
        else:
            merged.append(piece)
    return merged
