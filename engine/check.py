"""Walk the whole machine and name what does not hold. docs/invariants.md numbers the rules."""

from collections import Counter
from collections.abc import Container, Iterator
from itertools import pairwise

import numpy as np

from engine.access import Access
from engine.changes import IMAGE
from engine.check_views import check_views
from engine.constants import EXCLUSIVE, MAP_COUNT_MAX, O_RDONLY
from engine.machine import Machine
from engine.memory.fault import deny
from engine.memory.frames import STORED, SWAPPED, ZERO_FRAME
from engine.memory.memory_object import MemoryObject
from engine.memory.page_map import LEAF_PAGES, LEAF_SHIFT, Leaf
from engine.memory.page_table import FRAME_SHIFT, WRITABLE
from engine.regions.address_space import AddressSpace
from engine.regions.vm_flags import (
    ACCOUNT,
    GROWS_DOWN,
    HUGEPAGE,
    LOCK_ON_FAULT,
    LOCKED,
    NOHUGEPAGE,
    NORESERVE,
    RAND_READ,
    SEQ_READ,
    UNSHARED,
    VAS_PRIVATE,
)
from engine.regions.vma import Vma
from engine.spaces.checkpoint import KEPT_FLAGS
from engine.union import Union

_TASKS_ONLY = ACCOUNT | NORESERVE | GROWS_DOWN | VAS_PRIVATE | UNSHARED
_PRIVATE_ONLY = ACCOUNT | GROWS_DOWN | UNSHARED
_EXCLUSIVE = (ACCOUNT | NORESERVE, HUGEPAGE | NOHUGEPAGE, RAND_READ | SEQ_READ)


def check(machine: Machine, *, pending: bool = False) -> Iterator[str]:
    """Every broken invariant, as a sentence that starts with its number. Nothing when all is well.

    To be called between transactions. `pending`: some are neither settled nor rolled back, and their undo records hold
    frames that no page map shows.
    """
    owners = [space for task in machine.tasks_table for space in task.spaces()]
    owners += [space.memory for space in machine.spaces.registry]
    images = {space.vid for space in machine.spaces.registry if space.flags & IMAGE}
    for owner in owners:
        yield from check_regions(owner)
        yield from check_kinds(owner, images)
        yield from check_own_memory(owner)
    for task in machine.tasks_table:
        for union in task.unions():
            yield from check_union(union)
        yield from check_views(task)
    objects = all_objects(machine, owners)
    yield from check_frames(machine, objects, pending=pending)
    yield from check_swap(machine, objects, pending=pending)
    yield from check_page_maps(objects, pending=pending)
    yield from check_families(objects)
    yield from check_entries(objects)
    yield from check_objects(objects, owners)
    yield from check_attachments(machine)
    yield from check_sharing(machine)
    yield from machine.locks.conflicts()
    yield from check_names(machine)
    yield from check_owners(machine)


def check_regions(owner: AddressSpace) -> Iterator[str]:
    """I1, I2: regions are sorted, disjoint, aligned, in the user's range, merged, and collide with no peer."""
    geometry = owner.geometry
    vmas = list(owner.vmas)
    for vma in vmas:
        bounds = geometry.user_start <= vma.start < vma.end <= geometry.user_end
        if not bounds or not geometry.is_aligned(vma.start) or not geometry.is_aligned(vma.end):
            yield f"I1: {owner.label}: {vma.range} is not an aligned range of the user's"
        if owner.owns(vma.obj) and vma.offset << geometry.page_shift != vma.start:
            yield f"I1: {owner.label}: {vma.range} shows page {vma.offset} of the owner's memory"
        for peer in owner.peers:
            for other in peer.vmas.overlapping(vma.start, vma.end):
                yield f"I2: {vma.range} of {owner.label} collides with {other.range} of {peer.label}"
    for left, right in pairwise(vmas):
        if left.end > right.start:
            yield f"I1: {owner.label}: {left.range} and {right.range} overlap"
        if owner.vid and left.merges_with(right, geometry.page_shift):
            yield f"I1: {owner.label}: {left.range} and {right.range} should be one region"
    heap = owner.brk
    if not heap.start <= heap.now <= heap.top:
        yield f"I1: {owner.label}: the break {heap.now:#x} is not in {heap.start:#x}-{heap.top:#x}"


