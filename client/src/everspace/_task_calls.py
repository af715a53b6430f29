"""More of what tasks and threads can do: clones and images, heaps and roots, views and slots."""

from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from everspace._calls import clones, heaps, inactive, roots, views
from everspace._calls.call import Call, TaskState, ThreadState
from everspace.models import HeapUsage, Lineage

if TYPE_CHECKING:
    from everspace.client import Client

T = TypeVar("T")


class CallsBase:
    """A thread of a task, and who performs its calls."""

    def __init__(self, client: "Client", task: TaskState, thread: ThreadState) -> None:
        self._client = client
        self._task = task
        self._thread = thread

    def _run(self, call: Call[T]) -> T:
        return self._client.perform(call, self._task, self._thread)


class CloneCalls(CallsBase):
    """Clones, snapshots, images, and spaces from outside."""

    def vas_clone(self, vid: SupportsIndex, name: str) -> int:
        """A copy of a space with its segments, roots and heaps, that shares pages until somebody writes; its id.

        EINVAL, EEXIST, EACCES (it needs read permission).
        """
        return self._run(clones.vas_clone(vid, name))

    def vas_seg_clone(self, sid: SupportsIndex, name: str) -> int:
        """The same of a segment, at the same addresses. EINVAL, EEXIST, EACCES."""
        return self._run(clones.vas_seg_clone(sid, name))

    def vas_snapshot(self, vid: SupportsIndex, name: str) -> int:
        """A clone of a space that nobody can change, root neither; its id. EINVAL, EEXIST, EACCES."""
        return self._run(clones.vas_snapshot(vid, name))

    def vas_seg_snapshot(self, sid: SupportsIndex, name: str) -> int:
        """The same of a segment. EINVAL, EEXIST, EACCES."""
        return self._run(clones.vas_seg_snapshot(sid, name))

    def vas_reset(self, vid: SupportsIndex) -> int:
        """Make a clone what it was when it was cloned. EINVAL (no clone), EACCES, EPERM (snapshot), EBUSY (in use)."""
        return self._run(clones.vas_reset(vid))

    def vas_seg_reset(self, sid: SupportsIndex) -> int:
        """The same of a segment. EINVAL, EACCES, EPERM, EBUSY."""
        return self._run(clones.vas_seg_reset(sid))

    def vas_lineage(self, vid: SupportsIndex) -> Lineage:
        """What a space was cloned from, and its clones. EINVAL."""
        return self._run(clones.vas_lineage(vid))

    def vas_seg_lineage(self, sid: SupportsIndex) -> Lineage:
        """The same of a segment. EINVAL."""
        return self._run(clones.vas_seg_lineage(sid))

    def vas_fork(self, name: str | None = None) -> int:
        """A space of what the task's memory is now, for `vas_exec`, mode 0600; its id. ESRCH, EPERM, EEXIST, ENOMEM."""
        return self._run(clones.vas_fork(name))

    def vas_exec(self, vid: SupportsIndex) -> int:
        """Begin anew with the memory of an image, as `exec`. ESRCH, EPERM, EINVAL (unknown, no image), EACCES."""
        return self._run(clones.vas_exec(vid))

    def vas_mmap(
        self, vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int
    ) -> int:
        """Map into a space from outside; the address. EINVAL, EACCES, ENOMEM, EEXIST, EPERM (snapshot)."""
        return self._run(inactive.vas_mmap(vid, addr, length, prot, flags))

    def vas_munmap(self, vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex) -> int:
        """Unmap in a space from outside. EINVAL, EACCES, EPERM."""
        return self._run(inactive.vas_munmap(vid, addr, length))

    def vas_mprotect(self, vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex, prot: int) -> int:
        """Change the rights of a range of a space from outside. EINVAL, EACCES, ENOMEM (a hole), EPERM."""
        return self._run(inactive.vas_mprotect(vid, addr, length, prot))


class HeapCalls(CallsBase):
    """Heaps inside segments, and roots, of the space that the thread is in."""

    def vas_malloc(self, size: SupportsIndex, sid: SupportsIndex | None = None) -> int:
        """Allocate in a segment, by default the only one that is attached "rw"; the address.

        EINVAL (outside a space, size below 1), EACCES, ENOMEM (full), EFAULT (the segment's bytes are no heap).
        """
        return self._run(heaps.vas_malloc(size, sid))

    def vas_free(self, addr: SupportsIndex) -> int:
        """Free what `vas_malloc` gave, to whomever. EINVAL (nothing allocated there), EACCES, EFAULT."""
        return self._run(heaps.vas_free(addr))

    def heap_usage(self, sid: SupportsIndex) -> HeapUsage:
        """How full a segment's heap is. EINVAL, EACCES, EFAULT."""
        return self._run(heaps.heap_usage(sid))

    def vas_set_root(self, name: str, addr: SupportsIndex) -> int:
        """Name an address of the space. EINVAL (outside a space, bad name), EACCES, EPERM (snapshot)."""
        return self._run(roots.vas_set_root(name, addr))

    def vas_get_root(self, name: str) -> int:
        """The address of a root. EINVAL, EACCES, ENOENT."""
        return self._run(roots.vas_get_root(name))


class ViewCalls(CallsBase):
    """mmview and multias: several address spaces of one task."""

    def mmview(self, op: SupportsIndex, *args: SupportsIndex) -> int:
        """MMVIEW_CREATE, CURRENT, SWITCH_BASE; DELETE and MIGRATE (id); UNSHARE and SHARE (addr, len).

        EINVAL, ENOMEM, EPERM (delete of the base; UNSHARE, SHARE beside other views), EACCES, EBUSY (the task has slots).
        """
        return self._run(views.mmview(op, *args))

    def mmview_create(self) -> int:
        """A new view; its id. ENOMEM, EBUSY."""
        return self._run(views.mmview_create())

    def mmview_migrate(self, id: SupportsIndex) -> int:
        """Go into a view; the former one's id. A negative id asks for the present one. EINVAL."""
        return self._run(views.mmview_migrate(id))

    def mmview_delete(self, id: SupportsIndex) -> int:
        """Delete a view; it goes when the last thread has left it. EINVAL (the base, too)."""
        return self._run(views.mmview_delete(id))

    def mmview_unshare(self, addr: SupportsIndex, len: SupportsIndex) -> int:  # noqa: A002 - the name of the call
        """Let each view have its own copy of a range. EPERM (there are views already), EINVAL, EACCES, ENOMEM."""
        return self._run(views.mmview_unshare(addr, len))

    def new_as(self) -> int:
        """A copy of the address space that the thread is in; its slot. ENOENT (all are used), ENOMEM, EBUSY."""
        return self._run(views.new_as())

    def switch_as(self, n: SupportsIndex) -> int:
        """Go to a slot. ENOENT, EBUSY (the task has views)."""
        return self._run(views.switch_as(n))
