"""Which frame holds which page of a memory object: faults, swapping, eviction, huge pages.

Addresses inside an object are page indexes. Bytes are memory_object.py's.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice
from typing import Protocol

import numpy as np

from engine.address import PageIndex
from engine.errors import ENOMEM, EngineError, PagesNeeded
from engine.journal import Journal
from engine.memory.fault import (
    COPY,
    FETCH,
    REUSE,
    ZERO_FILL,
    FaultPlan,
    Positions,
    owned_frames,
    plan_page_write,
    plan_read_fault,
    plan_write_fault,
)
from engine.memory.frames import ABSENT, STORED, SWAPPED, ZERO_FRAME, FramePool, Frames
from engine.memory.origin import Origin
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, PageMap, PageNumbers, absent_leaf
from engine.memory.pins import Pins


class Mapper(Protocol):
    """Something that caches translations of an object's pages. `vid`: the space it belongs to, 0 for a task."""

    vid: int

    def zap_object(self, obj: "PagedMemory", first: int, count: int) -> None:
        """Forget the translations of pages [first, first + count) of `obj`."""

    def locked_pages(self, obj: "PagedMemory") -> Iterable[tuple[int, int]]:
        """Pages of `obj` that locked regions show: (first, count)."""


class PagedMemory:
    """Pages that regions show. `object_id` is 0 for volatile memory, else the store's name for it.

    `store_id` is the store's object that pages are fetched from: of persistent memory that itself, of volatile memory
    its backing, if it has one, else 0. `family` is the memory that a clone may share leaves with, this one among it.
    `dirty` maps the pages whose bytes the store does not have yet to the version that wrote them; `version` counts
    stores; `epoch` counts evictions, so that bytes fetched before one are not taken for current. Pages from `length` on
    do not exist.
    """

    __slots__ = (
        "_holes",
        "_in_store",
        "_origin",
        "dirty",
        "epoch",
        "family",
        "gone",
        "hand",
        "journal",
        "length",
        "mappers",
        "needed",
        "object_id",
        "page_size",
        "pages",
        "pending",
        "pins",
        "pool",
        "redrawn",
        "store_id",
        "swapped_in",
        "version",
    )

    def __init__(
        self,
        pool: FramePool,
        journal: Journal,
        object_id: int = 0,
        *,
        in_store: bool = False,
        length: int = 1 << 62,
    ) -> None:
        self.pool = pool
        self.journal = journal
        self.length = length
        self.object_id = object_id
        self.store_id = object_id
        self.family: list[PagedMemory] = [self]
        self.gone = False
        self.page_size = pool.page_size
        self.pending = 0
        self.version = 0
        self.redrawn = 0
        self.epoch = 0
        self.swapped_in = 0
        self.dirty: dict[int, int] = {}
        self.mappers: list[Mapper] = []
        self._in_store = in_store
        self.hand = 0
        self.needed = 0, 0
        self._origin: Origin | None = None
        self.pins = Pins()
        self._holes: list[tuple[int, int]] = []
        self.pages = PageMap(pool, self._new_leaf)

    @property
    def persistent(self) -> bool:
        """Whether the store remembers this memory."""
        return self.object_id != 0

    @property
    def holes(self) -> list[tuple[int, int]]:
        """Ranges [first, end) of pages that read as zeros whatever the store has, besides what the page map says."""
        return self._holes

    def peek(self, entries: Frames) -> bytes:
        """The bytes behind entries, zeros where there are none here; nothing is brought in or put aside for it. EIO."""
        pool = self.pool
        block = np.zeros((len(entries), pool.page_size), np.uint8)
        framed, swapped = entries > ZERO_FRAME, entries <= SWAPPED
        block[framed] = pool.pages[entries[framed]]
        if pool.slots is not None and swapped.any():
            swapped_out = np.frombuffer(pool.slots.load(entries[swapped]), np.uint8)
            block[swapped] = swapped_out.reshape(-1, pool.page_size)
        return block.tobytes()

    # -- faults --------------------------------------------------------------------------------------------------

    def frames_for_read(self, first: int, count: int) -> Frames:
        """Frames of pages [first, first + count); never-written pages become the shared zero page."""
        self.journal.touch(self)
        entries = self.swap_in(first, self.pages.entries(first, count))
        if self._origin is not None:
            entries = self._adopt(first, entries)
        plan = plan_read_fault(entries)
        self._require_fetched(plan, first, count)
        if len(plan.zero_map):
            entries = self.writable_entries(first, count)
            entries[plan.zero_map] = ZERO_FRAME
            self.pages.set_entries(first, entries)
        return entries

    def frames_for_write(self, first: int, count: int, low: int, length: int) -> Frames:
        """Frames that nobody else holds, for `length` bytes from `low` bytes into page `first`.

        Pages that the write covers wholly are neither fetched nor copied.
        """
        self._make_room(first, count)
        whole_start = 0 if low == 0 else 1
        whole_end = (low + length) // self.page_size
        whole = slice(whole_start, max(whole_start, whole_end))
        entries = self.swap_in(first, self.writable_entries(first, count), but=whole, to_write=True)
        if self._origin is not None:
            entries = self._adopt(first, entries, whole)
        plan = plan_write_fault(entries, self.pool.refs, whole)
        self._require_fetched(plan, first, count)
        self.pool.lazy[np.maximum(entries, ABSENT)] = False
        fresh = np.sort(np.concatenate([plan.zero_fill, plan.copy, plan.replace]))
        if not len(fresh):
            return entries
        frames = self.pool.allocate(len(fresh), zeroed=bool(len(plan.zero_fill)))
        before = entries.copy()
        entries[fresh] = frames
        if len(plan.copy):
            self.pool.pages[entries[plan.copy]] = self.pool.pages[before[plan.copy]]
        self._replace(first, entries)
        self.zap(first + int(fresh[0]), int(fresh[-1]) - int(fresh[0]) + 1)
        return entries

    def frame_for_read(self, page: int) -> int:
        """`frames_for_read` of one page."""
        self.journal.touch(self)
        entry = self.pages.entry(page)
        if entry > ABSENT:
            return entry
        if entry == ABSENT:
            self.pages.set_entry(page, ZERO_FRAME)
            return ZERO_FRAME
        return self.frames_for_read(page, 1).item(0)

    def frame_for_write(self, page: int, low: int, length: int) -> int:
        """`frames_for_write` of one page."""
        pool, journal = self.pool, self.journal
        if not pool.free_count:
            self._make_room(page, 1)
        leaf, at = self.pages.own_leaf(page >> LEAF_SHIFT), page & (LEAF_PAGES - 1)
        entry = leaf.entries.item(at)
        counted = entry > ZERO_FRAME
        deed = plan_page_write(entry, pool.refs.item(entry) if counted else 0, whole=length == self.page_size)
        if deed == REUSE:
            pool.lazy[entry] = False
            return entry
        if deed == FETCH or entry <= SWAPPED:
            return self.frames_for_write(page, 1, low, length).item(0)
        frame = pool.allocate_one(zeroed=deed == ZERO_FILL)
        if deed == COPY:
            pool.copy(entry, frame)
        leaf.entries[at] = frame
        leaf.huge = False
        if journal.current is not None:
            pool.stamps[frame] = journal.current.serial
            journal.undo(self._put_one_back, page, entry, frame)
        if counted:
            journal.defer(pool.release_one, entry)
        if entry != ABSENT:  # what is absent was never translated
            self.zap(page, 1)
        return frame

    def _put_one_back(self, page: int, entry: int, frame: int) -> None:
        self.pages.set_entry(page, entry)
        self.pool.release_one(frame)
        if entry <= ZERO_FRAME:
            self.dirty.pop(page, None)
        self.zap(page, 1)

    def swap_in(
        self, first: int, entries: Frames, but: slice = slice(0, 0), *, to_write: bool = False
    ) -> Frames:
        """`entries`, those from page `first` on, with frames for the pages in the swap area, except in `but`. ENOMEM, EIO.

        When frames are short, pages are exchanged: some come back, which gives slots to others.
        """
        slots, before = self.pool.slots, len(entries) + 1
        while slots is not None and entries.min() <= SWAPPED:
            positions = _swapped(entries, but)
            if not len(positions):
                break
            if len(positions) > self.pool.free_count:
                self.needed = first, len(entries)
                with slots.exchange():
                    self.pool.reserve(len(positions))
                self.needed = 0, 0
            if not self.pool.free_count or len(positions) >= before:
                self.pool.refuse(len(positions))
            before = len(positions)
            positions = positions[: self.pool.free_count]
            swapped = entries[positions]
            frames = slots.bring_in(self.pool, swapped, to_write=to_write)
            self.pool.stamps[frames] = self.journal.last
            entries[positions] = frames
            self.pages.substitute(first, entries)
            self.pool.release(swapped)
            self.swapped_in += len(frames)
        return entries

    def collapse(self, number: int, frames: Frames) -> None:
        """Move the pages of leaf `number` into consecutive `frames`, which are zeros: one huge page."""
        first = number << LEAF_SHIFT
        try:
            entries = self.swap_in(first, self.writable_entries(first, LEAF_PAGES))
        except EngineError:
            self.pool.release(frames)
            raise
        held = np.flatnonzero(entries > ZERO_FRAME)
        self.pool.pages[frames[held]] = self.pool.pages[entries[held]]
        self._replace(first, frames)
        self.pages.mark_huge(number)
        self.zap(first, LEAF_PAGES)

    def huge_frames(self) -> Frames | None:
        """Frames for one huge page, if there is a run of free ones: nobody's pages leave for it."""
        return self.pool.allocate_run(LEAF_PAGES) if self.pool.free_count >= LEAF_PAGES else None

    def locked_pages(self) -> list[tuple[int, int]]:
        """Pages that must stay resident, for good or while a call needs them: (first, count)."""
        return [*self.in_use(), *self.pins.ranges()]

    def in_use(self) -> list[tuple[int, int]]:
        """Pages that regions lock or the call in progress needs: (first, count)."""
        return [self.needed, *(pages for mapper in self.mappers for pages in mapper.locked_pages(self))]

    def _make_room(self, first: int, count: int) -> None:
        """Try to have a free frame for each page of the range that has none of its own; evict no more than that.

        What the range has already stays.
        """
        pool = self.pool
        self.needed = first, count
        while count > pool.free_count:
            free, entries = pool.free_count, self.writable_entries(first, count)
            missing = count - int(np.count_nonzero(owned_frames(entries, pool.refs)))
            if missing <= free:
                break
            pool.reserve(missing)
            if pool.free_count == free:
                break
        self.needed = 0, 0

    def writable_entries(self, first: int, count: int) -> Frames:
        """Entries of a range whose leaves are first made this object's own, so that `refs` tell who shares."""
        for number in range(first >> LEAF_SHIFT, ((first + count - 1) >> LEAF_SHIFT) + 1):
            self.pages.writable_leaf(number)
        return self.pages.entries(first, count)

    def supply(self, need: PagesNeeded, pages: dict[int, bytes]) -> None:
        """Fetched bytes of `need.pages`; pages the store does not have are zeros. Late bytes are ignored."""
        if need.epoch != self.epoch or self.gone:
            return
        asked = np.array(need.pages, np.int64)
        wanted = asked[self.pages.gather(asked) == STORED]
        for number in np.unique(wanted >> LEAF_SHIFT).tolist():
            self.pages.writable_leaf(number)
        found = [page for page in wanted.tolist() if page in pages]
        self.pool.reserve(len(found))
        frames = self.pool.allocate(len(found), zeroed=False)
        self.pages.scatter(wanted, np.full(len(wanted), ZERO_FRAME, np.int64))
        if found:
            block = np.frombuffer(b"".join(pages[page] for page in found), np.uint8)
            self.pool.pages[frames] = block.reshape(len(found), self.page_size)
            self.pages.scatter(np.array(found, np.int64), frames)

    def require(self, pages: list[PageIndex], *spans: tuple[int, int]) -> None:
        """PagesNeeded for these pages, if there are any, by a call that looks at `spans`: (first, count)."""
        if pages:
            raise PagesNeeded(self.store_id, pages, self.epoch, self, spans)

    def require_resident(self, first: int, count: int) -> None:
        """PagesNeeded for what of pages [first, first + count) is in the store only; ENOMEM: more than all frames."""
        if count > self.pool.capacity:
            length = count * self.page_size
            raise EngineError(
                ENOMEM, f"{count} pages wanted, {self.pool.capacity} page frames", length=length
            )
        entries = self.pages.entries(first, count)
        if self._origin is not None:
            entries = self._adopt(first, entries)
        self.require(
            [PageIndex(first + p) for p in np.flatnonzero(entries == STORED).tolist()], (first, count)
        )

    def pin(self, need: PagesNeeded) -> None:
        """What the call needs stays resident once it is, until `unpin`."""
        self.pins.add(need)

    def unpin(self, need: PagesNeeded) -> None:
        """Undo one `pin` of the same need."""
        self.pins.remove(need)

    # -- details -------------------------------------------------------------------------------------------------

    def cloned_from(self, memory: "PagedMemory") -> None:
        """The store does not know it yet: until the transaction is settled, what it lacks is that of `memory`."""
        serial, earlier = self.journal.serial, memory.origin
        self._set_origin(
            Origin(memory, memory.version, serial, serial) if earlier is None else earlier.of_clone(serial)
        )

    def inherit_origin(self, memory: "PagedMemory") -> None:
        """It lacks what `memory` lacks."""
        self._set_origin(memory.origin)

    def _set_origin(self, origin: Origin | None) -> None:
        if self.journal.active:
            before, self._origin = self._origin, origin
            self.journal.undo(setattr, self, "_origin", before)
            self.journal.defer(setattr, self, "_origin", None)

    @property
    def origin(self) -> Origin | None:
        """Where it finds what it lacks while the store does not know it."""
        origin = self._origin
        if origin is not None and not self.journal.is_open(origin.until):
            self._origin = origin = None
        return origin

    def _adopt(self, first: int, entries: Frames, but: slice = slice(0, 0)) -> Frames:
        """`entries`, those from page `first` on, with frames of the origin where the store would be asked too early.

        PagesNeeded by the origin. EAGAIN: the transaction that cloned it has changed it since.
        """
        lacking = entries == STORED
        lacking[but] = False
        positions = np.flatnonzero(lacking)
        origin = self.origin
        if origin is None or not len(positions):
            return entries
        pages = positions + first
        found = origin.frames(pages, self.journal.serial)
        if found is None:
            return entries
        self.pages.scatter(pages, found)
        self.pool.hold(found)
        entries[positions] = found
        return entries

    def resident(self, pages: PageNumbers) -> Frames | None:
        """The frames of ascending pages; None if some are neither here nor in the store. PagesNeeded."""
        if self._origin is not None:
            for page in pages.tolist():
                self._adopt(page, self.pages.entries(page, 1))
        entries = self.pages.gather(pages)
        self.require([PageIndex(page) for page in pages[entries == STORED].tolist()])
        return None if (entries <= ABSENT).any() else entries

    def _new_leaf(self, number: int) -> Frames:
        entries = absent_leaf(number)
        if self._in_store:
            entries[:] = STORED
            start = number << LEAF_SHIFT
            from_here = bisect_right(self._holes, start, key=lambda hole: hole[1])
            for first, end in islice(self._holes, from_here, None):
                if first >= start + LEAF_PAGES:
                    break
                entries[max(first - start, 0) : max(end - start, 0)] = ABSENT
        return entries

    def _add_hole(self, first: int, count: int) -> None:
        """Leaves made from now on have zeros in [first, first + count), where the store may have bytes."""
        holes = self._holes
        present = set(self.pages.present(first, count))
        self._holes = _with_range(holes, first, first + count)

        def put_back() -> None:
            self._holes = holes
            for number in self.pages.present(first, count):
                if number not in present:  # made since, with the hole in it
                    start = number << LEAF_SHIFT
                    low, high = max(first - start, 0), min(first + count - start, LEAF_PAGES)
                    self.pages.set_entries(start + low, self._new_leaf(number)[low:high])

        self.journal.undo(put_back)

    def _require_fetched(self, plan: FaultPlan, first: int, count: int) -> None:
        if len(plan.fetch):
            self.require([PageIndex(first + p) for p in plan.fetch.tolist()], (first, count))

    def _replace(self, first: int, entries: Frames) -> None:
        """Set entries; the frames that leave are released when this can no longer be undone.

        Undone are only the entries that change here: others may be evicted before that.
        """
        before = self.pages.entries(first, len(entries))
        changed = np.flatnonzero(before != entries)
        if not len(changed):
            return
        came, gone, pages = entries[changed], before[changed], changed + first
        self.pages.set_entries(first, entries)
        if self.journal.active:
            self.pool.stamps[came[came > ZERO_FRAME]] = self.journal.serial

        self.journal.undo(self._put_back, pages, gone, came)
        self.journal.defer(self.pool.release, gone)

    def _put_back(self, pages: PageNumbers, gone: Frames, came: Frames) -> None:
        self.pages.scatter(pages, gone)
        self.pool.release(came)
        for page in pages[gone <= ZERO_FRAME].tolist() if self.dirty else ():
            self.dirty.pop(page, None)
        first, last = pages.item(0), pages.item(-1)
        self.zap(first, last - first + 1)

    def leaves_in_store(self, first: int, count: int) -> Iterable[int]:
        """Numbers of the leaves of [first, first + count) that may have pages in the store only, ascending."""
        if self._in_store:
            return range(first >> LEAF_SHIFT, ((first + count - 1) >> LEAF_SHIFT) + 1)
        return self.pages.present(first, count)

    def zap(self, first: int, count: int) -> None:
        """Drop every cached translation of pages [first, first + count)."""
        for mapper in self.mappers:
            mapper.zap_object(self, first, count)


def _swapped(entries: Frames, but: slice) -> Positions:
    wanted = entries <= SWAPPED
    wanted[but] = False
    return np.flatnonzero(wanted)


def _with_range(ranges: list[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    """`ranges` and [low, high), ascending, with those that touch joined."""
    apart = [held for held in ranges if held[1] < low or high < held[0]]
    joined = [held for held in ranges if not (held[1] < low or high < held[0])]
    return sorted(
        [*apart, (min([low, *(held[0] for held in joined)]), max([high, *(held[1] for held in joined)]))]
    )