def check_kinds(owner: AddressSpace, images: Container[int]) -> Iterator[str]:
    """I15, I16: marks and flags are where they belong and do not contradict each other."""
    if owner.vid and len(owner.vmas) > MAP_COUNT_MAX:
        yield f"I1: {owner.label} has {len(owner.vmas)} regions"
    for vma in owner.vmas:
        if (owner.vid or vma.shared) and (vma.anon or vma.moved or vma.forked):
            yield f"I15: {owner.label}: {vma.range} is not a task's private region but has marks of one"
        if vma.forked and not vma.anon:
            yield f"I15: {owner.label}: {vma.range} has a parent's pages but was never written"
        allowed = KEPT_FLAGS if owner.vid in images else 0
        if reason := _wrong_flags(owner, vma, allowed):
            yield f"I16: {owner.label}: {vma.range} has flags {vma.flags:#x}: {reason}"


def _wrong_flags(owner: AddressSpace, vma: Vma, allowed: int) -> str:
    flags = vma.flags
    if owner.vid and flags & _TASKS_ONLY & ~allowed:
        return "only tasks have such regions"
    if vma.shared and flags & _PRIVATE_ONLY:
        return "only private regions are so"
    if flags & (LOCKED | LOCK_ON_FAULT) == LOCK_ON_FAULT:
        return "locked on a fault but not locked"
    if any(flags & pair == pair for pair in _EXCLUSIVE):
        return "they contradict each other"
    if flags & (HUGEPAGE | NOHUGEPAGE) and not owner.geometry.has_huge_pages:
        return "there are no huge pages"
    return ""


def check_own_memory(owner: AddressSpace) -> Iterator[str]:
    """I18, I20: the owner's memory has frames, or a place in swap, only where its regions show it; what is huge may be."""
    yield from check_shown(owner, owner.memory)
    if owner.private is not None:
        yield from check_shown(owner, owner.private)


def check_shown(owner: AddressSpace, memory: MemoryObject) -> Iterator[str]:
    """I18, I20 of one object."""
    shift = owner.geometry.page_shift
    for number in memory.pages.present(0, 1 << 62):
        leaf = memory.pages.table.leaves[number]
        if leaf.huge and (owner.vid or not owner.geometry.has_huge_pages):
            yield f"I20: {owner.label}: leaf {number} is one huge page, which this memory cannot have"
        held = (leaf.entries > ZERO_FRAME) | (leaf.entries <= SWAPPED)
        first = number << LEAF_SHIFT
        for vma in owner.vmas.overlapping(first << shift, (first + LEAF_PAGES) << shift):
            if vma.obj is memory:
                held[max((vma.start >> shift) - first, 0) : (vma.end >> shift) - first] = False
        for low in held.nonzero()[0].tolist():
            yield f"I18: {owner.label}: page {first + low} has bytes, but no region shows it"


def check_union(union: Union) -> Iterator[str]:
    """I3, I4, I15, I17: an entry is inside a region, names the frame that the object has, gives no right too many."""
    shift = union.own.geometry.page_shift
    for vpn, entry in union.table.walk():
        found = union.find(vpn << shift)
        if found is None:
            yield f"I3: {union.own.label}: an entry for {vpn << shift:#x} outside every region"
            continue
        owner, vma = found
        pages, page = vma.obj.pages, vma.page_of(vpn << shift, shift)
        if page >= vma.obj.length:
            yield f"I17: {vpn << shift:#x} is cached, but lies behind the end of its memory"
        held = int(pages.entries(page, 1)[0])
        frame = entry >> FRAME_SHIFT
        if frame != held:
            yield f"I4: {vpn << shift:#x} is cached as frame {frame}, the object has {held}"
        if deny(union.rights(vma, owner), Access.READ) is not None:
            yield f"I4: {vpn << shift:#x} is cached in a region that cannot be read"
        if entry & WRITABLE:
            if not union.rights(vma, owner) & Access.WRITE:
                yield f"I4: {vpn << shift:#x} is cached writable in a region that is not"
            if not (owner.vid or vma.shared or vma.anon):
                yield f"I15: {vpn << shift:#x} is cached writable in a region that was never written"
            alone = frame != ZERO_FRAME and int(vma.obj.pool.refs[frame]) == 1
            if not alone or not pages.is_exclusive(page >> LEAF_SHIFT):
                yield f"I4: {vpn << shift:#x} is cached writable, but its frame is shared"
    yield from check_recent(union)


