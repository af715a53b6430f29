"""Regions: what was asked for, in address order.

`VmaMap.replace` is the only way regions change; it splits, merges, counts against the limit, can be undone, and tells
the owner what came and went.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from engine.access import Access
from engine.address import VirtRange
from engine.changes import RegionRecord
from engine.constants import MAP_COUNT_MAX, O_RDWR
from engine.errors import ENOMEM, EngineError
from engine.journal import Journal
from engine.memory.memory_object import MemoryObject
from engine.memory.paged_memory import PagedMemory
from engine.regions.vm_flags import GROWS_DOWN


class Vma(NamedTuple):
    """[start, end) in bytes shows `obj` from page `offset` with rights `access`.

    `sid` is the segment it is a window on (0: none), `type` the type that segment is attached with. `flags` are those
    of vm_flags. A task's private region knows besides, as on Linux: `moved`, the pages that its page offset lies off
    its place (not 0 after mremap of written memory); `anon`, which pages it has been written together with (0: never
    written; Linux: anon_vma); and `forked`, whether its pages may also be those of the task it was forked from.
    """

    start: int
    end: int
    access: Access
    obj: MemoryObject
    offset: int
    shared: bool = False
    sid: int = 0
    type: int = O_RDWR
    flags: int = 0
    moved: int = 0
    anon: int = 0
    forked: bool = False

    @property
    def range(self) -> VirtRange:
        """[start, end) as a value."""
        return VirtRange(self.start, self.end)

    @property
    def grows_down(self) -> bool:
        """Whether it is a stack."""
        return bool(self.flags & GROWS_DOWN)

    def page_of(self, address: int, page_shift: int) -> int:
        """The object's page that `address` shows."""
        return self.offset + ((address - self.start) >> page_shift)

    def part(self, start: int, end: int, page_shift: int) -> "Vma":
        """The region cut down to [start, end), page aligned and inside it."""
        return self._replace(start=start, end=end, offset=self.page_of(start, page_shift))

    def follows_on(self, right: "Vma", page_shift: int) -> bool:
        """Whether `right` begins where this ends, in memory too, and differs in nothing but rights and writes."""
        return (
            self.end == right.start
            and self.obj is right.obj
            and self.flags == right.flags
            and self.moved == right.moved
            and self.shared == right.shared
            and self.sid == right.sid
            and self.type == right.type
            and self.page_of(self.end, page_shift) == right.offset
        )

    def merges_with(self, right: "Vma", page_shift: int) -> bool:
        """Whether both may be one region (Linux: can_vma_merge_after and is_mergeable_anon_vma)."""
        return (
            self.access == right.access
            and (self.anon == right.anon or not ((self.anon and right.anon) or self.forked or right.forked))
            and self.follows_on(right, page_shift)
        )

    def merged_with(self, right: "Vma") -> "Vma":
        """Both as one region."""
        return self._replace(end=right.end, anon=self.anon or right.anon, forked=self.forked or right.forked)


def from_record(record: RegionRecord, obj: MemoryObject, offset: int) -> Vma:
    """A region of a space as the store keeps it; it shows `obj` from page `offset` on."""
    return Vma(
        record.start,
        record.end,
        Access(record.access),
        obj,
        offset,
        record.shared,
        record.sid,
        record.type,
        record.flags,
    )


RegionsChanged = Callable[[Sequence[Vma], Sequence[Vma]], None]
"""Told (regions that went, regions that came) after each change."""


