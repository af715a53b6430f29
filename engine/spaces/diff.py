"""Where two spaces, or two segments, differ: pages that only one of them maps, and pages whose bytes differ.

It takes two steps, each for one window of addresses, so that nothing is held up and nothing depends on the size:

    survey   regions alone tell where only one side maps; where both do, who shows the same page of the same memory is
             passed over, and the others become questions to the store: which pages lie elsewhere in it?
    compare  those pages, and those written lately that the store does not have yet, are candidates: their bytes decide

What shares frames, as clones do, is never looked at. Absent pages are zeros.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.address import PageIndex
from engine.geometry import Geometry
from engine.memory.frames import STORED, ZERO_FRAME, FramePool, Frames
from engine.memory.memory_object import MemoryObject
from engine.regions.vma import Vma, VmaMap

Pages = NDArray[np.int64]
"""Numbers of virtual pages, ascending."""
Seen = Callable[[int], Vma | None]
"""The lowest region that ends above an address."""

CHANGED: Final = "changed"
"""Mapped in both; the bytes differ."""
LEFT: Final = "left"
"""Mapped in the first only."""
RIGHT: Final = "right"
"""Mapped in the second only."""

SPANS_MAX: Final = 4096
"""Pieces of regions that one survey looks at."""
_NONE: Final = np.empty(0, np.int64)


class Run(NamedTuple):
    """[start, end) in bytes, page aligned, and how it differs."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Question:
    """Which of pages [first, first + count) of object `left` may differ from the page `shift` further in `right`?"""

    left: int
    right: int
    first: int
    count: int
    shift: int


class _Span(NamedTuple):
    """Virtual pages [first, end) that both sides map, the left one from page `page` of its memory."""

    first: int
    end: int
    page: int


@dataclass(slots=True)
class _Pair:
    """Two memories that are shown at the same places, the right one `shift` pages further: in `spans`, ascending."""

    left: MemoryObject
    right: MemoryObject
    shift: int
    spans: list[_Span] = field(default_factory=list)
    low: int = 1 << 62
    high: int = 0
    written: Pages = field(default_factory=lambda: _NONE)
    """Pages of `left` in [low, high) that were written, there or in `right`, and were perhaps not yet in the store."""

    def add(self, span: _Span) -> None:
        self.spans.append(span)
        self.low, self.high = min(self.low, span.page), max(self.high, span.page + span.end - span.first)

    def look(self) -> None:
        """Remember what was written now: by the time that the store answers it may have been let go."""
        here = _dirty(self.left, self.low, self.high)
        there = _dirty(self.right, self.low + self.shift, self.high + self.shift) - self.shift
        self.written = np.union1d(here, there)
        for obj in (self.left, self.right):
            obj.journal.touch(obj)

    def candidates(self, elsewhere: Sequence[int]) -> list[Pages]:
        """Virtual pages that may differ; `elsewhere` are pages of `left`."""
        pages = np.union1d(np.array(elsewhere, np.int64), self.written)
        found = []
        for first, end, page in self.spans:
            low, high = np.searchsorted(pages, (page, page + end - first)).tolist()
            found.append(pages[low:high] + (first - page))
        return found


@dataclass(slots=True)
class Survey:
    """What the regions from an address to `stop` tell; `stop` None: there are no more.

    `alone` are the runs that one side maps only.
    """

    stop: int | None
    alone: list[Run] = field(default_factory=list)
    _pairs: dict[tuple[int, int, int], _Pair] = field(default_factory=dict)

    def questions(self) -> list[Question]:
        """What the store is to be asked, once everything that the survey saw is durable."""
        return [
            Question(pair.left.object_id, pair.right.object_id, pair.low, pair.high - pair.low, pair.shift)
            for pair in self._pairs.values()
        ]

    def candidates(self, answers: Sequence[Sequence[int]]) -> Pages:
        """Pages whose bytes are to be compared. `answers`: for each question pages of `left`, ascending."""
        found = [_NONE]
        for pair, elsewhere in zip(self._pairs.values(), answers, strict=True):
            found.extend(pair.candidates(elsewhere))
        return np.sort(np.concatenate(found))

    def add(self, left: Vma, right: Vma, start: int, end: int, page_shift: int) -> None:
        """Both sides map [start, end). The same page of the same memory needs no second look."""
        page = left.page_of(start, page_shift)
        shift = right.page_of(start, page_shift) - page
        if left.obj is right.obj and not shift:
            return
        pair = self._pairs.setdefault((id(left.obj), id(right.obj), shift), _Pair(left.obj, right.obj, shift))
        pair.add(_Span(start >> page_shift, end >> page_shift, page))

    def look(self) -> None:
        """See `_Pair.look`."""
        for pair in self._pairs.values():
            pair.look()


