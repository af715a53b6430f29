"""A task's memory as a space, and back: vas_fork and vas_exec (the MVAS tree; MEMSYS'19, checkpoint and restore).

The image is a space like others: it survives a restart, can be cloned, snapshotted and looked at, and is run as often
as one likes, each time as a copy-on-write copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.access import READ_WRITE
from engine.changes import IMAGE, CloneObject, DropObject, DropPages, PutPages
from engine.constants import EXCLUSIVE
from engine.credentials import Credentials, Owner
from engine.errors import EINVAL, ENOMEM, EngineError
from engine.journal import Journal
from engine.memory.frames import ABSENT, SWAPPED, ZERO_FRAME, Frames
from engine.memory.memory_object import Backing, MemoryObject
from engine.memory.objects import Objects
from engine.memory.page_map import LEAF_SHIFT
from engine.regions.address_space import AddressSpace, Break
from engine.regions.vm_flags import ACCOUNT, DONT_COPY, GROWS_DOWN, NORESERVE, RAND_READ, SEQ_READ
from engine.regions.vma import Vma, merged
from engine.spaces.spaces import Space, Spaces
from engine.tasks.program import empty_space
from engine.tasks.tasks import Tasks

_IMAGE_MODE: Final = 0o600
KEPT_FLAGS: Final = ACCOUNT | GROWS_DOWN | NORESERVE | RAND_READ | SEQ_READ
"""Flags of a task's region that mean the same when the image is run."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Makes images of one machine's tasks, and runs them."""

    journal: Journal
    objects: Objects
    tasks: Tasks
    spaces: Spaces
    unowned: list[int]
    """Objects of the store to be dropped."""

    def fork(self, cred: Credentials, pid: int, tid: int | None, name: str | None) -> Space:
        """vas_fork: a space with the regions and bytes of what the thread's task owns, mode 0600, the task's credentials.

        Its name is by default CP-<pid>-<vid>. MAP_SHARED memory becomes a copy, DONTFORK memory is left out. ESRCH, EPERM;
        EINVAL, EEXIST: the name; ENOMEM: more pages than there are frames.
        """
        thread = self.tasks.thread_of(cred, pid, tid)
        owner, own = thread.task.cred, thread.union.own
        self.journal.touch(own)
        registry = self.spaces.registry
        if name is None:
            name = registry.free_name(f"CP-{pid}-{registry.next_id}")
        registry.require_free(name)
        regions = [vma for vma in own.vmas if not vma.flags & DONT_COPY]
        memory = self.objects.create(in_store=True)
        _copy_pages(self, own, regions, memory)
        space = self.spaces.add(
            name,
            Owner(owner.uid, owner.gids[0], _IMAGE_MODE),
            EXCLUSIVE,
            memory.object_id,
            IMAGE,
            brk=(own.brk.start, own.brk.now),
        )
        shift = own.geometry.page_shift
        kept = [
            Vma(v.start, v.end, v.access, memory, v.start >> shift, flags=v.flags & KEPT_FLAGS)
            for v in regions
        ]
        space.memory.fill(merged(kept, shift))
        return space

    def exec(self, cred: Credentials, pid: int, vid: int) -> None:
        """vas_exec: the task's memory becomes a copy-on-write copy of an image; one thread, nothing attached.

        ESRCH, EPERM; EINVAL: unknown, no image, has segments; EACCES: the mode's read and write bits; ENOMEM: the task's limit.
        """
        task = self.tasks.require(cred, pid)
        space = self.spaces.registry.get(vid)
        if not space.flags & IMAGE or space.segment_ids():
            raise EngineError(EINVAL, f"space {vid} is no image of a task")
        space.owner.require(cred, READ_WRITE, f"space {vid}")
        image = space.memory
        self.journal.touch(image)
        memory = MemoryObject(self.objects.pool, self.journal)
        self.journal.undo(memory.abandon)
        made = empty_space(pid, memory, task.space.limits)
        copies = [vma._replace(obj=memory, anon=made.new_anon(), shared=False) for vma in image.vmas]
        made.fill(copies)
        if not made.has_room(0):
            raise EngineError(ENOMEM, f"the image has {made.mapped()} bytes, more than the task's limit")
        made.brk = Break(*space.brk, made.geometry.arena_start)
        made.bottom_up = task.space.bottom_up
        memory.stand_on(self._backing(image.memory, memory))
        memory.cloned_from(image.memory)
        self.tasks.become(task, made)

    def _backing(self, image: MemoryObject, memory: MemoryObject) -> Backing:
        """A copy in the store that only `memory`, and what is forked from it, reads from."""
        image.flush()
        copy = self.objects.spare_id()
        self.journal.change(CloneObject(image.object_id, copy), image, memory)
        return Backing(copy, self._drop)

    def _drop(self, object_id: int) -> None:
        """Nobody reads from this object any more. Outside a transaction the next one that writes back drops it."""
        if self.journal.active:
            self.journal.change(DropObject(object_id))
        else:
            self.unowned.append(object_id)


def _copy_pages(to: Checkpoints, own: AddressSpace, regions: list[Vma], memory: MemoryObject) -> None:
    """Ask the store to remember what `regions` show as pages of `memory`, by virtual page number."""
    budget = memory.pool.capacity
    source = own.memory
    if source.store_id:
        change = CloneObject(source.store_id, memory.object_id)
        to.journal.change(change, memory)
        for first, end in source.holes:
            to.journal.change(DropPages(memory.object_id, first, end - first), memory)
        for vma in own.vmas:
            if vma.flags & DONT_COPY and vma.obj is source:
                left_out = (vma.end - vma.start) >> own.geometry.page_shift
                to.journal.change(DropPages(memory.object_id, vma.offset, left_out), memory)
    shift = own.geometry.page_shift
    for vma in regions:
        count, place = (vma.end - vma.start) >> shift, vma.start >> shift
        for start, entries in _leaves(vma.obj, vma.offset, count):
            if vma.obj is source and source.store_id:
                for low, high in _zeros(entries):
                    to.journal.change(DropPages(memory.object_id, start + low, high - low), memory)
            held = np.flatnonzero((entries > ZERO_FRAME) | (entries <= SWAPPED))
            budget -= len(held)
            if budget < 0:
                raise EngineError(
                    ENOMEM, f"an image has at most {memory.pool.capacity} pages, the page frames"
                )
            if len(held):
                numbers = tuple((held + (place + start - vma.offset)).tolist())
                data = vma.obj.peek(entries[held])
                to.journal.change(PutPages(memory.object_id, numbers, data), memory)
                memory.note_stored(numbers)


def _leaves(obj: MemoryObject, first: int, count: int) -> Iterator[tuple[int, Frames]]:
    """The entries of pages [first, first + count) as far as they exist: (first page, entries)."""
    for number in obj.pages.present(first, count):
        start = max(first, number << LEAF_SHIFT)
        stop = min(first + count, (number + 1) << LEAF_SHIFT)
        yield start, obj.pages.entries(start, stop - start)


def _zeros(entries: Frames) -> Iterator[tuple[int, int]]:
    """Runs [low, high) of entries that are zeros here, whatever the store has."""
    zero = np.flatnonzero((entries == ABSENT) | (entries == ZERO_FRAME))
    for run in np.split(zero, np.flatnonzero(np.diff(zero) != 1) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1