def check_recent(union: Union) -> Iterator[str]:
    """I4: what was stored to lately has a writable entry for the frame and the object that are remembered."""
    shift = union.own.geometry.page_shift
    for vpn, (obj, page, start) in union.table.recent.items():
        found, entry = union.find(vpn << shift), union.table.entry(vpn)
        if not entry & WRITABLE or entry >> FRAME_SHIFT << shift != start:
            yield f"I4: {vpn << shift:#x} was stored to lately, without a writable entry for its frame"
        if found is None or found[1].obj is not obj or found[1].page_of(vpn << shift, shift) != page:
            yield f"I4: {vpn << shift:#x} was stored to lately, in another object"


def all_objects(machine: Machine, owners: list[AddressSpace]) -> list[MemoryObject]:
    """Every memory object that anybody can reach, once."""
    objects: dict[int, MemoryObject] = {id(obj): obj for obj in machine.objects}
    objects.update({id(obj): obj for image in machine.images for obj in image.volatile()})
    for owner in owners:
        objects[id(owner.memory)] = owner.memory
        if owner.private is not None:
            objects[id(owner.private)] = owner.private
        objects.update({id(vma.obj): vma.obj for vma in owner.vmas})
    return list(objects.values())


def all_leaves(objects: list[MemoryObject]) -> list[Leaf]:
    """Every leaf of their page maps, once."""
    return list({id(leaf): leaf for obj in objects for leaf in obj.pages.table.leaves.values()}.values())


def check_frames(machine: Machine, objects: list[MemoryObject], *, pending: bool) -> Iterator[str]:
    """I5 to I8: references are counted right; frames are in use or free; zeros are zeros; dirty pages are there."""
    counted: Counter[int] = Counter()
    for leaf in all_leaves(objects):
        counted.update(leaf.entries[leaf.entries > ZERO_FRAME].tolist())
    counted.update(machine.slots.cached()[0].tolist())
    for frame, count in counted.items():
        refs = int(machine.pool.refs[frame])
        if refs < count or (refs > count and not pending):
            yield f"I5: frame {frame} has {int(machine.pool.refs[frame])} references, {count} leaves and slots hold it"
    free = machine.pool.free_frames()
    if free & counted.keys():
        yield f"I6: frames are free and in use: {sorted(free & counted.keys())[:5]}"
    known = len(free) + len(counted)
    if len(free) != machine.pool.free_count or (known != machine.pool.capacity and not pending):
        yield f"I6: {len(free)} free and {len(counted)} used frames, {machine.pool.capacity} in all"
    if machine.pool.pages[ZERO_FRAME].any():
        yield "I7: the zero page was written"
    if thrown := free & set(machine.pool.lazy.nonzero()[0].tolist()):
        yield f"I6: free frames may be thrown away: {sorted(thrown)[:5]}"
    for obj in objects:
        for page in obj.dirty:
            if int(obj.pages.entries(page, 1)[0]) <= ZERO_FRAME:
                yield f"I8: object {obj.object_id}: dirty page {page} has no frame"
        if obj.dirty and not obj.persistent:
            yield "I8: volatile memory has dirty pages"