class VmaMap:
    """Disjoint regions in two parallel sorted lists (starts for bisect, regions). `limit` is their greatest number."""

    __slots__ = ("_changed", "_journal", "_own", "_page_shift", "_starts", "_vmas", "_windows", "limit")

    def __init__(self, own: MemoryObject, page_shift: int, changed: RegionsChanged) -> None:
        self._own = own
        self._journal: Journal = own.journal
        self._windows: dict[int, set[int]] = {}
        self._page_shift = page_shift
        self._changed = changed
        self._starts: list[int] = []
        self._vmas: list[Vma] = []
        self.limit = MAP_COUNT_MAX

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

    def windows(self, obj: PagedMemory) -> list[Vma]:
        """The regions that show `obj`, which is not the owner's own memory, ascending."""
        found = (self.find(start) for start in sorted(self._windows.get(id(obj), ())))
        return [vma for vma in found if vma is not None]

    def shows(self, obj: PagedMemory) -> bool:
        """Whether a region shows `obj`, which is not the owner's own memory."""
        return bool(self._windows.get(id(obj)))

    def of_others(self) -> Iterator[Vma]:
        """A region of each object shown here that is not the owner's own memory."""
        found = (self.find(next(iter(starts))) for starts in self._windows.values())
        return (vma for vma in found if vma is not None)

    def above(self, address: int) -> Vma | None:
        """The lowest region that starts at or above `address`."""
        index = bisect_left(self._starts, address)
        return self._vmas[index] if index < len(self._vmas) else None

    def below(self, address: int) -> Vma | None:
        """The highest region that starts below `address`."""
        index = bisect_left(self._starts, address) - 1
        return self._vmas[index] if index >= 0 else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Regions that share a byte with [start, end), ascending."""
        return self._vmas[self._first_index(start) : bisect_left(self._starts, end)]

    def last_overlapping(self, start: int, end: int) -> Vma | None:
        """The highest region that shares a byte with [start, end)."""
        index = bisect_left(self._starts, end) - 1
        if index < 0 or self._vmas[index].end <= start:
            return None
        return self._vmas[index]

    def replace(
        self,
        start: int,
        end: int,
        inner: Sequence[Vma],
        *,
        join_left: bool = True,
        join_right: bool = True,
        limit: int | None = None,
    ) -> None:
        """Make `inner` (ascending, inside [start, end)) all that lies in [start, end).

        Regions across the edges are split. What touches and may be one region is merged, first with what lies to the
        left; `join_left` and `join_right` say whether regions outside [start, end) take part.
        ENOMEM: more than `limit` regions, by default the map's.
        """
        most = self.limit if limit is None else limit
        low, high, came = self.plan(start, end, inner, join_left, join_right, most)
        went = self._vmas[low:high]
        if came == went:
            return
        self._set(low, high, came)
        if self._journal.active:
            bounds = [*went, *came]
            span = min(vma.start for vma in bounds), max(vma.end for vma in bounds)
            self._journal.undo(lambda: self._put_back(span, went))
        self._changed(went, came)

    def plan(
        self, start: int, end: int, inner: Sequence[Vma], join_left: bool, join_right: bool, limit: int
    ) -> tuple[int, int, list[Vma]]:
        """What `replace` would do: the regions from index `low` to `high` become others. ENOMEM."""
        shift, vmas = self._page_shift, self._vmas
        low, high = self._first_index(start), bisect_left(self._starts, end)
        pieces = list(inner)
        if low < high and vmas[low].start < start:
            pieces.insert(0, vmas[low].part(vmas[low].start, start, shift))
        elif join_left and inner and low > 0 and vmas[low - 1].merges_with(inner[0], shift):
            low -= 1
            pieces.insert(0, vmas[low])
        if low < high and vmas[high - 1].end > end:
            pieces.append(vmas[high - 1].part(end, vmas[high - 1].end, shift))
        elif join_right and inner and high < len(vmas) and inner[-1].merges_with(vmas[high], shift):
            pieces.append(vmas[high])
            high += 1
        came = merged(pieces, shift)
        count = len(vmas) - (high - low) + len(came)
        if count > limit and len(came) > high - low:
            raise EngineError(ENOMEM, f"more than {limit} regions")
        return low, high, came

    def fill(self, vmas: list[Vma]) -> None:
        """The regions, ascending and disjoint, of an owner that is new and has none. They are not merged."""
        self._set(0, 0, vmas)
        self._changed((), vmas)

    def cut(self, address: int) -> None:
        """Split the region that `address` lies inside of, if there is one, in two. ENOMEM: too many regions."""
        index = self._first_index(address)
        if index == len(self._vmas) or self._vmas[index].start >= address:
            return
        if len(self._vmas) >= self.limit:
            raise EngineError(ENOMEM, f"more than {self.limit} regions")
        whole = self._vmas[index]
        parts = [
            whole.part(whole.start, address, self._page_shift),
            whole.part(address, whole.end, self._page_shift),
        ]
        self._set(index, index + 1, parts)
        self._journal.undo(self._put_back, (whole.start, whole.end), [whole])
        self._changed([whole], parts)

    def _put_back(self, span: tuple[int, int], vmas: list[Vma]) -> None:
        self._set(bisect_left(self._starts, span[0]), bisect_left(self._starts, span[1]), vmas)

    def _set(self, low: int, high: int, vmas: list[Vma]) -> None:
        for vma in self._vmas[low:high]:
            if vma.obj is not self._own:
                starts = self._windows[id(vma.obj)]
                starts.discard(vma.start)
                if not starts:
                    del self._windows[id(vma.obj)]
        self._vmas[low:high] = vmas
        self._starts[low:high] = [vma.start for vma in vmas]
        for vma in vmas:
            if vma.obj is not self._own:
                self._windows.setdefault(id(vma.obj), set()).add(vma.start)

    def _first_index(self, address: int) -> int:
        """Index of the lowest region that ends above `address`."""
        index = bisect_right(self._starts, address) - 1
        return index if index >= 0 and self._vmas[index].end > address else index + 1


class Replacement(NamedTuple):
    """Arguments of `VmaMap.replace`; so many regions `more` than the map's limit may be there."""

    vmas: VmaMap
    start: int
    end: int
    inner: Sequence[Vma] = ()
    join_left: bool = True
    join_right: bool = True
    more: int = 0


def replace_all(replacements: Sequence[Replacement]) -> None:
    """Replace regions of several maps, each independent of the others: all or none. ENOMEM as `replace`."""
    if len(replacements) > 1:
        for vmas, start, end, inner, left, right, more in replacements:
            vmas.plan(start, end, inner, left, right, vmas.limit + more)
    for vmas, start, end, inner, left, right, more in replacements:
        vmas.replace(start, end, inner, join_left=left, join_right=right, limit=vmas.limit + more)


def merged(pieces: Sequence[Vma], page_shift: int) -> list[Vma]:
    """Ascending regions, those joined that touch and may be one."""
    joined: list[Vma] = []
    for piece in pieces:
        if joined and joined[-1].merges_with(piece, page_shift):
            joined[-1] = joined[-1].merged_with(piece)
        else:
            joined.append(piece)
    return joined
