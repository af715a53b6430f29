"""What a thread sees: its task's regions and, inside a space, that space's regions too, with cached translations.

A task has one union for its original address space and one for each attached space. Switching a thread is choosing
another union: nothing is copied and nothing can conflict, since both owners' regions are used by reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.access import Access, attach_limit
from engine.constants import O_RDWR
from engine.errors import EACCES, ENOMEM, EngineError, PageFault, PagesNeeded
from engine.memory.fault import deny
from engine.memory.frames import ZERO_FRAME, Frames
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, leaf_spans
from engine.memory.page_table import FRAME_SHIFT, PRESENT, WRITABLE, PageTable
from engine.memory.paging import with_successors
from engine.regions.address_space import AddressSpace
from engine.regions.huge import promote
from engine.regions.stack import grow, growable
from engine.regions.vm_flags import HUGEPAGE, LOCK_ON_FAULT, RAND_READ, VAS_PRIVATE
from engine.regions.vma import Vma

_PAST_END = "past the end of its memory"
_WORDS = {Access.READ: "read", Access.WRITE: "write"}
_NEEDED = {Access.READ: PRESENT, Access.WRITE: PRESENT | WRITABLE}


@dataclass(slots=True)
class Counters:
    """Of one task. Faults are counted in pages."""

    minor_faults: int = 0
    major_faults: int = 0
    switches: int = 0

    def add(self, other: "Counters", times: int = 1) -> None:
        """Count what another has counted, so many times."""
        self.minor_faults += times * other.minor_faults
        self.major_faults += times * other.major_faults
        self.switches += times * other.switches


@dataclass(frozen=True, slots=True)
class Piece:
    """A part [start, end) of an access that lies in one region."""

    owner: AddressSpace
    vma: Vma
    start: int
    end: int

    def before_write(self) -> "Piece":
        """The piece, its region ready to be written."""
        self.owner.before_write(self.vma)
        vma = self.owner.vmas.find(self.start) or self.vma
        return Piece(self.owner, vma, self.start, self.end)


class Union:
    """The task's `own` address space plus at most one attached `space`, whose rights the attach type limits."""

    __slots__ = ("_page_shift", "counters", "limit", "own", "space", "table")

    def __init__(
        self,
        own: AddressSpace,
        counters: Counters,
        space: AddressSpace | None = None,
        attach_type: int = O_RDWR,
    ) -> None:
        self.own = own
        self.space = space
        self.limit = int(attach_limit(attach_type))
        self.counters = counters
        self.table = PageTable()
        self._page_shift = own.geometry.page_shift

    # -- bytes ---------------------------------------------------------------------------------------------------

    def load(self, address: int, length: int) -> bytes:
        """`length` bytes from `address`. EFAULT names the first byte that cannot be read."""
        if length == 0:
            return b""
        shift = self._page_shift
        low = address & ((1 << shift) - 1)
        if low + length <= 1 << shift:
            entry = self.table.entry(address >> shift)
            if entry and self.own.journal.current is None:
                start = (entry >> FRAME_SHIFT << shift) + low
            else:
                start = (self._frame(address, length, Access.READ)[2] << shift) + low
            return self.own.memory.pool.memory[start : start + length].tobytes()
        parts: list[bytes] = []
        needs: list[PagesNeeded] = []
        for piece in self._pieces(address, length, Access.READ):
            try:
                frames = self._frames(piece, Access.READ)
            except PagesNeeded as need:
                needs.append(need.with_traceback(None))
            else:
                low = piece.start % self.page_size
                parts.append(piece.vma.obj.pool.read(frames, low, piece.end - piece.start))
        if needs:
            raise _together(needs)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def store(self, address: int, data: bytes | memoryview, *, durable: bool) -> int:
        """Write all of `data` at `address`. EFAULT names the first byte that cannot be written; nothing is then.

        Running out of frames half way is undone by the transaction, as every failure is.
        """
        length = len(data)
        if not length:
            return 0
        shift = self._page_shift
        low = address & ((1 << shift) - 1)
        if low + length <= 1 << shift:
            recent = self.table.recent.get(address >> shift)
            if recent is None:
                obj, page, frame = self._frame(address, length, Access.WRITE)
                start = frame << shift
                self.table.remember(address >> shift, obj, page, start)
            else:
                obj, page, start = recent
                txn = self.own.journal.current
                if txn is not None:
                    txn.touched.add(self.own)
                    if self.space is not None:
                        txn.touched.add(self.space)
                elif not obj.object_id:
                    start += low
                    obj.pool.memory[start : start + length] = data
                    obj.version += 1
                    return length
            obj.store_in_page(start + low, page, data, durable=durable)
            return length
        data = memoryview(data)
        pieces = self._pieces(address, len(data), Access.WRITE)
        for piece in pieces:
            part = data[piece.start - address : piece.end - address]
            first = piece.vma.page_of(piece.start, shift)
            frames = self._frames(piece, Access.WRITE)
            piece.vma.obj.store(frames, first, piece.start % self.page_size, part, durable=durable)
        return len(data)

    def populate(self) -> None:
        """Build the entries of all resident pages now (eager attach, RFC patch 10)."""
        for owner, vma in self.owned_in(0, 1 << 64):
            self._populate(vma, owner)

    def populate_range(self, start: int, end: int, *, strict: bool = False) -> None:
        """Fault in [start, end), for writing where memory is private and writable (Linux: mm_populate).

        What cannot be accessed or has no frames is left out, or is EFAULT and ENOMEM if `strict`; lock-on-fault
        regions wait for their faults.
        """
        for owner, vma in self.owned_in(start, end):
            if vma.flags & LOCK_ON_FAULT:
                continue
            writes = self.rights(vma, owner) & Access.WRITE and not vma.shared
            low, high = max(start, vma.start), min(end, vma.end)
            try:
                self.fault_in(owner, vma, low, high, Access.WRITE if writes else Access.READ, force=True)
            except EngineError:
                if strict:
                    raise

    def fault_in(
        self, owner: AddressSpace, vma: Vma, low: int, high: int, wanted: Access, *, force: bool = False
    ) -> None:
        """Give [low, high) of one region its pages as an access would; `force`: also what can only be executed.

        EFAULT: no right, or past the end of its memory; ENOMEM: more pages than there are frames; PagesNeeded.
        """
        rights = self.rights(vma, owner)
        reason = deny(rights, wanted)
        if reason is not None and not (force and rights):
            raise PageFault(low, _WORDS[wanted], reason)
        if (high - low) >> self._page_shift > vma.obj.pool.capacity:
            raise EngineError(ENOMEM, f"{high - low} bytes are more than all page frames", address=low)
        if owner is self.space:
            wanted = Access.READ  # a space's pages are written when they have something to remember
        exists = min(high, self._memory_end(vma))
        if exists > low and reason is None:
            self._frames(Piece(owner, vma, low, exists), wanted, overwrites=False)
        elif exists > low:
            first, count = vma.page_of(low, self._page_shift), (exists - low) >> self._page_shift
            vma.obj.frames_for_read(first, count)  # resident, but no entry: it can be executed only
        if exists < high:
            raise PageFault(max(low, exists), _WORDS[wanted], _PAST_END, partial=exists > low)

    # -- regions -------------------------------------------------------------------------------------------------

    def find(self, address: int) -> tuple[AddressSpace, Vma] | None:
        """The region that holds `address`, and its owner."""
        for owner in self._owners():
            vma = owner.vmas.find(address)
            if vma is not None and self.shows(vma):
                return owner, vma
        return None

    def shows(self, vma: Vma) -> bool:
        """Whether the region can be seen here: a task's may be advised not to be seen inside spaces (VAS_PRIVATE)."""
        return self.space is None or not vma.flags & VAS_PRIVATE

    def owner_of_new(self, call: str) -> AddressSpace:
        """Who owns what `call` maps: inside a space the space. EACCES: it is attached read-only."""
        if self.space is None:
            return self.own
        self.require_write(call)
        return self.space

    def require_write(self, call: str) -> None:
        """EACCES: the space is attached read-only."""
        if not self.limit & Access.WRITE:
            raise EngineError(EACCES, f"{call}: the space is attached read-only")

    def parts(self, start: int, end: int) -> Iterator[tuple[AddressSpace, Vma, int, int]]:
        """What is seen in [start, end), region by region: (owner, region, from, to).

        Regions may change between the steps. ENOMEM at a hole, after what lies before it was told.
        """
        position = start
        while position < end:
            found = self.find(position)
            if found is None:
                raise EngineError(
                    ENOMEM, f"no region at {position:#x}", partial=position > start, address=position
                )
            owner, vma = found
            stop = min(vma.end, end)
            yield owner, vma, position, stop
            position = stop

    def owned_in(self, start: int, end: int) -> list[tuple[AddressSpace, Vma]]:
        """Regions seen here that share a byte with [start, end), ascending, each with its owner."""
        found = [
            (owner, vma)
            for owner in self._owners()
            for vma in owner.vmas.overlapping(start, end)
            if self.shows(vma)
        ]
        return sorted(found, key=lambda each: each[1].start)

    def first_in(self, start: int, end: int) -> tuple[AddressSpace, Vma] | None:
        """The lowest region seen here that shares a byte with [start, end), and its owner."""
        found: list[tuple[AddressSpace, Vma]] = []
        for owner in self._owners():
            vma = owner.vmas.find(start) or owner.vmas.above(start)
            while vma is not None and not self.shows(vma):
                vma = owner.vmas.above(vma.end)
            if vma is not None and vma.start < end:
                found.append((owner, vma))
        return min(found, key=lambda each: each[1].start, default=None)

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Regions seen here that share a byte with [start, end), ascending."""
        return [vma for _, vma in self.owned_in(start, end)]

    def rights(self, vma: Vma, owner: AddressSpace) -> int:
        """PROT bits that this thread has in a region."""
        return vma.access & self.limit if owner is self.space else vma.access

    def regions(self) -> list[tuple[Vma, Access]]:
        """Both owners' regions in address order, with the rights they have here."""
        return [(vma, Access(self.rights(vma, owner))) for owner, vma in self.owned_in(0, 1 << 64)]

    @property
    def page_size(self) -> int:
        """Bytes."""
        return self.own.geometry.page_size

    def touch(self) -> None:
        """The answer depends on the regions seen here, or on their absence."""
        for owner in self._owners():
            owner.journal.touch(owner)

    # -- details -------------------------------------------------------------------------------------------------

    def _frame(self, address: int, length: int, wanted: Access) -> tuple[MemoryObject, int, int]:
        """Translate an access inside one page: (object, its page, frame)."""
        owner, space, grew = self.own, self.space, False
        vma = owner.vmas.find(address)
        if vma is None or (space is not None and vma.flags & VAS_PRIVATE):
            found = self.find(address)
            grew = found is None
            owner, vma = found or (owner, self._grown(address, _WORDS[wanted]))
        obj, txn = vma.obj, owner.journal.current
        if txn is not None:
            txn.touched.add(self.own)
            if space is not None:
                txn.touched.add(space)
            txn.touched.add(obj)
        shift, writes = self._page_shift, bool(wanted & Access.WRITE)
        vpn = address >> shift
        page = vma.offset + vpn - (vma.start >> shift)
        entry = self.table.entry(vpn)
        needed = PRESENT | WRITABLE if writes else PRESENT
        if entry & needed == needed:
            return obj, page, entry >> FRAME_SHIFT
        reason = deny(self.rights(vma, owner), wanted)
        if reason is None and page >= obj.length:
            reason = _PAST_END
        if reason is not None:
            raise PageFault(address, _WORDS[wanted], reason, partial=grew)
        swapped_in = obj.swapped_in
        try:
            if writes:
                owner.before_write(vma)
                if vma.flags & HUGEPAGE and promote(owner, vma, page):
                    return obj, page, self._huge_fault(vpn, obj, page)
                frame = obj.frame_for_write(page, address & ((1 << shift) - 1), length)
            else:
                frame = obj.frame_for_read(page)
        except PagesNeeded as need:
            self.counters.major_faults += 1
            raise self._with_successors(vma, need) from None
        if obj.swapped_in == swapped_in:
            self.counters.minor_faults += 1
        else:
            self.counters.major_faults += 1
        self.table.fill_one(vpn, frame, writable=writes)
        return obj, page, frame

    def _huge_fault(self, vpn: int, obj: MemoryObject, page: int) -> int:
        """One fault and one entry for a whole new huge page; the frame of `page`."""
        low = page & (LEAF_PAGES - 1)
        frames = obj.pages.entries(page - low, LEAF_PAGES)
        self.table.fill(vpn - low, frames, writable=True)
        self.table.built -= LEAF_PAGES - 1
        self.counters.minor_faults += 1
        return frames.item(low)

    def _with_successors(self, vma: Vma, need: PagesNeeded) -> PagesNeeded:
        """Reading ahead, unless the region is advised RANDOM."""
        if vma.flags & RAND_READ:
            return need
        last = vma.offset + ((vma.end - vma.start) >> self._page_shift) - 1
        return with_successors(vma.obj, need, last)

    def _owners(self) -> tuple[AddressSpace, ...]:
        return (self.own,) if self.space is None else (self.own, self.space)

    def _grown(self, address: int, word: str, *, partial: bool = False) -> Vma:
        """The stack above `address`, grown down to it. EFAULT; `partial`: another stack has grown before."""
        self.touch()
        own = self.own
        above = growable(own, address)
        reason = "no region" if above is None or not self.shows(above) else grow(own, above, address)
        vma = own.vmas.find(address)
        if reason is not None or vma is None:
            tried = above is not None  # which settles what it merges with, as on Linux
            raise PageFault(address, word, reason or "no region", partial=partial or tried)
        return vma

    def _pieces(self, address: int, length: int, wanted: Access) -> list[Piece]:
        """Split an access by region, all checked before anything is done."""
        word = _WORDS[wanted]
        self.touch()
        pieces: list[Piece] = []
        position, end, grew = address, address + length, False
        while position < end:
            found = self.find(position)
            if found is None:
                if wanted & Access.WRITE:
                    pieces = [piece.before_write() for piece in pieces]
                found, grew = (self.own, self._grown(position, word, partial=grew)), True
            owner, vma = found
            stop = min(vma.end, end, self._memory_end(vma))
            reason = deny(self.rights(vma, owner), wanted)
            if reason is None and stop <= position:
                reason = _PAST_END
            if reason is not None:
                raise PageFault(position, word, reason, partial=grew)
            pieces.append(Piece(owner, vma, position, stop))
            position = stop
        return pieces

    def _frames(self, piece: Piece, wanted: Access, *, overwrites: bool = True) -> Frames:
        """Translate a piece, faulting in what has no entry with the needed right.

        For writing: whether every byte of the piece will be overwritten.
        """
        geometry = self.own.geometry
        vpn = piece.start >> geometry.page_shift
        count = _page_count(piece, geometry.page_size)
        needed = _NEEDED[wanted]
        entries = self.table.entries(vpn, count)
        if np.bitwise_and.reduce(entries) & needed == needed:
            piece.vma.obj.journal.touch(piece.vma.obj)
            return entries >> FRAME_SHIFT
        faulted = np.flatnonzero(entries & needed != needed)
        first = piece.vma.page_of(piece.start, geometry.page_shift)
        swapped_in, huge = piece.vma.obj.swapped_in, 0
        try:
            if wanted & Access.WRITE:
                piece.owner.before_write(piece.vma)
                if piece.vma.flags & HUGEPAGE:
                    huge = self._promote(piece, first, count)
                low = piece.start % geometry.page_size
                length = piece.end - piece.start if overwrites else 0
                frames = piece.vma.obj.frames_for_write(first, count, low, length)
            else:
                frames = piece.vma.obj.frames_for_read(first, count)
        except PagesNeeded as need:
            self.counters.major_faults += len(need.pages)
            raise self._with_successors(piece.vma, need) from None
        major = piece.vma.obj.swapped_in - swapped_in
        self.counters.major_faults += major
        self.counters.minor_faults += max(len(faulted) - major - huge, 0)
        for run in np.split(faulted, np.flatnonzero(np.diff(faulted) != 1) + 1):
            low, high = int(run[0]), int(run[-1]) + 1
            self.table.fill(vpn + low, frames[low:high], writable=bool(wanted & Access.WRITE))
        return frames

    def _promote(self, piece: Piece, first: int, count: int) -> int:
        """Huge pages for what of pages [first, first + count) has none; how many faults of pages that saved."""
        saved = 0
        for number, low, high, _ in leaf_spans(first, count):
            if promote(piece.owner, piece.vma, number << LEAF_SHIFT):
                saved += high - low - 1
        return saved

    def _memory_end(self, vma: Vma) -> int:
        """The address after the last page that exists in the region's memory."""
        return vma.start + ((vma.obj.length - vma.offset) << self._page_shift)

    def _populate(self, vma: Vma, owner: AddressSpace) -> None:
        geometry = self.own.geometry
        pages = (vma.end - vma.start) >> geometry.page_shift
        vpn = vma.start >> geometry.page_shift
        rights = self.rights(vma, owner)
        if deny(rights, Access.READ) is not None:
            return
        may_write = bool(rights & Access.WRITE)
        for number in vma.obj.pages.present(vma.offset, pages):
            start = max(number << LEAF_SHIFT, vma.offset)
            stop = min((number + 1) << LEAF_SHIFT, vma.offset + pages)
            entries = vma.obj.pages.entries(start, stop - start)
            resident = np.flatnonzero(entries > ZERO_FRAME)
            if not len(resident):
                continue
            exclusive = may_write and vma.obj.pages.is_exclusive(number)
            owned = (vma.obj.pool.refs[entries[resident]] == 1) & exclusive
            edges = np.flatnonzero((np.diff(resident) != 1) | (np.diff(owned) != 0)) + 1
            for run in np.split(np.arange(len(resident)), edges):
                position = int(resident[run[0]])
                self.table.fill(
                    vpn + start - vma.offset + position, entries[resident[run]], writable=bool(owned[run[0]])
                )


def _together(needs: list[PagesNeeded]) -> PagesNeeded:
    """What several regions need of the first one's object, in one request: regions are many, objects few."""
    joined = needs[0]
    for need in needs[1:]:
        if need.memory is joined.memory:
            joined = joined.joined(need)
    return joined


def _page_count(piece: Piece, page_size: int) -> int:
    return (piece.end - 1) // page_size - piece.start // page_size + 1
