"""The persistent memory objects by the id that the store knows them by."""

from collections import OrderedDict
from collections.abc import Iterator

from engine.errors import EINVAL, EngineError
from engine.frames import FramePool
from engine.journal import Journal
from engine.memory_object import MemoryObject


class Objects:
    """Ids are never reused. When frames run short, clean pages of these objects are evicted."""

    def __init__(self, pool: FramePool, journal: Journal) -> None:
        self.pool = pool
        self.journal = journal
        self.next_id = 1
        self._objects: OrderedDict[int, MemoryObject] = OrderedDict()
        pool.on_shortage(self._evict)

    def __iter__(self) -> Iterator[MemoryObject]:
        return iter(self._objects.values())

    def get(self, object_id: int) -> MemoryObject:
        """EINVAL: gone."""
        obj = self._objects.get(object_id)
        if obj is None:
            raise EngineError(EINVAL, f"no object {object_id}")
        return obj

    def create(self) -> MemoryObject:
        """New memory that the store will remember; it reads as zeros."""
        obj = MemoryObject(self.pool, self.journal, self.next_id)
        self.next_id += 1
        self._objects[obj.object_id] = obj
        self.journal.undo(lambda: self._drop(obj))
        return obj

    def restore(self, object_id: int) -> MemoryObject:
        """Memory whose pages the store has."""
        obj = self._objects[object_id] = MemoryObject(self.pool, self.journal, object_id, in_store=True)
        return obj

    def forget(self, obj: MemoryObject) -> None:
        """Its space or segment is gone."""
        del self._objects[obj.object_id]
        self.journal.undo(lambda: self._objects.update({obj.object_id: obj}))

    def _drop(self, obj: MemoryObject) -> None:
        del self._objects[obj.object_id]
        obj.pages.clear()

    def _evict(self, wanted: int) -> None:
        """Object after object, each in turn: see `MemoryObject.evict`."""
        for _ in range(len(self._objects)):
            object_id, obj = next(iter(self._objects.items()))
            wanted -= obj.evict(wanted)
            if wanted <= 0:
                return
            self._objects.move_to_end(object_id)
