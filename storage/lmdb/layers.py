"""What objects stand on: a tree of layers, so that a clone copies no page.

An object stands on one layer, and a layer may stand on another, its parent. What a layer does not say of a page, its
ancestors say, nearest first. A layer to which several refer (objects that stand on it, layers whose parent it is)
never changes its meaning; an object whose layer is shared begins one of its own with its first change. So a clone is
two rows. docs/format.md tells how this goes together with the log.

An object that was never cloned, nor is a clone, has no row: it stands alone on the layer of its own id.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from storage.errors import RowDamaged
from storage.rows.format import FIRST_LAYER, pack, seal, unpack, unseal

# --- table `objects`: key object u64, value layer u64 | table `layers`: key layer u64, value its parent u64

LAYER_KEY: Final = struct.Struct(">Q")
LAYER_VALUE: Final = struct.Struct("<Q")


def encode_layer(number: int, layer: int) -> tuple[bytes, bytes]:
    """Key and value: object `number` stands on `layer`, or layer `number` has the parent `layer`."""
    key = pack(LAYER_KEY, number)
    return key, seal(key, pack(LAYER_VALUE, layer))


def decode_layer(key: bytes, value: bytes) -> tuple[int, int]:
    """(number, layer). Raises RowDamaged."""
    (number,) = unpack(LAYER_KEY, key)
    (layer,) = unpack(LAYER_VALUE, unseal(key, value))
    return number, layer


class Layers:
    """The tree as it is committed. The committing thread changes it, under the lock of the location map."""

    def __init__(self) -> None:
        self.objects: dict[int, int] = {}
        """The layer of each object that has a row."""
        self.parents: dict[int, int] = {}
        """The parent of each layer that has one."""
        self.standing: dict[int, set[int]] = {}
        """The objects with a row on each layer."""
        self.above: dict[int, set[int]] = {}
        """The layers whose parent each layer is."""
        self.single: dict[int, None] = {}
        """Layers to which one layer refers, and no object: the two could be one."""
        self.entries: dict[int, int] = {}
        """How many pages and holes each layer has; missing: none."""

    def layer_of(self, object_id: int) -> int:
        """The layer on which an object stands, 0 when the object is gone."""
        layer = self.objects.get(object_id)
        if layer is not None:
            return layer
        gone = object_id in self.standing or object_id in self.above
        return 0 if gone else object_id

    def chain(self, object_id: int) -> list[int]:
        """The object's layer and its ancestors, nearest first; empty when the object is gone."""
        layer = self.layer_of(object_id)
        return list(self.ancestry(layer)) if layer else []

    def ancestry(self, layer: int) -> Iterator[int]:
        """The layer and its ancestors, nearest first."""
        parents = self.parents
        while layer:
            yield layer
            layer = parents.get(layer, 0)

    def references(self, layer: int) -> int:
        """How many objects and layers stand on the layer."""
        return len(self.standing.get(layer, ())) + len(self.above.get(layer, ())) or 1

    def is_reached_from(self, layer: int, objects: Iterable[int], past: int = 0) -> bool:
        """Whether an object that is not in `objects` stands on the layer, or above it but for what is above `past`."""
        own = set(objects)
        if layer not in self.standing and layer not in self.above:
            return layer not in own
        left = [layer]
        while left:
            current = left.pop()
            if not self.standing.get(current, own) <= own:
                return True
            left.extend(child for child in self.above.get(current, ()) if child != past)
        return False

    def read(self, objects: Iterable[tuple[int, int]], parents: Iterable[tuple[int, int]]) -> None:
        """While opening: all rows. Raises RowDamaged when layers stand on each other in a circle."""
        change = LayerChange(self, FIRST_LAYER)
        change.objects.update(objects)
        change.parents.update(parents)
        self.follow(change)
        grounded: set[int] = set()
        for layer in self.parents:
            path: dict[int, None] = {}
            for below in self.ancestry(layer):
                if below in grounded:
                    break
                if below in path:
                    raise RowDamaged(f"layer {below} is its own ancestor")
                path[below] = None
            grounded.update(path)

    def follow(self, change: "LayerChange") -> None:
        """Take over what was committed."""
        touched: set[int] = set(change.freed)
        for number, layer, rows, referrers in (
            *((number, layer, self.objects, self.standing) for number, layer in change.objects.items()),
            *((number, layer, self.parents, self.above) for number, layer in change.parents.items()),
        ):
            before = rows.pop(number, 0)
            if before:
                referrers[before].discard(number)
                if not referrers[before]:
                    del referrers[before]
                touched.add(before)
            if layer:
                rows[number] = layer
                referrers.setdefault(layer, set()).add(number)
                touched.add(layer)
        for layer in touched:
            if layer not in self.standing and len(self.above.get(layer, ())) == 1:
                self.single[layer] = None
            else:
                self.single.pop(layer, None)
        for layer in change.freed:
            self.entries.pop(layer, None)