def check_swap(machine: Machine, objects: list[MemoryObject], *, pending: bool) -> Iterator[str]:
    """I19: references of swap slots are counted right; slots are in use or free; remembered frames have their bytes."""
    slots = machine.slots
    counted: Counter[int] = Counter()
    for leaf in all_leaves(objects):
        counted.update((SWAPPED - leaf.entries[leaf.entries <= SWAPPED]).tolist())
    for slot, count in counted.items():
        refs = int(slots.refs[slot])
        if refs < count or (refs > count and not pending):
            yield f"I19: swap slot {slot} has {refs} references, {count} leaves hold it"
    frames, entries = slots.cached()
    if len(frames) and machine.pool.pages[frames].tobytes() != slots.load(entries):
        yield "I19: a frame that a swap slot remembers has other bytes than the slot"
    free = slots.free_slots()
    if free & counted.keys():
        yield f"I19: swap slots are free and in use: {sorted(free & counted.keys())[:5]}"
    known = len(free) + len(counted)
    if len(free) + slots.used != slots.capacity or (known != slots.capacity and not pending):
        yield f"I19: {len(free)} free and {len(counted)} used slots ({slots.used}), {slots.capacity} in all"


def check_page_maps(objects: list[MemoryObject], *, pending: bool) -> Iterator[str]:
    """I12: tables count the maps that share them, leaves the tables."""
    tables = {id(obj.pages.table): obj.pages.table for obj in objects}
    maps = Counter(id(obj.pages.table) for obj in objects)
    holders = Counter(id(leaf) for table in tables.values() for leaf in table.leaves.values())
    for key, table in tables.items():
        if table.refs < maps[key] or (table.refs > maps[key] and not pending):
            yield f"I12: a table of leaves has {table.refs} references, {maps[key]} page maps hold it"
        for number, leaf in table.leaves.items():
            if leaf.refs < holders[id(leaf)] or (leaf.refs > holders[id(leaf)] and not pending):
                yield f"I12: leaf {number} has {leaf.refs} references, {holders[id(leaf)]} tables hold it"


def check_families(objects: list[MemoryObject]) -> Iterator[str]:
    """I12: persistent memory that shares leaves knows each other, and shares none with volatile memory."""
    holders: dict[int, MemoryObject] = {}
    for obj in objects:
        if obj.persistent and sum(member is obj for member in obj.family) != 1:
            yield f"I12: object {obj.object_id} is not once in its family"
        for leaf in obj.pages.table.leaves.values():
            other = holders.setdefault(id(leaf), obj)
            if other.persistent != obj.persistent:
                yield f"I12: object {max(obj.object_id, other.object_id)} shares a leaf with volatile memory"
            elif obj.persistent and other.family is not obj.family:
                yield f"I12: objects {other.object_id} and {obj.object_id} share a leaf and do not know each other"


def check_entries(objects: list[MemoryObject]) -> Iterator[str]:
    """I12, I17, I20: entries are possible ones for their memory."""
    for obj in objects:
        for number, leaf in obj.pages.table.leaves.items():
            if int(leaf.entries.max()) >= len(obj.pool.refs):
                yield f"I17: leaf {number} names a frame that does not exist"
            behind = max(obj.length - (number << LEAF_SHIFT), 0)
            if ((leaf.entries[behind:] > ZERO_FRAME) | (leaf.entries[behind:] <= SWAPPED)).any():
                yield f"I17: leaf {number} has bytes behind the end of its memory"
            if not obj.store_id and (leaf.entries == STORED).any():
                yield "I12: volatile memory has pages in the store"
            if obj.persistent and (leaf.entries <= SWAPPED).any():
                yield "I12: persistent memory has pages in the swap area"
            if leaf.huge and (leaf.entries != leaf.entries[0] + np.arange(LEAF_PAGES)).any():
                yield f"I20: leaf {number} is one huge page, but not one run of frames"
            if leaf.huge and int(leaf.entries[0]) <= ZERO_FRAME:
                yield f"I20: leaf {number} is one huge page without frames"


def check_objects(objects: list[MemoryObject], owners: list[AddressSpace]) -> Iterator[str]:
    """I13: an object knows exactly the owners that show it, so that every cached translation can be dropped."""
    for obj in objects:
        known = Counter(id(mapper) for mapper in obj.mappers)
        shown = {id(o) for o in owners if o.memory is obj or any(vma.obj is obj for vma in o.vmas)}
        if known != Counter(shown):
            yield f"I13: object {obj.object_id} knows {len(obj.mappers)} mappers, {len(shown)} owners show it"


