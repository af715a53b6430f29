"""Whose everything is, for those who keep accounts of it."""

from collections.abc import Collection

from engine.interface.parts import Parts


class OwnershipCalls(Parts):
    """What uids own. Nobody's rights are asked."""

    def owned(self, kind: str, uid: int) -> int:
        """How many spaces, segments or tasks ("space", "segment", "task") a uid owns."""
        if kind == "space":
            return self.spaces.registry.owned.count(uid)
        return (self.segments.registry if kind == "segment" else self.tasks_table).owned.count(uid)

    def objects_of(self, uid: int) -> list[int]:
        """The objects of the store that spaces and segments of a uid show, or its tasks read from; each once."""
        found = {
            object_id
            for owned in (self.spaces.registry.owned, self.segments.registry.owned)
            for thing in owned.of(uid)
            for object_id in thing.objects()
        }
        for task in self.tasks_table.owned.of(uid):
            found.update(space.memory.store_id for space in task.spaces() if space.memory.store_id)
        return sorted(found)

    def owner_of(self, object_id: int) -> int | None:
        """The uid that owns the space or segment of an object of the store; None: it is of neither."""
        uid = self.spaces.registry.owner_of(object_id)
        return self.segments.registry.owner_of(object_id) if uid is None else uid

    def dirty_pages(self, object_id: int) -> Collection[int]:
        """Pages of an object that the store does not have yet as they are now."""
        return self.objects.dirty(object_id)
