"""The regions of one owner, a task or a space, and the memory behind them (Linux: mm_struct).

Every region has exactly one owner. An attached space is seen by a task as the union of both owners' regions
(union.py), by reference; so a range may be used by one owner only, and whoever would make two owners collide is
refused at that moment. `peers` are the owners that a range must not collide with: for a space the tasks that have it
attached, for a task the spaces it has attached.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.access import READ_WRITE, Access
from engine.address import VirtRange
from engine.changes import DropRegion, PutRegion, RegionRecord
from engine.constants import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_TYPE,
)
from engine.errors import EBUSY, EEXIST, EINVAL, ENOMEM, EPERM, Collision, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.memory_object import MemoryObject
from engine.vma import Vma, VmaMap

if TYPE_CHECKING:
    from engine.union import Union


@dataclass(slots=True)
class Break:
    """The heap's bounds in bytes: [start, now); `top` is what it may never pass."""

    start: int
    now: int
    top: int


class AddressSpace:
    """Regions of one owner over one geometry.

    `places` are the ranges searched, top down, for a mapping without a fixed address. `vid` is the space's id when the
    store remembers the regions, else 0.
    """

    __slots__ = (
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
    ) -> None:
        self.geometry = geometry
        self.journal: Journal = memory.journal
        self.memory = memory
        self.label = label
        self.places = places
        self.vid = vid
        self.pending = 0
        self.brk = Break(0, 0, 0)
        self.peers: list[AddressSpace] = []
        self.unions: list[Union] = []
        self.vmas = VmaMap(self.journal, geometry.page_shift, self._regions_changed)
        memory.mappers.append(self)

    # -- mapping -------------------------------------------------------------------------------------------------

    def mmap(self, address: int, length: int, prot: int, flags: int) -> int:
        """Map `length` bytes of zeros as mmap(2) does; the address. EINVAL, EEXIST, ENOMEM, EPERM as Linux.

        A FIXED range that holds a region of another owner, or a segment, is EEXIST and names the holder. A space has
        no stack: MAP_GROWSDOWN has no meaning for its regions and is not kept.
        """
        self._touch_neighbours()
        wanted = self._place(address, length, flags)
        if flags & MAP_TYPE not in (MAP_PRIVATE, MAP_SHARED) or not flags & MAP_ANONYMOUS:
            raise EngineError(
                EINVAL, f"flags {flags:#x}: one of MAP_PRIVATE and MAP_SHARED, and MAP_ANONYMOUS, are needed"
            )
        shared = flags & MAP_TYPE == MAP_SHARED
        if shared and flags & MAP_GROWSDOWN:
            raise EngineError(EINVAL, "shared memory does not grow")
        memory, offset = self.memory, wanted.start >> self.geometry.page_shift
        if shared and not self.vid:
            memory, offset = MemoryObject(self.memory.pool, self.journal), 0
        self.unmap(wanted.start, wanted.end)
        self._map(
            Vma(
                wanted.start,
                wanted.end,
                Access(prot & Access.ALL),
                memory,
                offset,
                shared=shared,
                grows_down=bool(flags & MAP_GROWSDOWN) and not self.vid,
            )
        )
        return wanted.start

    def map_segment(
        self, wanted: VirtRange, obj: MemoryObject, access: Access, sid: int, attach_type: int
    ) -> None:
        """Show a segment's memory at its fixed place. The caller has looked for collisions."""
        self._map(Vma(wanted.start, wanted.end, access, obj, 0, shared=True, sid=sid, type=attach_type))

    def adopt(self, vma: Vma) -> None:
        """Put a region in place as it is (restore, fork, the first regions of a program)."""
        self._map(vma)

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
            if all(vma.obj is not obj for vma in self.vmas):
                self._stop_showing(obj)

    def protect(self, start: int, end: int, access: Access) -> None:
        """Give one region's part [start, end), page aligned and inside it, other rights."""
        shift = self.geometry.page_shift
        changed = [
            replace(vma.part(max(vma.start, start), min(vma.end, end), shift), access=access)
            for vma in self.vmas.overlapping(start, end)
        ]
        self.vmas.replace(start, end, changed)
        self.zap(start, end)

    def set_break(self, address: int) -> int:
        """brk(2): the new break, or the present one when `address` is below the heap's start. ENOMEM: no room."""
        self._touch_neighbours()
        heap = self.brk
        if address < heap.start:
            return heap.now
        page = self.geometry.align_up
        old_end, new_end = page(heap.now), page(address)
        if address > heap.top:
            raise EngineError(ENOMEM, f"the heap ends at {heap.top:#x}", address=address)
        if new_end > old_end:
            wanted = VirtRange(old_end, new_end)
            self.refuse_collision(ENOMEM, wanted)
            offset = old_end >> self.geometry.page_shift
            self._map(Vma(old_end, new_end, READ_WRITE, self.memory, offset))
        elif new_end < old_end:
            self.unmap(new_end, old_end)
        before = heap.now
        heap.now = address
        self.journal.undo(lambda: setattr(heap, "now", before))
        return address

    # -- collisions ----------------------------------------------------------------------------------------------

    def refuse_collision(self, errno: str, wanted: VirtRange) -> None:
        """Raise `Collision` when a region of this owner or of a peer lies in `wanted`."""
        self._touch_neighbours()
        for owner in (self, *self.peers):
            held = owner.vmas.overlapping(wanted.start, wanted.end)
            if held:
                raise Collision(errno, wanted, held[0].range, owner.holder(held[0]))

    def holder(self, vma: Vma) -> str:
        """Who to name when `vma` is in the way."""
        return f"segment {vma.sid} in {self.label}" if vma.sid else self.label

    # -- caches of translations ----------------------------------------------------------------------------------

    def zap(self, start: int, end: int) -> None:
        """Drop cached translations of [start, end), bytes, for everybody who sees these regions; again on undo."""
        shift = self.geometry.page_shift
        first, count = start >> shift, (end - start) >> shift
        self._zap(first, count)
        self.journal.undo(lambda: self._zap(first, count))

    def zap_object(self, obj: MemoryObject, first: int, count: int) -> None:
        """Drop cached translations of pages [first, first + count) of `obj`."""
        shift = self.geometry.page_shift
        own = obj is self.memory  # shown at the addresses of its page numbers
        for vma in self.vmas.overlapping(first << shift, (first + count) << shift) if own else self.vmas:
            pages = (vma.end - vma.start) >> shift
            low, high = max(first - vma.offset, 0), min(first + count - vma.offset, pages)
            if vma.obj is obj and low < high:
                self._zap((vma.start >> shift) + low, high - low)

    # -- copies --------------------------------------------------------------------------------------------------

    def copy_into(self, child: "AddressSpace") -> None:
        """fork(2): give the empty `child`, whose memory is a clone of this one's, the same regions."""
        for vma in self.vmas:
            child.adopt(replace(vma, obj=child.memory) if vma.obj is self.memory else vma)
        child.brk = replace(self.brk)

    def release(self) -> None:
        """The owner is gone: give all memory back once that cannot be undone."""
        shown = {id(vma.obj): vma.obj for vma in self.vmas if vma.obj is not self.memory}
        for obj in shown.values():
            self._stop_showing(obj)
        self.memory.release()

    def mapped(self) -> int:
        """Bytes in regions."""
        return sum(vma.end - vma.start for vma in self.vmas)

    # -- details -------------------------------------------------------------------------------------------------

    def _place(self, address: int, length: int, flags: int) -> VirtRange:
        """Where a mapping goes, checked in the order of Linux's do_mmap."""
        geometry = self.geometry
        if length <= 0:
            raise EngineError(EINVAL, f"length {length}")
        size = geometry.align_up(length)
        fixed = bool(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
        if size > geometry.user_end or (fixed and not 0 <= address <= geometry.user_end - size):
            raise EngineError(
                ENOMEM,
                f"{size} bytes at {address:#x} do not fit below {geometry.user_end:#x}",
                address=address,
            )
        if not fixed:
            return self._find_free(address & -geometry.page_size, size)
        if not geometry.is_aligned(address):
            raise EngineError(EINVAL, f"address {address:#x} is not page aligned", address=address)
        if address < geometry.user_start:
            raise EngineError(EPERM, f"the user range starts at {geometry.user_start:#x}", address=address)
        wanted = VirtRange(address, address + size)
        if flags & MAP_FIXED_NOREPLACE:
            self.refuse_collision(EEXIST, wanted)
        for vma in self.vmas.overlapping(wanted.start, wanted.end):
            if vma.sid:
                raise Collision(EEXIST, wanted, vma.range, self.holder(vma))
        for peer in self.peers:
            held = peer.vmas.overlapping(wanted.start, wanted.end)
            if held:
                raise Collision(EEXIST, wanted, held[0].range, peer.holder(held[0]))
        return wanted

    def _find_free(self, hint: int, size: int) -> VirtRange:
        geometry = self.geometry
        if hint > 0:
            hint = max(hint, geometry.user_start)
            if hint + size <= geometry.user_end and self._blocker(hint, hint + size) is None:
                return VirtRange(hint, hint + size)
        for low, high in self.places:
            end = high
            while end - size >= low:
                blocker = self._blocker(end - size, end)
                if blocker is None:
                    return VirtRange(end - size, end)
                end = blocker
        raise EngineError(ENOMEM, f"no free range of {size} bytes", length=size)

    def _blocker(self, start: int, end: int) -> int | None:
        """Where the lowest of the highest regions in [start, end) starts, over this owner and its peers."""
        found = [owner.vmas.last_overlapping(start, end) for owner in (self, *self.peers)]
        starts = [vma.start for vma in found if vma is not None]
        return min(starts) if starts else None

    def _map(self, vma: Vma) -> None:
        self.vmas.replace(vma.start, vma.end, (vma,))
        shift = self.geometry.page_shift
        self.journal.undo(lambda: self._zap(vma.start >> shift, (vma.end - vma.start) >> shift))
        if vma.obj is not self.memory and self not in vma.obj.mappers:
            self.journal.touch(vma.obj)
            vma.obj.mappers.append(self)
            self.journal.undo(lambda: vma.obj.mappers.remove(self))

    def _stop_showing(self, obj: MemoryObject) -> None:
        """No region of this owner shows `obj` any more; volatile memory that nobody shows is given back."""
        self.journal.touch(obj)
        obj.mappers.remove(self)
        self.journal.undo(lambda: obj.mappers.append(self))
        if not obj.mappers and not obj.persistent:
            obj.release()

    def _touch_neighbours(self) -> None:
        """The answer depends on which ranges this owner and its peers use."""
        for owner in (self, *self.peers):
            self.journal.touch(owner)

    def _zap(self, first: int, count: int) -> None:
        for union in self.unions:
            union.table.zap(first, count)

    def _regions_changed(self, went: Sequence[Vma], came: Sequence[Vma]) -> None:
        self.journal.touch(self)
        if not self.vid:
            return
        records = {vma.start: region_record(vma) for vma in came}
        before = {vma.start: region_record(vma) for vma in went}
        for start in before.keys() - records.keys():
            self.journal.change(DropRegion(self.vid, start), self)
        for start, record in records.items():
            if before.get(start) != record:
                self.journal.change(PutRegion(self.vid, record), self)

    def segment_windows(self) -> Iterator[Vma]:
        """Regions that show a segment."""
        return (vma for vma in self.vmas if vma.sid)

    def refuse_segments(self, start: int, end: int) -> None:
        """EBUSY when [start, end) holds a segment's window: a segment leaves by vas_seg_detach only."""
        for vma in self.vmas.overlapping(start, end):
            if vma.sid:
                raise Collision(EBUSY, VirtRange(start, end), vma.range, self.holder(vma))


def region_record(vma: Vma) -> RegionRecord:
    """What the store keeps of a region."""
    return RegionRecord(vma.start, vma.end, int(vma.access), vma.shared, vma.sid, vma.type)