@dataclass(slots=True)
class LayerChange:
    """What a group does to the tree; asks as the tree will be after it."""

    base: Layers
    next_layer: int
    objects: dict[int, int] = field(default_factory=dict)
    """New layer of each object, 0 of one that loses its row."""
    parents: dict[int, int] = field(default_factory=dict)
    """New parent of each layer, 0 when it has none any more."""
    freed: list[int] = field(default_factory=list)
    """Layers on which nothing stands any more, in the order in which they were left."""
    _references: dict[int, int] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether the tree stays as it is."""
        return not (self.objects or self.parents or self.freed)

    def layer_of(self, object_id: int) -> int:
        """As `Layers.layer_of`."""
        layer = self.objects.get(object_id)
        if layer:
            return layer
        return 0 if layer == 0 or object_id in self._gone else self.base.layer_of(object_id)

    def parent_of(self, layer: int) -> int:
        """The parent of a layer, 0 when it has none."""
        parent = self.parents.get(layer)
        return self.base.parents.get(layer, 0) if parent is None else parent

    def ancestors(self, layer: int) -> list[int]:
        """What a layer stands on, nearest first."""
        found: list[int] = []
        while layer := self.parent_of(layer):
            found.append(layer)
        return found

    def has_row(self, object_id: int) -> bool:
        """Whether an object will have a row."""
        return bool(self.objects.get(object_id, self.base.objects.get(object_id)))

    def enter(self, object_id: int) -> None:
        """The object gets a row, wherever it stands; the only one on its layer when it had none."""
        if object_id not in self.objects and object_id not in self.base.objects:
            self.objects[object_id] = self.layer_of(object_id)
            self._references.setdefault(self.objects[object_id], 1)

    def clone(self, source: int, target: int) -> None:
        """`target`, which stands on nothing, comes to stand beside `source`."""
        self.enter(source)
        layer = self.layer_of(source)
        self._refer(layer, +1)
        self.objects[target] = layer
        self._gone.discard(target)

    def writable(self, object_id: int, holds: Callable[[int], bool]) -> int:
        """The object's layer, or a new one for it when that is shared. `holds` tells whether a layer has anything.

        0 when the object is gone.
        """
        layer = self.layer_of(object_id)
        if not layer or self.references(layer) == 1:
            return layer
        fresh = self.next_layer
        self.next_layer += 1
        self.objects[object_id] = fresh
        self._references[fresh] = 1
        below = layer if holds(layer) else self.parent_of(layer)
        if below:
            self.parents[fresh] = below
            self._refer(below, +1)
        self._refer(layer, -1)
        return fresh

    def leave(self, object_id: int) -> list[int]:
        """The object stands on nothing any more. Returns the layers that are freed by that."""
        layer = self.layer_of(object_id)
        if not layer:
            return []
        if object_id in self.objects or object_id in self.base.objects:
            self.objects[object_id] = 0
        self._gone.add(object_id)
        freed: list[int] = []
        while layer and not self._refer(layer, -1):
            freed.append(layer)
            parent = self.parent_of(layer)
            if parent:
                self.parents[layer] = 0
            layer = parent
        self.freed += freed
        return freed

    def references(self, layer: int) -> int:
        """As `Layers.references`."""
        count = self._references.get(layer)
        return self.base.references(layer) if count is None else count

    def _refer(self, layer: int, by: int) -> int:
        count = self._references[layer] = self.references(layer) + by
        return count

    def join(self, upper: int, lower: int, *, gone: int) -> None:
        """One of two layers, `upper` on `lower` alone, has nothing left and goes; what refers to it takes the other."""
        parent = self.base.parents.get(lower, 0)
        if gone == upper:
            for object_id in self.base.standing.get(upper, ()):
                self.objects[object_id] = lower
            for layer in self.base.above.get(upper, ()):
                self.parents[layer] = lower
            self.parents[upper] = 0
        else:
            self.parents[upper] = parent
            if parent:
                self.parents[lower] = 0
        self.freed.append(gone)