class Difference:
    """Two maps as they are now; of no use after the transaction that it was made in."""

    def __init__(self, geometry: Geometry, pool: FramePool, left: Seen, right: Seen) -> None:
        self._shift = geometry.page_shift
        self._pool = pool
        self._left = left
        self._right = right

    def survey(self, start: int, pages_max: int) -> Survey:
        """Look at regions from the page-aligned `start` on, as far as `pages_max` pages that both sides map."""
        found = Survey(start)
        room = pages_max << self._shift
        for _ in range(SPANS_MAX):
            position = found.stop or 0
            left, right = self._left(position), self._right(position)
            if left is None and right is None:
                found.stop = None
                break
            if left is None or right is None or max(left.start, right.start) > position:
                found.stop = _alone(found.alone, position, left, right)
                continue
            end = min(left.end, right.end, position + room)
            found.add(left, right, position, end, self._shift)
            found.stop = end
            room -= end - position
            if not room:
                break
        found.look()
        return found

    def compare(self, pages: Pages) -> list[Run]:
        """How each of these candidates differs now, joined to runs. PagesNeeded."""
        shift = self._shift
        needed: dict[MemoryObject, list[PageIndex]] = {}
        found: list[Run] = []
        position = 0
        while position < len(pages):
            start = pages.item(position) << shift
            left, right = self._left(start), self._right(start)
            edges = [vma.end if vma.start <= start else vma.start for vma in (left, right) if vma is not None]
            stop = int(np.searchsorted(pages, min(edges) >> shift)) if edges else len(pages)
            some, position = pages[position:stop], stop
            shown = [vma for vma in (left, right) if vma is not None and vma.start <= start]
            if len(shown) == 2:
                here, there = (self._entries(vma, some, needed) for vma in shown)
                if not needed:
                    _append_pages(found, some[self._differ(here, there)], shift, CHANGED)
            elif shown:
                _append_pages(found, some, shift, LEFT if shown[0] is left else RIGHT)
        for obj, lacking in needed.items():
            obj.require(lacking)
        return found

    def _entries(self, vma: Vma, pages: Pages, needed: dict[MemoryObject, list[PageIndex]]) -> Frames:
        """Frames of virtual pages in one region, the zero page for what is absent; `needed` are those in the store only."""
        obj = vma.obj
        obj.journal.touch(obj)
        shown = pages + (vma.offset - (vma.start >> self._shift))
        entries = obj.pages.gather(shown)
        lacking = shown[entries == STORED].tolist()
        if lacking:
            needed.setdefault(obj, []).extend(lacking)
        return np.maximum(entries, ZERO_FRAME)

    def _differ(self, here: Frames, there: Frames) -> NDArray[np.bool_]:
        differs: NDArray[np.bool_] = here != there
        other = np.flatnonzero(differs)
        differs[other] = (self._pool.pages[here[other]] != self._pool.pages[there[other]]).any(axis=1)
        return differs


def append(runs: list[Run], run: Run) -> None:
    """Put a run behind the others; it is joined with one of its kind that it touches."""
    if runs and runs[-1].end == run.start and runs[-1].kind == run.kind:
        runs[-1] = runs[-1]._replace(end=run.end)
    else:
        runs.append(run)


def _append_pages(runs: list[Run], pages: Pages, shift: int, kind: str) -> None:
    for some in np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1):
        if len(some):
            append(runs, Run(some.item(0) << shift, (some.item(-1) + 1) << shift, kind))


def _alone(runs: list[Run], position: int, left: Vma | None, right: Vma | None) -> int:
    """What lies from `position` on is mapped by one side, or by none. Where the next piece begins."""
    starts = [max(vma.start, position) for vma in (left, right) if vma is not None]
    start, later = min(starts), max(starts)
    if start > position:
        return start
    first = left if left is not None and left.start <= position else right
    if first is None:
        return start
    end = first.end if later == start else min(first.end, later)
    append(runs, Run(start, end, LEFT if first is left else RIGHT))
    return end


def _dirty(obj: MemoryObject, low: int, high: int) -> Pages:
    """Pages in [low, high) that were written and are perhaps not in the store yet."""
    if high - low < len(obj.dirty):
        return np.array([page for page in range(low, high) if page in obj.dirty], np.int64)
    return np.array(sorted(page for page in obj.dirty if low <= page < high), np.int64)


def shown_by(regions: VmaMap) -> Seen:
    """A space's own regions."""
    return lambda address: regions.find(address) or regions.above(address)


def shown_as(window: Vma) -> Seen:
    """A segment by itself."""
    return lambda address: window if address < window.end else None
