"""The regions of one owner, a task or a space, and the memory behind them (Linux: mm_struct).

Every region has exactly one owner. An attached space is seen by a task as the union of both owners' regions
(union.py), by reference; so a range may be used by one owner only, and whoever would make two owners collide is
refused at that moment. `peers` are the owners that a range must not collide with: for a space the tasks that have it
attached, for a task the spaces it has attached.

A task's views (mmview.py) are address spaces kept in step: what changes regions here changes them in every one of
`views`, or in none. They show one `memory`, but for unshared regions, of which each view has pages of its own,
`private`, and rights of its own.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from engine.access import Access
from engine.address import VirtRange
from engine.changes import DropRegion, PutRegion, RegionRecord
from engine.constants import MAP_COUNT_MAX
from engine.errors import EBUSY, EFAULT, ENOMEM, Collision, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from engine.memory.page_table import PageTable
from engine.memory.paged_memory import PagedMemory
from engine.regions.limited import Limited
from engine.regions.limits import UNLIMITED, Limits
from engine.regions.vm_flags import LOCKED, UNSHARED
from engine.regions.vma import Replacement, Vma, VmaMap, replace_all

REGIONS_MAX = 16 * MAP_COUNT_MAX
"""Of all views of one task together."""
VIEW_WEIGHT = 1024
"""A new view counts as so many regions besides its own: it has page tables, and calls that change regions visit it."""


class Seer(Protocol):
    """Who sees these regions, and caches translations of them in `table`."""

    table: PageTable


@dataclass(slots=True)
class Break:
    """The heap's bounds in bytes: [start, now); `top` is what it may never pass."""

    start: int
    now: int
    top: int