def check_attachments(machine: Machine) -> Iterator[str]:
    """I9: attachments are known on both sides, and threads are inside what is attached."""
    for task in machine.tasks_table:
        for thread in task.threads.values():
            if thread.union is not thread.view.unions.get(thread.active):
                yield f"I9: thread {thread.tid} is in space {thread.active} but sees something else"
        for view in task.views.values():
            unions = [view.union, *(held.unions.get(view.id) for held in task.attachments.values())]
            known = {id(union) for union in unions}
            if known != {id(union) for union in view.space.unions} or known != set(
                map(id, view.unions.values())
            ):
                yield f"I9: not everything that task {task.pid} sees is told when its regions change"
    for space in machine.spaces.registry:
        for held in space.attached:
            seen = set(map(id, held.task.spaces())) <= set(map(id, space.memory.peers))
            if held.task.attachments.get(space.vid) is not held or not seen:
                yield f"I9: space {space.vid} and task {held.task.pid} disagree about their attachment"
        unions = [view.unions.get(space.vid) for held in space.attached for view in held.task.views.values()]
        if {id(union) for union in unions} != {id(union) for union in space.memory.unions}:
            yield f"I9: not everybody inside space {space.vid} is told when its regions change"
        views = sum(len(held.task.views) for held in space.attached)
        if len({id(peer) for peer in space.memory.peers}) != views or views != len(space.memory.peers):
            yield f"I9: space {space.vid} has {len(space.attached)} holders but {len(space.memory.peers)} peers"


def check_sharing(machine: Machine) -> Iterator[str]:
    """I10: who shares something may do so."""
    for space in machine.spaces.registry:
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
    if any(segment.sid >= machine.segments.registry.next_id for segment in machine.segments.registry):
        yield "I11: a segment has an id that was not given out yet"
    ids = {obj.object_id for obj in machine.objects}
    if any(number >= machine.objects.next_id for number in ids):
        yield "I11: an object has an id that was not given out yet"
    owned = [space.memory.memory.object_id for space in machine.spaces.registry]
    owned += [segment.obj.object_id for segment in machine.segments.registry]
    owned += [space.birth for space in machine.spaces.registry if space.birth]
    owned += [segment.birth.object_id for segment in machine.segments.registry if segment.birth is not None]
    if sorted(owned) != sorted(ids):
        yield f"I11: objects {sorted(ids)} exist, {sorted(owned)} belong to a space or segment"


def check_owners(machine: Machine) -> Iterator[str]:
    """I11: what is counted for each uid is what belongs to it."""
    spaces, segments, tasks = machine.spaces.registry, machine.segments.registry, machine.tasks_table
    whose: tuple[tuple[str, list[int]], ...] = (
        ("space", [space.owner.uid for space in spaces]),
        ("segment", [segment.owner.uid for segment in segments]),
        ("task", [task.cred.uid for task in tasks]),
    )
    owned: dict[int, set[int]] = {}
    for thing in (*spaces, *segments):
        owned.setdefault(thing.owner.uid, set()).update(thing.objects())
    for task in tasks:
        backings = {space.memory.store_id for space in task.spaces() if space.memory.store_id}
        owned.setdefault(task.cred.uid, set()).update(backings)
    for kind, uids in whose:
        for uid, count in Counter(uids).items():
            if machine.owned(kind, uid) != count:
                yield f"I11: uid {uid} has {count} {kind}s, {machine.owned(kind, uid)} are counted"
    for uid, objects in owned.items():
        if machine.objects_of(uid) != sorted(objects):
            yield f"I11: uid {uid} has objects {sorted(objects)}, {machine.objects_of(uid)} are counted"
    for owned_kind, things in ((spaces.owned, spaces), (segments.owned, segments), (tasks.owned, tasks)):
        if len(owned_kind) != len(things):
            yield f"I11: {len(things)} {owned_kind.kind}s exist, {len(owned_kind)} are counted"
