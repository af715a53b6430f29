"""More of what a batch takes, see `everspace._task_calls`."""

from typing import SupportsIndex

from everspace._calls import clones, heaps, inactive, roots, views
from everspace._gathered import Gathered, Handle
from everspace.models import HeapUsage, Lineage


class MoreBatchCalls(Gathered):
    """Clones and images, heaps and roots, views and slots."""

    def vas_clone(self, vid: SupportsIndex, name: str) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_clone(vid, name))

    def vas_seg_clone(self, sid: SupportsIndex, name: str) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_seg_clone(sid, name))

    def vas_snapshot(self, vid: SupportsIndex, name: str) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_snapshot(vid, name))

    def vas_seg_snapshot(self, sid: SupportsIndex, name: str) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_seg_snapshot(sid, name))

    def vas_reset(self, vid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_reset(vid))

    def vas_seg_reset(self, sid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_seg_reset(sid))

    def vas_lineage(self, vid: SupportsIndex) -> Handle[Lineage]:
        """See Task."""
        return self._add(clones.vas_lineage(vid))

    def vas_seg_lineage(self, sid: SupportsIndex) -> Handle[Lineage]:
        """See Task."""
        return self._add(clones.vas_seg_lineage(sid))

    def vas_fork(self, name: str | None = None) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_fork(name))

    def vas_exec(self, vid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(clones.vas_exec(vid))

    def vas_mmap(
        self, vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int
    ) -> Handle[int]:
        """See Task."""
        return self._add(inactive.vas_mmap(vid, addr, length, prot, flags))

    def vas_munmap(self, vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(inactive.vas_munmap(vid, addr, length))

    def vas_mprotect(
        self, vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex, prot: int
    ) -> Handle[int]:
        """See Task."""
        return self._add(inactive.vas_mprotect(vid, addr, length, prot))

    def vas_malloc(self, size: SupportsIndex, sid: SupportsIndex | None = None) -> Handle[int]:
        """See Task."""
        return self._add(heaps.vas_malloc(size, sid))

    def vas_free(self, addr: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(heaps.vas_free(addr))

    def heap_usage(self, sid: SupportsIndex) -> Handle[HeapUsage]:
        """See Task."""
        return self._add(heaps.heap_usage(sid))

    def vas_set_root(self, name: str, addr: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(roots.vas_set_root(name, addr))

    def vas_get_root(self, name: str) -> Handle[int]:
        """See Task."""
        return self._add(roots.vas_get_root(name))

    def mmview(self, op: SupportsIndex, *args: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(views.mmview(op, *args))

    def mmview_create(self) -> Handle[int]:
        """See Task."""
        return self._add(views.mmview_create())

    def mmview_migrate(self, id: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(views.mmview_migrate(id))

    def mmview_delete(self, id: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(views.mmview_delete(id))

    def mmview_unshare(self, addr: SupportsIndex, len: SupportsIndex) -> Handle[int]:  # noqa: A002 - the name of the call
        """See Task."""
        return self._add(views.mmview_unshare(addr, len))

    def new_as(self) -> Handle[int]:
        """See Task."""
        return self._add(views.new_as())

    def switch_as(self, n: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(views.switch_as(n))
