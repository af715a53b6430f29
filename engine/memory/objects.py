"""The persistent memory objects by the id that the store knows them by."""

from collections import OrderedDict
from collections.abc import Collection, Iterator

from engine.errors import EINVAL, EngineError
from engine.journal import Journal
from engine.memory.eviction import Sweep, evict
from engine.memory.frames import FramePool
from engine.memory.memory_object import MemoryObject


class Objects:
    """Ids are never reused. What an id names is made when it is first used.

    When frames run short, clean pages of these objects are evicted.
    """

    def __init__(self, pool: FramePool, journal: Journal) -> None:
        self.pool = pool
        self.journal = journal
        self.next_id = 1
        self._objects: OrderedDict[int, MemoryObject | None] = OrderedDict()
        pool.on_shortage(self.evict)

    def __iter__(self) -> Iterator[MemoryObject]:
        return (obj for obj in self._objects.values() if obj is not None)

    def get(self, object_id: int) -> MemoryObject:
        """EINVAL: gone."""
        obj = self._objects.get(object_id)
        if obj is None:
            if object_id not in self._objects:
                raise EngineError(EINVAL, f"no object {object_id}")
            obj = self._objects[object_id] = MemoryObject(self.pool, self.journal, object_id)
        return obj

    def dirty(self, object_id: int) -> Collection[int]:
        """The pages of an object that the store does not have yet as they are now."""
        obj = self._objects.get(object_id)
        return () if obj is None else obj.dirty

    def holds(self, obj: MemoryObject) -> bool:
        """Whether its space or segment still exists."""
        return self._objects.get(obj.object_id) is obj

    def reserve(self) -> int:
        """The id of new memory that the store will remember; it reads as zeros."""
        object_id = self.next_id
        self.next_id = object_id + 1
        self._objects[object_id] = None
        self.journal.undo(self._drop, object_id)
        return object_id

    def create(self, *, in_store: bool = False) -> MemoryObject:
        """`reserve`, and the memory itself; `in_store`: its pages are put into the store without being resident."""
        object_id = self.reserve()
        return self.restore(object_id) if in_store else self.get(object_id)

    def restore(self, object_id: int) -> MemoryObject:
        """Memory whose pages the store has."""
        obj = self._objects[object_id] = MemoryObject(self.pool, self.journal, object_id, in_store=True)
        return obj

    def forget(self, obj: MemoryObject) -> None:
        """Its space or segment is gone."""
        del self._objects[obj.object_id]
        self.journal.undo(self._objects.__setitem__, obj.object_id, obj)

    def _drop(self, object_id: int) -> None:
        obj = self._objects.pop(object_id)
        if obj is not None:
            obj.pages.clear()
            obj.gone = True

    def clone(self, obj: MemoryObject) -> MemoryObject:
        """New memory that the store will remember, which reads as `obj` does now. O(1) in pages."""
        copy = self.create()
        obj.copy_to(copy)
        return copy

    def spare_id(self) -> int:
        """The id of an object that only the store knows."""
        self.next_id += 1
        return self.next_id - 1

    def evict(self, wanted: int) -> int:
        """Object after object, each in turn: see `eviction.evict`. How many frames were freed.

        What several clones hold goes last.
        """
        freed = 0
        for sweep in (Sweep(), Sweep(held_twice=True)):
            for _ in range(len(self._objects)):
                object_id, obj = next(iter(self._objects.items()))
                if obj is not None:
                    freed += evict(obj, wanted - freed, sweep)
                if freed >= wanted:
                    return freed
                self._objects.move_to_end(object_id)
        return freed
