"""Random steps over regions of whole huge pages: one or two tasks, a window of two huge pages."""

from engine import constants as c
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.memory.page_map import LEAF_PAGES
from tests.engine.lockstep import Lockstep
from tests.engine.steps import disturb

LEAVES = 2
ADVICE = (
    c.MADV_HUGEPAGE,
    c.MADV_HUGEPAGE,
    c.MADV_NOHUGEPAGE,
    c.MADV_DONTNEED,
    c.MADV_FREE,
    c.MADV_PAGEOUT,
    c.MADV_DONTFORK,
    c.MADV_DOFORK,
    c.MADV_POPULATE_WRITE,
    c.MADV_WILLNEED,
)


def place(world: Lockstep) -> tuple[int, int]:
    """A page of the window and a count of pages: whole huge pages, or something at an edge of one."""
    rng = world.rng
    leaf = rng.randrange(LEAVES)
    if rng.random() < 0.4:
        return leaf * LEAF_PAGES, rng.randint(1, LEAVES - leaf) * LEAF_PAGES
    first = leaf * LEAF_PAGES + rng.choice((0, 1, 7, LEAF_PAGES - 2, LEAF_PAGES - 1))
    return first, min(rng.choice((1, 2, 3, LEAF_PAGES)), LEAVES * LEAF_PAGES - first)


def write(world: Lockstep, pid: int, start: int, length: int) -> None:
    page = world.geometry.page_size
    data = world.rng.randbytes(world.rng.choice((1, page, 3 * page)))
    world.call("write", ROOT, pid, None, start + 5, data, True)


def read(world: Lockstep, pid: int, start: int, length: int) -> None:
    world.call("read", ROOT, pid, None, start, min(length, 4 * world.geometry.page_size))


def mmap(world: Lockstep, pid: int, start: int, length: int) -> None:
    flags = world.rng.choice((0x32, 0x32, 0x31, 0x8032))
    world.call("mmap", ROOT, pid, None, start, length, 3, flags)
    world.call("madvise", ROOT, pid, None, start, length, c.MADV_HUGEPAGE)


def protect(world: Lockstep, pid: int, start: int, length: int) -> None:
    world.call("mprotect", ROOT, pid, None, start, length, world.rng.choice((1, 3, 3)))


def madvise(world: Lockstep, pid: int, start: int, length: int) -> None:
    world.call("madvise", ROOT, pid, None, start, length, world.rng.choice(ADVICE))


def mremap(world: Lockstep, pid: int, start: int, length: int) -> None:
    rng, page = world.rng, world.geometry.page_size
    leaf = LEAF_PAGES * page
    target = world.geometry.arena_start + rng.randrange(LEAVES + 1) * leaf + rng.choice((0, 0, page))
    world.call("mremap", ROOT, pid, None, start, length, length, rng.choice((3, 7)), target)


def ranged(world: Lockstep, pid: int, start: int, length: int) -> None:
    world.call(world.rng.choice(("munmap", "munlock", "mincore")), ROOT, pid, None, start, length)


def fork_or_exit(world: Lockstep, pid: int, start: int, length: int) -> None:
    if len(world.model.tasks) < 2:
        world.call("fork", ROOT, pid, None)
    else:
        world.call("exit", ROOT, pid)


CALLS = {write: 14, read: 5, mmap: 6, protect: 3, madvise: 8, mremap: 4, ranged: 4, fork_or_exit: 2}


def huge_step(world: Lockstep) -> None:
    """A call on the window, or a disturbance; a collapse is one."""
    rng, geometry = world.rng, world.geometry
    if not world.model.tasks:
        world.call("spawn", ROOT)
        [pid] = world.model.tasks
        mmap(world, pid, geometry.arena_start, LEAVES * LEAF_PAGES * geometry.page_size)
        return
    pid = rng.choice(list(world.model.tasks))
    first, count = place(world)
    wanted = geometry.arena_start + first * geometry.page_size, count * geometry.page_size
    if rng.random() < 0.8:
        [call] = rng.choices(list(CALLS), list(CALLS.values()))
        call(world, pid, *wanted)
    elif rng.random() < 0.5:
        collapse(world, pid, *wanted)
    else:
        disturb(world)
    world.huge_pages_seen += huge_pages(world)


def collapse(world: Lockstep, pid: int, start: int, length: int) -> None:
    """Make huge pages if that is possible; nothing that can be read changes."""
    world.log.append(f"* collapse {start:#x}, {length:#x}")
    try:
        with world.machine.transaction() as txn:
            world.machine.madvise(ROOT, pid, None, start, length, c.MADV_COLLAPSE)
    except EngineError as refused:
        world.log[-1] += f" -> {refused.errno}"
    txn.settle()


def huge_pages(world: Lockstep) -> int:
    """How many there are now."""
    return sum(
        leaf.huge
        for task in world.machine.tasks_table
        for leaf in task.space.memory.pages.table.leaves.values()
    )
