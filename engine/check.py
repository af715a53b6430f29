"""Walk the whole machine and name what does not hold. docs/invariants.md numbers the rules."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from engine.access import Access
from engine.address_space import AddressSpace
from engine.constants import EXCLUSIVE, O_RDONLY
from engine.frames import ZERO_FRAME
from engine.machine import Machine
from engine.memory_object import MemoryObject
from engine.page_map import Leaf
from engine.page_table import FRAME_SHIFT, WRITABLE
from engine.union import Union


def check(machine: Machine) -> Iterator[str]:
    """Every broken invariant, as a sentence that starts with its number. Nothing when all is well.

    To be called between transactions that are all settled or rolled back.
    """
    owners = [task.space for task in machine.tasks_table] + [
        space.memory for space in machine.spaces.registry
    ]
    for owner in owners:
        yield from check_regions(owner)
    for task in machine.tasks_table:
        for union in (task.original, *(held.union for held in task.attachments.values())):
            yield from check_union(union)
    yield from check_frames(machine, owners)
    yield from check_attachments(machine)
    yield from check_names(machine)


def check_regions(owner: AddressSpace) -> Iterator[str]:
    """I1, I2: regions are sorted, disjoint, aligned, in the user's range, merged, and collide with no peer."""
    geometry = owner.geometry
    vmas = list(owner.vmas)
    for vma in vmas:
        bounds = geometry.user_start <= vma.start < vma.end <= geometry.user_end
        if not bounds or not geometry.is_aligned(vma.start) or not geometry.is_aligned(vma.end):
            yield f"I1: {owner.label}: {vma.range} is not an aligned range of the user's"
        if owner not in vma.obj.mappers:
            yield f"I1: {owner.label}: the object of {vma.range} does not know who maps it"
        for peer in owner.peers:
            for other in peer.vmas.overlapping(vma.start, vma.end):
                yield f"I2: {vma.range} of {owner.label} collides with {other.range} of {peer.label}"
    for left, right in pairwise(vmas):
        if left.end > right.start:
            yield f"I1: {owner.label}: {left.range} and {right.range} overlap"
        if left.merges_with(right, geometry.page_shift):
            yield f"I1: {owner.label}: {left.range} and {right.range} should be one region"


def check_union(union: Union) -> Iterator[str]:
    """I3, I4: an entry lies inside a region, names the frame that the object has, and gives no right too many."""
    shift = union.own.geometry.page_shift
    for vpn, entry in union.table.walk():
        found = union.find(vpn << shift)
        if found is None:
            yield f"I3: {union.own.label}: an entry for {vpn << shift:#x} outside every region"
            continue
        owner, vma = found
        held = int(vma.obj.pages.entries(vma.page_of(vpn << shift, shift), 1)[0])
        frame = entry >> FRAME_SHIFT
        if frame != held and not (frame == ZERO_FRAME and held == 0):
            yield f"I4: {vpn << shift:#x} is cached as frame {frame}, the object has {held}"
        if entry & WRITABLE:
            if not union.rights(vma, owner) & Access.WRITE:
                yield f"I4: {vpn << shift:#x} is cached writable in a region that is not"
            if frame == ZERO_FRAME or machine_refs(vma.obj, frame) != 1:
                yield f"I4: {vpn << shift:#x} is cached writable, but its frame is shared"


def machine_refs(obj: MemoryObject, frame: int) -> int:
    """References of a frame."""
    return int(obj.pool.refs[frame])


def check_frames(machine: Machine, owners: list[AddressSpace]) -> Iterator[str]:
    """I5, I6: references are counted right; frames in use and free frames are all frames and disjoint."""
    objects: dict[int, MemoryObject] = {id(obj): obj for obj in machine.objects}
    for owner in owners:
        objects[id(owner.memory)] = owner.memory
        objects.update({id(vma.obj): vma.obj for vma in owner.vmas})
    leaves: dict[int, Leaf] = {id(leaf): leaf for obj in objects.values() for leaf in obj.pages.identities()}
    counted: Counter[int] = Counter()
    for leaf in leaves.values():
        counted.update(leaf.entries[leaf.entries > ZERO_FRAME].tolist())
    for frame, count in counted.items():
        if int(machine.pool.refs[frame]) != count:
            yield f"I5: frame {frame} has {int(machine.pool.refs[frame])} references, {count} leaves hold it"
    free = machine.pool.free_frames()
    if free & counted.keys():
        yield f"I6: frames are free and in use: {sorted(free & counted.keys())[:5]}"
    if len(free) != machine.pool.free_count or len(free) + len(counted) != machine.pool.capacity:
        yield f"I6: {len(free)} free and {len(counted)} used frames, {machine.pool.capacity} in all"
    if machine.pool.pages[ZERO_FRAME].any():
        yield "I7: the zero page was written"
    for obj in objects.values():
        for page in obj.dirty:
            if int(obj.pages.entries(page, 1)[0]) <= ZERO_FRAME:
                yield f"I8: object {obj.object_id}: dirty page {page} has no frame"
        if obj.dirty and not obj.persistent:
            yield "I8: volatile memory has dirty pages"


def check_attachments(machine: Machine) -> Iterator[str]:
    """I9, I10: attachments are known on both sides, threads are inside what is attached, sharing rules hold."""
    for task in machine.tasks_table:
        for thread in task.threads.values():
            held = task.attachments.get(thread.active)
            seen = task.original if thread.active == 0 else held.union if held else None
            if thread.union is not seen:
                yield f"I9: thread {thread.tid} is in space {thread.active} but sees something else"
    for space in machine.spaces.registry:
        for held in space.attached:
            if held.task.attachments.get(space.vid) is not held or held.task.space not in space.memory.peers:
                yield f"I9: space {space.vid} and task {held.task.pid} disagree about their attachment"
        types = [held.type for held in space.attached]
        if space.sharing == EXCLUSIVE and len(types) > 1 and any(kind != O_RDONLY for kind in types):
            yield f"I10: exclusive space {space.vid} has a writer and others"
    for segment in machine.segments.registry:
        types = [
            next(vma.type for vma in space.memory.segment_windows() if vma.sid == segment.sid)
            for space in machine.spaces.registry
            if any(vma.sid == segment.sid for vma in space.memory.segment_windows())
        ]
        if segment.sharing == EXCLUSIVE and len(types) > 1 and any(kind != O_RDONLY for kind in types):
            yield f"I10: exclusive segment {segment.sid} has a writer and others"


def check_names(machine: Machine) -> Iterator[str]:
    """I11: names are unique, and ids are below the next one."""
    for registry in (machine.spaces.registry, machine.segments.registry):
        names = [thing.name for thing in registry]
        if len(names) != len(set(names)):
            yield f"I11: two of the {registry.kind}s have one name"
    if any(space.vid >= machine.spaces.registry.next_id for space in machine.spaces.registry):
        yield "I11: a space has an id that was not given out yet"
    ids = [obj.object_id for obj in machine.objects]
    if np.any(np.array(ids, np.int64) >= machine.objects.next_id):
        yield "I11: an object has an id that was not given out yet"