class AddressSpace(Limited):
    """Regions of one owner over one geometry.

    `memory` and `private` are indexed by virtual page number; `private` exists while there are unshared regions.
    `places` are the ranges searched for a mapping without a fixed address, top down unless `bottom_up`. `vid` is the
    space's id when the store remembers the regions, else 0.
    """

    __slots__ = (
        "_anons",
        "bottom_up",
        "brk",
        "journal",
        "label",
        "memory",
        "peers",
        "pending",
        "places",
        "private",
        "unions",
        "vid",
    )

    def __init__(
        self,
        geometry: Geometry,
        memory: MemoryObject,
        label: str,
        places: Sequence[tuple[int, int]],
        vid: int = 0,
        limits: Limits = UNLIMITED,
    ) -> None:
        self.geometry = geometry
        self.journal: Journal = memory.journal
        self.memory = memory
        self.private: MemoryObject | None = None
        self.views: list[AddressSpace] = [self]
        self.label = label
        self.places = places
        self.bottom_up = False
        self.vid = vid
        self.pending = 0
        self.brk = Break(0, 0, 0)
        self.peers: list[AddressSpace] = []
        self.unions: list[Seer] = []
        self.vmas = VmaMap(memory, geometry.page_shift, self._regions_changed)
        self._anons = 0
        self.limits = limits
        memory.mappers.append(self)

    # -- regions -------------------------------------------------------------------------------------------------

    def owns(self, obj: PagedMemory) -> bool:
        """Whether it is this owner's own memory, shown at the addresses of its page numbers."""
        return obj is self.memory or obj is self.private

    def shown(self) -> list[MemoryObject]:
        """What its regions show beside `memory`, once each."""
        return list({id(vma.obj): vma.obj for vma in self.vmas if vma.obj is not self.memory}.values())

    def map(self, vma: Vma, *, join_left: bool = True, join_right: bool = True) -> None:
        """Put a region in an empty place; it merges with its neighbours. ENOMEM: too many regions, one more than by splits."""
        if len(self.views) > 1:
            map_all([Placed(view, vma, join_left, join_right) for view in self.views])
            return
        most = self.vmas.limit + 1
        self.vmas.replace(vma.start, vma.end, (vma,), join_left=join_left, join_right=join_right, limit=most)
        self.zap_on_undo(vma.start, vma.end)
        self._show(vma.obj)

    def show_instead(self, vma: Vma, other: Vma) -> None:
        """Let a part `vma` of a region of the only view be `other`, which shows its pages in other memory. ENOMEM."""
        self.vmas.replace(vma.start, vma.end, (other,))
        self.zap(vma.start, vma.end)
        self._show(other.obj)
        if vma.obj is not self.memory and not self.vmas.shows(vma.obj):
            self._stop_showing(vma.obj)

    def fill(self, vmas: list[Vma]) -> None:
        """The regions, ascending and disjoint, of an owner that is new and has none. They are not merged."""
        self.vmas.fill(vmas)
        for obj in {id(vma.obj): vma.obj for vma in vmas}.values():
            self._show(obj)

    def redraw(self, vmas: list[Vma]) -> None:
        """Make `vmas`, ascending and of own memory, all the regions of a space but the windows of its segments.

        EFAULT: one is in the way of such a window or of a peer.
        """
        starts = [vma.start for vma in vmas]
        others = [(self, vma) for vma in self.segment_windows()]
        for peer in self.peers:
            self.journal.touch(peer)
            others += [(peer, vma) for vma in peer.vmas]
        for owner, held in others:
            index = bisect_left(starts, held.end) - 1
            if index >= 0 and vmas[index].end > held.start:
                raise Collision(EFAULT, vmas[index].range, held.range, owner.holder(held))
        geometry = self.geometry
        kept = sorted([*self.segment_windows(), *vmas], key=lambda vma: vma.start)
        self.vmas.replace(geometry.user_start, geometry.user_end, kept)
        self.zap(geometry.user_start, geometry.user_end)

    def unmap(self, start: int, end: int) -> None:
        """Drop this owner's regions in the page-aligned [start, end); what it held reads as zeros if mapped anew."""
        gone = self.vmas.overlapping(start, end)
        if not gone:
            return
        if len(self.views) == 1:
            self.vmas.replace(start, end, ())
            self._unmapped(gone, start, end)
            return
        went = [(view, view.vmas.overlapping(start, end)) for view in self.views]
        if any(vmas[0].start < start and end < vmas[0].end for _, vmas in went):
            self.require_regions(len(went))
        replace_all([Replacement(view.vmas, start, end) for view in self.views])
        for view, vmas in went:
            view._unmapped(vmas, start, end)

    def _unmapped(self, went: Sequence[Vma], start: int, end: int) -> None:
        """These regions of one view are gone in [start, end)."""
        shift = self.geometry.page_shift
        others: dict[int, MemoryObject] = {}
        for vma in went:
            low, high = max(vma.start, start), min(vma.end, end)
            self.zap(low, high)
            if vma.obj is not self.memory:
                others[id(vma.obj)] = vma.obj
            if vma.obj is self.private or (vma.obj is self.memory and self is self.views[-1]):
                vma.obj.discard(low >> shift, (high - low) >> shift)
        for obj in others.values():
            if not self.vmas.shows(obj):
                self._stop_showing(obj)

    def cut(self, address: int) -> None:
        """Split the region that `address` lies inside of, if there is one, in two. ENOMEM: too many regions."""
        for view in self.views:
            view.vmas.cut(address)

    def change(self, vma: Vma, start: int, end: int, access: Access, gained: int = 0, lost: int = 0) -> None:
        """Give the part [start, end) of `vma` other rights, and flags beside those it has, without those `lost`.

        Rights of an unshared region are this view's alone. ENOMEM: too many regions; a task's only region there that
        has to be split twice may then be split once, as on Linux.
        """
        low, high = max(vma.start, start), min(vma.end, end)
        views = self.views
        if access != vma.access and vma.flags & UNSHARED:
            views = [self]
        if len(self.views) > 1:
            self.require_regions(2 * len(views))
        if len(views) == 1:
            self._change(vma, low, high, access, vma.flags & ~lost | gained)
            return
        replacements = []
        for view in views:
            inner = [
                part._replace(
                    access=part.access if access == vma.access else access, flags=part.flags & ~lost | gained
                )
                for part in view.parts(low, high)
            ]
            replacements.append(Replacement(view.vmas, low, high, inner))
        replace_all(replacements)
        for view in views:
            view.zap(low, high)

    def _change(self, vma: Vma, start: int, end: int, access: Access, flags: int) -> None:
        if vma.access == access and vma.flags == flags:
            return
        part = vma.part(start, end, self.geometry.page_shift)
        try:
            self.vmas.replace(part.start, part.end, (part._replace(access=access, flags=flags),))
        except EngineError as error:
            if (
                not self.vid
                and len(self.views) == 1
                and vma.start < part.start
                and part.end < vma.end
                and len(self.vmas) < self.vmas.limit
            ):
                self.vmas.cut(part.start)
                error.partial = True
            raise
        self.zap(part.start, part.end)

    def parts(self, start: int, end: int) -> list[Vma]:
        """Regions of this view, cut down to [start, end)."""
        shift = self.geometry.page_shift
        return [
            vma.part(max(vma.start, start), min(vma.end, end), shift)
            for vma in self.vmas.overlapping(start, end)
        ]

    def before_write(self, vma: Vma) -> None:
        """A task's private region is written for the first time: which regions it may merge with is settled now.

        It joins the neighbour, the upper one first, that differs in rights at most (Linux: anon_vma_prepare).
        """
        if vma.anon or vma.shared or self.vid:
            return
        if len(self.views) == 1 or vma.flags & UNSHARED:
            self._mark_written(vma)
            return
        for view in self.views:
            for each in view.vmas.overlapping(vma.start, vma.end):
                if not each.anon:
                    view._mark_written(each)

    def _mark_written(self, vma: Vma) -> None:
        shift = self.geometry.page_shift
        above, below = self.vmas.above(vma.end), self.vmas.below(vma.start)
        if above and above.anon and not above.forked and vma.follows_on(above, shift):
            anon = above.anon
        elif below and below.anon and not below.forked and below.follows_on(vma, shift):
            anon = below.anon
        else:
            anon = self.new_anon()
        self.vmas.replace(vma.start, vma.end, (vma._replace(anon=anon),), join_left=False, join_right=False)

    def new_anon(self) -> int:
        """A number for pages written together that no region of this owner has."""
        self._anons += 1
        return self._anons

    def continue_anons(self, other: "AddressSpace") -> None:
        """Begin with the numbers of another view, which the regions that both show have."""
        self._anons = other._anons

    def require_regions(self, more: int, weight: int = 0) -> None:
        """ENOMEM when so many more would be too many in all views together, each counting as `weight` regions besides."""
        held = sum(len(view.vmas) + weight for view in self.views)
        if held + more > REGIONS_MAX:
            raise EngineError(
                ENOMEM, f"{len(self.views)} views have {held} regions, {more} more are too many"
            )

    def touch_neighbours(self) -> None:
        """The answer depends on which ranges this owner and its peers use."""
        for owner in (*self.views, *self.peers):
            self.journal.touch(owner)

    # -- collisions ----------------------------------------------------------------------------------------------

    def refuse_collision(self, errno: str, wanted: VirtRange) -> None:
        """Raise `Collision` when a region of this owner or of a peer lies in `wanted`."""
        self.touch_neighbours()
        for owner in (self, *self.peers):
            owner.refuse_held(errno, wanted)

    def refuse_peers(self, errno: str, wanted: VirtRange) -> None:
        """Raise `Collision` when a region of a peer, or a segment's window, lies in `wanted`."""
        for vma in self.vmas.overlapping(wanted.start, wanted.end):
            if vma.sid:
                raise Collision(errno, wanted, vma.range, self.holder(vma))
        for peer in self.peers:
            peer.refuse_held(errno, wanted)

    def refuse_held(self, errno: str, wanted: VirtRange) -> None:
        """Raise `Collision` when a region of this owner lies in `wanted`."""
        held = self.vmas.overlapping(wanted.start, wanted.end)
        if held:
            raise Collision(errno, wanted, held[0].range, self.holder(held[0]))

    def refuse_segments(self, start: int, end: int) -> None:
        """EBUSY when [start, end) holds a segment's window: a segment leaves by vas_seg_detach only."""
        for vma in self.vmas.overlapping(start, end):
            if vma.sid:
                raise Collision(EBUSY, VirtRange(start, end), vma.range, self.holder(vma))

    def holder(self, vma: Vma) -> str:
        """Who to name when `vma` is in the way."""
        return f"segment {vma.sid} in {self.label}" if vma.sid else self.label

    def segment_windows(self) -> Iterator[Vma]:
        """Regions that show a segment."""
        return (vma for vma in self.vmas if vma.sid)

    # -- caches of translations ----------------------------------------------------------------------------------

    def zap(self, start: int, end: int) -> None:
        """Drop cached translations of [start, end), bytes, for everybody who sees these regions; again on undo."""
        shift = self.geometry.page_shift
        self._zap(start >> shift, (end - start) >> shift)
        self.zap_on_undo(start, end)

    def zap_on_undo(self, start: int, end: int) -> None:
        """[start, end) is new: who takes that back drops its translations."""
        shift = self.geometry.page_shift
        self.journal.undo(self._zap, start >> shift, (end - start) >> shift)

    def zap_object(self, obj: PagedMemory, first: int, count: int) -> None:
        """Drop cached translations of pages [first, first + count) of `obj`."""
        shift = self.geometry.page_shift
        own = obj is self.memory  # shown at the addresses of its page numbers
        if own and count << shift > self.geometry.user_end:
            self._zap_all_own()
            return
        shown = (
            self.vmas.overlapping(first << shift, (first + count) << shift) if own else self.vmas.windows(obj)
        )
        for vma in shown:
            pages = (vma.end - vma.start) >> shift
            low, high = max(first - vma.offset, 0), min(first + count - vma.offset, pages)
            if vma.obj is obj and low < high:
                self._zap((vma.start >> shift) + low, high - low)

    def _zap_all_own(self) -> None:
        """Drop the translations of all own memory, at one go between what is not."""
        shift, end = self.geometry.page_shift, self.geometry.user_end
        others = sorted(
            (vma.start, vma.end)
            for owner in (self, *self.peers)
            for vma in owner.vmas
            if vma.obj is not self.memory
        )
        position = 0
        for start, stop in [*others, (end, end)]:
            if position < start:
                self._zap(position >> shift, (start - position) >> shift)
            position = max(position, stop)

    def locked_pages(self, obj: PagedMemory) -> Iterator[tuple[int, int]]:
        """Pages of `obj` that locked regions show: (first, count)."""
        shift = self.geometry.page_shift
        for vma in self.vmas if obj is self.memory else self.vmas.windows(obj):
            if vma.flags & LOCKED and vma.obj is obj:
                yield vma.offset, (vma.end - vma.start) >> shift

    # -- the end -------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """The owner is gone: give all memory back once that cannot be undone. Views share it until the last one."""
        if len(self.views) > 1:
            position = self.views.index(self)
            self.views.pop(position)
            self.journal.undo(self.views.insert, position, self)
        for obj in self.shown():
            self._stop_showing(obj)
        if len(self.memory.mappers) == 1:
            self.memory.release()
        else:
            self._stop_showing(self.memory)

    # -- details -------------------------------------------------------------------------------------------------

    def _show(self, obj: MemoryObject) -> None:
        if obj is not self.memory and self not in obj.mappers:
            self.journal.touch(obj)
            obj.mappers.append(self)
            self.journal.undo(lambda: obj.mappers.remove(self))

    def _stop_showing(self, obj: MemoryObject) -> None:
        """No region of this owner shows `obj` any more; volatile memory that nobody shows is given back."""
        self.journal.touch(obj)
        obj.mappers.remove(self)
        self.journal.undo(lambda: obj.mappers.append(self))
        if obj is self.private:
            self.private = None
            self.journal.undo(setattr, self, "private", obj)
        if not obj.mappers and not obj.persistent:
            obj.release()

    def _zap(self, first: int, count: int) -> None:
        for union in self.unions:
            union.table.zap(first, count)

    def _split_huge(self, memory: MemoryObject, vmas: Sequence[Vma]) -> None:
        """A huge page lies in one region: where an edge cuts through it, it is split."""
        for vma in vmas:
            for edge in (vma.start, vma.end):
                page = edge >> self.geometry.page_shift
                if page & (LEAF_PAGES - 1):
                    memory.pages.split(page >> LEAF_SHIFT)

    def _regions_changed(self, went: Sequence[Vma], came: Sequence[Vma]) -> None:
        self.journal.touch(self)
        if not self.vid:
            if self.memory.pages.has_huge:
                self._split_huge(self.memory, (*went, *came))
            if self.private is not None and self.private.pages.has_huge:
                self._split_huge(self.private, (*went, *came))
            return
        records = {vma.start: region_record(vma) for vma in came}
        before = {vma.start: region_record(vma) for vma in went}
        for start in before.keys() - records.keys():
            self.journal.change(DropRegion(self.vid, start), self)
        for start, record in records.items():
            if before.get(start) != record:
                self.journal.change(PutRegion(self.vid, record), self)


class Placed(NamedTuple):
    """A region that is to be put into an empty place, and whether it merges with its neighbours."""

    owner: AddressSpace
    vma: Vma
    join_left: bool = True
    join_right: bool = True


def map_all(placed: Sequence[Placed]) -> None:
    """Map regions, each of one view: all or none. ENOMEM: too many regions, one more than by splits."""
    if len(placed) > 1:
        placed[0].owner.require_regions(len(placed))
    replace_all([Replacement(p.owner.vmas, p.vma.start, p.vma.end, (p.vma,), *p[2:], 1) for p in placed])
    for owner, vma, *_ in placed:
        owner.zap_on_undo(vma.start, vma.end)
        owner._show(vma.obj)


def region_record(vma: Vma) -> RegionRecord:
    """What the store keeps of a region."""
    return RegionRecord(vma.start, vma.end, int(vma.access), vma.shared, vma.sid, vma.type, vma.flags)
