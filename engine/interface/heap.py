"""Heaps inside segments: vas_malloc, vas_free, heap_usage."""

from collections.abc import Callable
from typing import TypeVar

from engine.access import Access
from engine.constants import O_RDONLY, O_RDWR
from engine.credentials import Credentials
from engine.errors import EACCES, EFAULT, EINVAL, ENOMEM, EngineError, PagesNeeded
from engine.heap.foresight import foresee
from engine.heap.heap import ForeignError, HeapUsage, NoRoomError, free, malloc, usage
from engine.heap.layout import DamagedError
from engine.heap.window import SegmentBytes
from engine.interface.parts import Parts
from engine.memory.paging import with_successors
from engine.regions.vma import Vma
from engine.spaces.segments import Segment
from engine.tasks.task import Thread

T = TypeVar("T")


class HeapCalls(Parts):
    """The calls on heaps. Credentials come first, then the thread, which is inside the space that has the segment."""

    _lacking = 0, 0
    """The transaction in which a call lacked pages last, and how many did so in it."""

    def vas_malloc(
        self, cred: Credentials, pid: int, tid: int | None, size: int, sid: int | None = None
    ) -> int:
        """The address of `size` new bytes, on a multiple of 16, in segment `sid` or in the only one attached rw.

        ESRCH; EPERM: the task's, or a snapshot; EINVAL: size, outside a space, no such segment there; EACCES: space or segment attached read-only;
        ENOMEM: full; EFAULT: a damaged heap, or bytes that are no heap.
        """
        thread = self.tasks_table.thread_of(cred, pid, tid)
        if size <= 0:
            raise EngineError(EINVAL, f"size {size}")
        windows = self._windows(thread)
        if sid is None:
            sids = {vma.sid for vma in windows if vma.type == O_RDWR}
            if len(sids) != 1:
                raise EngineError(
                    EINVAL, f"space {thread.active} has {len(sids)} segments attached rw: name one"
                )
            sid = sids.pop()
        segment = self._writable(thread, next((vma for vma in windows if vma.sid == sid), None), sid)
        try:
            offset = self._sound(segment, lambda: malloc(_bytes_of(segment), size))
        except NoRoomError:
            room = self._sound(segment, lambda: usage(_bytes_of(segment))).largest_free
            raise EngineError(
                ENOMEM, f"segment {sid} has no {size} bytes free in one piece", length=size, largest_free=room
            ) from None
        return segment.range.start + offset

    def vas_free(self, cred: Credentials, pid: int, tid: int | None, addr: int) -> None:
        """Give back what vas_malloc gave. ESRCH, EPERM; EINVAL: outside a space, or not what it gave; EACCES; EFAULT: damaged."""
        thread = self.tasks_table.thread_of(cred, pid, tid)
        windows = self._windows(thread)
        window = next((vma for vma in windows if vma.start <= addr < vma.end), None)
        if window is None:
            raise EngineError(EINVAL, f"{addr:#x} is in no segment of space {thread.active}", address=addr)
        segment = self._writable(thread, window, window.sid)
        try:
            self._sound(segment, lambda: free(_bytes_of(segment), addr - segment.range.start))
        except ForeignError as foreign:
            raise EngineError(EINVAL, f"{addr:#x} cannot be freed: {foreign}", address=addr) from None

    def heap_usage(self, cred: Credentials, sid: int) -> HeapUsage:
        """How full the heap of a segment is. EINVAL: unknown; EACCES: the mode's read bit; EFAULT: damaged, or no heap."""
        segment = self.segments.registry.get(sid)
        segment.owner.require(cred, Access.READ, f"segment {sid}")
        return self._sound(segment, lambda: usage(_bytes_of(segment)))

    def _windows(self, thread: Thread) -> list[Vma]:
        """The windows on segments in the thread's space. EINVAL: it is in none; EACCES: it has that read-only."""
        union = thread.union
        union.touch()
        if union.space is None:
            raise EngineError(
                EINVAL, f"thread {thread.tid} is in its original address space, which has no heaps"
            )
        union.require_write("malloc")
        return list(union.space.segment_windows())

    def _writable(self, thread: Thread, window: Vma | None, sid: int) -> Segment:
        if window is None:
            raise EngineError(EINVAL, f"space {thread.active} does not have segment {sid} attached")
        if window.type == O_RDONLY:
            raise EngineError(EACCES, f"malloc: segment {sid} is attached read-only")
        segment = self.segments.registry.get(sid)
        segment.require_mutable()
        return segment

    def _sound(self, segment: Segment, work: Callable[[], T]) -> T:
        """The result of `work` on a segment's heap. EFAULT with the address where it is damaged."""
        try:
            return work()
        except DamagedError as damaged:
            address = segment.range.start + damaged.offset
            raise EngineError(
                EFAULT, f"segment {segment.sid}: {damaged.what} at {address:#x}", address=address
            ) from None
        except PagesNeeded as need:
            raise self._foreseen(segment, need) from None

    def _foreseen(self, segment: Segment, need: PagesNeeded) -> PagesNeeded:
        """What a call lacks; for those behind it in one transaction also what is likely to lack next."""
        serial = self.journal.serial
        if not serial or self._lacking[0] != serial:
            self._lacking = serial, 1
            return need
        self._lacking = serial, self._lacking[1] + 1
        obj = segment.obj
        need = with_successors(obj, need, (segment.range.length >> self.geometry.page_shift) - 1)
        if self._lacking[1] == 2:
            room = max(obj.pool.free_count // 2 - len(need.pages), 0)
            need = need.widened(sorted({*need.pages, *foresee(_bytes_of(segment), room)}))
        return need


def _bytes_of(segment: Segment) -> SegmentBytes:
    return SegmentBytes(segment.obj, segment.range.length)
