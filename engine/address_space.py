"""The regions of one owner, a task or a space, and the memory behind them (Linux: mm_struct).

Every region has exactly one owner. An attached space is seen by a task as the union of both owners' regions
(union.py), by reference; so a range may be used by one owner only, and whoever would make two owners collide is
refused at that moment. `peers` are the owners that a range must not collide with: for a space the tasks that have it
attached, for a task the spaces it has attached.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.access import Access
from engine.address import VirtRange
from engine.changes import DropRegion, PutRegion, RegionRecord
from engine.constants import RLIM_INFINITY
from engine.errors import EBUSY, ENOMEM, Collision, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.limits import UNLIMITED, Limits
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT
from engine.memory.page_table import PageTable
from engine.memory.paged_memory import PagedMemory
from engine.vm_flags import DONT_COPY, GROWS_DOWN, LOCK_FLAGS, LOCKED
from engine.vma import Vma, VmaMap


class Seer(Protocol):
    """Who sees these regions, and caches translations of them in `table`."""

    table: PageTable


@dataclass(slots=True)
class Break:
    """The heap's bounds in bytes: [start, now); `top` is what it may never pass."""

    start: int
    now: int
    top: int


class AddressSpace:
    """Regions of one owner over one geometry.

    `places` are the ranges searched for a mapping without a fixed address, top down unless `bottom_up`. `vid` is the
    space's id when the store remembers the regions, else 0.
    """

    __slots__ = (
        "_anons",
        "_limits",
        "bottom_up",
        "brk",
        "geometry",
        "journal",
        "label",
        "memory",
        "peers",
        "pending",
        "places",
        "unions",
        "vid",
        "vmas",
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

    def map(self, vma: Vma, *, join_left: bool = True, join_right: bool = True) -> None:
        """Put a region in an empty place; it merges with its neighbours. ENOMEM: too many regions, one more than by splits."""
        most = self.vmas.limit + 1
        self.vmas.replace(vma.start, vma.end, (vma,), join_left=join_left, join_right=join_right, limit=most)
        self.zap_on_undo(vma.start, vma.end)
        self._show(vma.obj)

    def fill(self, vmas: list[Vma]) -> None:
        """The regions, ascending and disjoint, of an owner that is new and has none. They are not merged."""
        self.vmas.fill(vmas)
        for obj in {id(vma.obj): vma.obj for vma in vmas}.values():
            self._show(obj)

    def unmap(self, start: int, end: int) -> None:
        """Drop this owner's regions in the page-aligned [start, end); what it held reads as zeros if mapped anew."""
        went = self.vmas.overlapping(start, end)
        if not went:
            return
        self.vmas.replace(start, end, ())
        shift = self.geometry.page_shift
        others: dict[int, MemoryObject] = {}
        for vma in went:
            low, high = max(vma.start, start), min(vma.end, end)
            self.zap(low, high)
            if vma.obj is self.memory:
                self.memory.discard(low >> shift, (high - low) >> shift)
            else:
                others[id(vma.obj)] = vma.obj
        for obj in others.values():
            if not self.vmas.shows(obj):
                self._stop_showing(obj)

    def change(self, vma: Vma, start: int, end: int, access: Access, flags: int) -> None:
        """Give the part [start, end) of `vma` other rights and flags.

        ENOMEM: too many regions; a task's region that has to be split twice may then be split once, as on Linux.
        """
        if vma.access == access and vma.flags == flags:
            return
        part = vma.part(max(vma.start, start), min(vma.end, end), self.geometry.page_shift)
        try:
            self.vmas.replace(part.start, part.end, (part._replace(access=access, flags=flags),))
        except EngineError as error:
            if (
                not self.vid
                and vma.start < part.start
                and part.end < vma.end
                and len(self.vmas) < self.vmas.limit
            ):
                self.vmas.cut(part.start)
                error.partial = True
            raise
        self.zap(part.start, part.end)

    def before_write(self, vma: Vma) -> None:
        """A task's private region is written for the first time: which regions it may merge with is settled now.

        It joins the neighbour, the upper one first, that differs in rights at most (Linux: anon_vma_prepare).
        """
        if vma.anon or vma.shared or self.vid:
            return
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

    def touch_neighbours(self) -> None:
        """The answer depends on which ranges this owner and its peers use."""
        for owner in (self, *self.peers):
            self.journal.touch(owner)

    # -- limits --------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What the owner may use."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self.vmas.limit = limits.map_count

    def mapped(self) -> int:
        """Bytes in regions."""
        return sum(vma.end - vma.start for vma in self.vmas)

    def data(self) -> int:
        """Bytes in private writable regions that are no stack."""
        return sum(vma.end - vma.start for vma in self.vmas if is_data(vma))

    def locked(self) -> int:
        """Bytes in locked regions."""
        return sum(vma.end - vma.start for vma in self.vmas if vma.flags & LOCKED)

    def require_room(self, length: int, *, data: bool) -> None:
        """ENOMEM when `length` bytes more would pass the limit of the address space, or of data."""
        if not self.has_room(length):
            limit = self._limits.address_space
            raise EngineError(ENOMEM, f"the address space is limited to {limit} bytes", length=length)
        if data:
            self.require_data(length)

    def has_room(self, length: int) -> bool:
        """Whether the limit of the address space leaves room for `length` bytes more."""
        limit = self._limits.address_space
        return limit == RLIM_INFINITY or self.mapped() + length <= limit & -self.geometry.page_size

    def require_data(self, length: int) -> None:
        """ENOMEM when `length` bytes more would pass the limit of data."""
        limit = self._limits.data
        if limit != RLIM_INFINITY and self.data() + length > limit & -self.geometry.page_size:
            raise EngineError(ENOMEM, f"data is limited to {limit} bytes", length=length)

    def require_lockable(self, length: int, errno: str) -> None:
        """`errno` when `length` bytes more would pass the limit of locked memory."""
        limit = self._limits.locked
        if limit != RLIM_INFINITY and self.locked() + length > limit & -self.geometry.page_size:
            raise EngineError(errno, f"locked memory is limited to {limit} bytes", length=length)

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

    # -- copies --------------------------------------------------------------------------------------------------

    def copy_into(self, child: "AddressSpace") -> None:
        """fork(2): give the empty `child`, whose memory is a clone of this one's, the same regions.

        Locks are not inherited, nor is what was advised DONTFORK. What was written is from now on the parent's too.
        """
        shift = self.geometry.page_shift
        copies: list[Vma] = []
        for vma in self.vmas:
            own = vma.obj is self.memory
            if own and (vma.flags & DONT_COPY or not vma.anon):
                child.memory.discard(vma.offset, (vma.end - vma.start) >> shift)
            if vma.flags & DONT_COPY:
                continue
            copy = vma
            if own or vma.flags & LOCK_FLAGS:
                obj = child.memory if own else vma.obj
                anon = child.new_anon() if vma.anon else 0
                flags = vma.flags & ~LOCK_FLAGS
                copy = vma._replace(obj=obj, flags=flags, anon=anon, forked=bool(anon))
            copies.append(copy)
        child.fill(copies)
        child.brk = replace(self.brk)

    def release(self) -> None:
        """The owner is gone: give all memory back once that cannot be undone."""
        shown = {id(vma.obj): vma.obj for vma in self.vmas if vma.obj is not self.memory}
        for obj in shown.values():
            self._stop_showing(obj)
        self.memory.release()

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
        if not obj.mappers and not obj.persistent:
            obj.release()

    def _zap(self, first: int, count: int) -> None:
        for union in self.unions:
            union.table.zap(first, count)

    def _split_huge(self, edge: int) -> None:
        """A huge page lies in one region: where an edge cuts through it, it is split."""
        page = edge >> self.geometry.page_shift
        if page & (LEAF_PAGES - 1):
            self.memory.pages.split(page >> LEAF_SHIFT)

    def _regions_changed(self, went: Sequence[Vma], came: Sequence[Vma]) -> None:
        self.journal.touch(self)
        if not self.vid:
            if self.memory.pages.has_huge:
                for vma in (*went, *came):
                    self._split_huge(vma.start)
                    self._split_huge(vma.end)
            return
        records = {vma.start: region_record(vma) for vma in came}
        before = {vma.start: region_record(vma) for vma in went}
        for start in before.keys() - records.keys():
            self.journal.change(DropRegion(self.vid, start), self)
        for start, record in records.items():
            if before.get(start) != record:
                self.journal.change(PutRegion(self.vid, record), self)


def is_data(vma: Vma) -> bool:
    """Whether a region counts as data: private, writable, no stack."""
    return bool(vma.access & Access.WRITE) and not vma.shared and not vma.flags & GROWS_DOWN


def region_record(vma: Vma) -> RegionRecord:
    """What the store keeps of a region."""
    return RegionRecord(vma.start, vma.end, int(vma.access), vma.shared, vma.sid, vma.type, vma.flags)
