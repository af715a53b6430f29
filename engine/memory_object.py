"""Who keeps the bytes: anonymous (volatile) memory, or the persistent memory of a space or a segment.

Addresses inside an object are page indexes. The object of a task or a space is indexed by virtual page number, so that
neighbouring regions of one owner merge; a segment's starts at 0. Copy-on-write: a clone shares the page map until one
side writes (page_map.py).
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from engine.address import PageIndex
from engine.changes import DropPages, PutPages
from engine.errors import EINVAL, ENOMEM, EngineError, PagesNeeded
from engine.fault import (
    COPY,
    FETCH,
    REUSE,
    ZERO_FILL,
    FaultPlan,
    owned_frames,
    plan_page_write,
    plan_read_fault,
    plan_write_fault,
)
from engine.frames import ABSENT, STORED, ZERO_FRAME, FramePool, Frames
from engine.journal import Journal
from engine.page_map import LEAF_PAGES, LEAF_SHIFT, PageMap, absent_leaf


class Mapper(Protocol):
    """Something that caches translations of an object's pages. `vid`: the space it belongs to, 0 for a task."""

    vid: int

    def zap_object(self, obj: "MemoryObject", first: int, count: int) -> None:
        """Forget the translations of pages [first, first + count) of `obj`."""


class MemoryObject:
    """Pages that regions show. `object_id` is 0 for volatile memory, else the store's name for it.

    `dirty` maps the pages whose bytes the store does not have yet to the version that wrote them; `version` counts
    stores; `epoch` counts evictions, so that bytes fetched before one are not taken for current. Pages from `length` on
    do not exist.
    """

    __slots__ = (
        "_hand",
        "_holes",
        "_in_store",
        "dirty",
        "epoch",
        "journal",
        "length",
        "mappers",
        "object_id",
        "page_size",
        "pages",
        "pending",
        "pool",
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
        self.page_size = pool.page_size
        self.pending = 0
        self.version = 0
        self.epoch = 0
        self.dirty: dict[int, int] = {}
        self.mappers: list[Mapper] = []
        self._in_store = in_store
        self._hand = 0
        self._holes: list[tuple[int, int]] = []
        self.pages = PageMap(pool, self._new_leaf)

    @property
    def persistent(self) -> bool:
        """Whether the store remembers this memory."""
        return self.object_id != 0

    def clone(self) -> "MemoryObject":
        """A volatile copy that shares every page until one side writes it. O(1) in pages (fork)."""
        copy = MemoryObject(self.pool, self.journal)
        copy.pages.share_from(self.pages)
        self.journal.undo(copy.pages.clear)
        for mapper in self.mappers:
            mapper.zap_object(self, 0, 1 << 62)
        return copy

    # -- bytes ---------------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """`length` > 0 bytes from byte `offset`. PagesNeeded when some are in the store only."""
        first, count = self._span(offset, length)
        return self.pool.read(self.frames_for_read(first, count), offset % self.page_size, length)

    def write(self, offset: int, data: memoryview, *, durable: bool) -> None:
        """Store `data`, not empty, from byte `offset`; `durable` asks the store to remember the pages."""
        first, count = self._span(offset, len(data))
        low = offset % self.page_size
        frames = self.frames_for_write(first, count, low, len(data))
        self.store(frames, first, low, data, durable=durable)

    def store(self, frames: Frames, first: int, low: int, data: memoryview, *, durable: bool) -> None:
        """Write `data` into `frames`, which `frames_for_write` gave for pages from `first`, `low` bytes in."""
        if self.journal.active:
            before = memoryview(self.pool.read(frames, low, len(data)))
            held = frames.copy()
            self.pool.stamps[held] = self.journal.serial
            self.journal.undo(lambda: self.pool.write(held, low, before))
        self.pool.write(frames, low, data)
        self.version += 1
        self.journal.touch(self)
        if not self.persistent:
            return
        pages = range(first, first + len(frames))
        self.dirty.update(dict.fromkeys(pages, self.version))
        if durable:
            self._put(tuple(pages), self.pool.read(frames, 0, len(frames) * self.page_size))

    def store_in_page(self, frame: int, page: int, low: int, data: memoryview, *, durable: bool) -> None:
        """`store` of bytes that lie in one page."""
        pool, txn = self.pool, self.journal.current
        start = frame * self.page_size + low
        end = start + len(data)
        memory = pool.memory
        if txn is not None:
            pool.stamps[frame] = txn.serial
            self.journal.undo(pool.restore, start, memory[start:end].tobytes())
            txn.touched.add(self)
        memory[start:end] = data
        self.version += 1
        if self.object_id:
            self.dirty[page] = self.version
            if durable:
                base = frame * self.page_size
                self._put((page,), memory[base : base + self.page_size].tobytes())

    def flush(self, first: int = 0, count: int = 1 << 62) -> bool:
        """Ask the store to remember every dirty page in [first, first + count); whether there was one."""
        pages = self._dirty_in(first, count)
        if not pages:
            return False
        frames = self.pages.gather(np.array(pages, np.int64))
        self._put(tuple(pages), self.pool.read(frames, 0, len(pages) * self.page_size))
        return True

    def discard(self, first: int, count: int) -> None:
        """Pages [first, first + count) read as zeros from now on."""
        for number in self.pages.present(first, count):
            low = max(first - (number << LEAF_SHIFT), 0)
            high = min(first + count - (number << LEAF_SHIFT), LEAF_PAGES)
            self._replace((number << LEAF_SHIFT) + low, np.full(high - low, ABSENT, np.int64))
        if self._in_store:
            self._add_hole(first, count)
        self._zap(first, count)
        if self.persistent:
            forgotten = self._forget_dirty(first, count)
            self.journal.undo(lambda: self.dirty.update(forgotten))
            self.version += 1
            self.journal.change(DropPages(self.object_id, first, count), self)

    def move(self, first: int, count: int, to: int) -> None:
        """Pages [first, first + count) become those from `to` on, which read as zeros; the old ones do so afterwards.

        Costs what is resident. Of persistent memory every page must be: PagesNeeded; ENOMEM when they cannot be.
        """
        if self.persistent:
            self._require_resident(first, count)
        self._shift(first, count, to)
        self.journal.undo(lambda: self._shift(to, count, first))
        if self.persistent:
            self._remember_move(first, count, to)

    def leaves_in_store(self, first: int, count: int) -> Iterable[int]:
        """Numbers of the leaves of [first, first + count) that may have pages in the store only, ascending."""
        if self._in_store:
            return range(first >> LEAF_SHIFT, ((first + count - 1) >> LEAF_SHIFT) + 1)
        return self.pages.present(first, count)

    def release(self) -> None:
        """The object's last user is gone: give its frames back once that cannot be undone."""
        self.journal.defer(self.pages.clear)

    # -- faults --------------------------------------------------------------------------------------------------

    def frames_for_read(self, first: int, count: int) -> Frames:
        """Frames of pages [first, first + count); never-written pages become the shared zero page."""
        self.journal.touch(self)
        entries = self.pages.entries(first, count)
        plan = plan_read_fault(entries)
        self._require_fetched(plan, first)
        if len(plan.zero_map):
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
        entries = self.writable_entries(first, count)
        plan = plan_write_fault(entries, self.pool.refs, slice(whole_start, max(whole_start, whole_end)))
        self._require_fetched(plan, first)
        fresh = np.sort(np.concatenate([plan.zero_fill, plan.copy, plan.replace]))
        if not len(fresh):
            return entries
        frames = self.pool.allocate(len(fresh), zeroed=bool(len(plan.zero_fill)))
        before = entries.copy()
        entries[fresh] = frames
        if len(plan.copy):
            self.pool.pages[entries[plan.copy]] = self.pool.pages[before[plan.copy]]
        self._replace(first, entries)
        self._zap(first + int(fresh[0]), int(fresh[-1]) - int(fresh[0]) + 1)
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
        leaf, at = self.pages.writable_leaf(page >> LEAF_SHIFT), page & (LEAF_PAGES - 1)
        entry = leaf.item(at)
        counted = entry > ZERO_FRAME
        deed = plan_page_write(entry, pool.refs.item(entry) if counted else 0, whole=length == self.page_size)
        if deed == REUSE:
            return entry
        if deed == FETCH:
            return self.frames_for_write(page, 1, low, length).item(0)
        frame = pool.allocate_one(zeroed=deed == ZERO_FILL)
        if deed == COPY:
            pool.copy(entry, frame)
        leaf[at] = frame
        if journal.current is not None:
            pool.stamps[frame] = journal.current.serial
            journal.undo(self._put_one_back, page, entry, frame)
        if counted:
            journal.defer(pool.release_one, entry)
        self._zap(page, 1)
        return frame

    def _put_one_back(self, page: int, entry: int, frame: int) -> None:
        self.pages.set_entry(page, entry)
        self.pool.release_one(frame)
        if entry <= ZERO_FRAME:
            self.dirty.pop(page, None)
        self._zap(page, 1)

    def _make_room(self, first: int, count: int) -> None:
        """Try to have a free frame for each page of the range that has none of its own; evict no more than that."""
        pool = self.pool
        while count > pool.free_count:
            free, entries = pool.free_count, self.writable_entries(first, count)
            missing = count - int(np.count_nonzero(owned_frames(entries, pool.refs)))
            if missing <= free:
                return
            pool.reserve(missing)
            if pool.free_count == free:
                return

    def writable_entries(self, first: int, count: int) -> Frames:
        """Entries of a range whose leaves are first made this object's own, so that `refs` tell who shares."""
        for number in range(first >> LEAF_SHIFT, ((first + count - 1) >> LEAF_SHIFT) + 1):
            self.pages.writable_leaf(number)
        return self.pages.entries(first, count)

    def supply(self, need: PagesNeeded, pages: dict[int, bytes]) -> None:
        """Fetched bytes of `need.pages`; pages the store does not have are zeros. Late bytes are ignored."""
        if need.epoch != self.epoch:
            return
        asked = np.array(need.pages, np.int64)
        wanted = asked[self.pages.gather(asked) == STORED]
        found = [page for page in wanted.tolist() if page in pages]
        self.pool.reserve(len(found))
        frames = self.pool.allocate(len(found), zeroed=False)
        self.pages.scatter(wanted, np.full(len(wanted), ZERO_FRAME, np.int64))
        if found:
            block = np.frombuffer(b"".join(pages[page] for page in found), np.uint8)
            self.pool.pages[frames] = block.reshape(len(found), self.page_size)
            self.pages.scatter(np.array(found, np.int64), frames)

    def evict(self, wanted: int) -> int:
        """Free about `wanted` clean frames of persistent memory; how many were freed.

        A clock whose hand is a leaf: each call goes on where the last one stopped, so that what was just fetched is
        the last to go.
        """
        freed = 0
        if not self.persistent:
            return freed
        for number in self.pages.numbers_from(self._hand):
            if freed >= wanted:
                break
            self._hand = number + 1
            if not self.pages.is_exclusive(number):
                continue
            start = number << LEAF_SHIFT
            entries = self.pages.writable_leaf(number)
            clean = owned_frames(entries, self.pool.refs)
            if self.dirty:
                dirty = [page - start for page in range(start, start + LEAF_PAGES) if page in self.dirty]
                clean[dirty] = False
            victims = entries[clean]
            if len(victims):
                entries[clean] = STORED
                self._zap(start, LEAF_PAGES)
                self.pool.release(victims)
                freed += len(victims)
        if freed:
            self.epoch += 1
        return freed

    # -- details -------------------------------------------------------------------------------------------------

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        if length <= 0:
            raise EngineError(EINVAL, f"length {length}")
        first = offset // self.page_size
        return first, (offset + length - 1) // self.page_size - first + 1

    def _new_leaf(self, number: int) -> Frames:
        entries = absent_leaf(number)
        if self._in_store:
            entries[:] = STORED
            start = number << LEAF_SHIFT
            for first, end in self._holes:
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

    def _require_fetched(self, plan: FaultPlan, first: int) -> None:
        if len(plan.fetch):
            raise PagesNeeded(self.object_id, [PageIndex(first + p) for p in plan.fetch.tolist()], self.epoch)

    def _replace(self, first: int, entries: Frames) -> None:
        """Set entries; the frames that leave are released when this can no longer be undone.

        Undone are only the entries that change here: others may be evicted before that.
        """
        before = self.pages.entries(first, len(entries))
        changed = np.flatnonzero(before != entries)
        came, gone, pages = entries[changed], before[changed], changed + first
        self.pages.set_entries(first, entries)
        if self.journal.active:
            self.pool.stamps[came[came > ZERO_FRAME]] = self.journal.serial

        def put_back() -> None:
            self.pages.scatter(pages, gone)
            self.pool.release(came)
            for page in pages[gone <= ZERO_FRAME].tolist() if self.dirty else ():
                self.dirty.pop(page, None)
            self._zap(first, len(entries))

        self.journal.undo(put_back)
        self.journal.defer(lambda: self.pool.release(gone))

    def _require_resident(self, first: int, count: int) -> None:
        if count > self.pool.capacity:
            raise EngineError(
                ENOMEM,
                f"{count} pages to move, {self.pool.capacity} page frames",
                length=count * self.page_size,
            )
        stored = np.flatnonzero(self.pages.entries(first, count) == STORED)
        if len(stored):
            raise PagesNeeded(self.object_id, [PageIndex(first + p) for p in stored.tolist()], self.epoch)

    def _shift(self, first: int, count: int, to: int) -> None:
        """Move the entries of a range; the references of their frames move with them."""
        for number in self.pages.present(first, count):
            start = max(first, number << LEAF_SHIFT)
            stop = min(first + count, (number + 1) << LEAF_SHIFT)
            entries = self.pages.entries(start, stop - start)
            if entries.any():
                self.pages.set_entries(start, np.full(stop - start, ABSENT, np.int64))
                self.pages.set_entries(start + to - first, entries)
        self._zap(first, count)
        self._zap(to, count)

    def _remember_move(self, first: int, count: int, to: int) -> None:
        """Ask the store for what `move` did: the pages at their new place, nothing at the old one."""
        pages = (np.flatnonzero(self.pages.entries(to, count) > ZERO_FRAME) + to).tolist()
        self.version += 1
        self.dirty.update(dict.fromkeys(pages, self.version))
        self.journal.undo(lambda: self._forget_dirty(to, count))
        for position in range(0, len(pages), LEAF_PAGES):
            some = pages[position : position + LEAF_PAGES]
            frames = self.pages.gather(np.array(some, np.int64))
            self._put(tuple(some), self.pool.read(frames, 0, len(some) * self.page_size))
        forgotten = self._forget_dirty(first, count)
        self.journal.undo(lambda: self.dirty.update(forgotten))
        if self._in_store:
            self._add_hole(first, count)
        self.journal.change(DropPages(self.object_id, first, count), self)

    def _forget_dirty(self, first: int, count: int) -> dict[int, int]:
        """Pages without a frame are not dirty."""
        return {page: self.dirty.pop(page) for page in self._dirty_in(first, count)}

    def _dirty_in(self, first: int, count: int) -> list[int]:
        """The dirty pages of a range, ascending; costs the lesser of the range and of what is dirty."""
        if count < len(self.dirty):
            return [page for page in range(first, first + count) if page in self.dirty]
        return sorted(page for page in self.dirty if first <= page < first + count)

    def _put(self, pages: tuple[int, ...], data: bytes) -> None:
        version = self.version
        self.journal.change(PutPages(self.object_id, pages, data), self)

        def now_clean() -> None:
            for page in pages:
                if self.dirty.get(page, version + 1) <= version:
                    del self.dirty[page]

        self.journal.defer(now_clean)

    def _zap(self, first: int, count: int) -> None:
        for mapper in self.mappers:
            mapper.zap_object(self, first, count)


def _with_range(ranges: list[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    """`ranges` and [low, high), with those that touch joined."""
    apart = [held for held in ranges if held[1] < low or high < held[0]]
    joined = [held for held in ranges if not (held[1] < low or high < held[0])]
    return [*apart, (min([low, *(held[0] for held in joined)]), max([high, *(held[1] for held in joined)]))]
