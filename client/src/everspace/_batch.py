"""The calls that a batch takes."""

from typing import SupportsIndex

from everspace._batch_calls import MoreBatchCalls
from everspace._calls import memory, segments, spaces, tasks
from everspace._gathered import Handle
from everspace.constants import MS_SYNC
from everspace.models import SegAttr, VasAttr


class BatchCalls(MoreBatchCalls):
    """Each call returns a handle at once and is done when the batch closes, in order."""

    def vas_create(
        self, name: str, mode: int, sharing: str = "exclusive", lifetime: str = "persistent"
    ) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_create(name, mode, sharing, lifetime))

    def vas_delete(self, vid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_delete(vid))

    def vas_find(self, name: str) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_find(name))

    def vas_attach(
        self, pid: SupportsIndex, vid: SupportsIndex, type: int | str, lazy: bool = True
    ) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_attach(pid, vid, type, lazy))

    def vas_detach(self, pid: SupportsIndex, vid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_detach(pid, vid))

    def vas_switch(self, vid: SupportsIndex, timeout: float | None = None) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_switch(vid, timeout))

    def active_vas(self) -> Handle[int]:
        """See Task."""
        return self._add(spaces.active_vas())

    def vas_getattr(self, vid: SupportsIndex) -> Handle[VasAttr]:
        """See Task."""
        return self._add(spaces.vas_getattr(vid))

    def vas_setattr(
        self,
        vid: SupportsIndex,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_setattr(vid, mode, uid, gid, sharing, name, lifetime))

    def vas_seg_create(
        self,
        name: str,
        start: SupportsIndex,
        end: SupportsIndex,
        mode: int,
        sharing: str = "exclusive",
        lifetime: str = "persistent",
    ) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_create(name, start, end, mode, sharing, lifetime))

    def vas_seg_delete(self, sid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_delete(sid))

    def vas_seg_find(self, name: str) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_find(name))

    def vas_seg_attach(self, vid: SupportsIndex, sid: SupportsIndex, type: int | str) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_attach(vid, sid, type))

    def vas_seg_detach(self, vid: SupportsIndex, sid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_detach(vid, sid))

    def vas_seg_getattr(self, sid: SupportsIndex) -> Handle[SegAttr]:
        """See Task."""
        return self._add(segments.vas_seg_getattr(sid))

    def vas_seg_setattr(
        self,
        sid: SupportsIndex,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_setattr(sid, mode, uid, gid, sharing, name, lifetime))

    def mmap(self, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int) -> Handle[int]:
        """See Task."""
        return self._add(memory.mmap(addr, length, prot, flags))

    def munmap(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(memory.munmap(addr, length))

    def mprotect(self, addr: SupportsIndex, length: SupportsIndex, prot: int) -> Handle[int]:
        """See Task."""
        return self._add(memory.mprotect(addr, length, prot))

    def brk(self, addr: SupportsIndex = 0) -> Handle[int]:
        """See Task."""
        return self._add(memory.brk(addr))

    def mremap(
        self,
        old_addr: SupportsIndex,
        old_size: SupportsIndex,
        new_size: SupportsIndex,
        flags: int = 0,
        new_addr: SupportsIndex = 0,
    ) -> Handle[int]:
        """See Task."""
        return self._add(memory.mremap(old_addr, old_size, new_size, flags, new_addr))

    def madvise(self, addr: SupportsIndex, length: SupportsIndex, advice: int) -> Handle[int]:
        """See Task."""
        return self._add(memory.madvise(addr, length, advice))

    def mincore(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[bytes]:
        """See Task."""
        return self._add(memory.mincore(addr, length))

    def mlock(self, addr: SupportsIndex, length: SupportsIndex, flags: int = 0) -> Handle[int]:
        """See Task."""
        return self._add(memory.mlock(addr, length, flags))

    def munlock(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(memory.munlock(addr, length))

    def msync(self, addr: SupportsIndex = 0, length: SupportsIndex = 0, flags: int = MS_SYNC) -> Handle[int]:
        """See Task."""
        return self._add(memory.msync(addr, length, flags))

    def maps(self) -> Handle[str]:
        """See Task."""
        return self._add(memory.maps())

    def smaps(self) -> Handle[str]:
        """See Task."""
        return self._add(memory.smaps())

    def prlimit(self, resource: str, value: SupportsIndex | None = None) -> Handle[int]:
        """See Task."""
        return self._add(tasks.prlimit(resource, value))

    def exec(self) -> Handle[int]:
        """See Task."""
        return self._add(tasks.exec_task())
