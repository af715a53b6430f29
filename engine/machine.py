"""The simulated machine: its calls (engine/interface), transactions around them, and what survives a restart.

A call is made inside `transaction()`, which undoes it when it fails, collects what the store must remember, and can be
rolled back later when the store could not. PagesNeeded is raised when bytes are in the store only: fetch them, `supply`
them, and make the call again. Calls raise `EngineError`; the errnos are those of the implementing methods.
"""

from engine.changes import TRANSIENT, DropObject, Image
from engine.errors import PagesNeeded
from engine.interface.clones import CloneCalls
from engine.interface.diff import DiffCalls
from engine.interface.heap import HeapCalls
from engine.interface.locks import LockCalls
from engine.interface.memory import MemoryCalls
from engine.interface.ownership import OwnershipCalls
from engine.interface.personalities import PersonalityCalls
from engine.interface.segments import SegmentCalls
from engine.interface.tasks import TaskCalls
from engine.interface.text import InspectionCalls
from engine.interface.vas import VasCalls
from engine.journal import Transaction
from engine.regions.vma import from_record


class Machine(
    VasCalls,
    SegmentCalls,
    CloneCalls,
    TaskCalls,
    PersonalityCalls,
    MemoryCalls,
    HeapCalls,
    LockCalls,
    InspectionCalls,
    DiffCalls,
    OwnershipCalls,
):
    """One machine. Its parts are those of `engine.interface.parts.Parts`."""

    def transaction(self) -> Transaction:
        """Make calls that stand or fall together: `with` it. An exception undoes them, unless it is partial.

        The caller then settles the transaction once its changes are durable, or rolls it back.
        """
        return self.journal.begin()

    def supply(self, need: PagesNeeded, pages: dict[int, bytes]) -> None:
        """Bytes fetched for `need`, by page index; pages that are missing read as zeros."""
        need.memory.supply(need, pages)

    def pending_of(self, need: PagesNeeded) -> int | None:
        """The last transaction that changed the memory: its pages may be fetched once that is durable. None: it is gone."""
        return None if need.memory.gone else need.memory.pending

    def flush(self) -> None:
        """Ask the store to remember every page written relaxed, and to forget what nobody reads any more."""
        for obj in self.objects:
            obj.flush()
        self._drop_unowned()

    def restore(self, image: Image) -> None:
        """Put everything that survived back into an empty machine."""
        for space in image.spaces:
            self.spaces.restore(space, image.births.get(space.vid), dict(image.roots.get(space.vid, {})))
        for segment in image.segments:
            self.segments.restore(segment)
        for vid, regions in image.regions.items():
            memory = self.spaces.registry.get(vid).memory
            for region in regions:
                if region.sid:
                    held = self.segments.registry.get(region.sid)
                    obj, offset = held.obj, (region.start - held.range.start) >> self.geometry.page_shift
                else:
                    obj, offset = memory.memory, region.start >> self.geometry.page_shift
                memory.map(from_record(region, obj, offset))
        self.spaces.registry.next_id = image.next_vid
        self.segments.registry.next_id = image.next_sid
        self.objects.next_id = image.next_object
        self.unowned += image.unowned

    def start(self) -> None:
        """Let go of what does not outlive the service: transient spaces and segments, and what tasks stood on."""
        for space in [space for space in self.spaces.registry if space.flags & TRANSIENT]:
            self.spaces.remove(space)
        for segment in [segment for segment in self.segments.registry if segment.flags & TRANSIENT]:
            if not segment.obj.mappers:
                self.segments.remove(segment)
        self._drop_unowned()

    def _drop_unowned(self) -> None:
        dropped = list(self.unowned)
        for object_id in dropped:
            self.journal.change(DropObject(object_id))
        self.unowned.clear()
        self.journal.undo(self.unowned.extend, dropped)
