"""Who keeps the bytes: anonymous (volatile) memory, or the persistent memory of a space or a segment.

Addresses inside an object are page indexes. The object of a task or a space is indexed by virtual page number, so that
neighbouring regions of one owner merge; a segment's starts at 0. Copy-on-write: a clone shares the page map until one
side writes (page_map.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.changes import CloneObject, DropPages, PutPages
from engine.errors import EINVAL, EngineError
from engine.journal import Journal
from engine.memory.frames import ABSENT, ZERO_FRAME, FramePool, Frames
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, PageMap
from engine.memory.paged_memory import PagedMemory


@dataclass(slots=True, eq=False)
class Backing:
    """An object of the store that volatile memory reads what it has not written from; `drop` it after its last user."""

    object_id: int
    drop: Callable[[int], None]
    users: int = 0


class MemoryObject(PagedMemory):
    """Pages that regions show. `object_id` is 0 for volatile memory, else the store's name for it."""

    __slots__ = ("_asked", "backing")

    def __init__(
        self,
        pool: FramePool,
        journal: Journal,
        object_id: int = 0,
        *,
        in_store: bool = False,
        length: int = 1 << 62,
    ) -> None:
        super().__init__(pool, journal, object_id, in_store=in_store, length=length)
        self.backing: Backing | None = None
        self._asked: dict[int, tuple[int, int]] = {}

    # -- copies --------------------------------------------------------------------------------------------------

    def clone(self) -> "MemoryObject":
        """A volatile copy that shares every page until one side writes it. O(1) in pages (fork)."""
        copy = MemoryObject(self.pool, self.journal)
        copy.pages.share_from(self.pages)
        self.journal.undo(copy.pages.clear)
        if self.backing is not None:
            copy.stand_on(self.backing)
            copy._holes, copy.pending = self._holes, self.pending
            copy.inherit_origin(self)
        self._zap_all()
        return copy

    def stand_on(self, backing: Backing) -> None:
        """Read what is not written here from `backing`, of volatile memory that is new."""
        self.store_id, self._in_store = backing.object_id, True
        self.journal.touch(self)
        self.backing = backing
        backing.users += 1
        self.journal.undo(_release_user, backing)

    def copy_to(self, copy: "MemoryObject") -> None:
        """Make the new persistent `copy` read as this persistent memory does now. O(1) in pages, but for dirty ones."""
        self.flush()
        copy.pages.share_from(self.pages)
        copy._in_store, copy._holes = self._in_store, self._holes
        copy.family = self.family
        self.family.append(copy)
        self.journal.undo(self.family.remove, copy)
        self.journal.undo(copy.pages.clear)
        copy.cloned_from(self)
        self._zap_all()
        self.journal.change(CloneObject(self.object_id, copy.object_id), self, copy)

    def become(self, source: "MemoryObject") -> None:
        """Read as the persistent `source`, which was cloned when this was, does now. O(1) in pages, but for dirty ones."""
        for number in {page >> LEAF_SHIFT for page in self.dirty}:
            self.pages.writable_leaf(
                number
            )  # nobody with whom it is shared may let go of what may have to come back
        pages, dirty, kept = self.pages, self.dirty, (self._in_store, self._holes)

        def put_back() -> None:
            self.pages.clear()
            self.pages, self.dirty = pages, dirty
            self._in_store, self._holes = kept
            self.epoch += 1
            self._zap_all()

        self.journal.undo(put_back)
        self.journal.defer(pages.clear)
        self.pages, self.dirty = PageMap(self.pool, self._new_leaf), {}
        self._join_family(source)
        self.pages.share_from(source.pages)
        self.cloned_from(source)
        self._in_store, self._holes = True, source._holes
        self.version += 1
        self.redrawn = self.version
        self.epoch += 1
        self._zap_all()
        self.journal.change(CloneObject(source.object_id, self.object_id), self, source)

    def _join_family(self, other: "MemoryObject") -> None:
        """Who shares leaves must know each other. To know too many does no harm, so it is not undone."""
        if self.family is not other.family:
            other.family.extend(self.family)
            for member in self.family:
                member.family = other.family

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
        if self.journal.current is not None:
            held = frames.copy()
            self.pool.stamps[held] = self.journal.serial
            self.journal.undo(self.pool.write, held, low, memoryview(self.pool.read(frames, low, len(data))))
        self.pool.write(frames, low, data)
        self.version += 1
        self.journal.touch(self)
        if not self.persistent:
            return
        pages = range(first, first + len(frames))
        self.note_stored(self._now_dirty(pages))
        if durable:
            size, given = len(frames) * self.page_size, data.obj
            kept = isinstance(given, bytes) and len(given) == len(data) == size
            self._put(tuple(pages), bytes(given) if kept else self.pool.read(frames, 0, size))

    def store_in_page(self, start: int, page: int, data: bytes | memoryview, *, durable: bool) -> None:
        """`store` of bytes that lie in one page, from byte `start` of all memory on."""
        pool, txn = self.pool, self.journal.current
        end = start + len(data)
        if txn is not None:
            pool.stamps[start // self.page_size] = txn.serial
            self.journal.undo(pool.restore, start, pool.memory[start:end].tobytes())
            txn.touched.add(self)
        pool.memory[start:end] = data
        self.version += 1
        if self.object_id:
            if txn is not None and page not in self.dirty:
                self.journal.undo(self.dirty.pop, page, None)
                txn.stored.append((self.object_id, (page,)))
            self.dirty[page] = self.version
            if durable:
                base = start - start % self.page_size
                self._put((page,), pool.memory[base : base + self.page_size].tobytes())

    def flush(self, first: int = 0, count: int = 1 << 62) -> bool:
        """Ask the store to remember the dirty pages in [first, first + count); whether there was one.

        What an open transaction has asked for already is left out.
        """
        pages = [page for page in self._dirty_in(first, count) if not self._is_asked(page)]
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
        self.zap(first, count)
        if self.persistent:
            forgotten = self._forget_dirty(first, count)
            self.journal.undo(lambda: self.dirty.update(forgotten))
            self.version += 1
            self.redrawn = self.version
            self.journal.change(DropPages(self.object_id, first, count), self)

    def move(self, first: int, count: int, to: int) -> None:
        """Pages [first, first + count) become those from `to` on, which read as zeros; the old ones do so afterwards.

        Costs what is resident. Of persistent memory every page must be: PagesNeeded; ENOMEM when they cannot be.
        """
        if self.store_id:
            self.require_resident(first, count)
        for number in self.pages.present(first, count):
            start = max(first, number << LEAF_SHIFT)
            stop = min(first + count, (number + 1) << LEAF_SHIFT)
            self.writable_entries(start + to - first, stop - start)  # so that nothing is refused half way
        self._shift(first, count, to)
        self.journal.undo(lambda: self._shift(to, count, first))
        if self.persistent:
            self._remember_move(first, count, to)

    def release(self) -> None:
        """The object's last user is gone: give its frames back once that cannot be undone."""
        backing = self.backing
        if backing is not None:
            _release_user(backing)
            self.journal.undo(_add_user, backing)
            if not backing.users:
                self.journal.touch(self)
                backing.drop(backing.object_id)
        self.journal.defer(self.abandon)

    def abandon(self) -> None:
        """Give every frame back; bytes that were asked for come too late."""
        self.gone = True
        self.pages.clear()
        if self in self.family:
            self.family.remove(self)

    # -- details -------------------------------------------------------------------------------------------------

    def _zap_all(self) -> None:
        self.zap(0, 1 << 62)

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        if length <= 0:
            raise EngineError(EINVAL, f"length {length}")
        first = offset // self.page_size
        return first, (offset + length - 1) // self.page_size - first + 1

    def _shift(self, first: int, count: int, to: int) -> None:
        """Move the entries of a range; the references of their frames move with them."""
        for number in self.pages.present(first, count):
            start = max(first, number << LEAF_SHIFT)
            stop = min(first + count, (number + 1) << LEAF_SHIFT)
            entries = self.pages.entries(start, stop - start)
            if entries.any():
                self.pages.set_entries(start, np.full(stop - start, ABSENT, np.int64))
                self.pages.set_entries(start + to - first, entries)
        self.zap(first, count)
        self.zap(to, count)

    def _remember_move(self, first: int, count: int, to: int) -> None:
        """Ask the store for what `move` did: the pages at their new place, nothing at the old one."""
        pages = (np.flatnonzero(self.pages.entries(to, count) > ZERO_FRAME) + to).tolist()
        self.version += 1
        self.redrawn = self.version
        self.note_stored(self._now_dirty(pages))
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

    def note_stored(self, pages: Sequence[int]) -> None:
        """The transaction in progress, if there is one, writes these pages, which were clean."""
        if self.journal.current is not None:
            self.journal.current.stored.append((self.object_id, pages))

    def _put(self, pages: tuple[int, ...], data: bytes) -> None:
        self.journal.change(PutPages(self.object_id, pages, data), self)
        if self.journal.active:
            self._asked.update(dict.fromkeys(pages, (self.version, self.journal.serial)))
        self.journal.defer(self._now_clean, pages, self.version)

    def _now_dirty(self, pages: Sequence[int]) -> Sequence[int]:
        """Note that pages were written; those that were clean before."""
        dirty = self.dirty
        fresh = [page for page in pages if page not in dirty] if dirty else pages
        dirty.update(dict.fromkeys(pages, self.version))
        self.journal.undo(_clean_again, dirty, fresh)
        return fresh

    def _is_asked(self, page: int) -> bool:
        """Whether a transaction that is still open puts the page as it is now."""
        version, serial = self._asked.get(page, (0, 0))
        return version >= self.dirty[page] and self.journal.is_open(serial)

    def _now_clean(self, pages: tuple[int, ...], version: int) -> None:
        """The store has what `pages` held when the object's version was `version`."""
        dirty, later = self.dirty, version + 1
        for page in pages:
            if dirty.get(page, later) <= version:
                del dirty[page]
                self._asked.pop(page, None)


def _add_user(backing: Backing) -> None:
    backing.users += 1


def _release_user(backing: Backing) -> None:
    backing.users -= 1


def _clean_again(dirty: dict[int, int], pages: Sequence[int]) -> None:
    """Take back that pages became dirty."""
    for page in pages:
        dirty.pop(page, None)
