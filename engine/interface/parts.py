"""What a machine is made of, and what several calls need of it."""

from engine.credentials import Credentials
from engine.geometry import Geometry
from engine.inspection.core_image import CoreImage
from engine.journal import Journal
from engine.memory.frames import FramePool
from engine.memory.objects import Objects
from engine.memory.paged_memory import PagedMemory
from engine.memory.reclaim import Reclaim
from engine.memory.swap import Slots
from engine.ports import SwapArea
from engine.regions.limits import Limits, default_limits
from engine.regions.vma import Vma
from engine.spaces.checkpoint import Checkpoints
from engine.spaces.clones import Clones
from engine.spaces.locks import Locks
from engine.spaces.segments import Segments
from engine.spaces.spaces import Spaces
from engine.tasks.tasks import Task, Tasks
from engine.union import Union


class Parts:
    """`frames` is the resident limit in pages; `first_pid` the first pid given out; `limits` what tasks start with.

    Volatile memory beyond the resident limit goes to `swap`, which must be empty.
    """

    def __init__(
        self,
        geometry: Geometry,
        frames: int = 1 << 16,
        first_pid: int = 1,
        limits: Limits | None = None,
        swap: SwapArea | None = None,
    ) -> None:
        self.geometry = geometry
        self.journal = Journal()
        self.slots = Slots(swap)
        self.pool = FramePool(geometry, frames, self.slots)
        self.objects = Objects(self.pool, self.journal)
        self.tasks_table = Tasks(self.pool, self.journal, first_pid, limits or default_limits(geometry))
        self.spaces = Spaces(geometry, self.journal, self.objects, self.tasks_table)
        self.segments = Segments(geometry, self.journal, self.objects, self.spaces)
        self.locks = Locks(self.journal, self.tasks_table, self.spaces, self.segments)
        self.clones = Clones(self.journal, self.objects, self.spaces, self.segments)
        self.unowned: list[int] = []
        """Objects of the store that no task reads from any more; dropped by the next `flush`."""
        self.checkpoints = Checkpoints(
            self.journal, self.objects, self.tasks_table, self.spaces, self.unowned
        )
        self.images: list[CoreImage] = []

        self.reclaim = Reclaim(self.pool, self.slots, self.journal, self._volatile)
        self.pool.on_shortage(self._free_frames)
        self.pool.on_leaf_shortage(self._count_leaves)

    def union_of(self, cred: Credentials, pid: int, tid: int | None) -> Union:
        return self.tasks_table.thread_of(cred, pid, tid).union

    def seen(self, task: Task) -> Task:
        """A task whose threads and attachments the answer tells."""
        self.journal.touch(task.space)
        for held in task.attachments.values():
            self.journal.touch(held.space)
        return task

    def label(self, vma: Vma) -> str:
        if vma.sid:
            return f"[segment:{self.segments.registry.get(vma.sid).name}]"
        for mapper in vma.obj.mappers:
            if mapper.vid:
                return f"[vas:{self.spaces.registry.get(mapper.vid).name}]"
        return ""

    def task_memory(self) -> list[PagedMemory]:
        """What of it tasks show, once each."""
        found: dict[int, PagedMemory] = {}
        for task in self.tasks_table:
            for space in task.spaces():
                found[id(space.memory)] = space.memory
                found.update((id(obj), obj) for obj in space.shown() if not obj.persistent)
        return list(found.values())

    def _volatile(self) -> list[PagedMemory]:
        """Memory that the store does not remember, once each."""
        return [*self.task_memory(), *(memory for image in self.images for memory in image.volatile())]

    def _count_leaves(self) -> int:
        """Leaves of all page maps, each once."""
        tables = {id(obj.pages.table): obj.pages.table for obj in (*self.objects, *self._volatile())}
        return len({id(leaf) for table in tables.values() for leaf in table.leaves.values()})

    def _free_frames(self, wanted: int) -> None:
        """The pool runs dry: what the store has goes first, then tasks' own memory goes to swap."""
        freed = self.objects.evict(wanted)
        if freed < wanted:
            self.reclaim.free(wanted - freed)
