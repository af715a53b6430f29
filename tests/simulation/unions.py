"""Unions without a machine around them."""

from engine.geometry import Geometry
from engine.memory.memory_object import MemoryObject
from engine.regions.address_space import AddressSpace
from engine.union import Counters, Union


def make_union(geometry: Geometry, memory: MemoryObject) -> Union:
    """What a task without regions sees."""
    return Union(AddressSpace(geometry, memory, "task", ((0, geometry.user_end),)), Counters())
