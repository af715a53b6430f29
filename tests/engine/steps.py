"""What the random runs do next: calls with arguments near the edges, and disturbances between them."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

from engine.constants import EXCLUSIVE, SHARED
from engine.credentials import ROOT, Credentials
from engine.geometry import TOY, Geometry
from tests.engine.lockstep import Lockstep
from tests.engine.model_advice import KNOWN
from tests.engine.model_state import Segment, Space

ALICE, BOB, EVE = Credentials(1000, (100, 50)), Credentials(1001, (100,)), Credentials(1002, (200,))
PEOPLE = (ROOT, ALICE, ALICE, BOB, EVE)
NAMES = ("a", "b", "naïve/ß", "c" * 255, "d", "e")
BAD_NAMES = ("c" * 256, "", "tab\t", "ß" * 128)
MODES = (0o600, 0o660, 0o666, 0o666, 0o666, 0o640, 0o644, 0o7777)
BAD_MODES = (-1, 0x10000)
FLAGS = (0x22, 0x22, 0x21, 0x32, 0x32, 0x31, 0x100022, 0x100032, 0x122, 0x132)
ODD_FLAGS = (0x2032, 0x8032, 0xA021, 0x4032, 0x4022, 0x20022, 0x6132, 0x8121)
"""With MAP_LOCKED, MAP_POPULATE, MAP_NORESERVE, MAP_STACK."""
BAD_FLAGS = (0x121, 0x20, 0x23, 0x02)
TASKS_MAX, SPACES_MAX, SEGMENTS_MAX, THREADS_MAX = 3, 3, 3, 3

T = TypeVar("T")
Step = Callable[[Lockstep], None]


def windows(geometry: Geometry) -> tuple[int, ...]:
    """Page-aligned places of interest: where owners meet, and where a leaf of a page map ends."""
    if geometry is TOY:
        return tuple(range(0, geometry.user_end + 1, geometry.page_size))
    page, leaf = geometry.page_size, geometry.page_size << 9
    heap = geometry.text_start + 3 * page
    arena = [geometry.arena_start + leaf + page * n for n in range(-4, 5)]
    ends = [geometry.text_start, heap, heap + 2 * page, geometry.arena_end, geometry.arena_end - 2 * page]
    stack = [geometry.user_end - geometry.stack_size, geometry.user_end - 2 * page, geometry.mmap_top - page]
    return (*arena, *arena, *arena, *ends, *stack)


def address(world: Lockstep, pid: int, tid: int | None) -> int:
    """Mostly aligned and often inside a region that the thread sees; sometimes a bit beside, sometimes nonsense."""
    rng, geometry = world.rng, world.geometry
    chosen = rng.choice(windows(geometry))
    task = world.model.tasks.get(pid)
    if task is not None and rng.random() < 0.6:
        space = world.model.spaces.get(task.threads.get(pid if tid is None else tid, 0))
        pages = space.pages if space is not None and space.pages and rng.random() < 0.7 else task.pages
        chosen = rng.choice(list(pages) or [0]) * geometry.page_size
    if rng.random() < 0.08:
        chosen += rng.choice((-1, 1, geometry.page_size // 2))
    if rng.random() < 0.02:
        chosen = rng.choice(
            (0, -geometry.page_size, geometry.user_end, geometry.user_start - geometry.page_size)
        )
    return chosen


def seldom(rng: Random, usual: Sequence[T], odd: Sequence[T]) -> T:
    """One of the usual values, now and then an odd one."""
    return rng.choice(odd if rng.random() < 0.05 else usual)


def length(rng: Random, geometry: Geometry) -> int:
    """Zero to a few pages, and some that do not fit anywhere."""
    page = geometry.page_size
    pages = rng.choice((1, 1, 2, 2, 3, 4, 6)) * page
    if rng.random() < 0.06:
        whole = geometry.user_end - geometry.user_start + page
        return rng.choice((0, -1, 1, page + 1, page - 1, whole, geometry.user_end + 1))
    return pages


def someone(world: Lockstep, pid: int) -> Credentials:
    """Mostly somebody who may act on the task."""
    task = world.model.tasks.get(pid)
    return world.rng.choice(PEOPLE) if task is None or world.rng.random() < 0.05 else task.cred


def a_pid(world: Lockstep) -> int:
    if world.rng.random() < 0.02 or not world.model.tasks:
        return world.rng.choice((-1, 0, 10**6))
    return world.rng.choice(list(world.model.tasks))


def a_thread(world: Lockstep) -> tuple[Credentials, int, int | None]:
    pid = a_pid(world)
    tids = list(world.model.tasks[pid].threads) if pid in world.model.tasks else []
    tid = world.rng.choice([*tids, *tids, None, None]) if world.rng.random() < 0.98 else 10**6
    return someone(world, pid), pid, tid


def a_vid(world: Lockstep) -> int:
    return seldom(world.rng, list(world.model.spaces) or [1], (0, -1, 10**6))


def a_sid(world: Lockstep) -> int:
    return seldom(world.rng, list(world.model.segments) or [1], (0, -1, 10**6))


def owner_of(world: Lockstep, thing: Space | Segment | None) -> Credentials:
    """Mostly somebody with rights on it."""
    if thing is None or world.rng.random() < 0.3:
        return world.rng.choice(PEOPLE)
    return Credentials(thing.uid, (thing.gid,))


# -- calls -------------------------------------------------------------------------------------------------------


def spawn(world: Lockstep) -> None:
    if len(world.model.tasks) < TASKS_MAX:
        world.call("spawn", world.rng.choice(PEOPLE))


def fork(world: Lockstep) -> None:
    if len(world.model.tasks) < TASKS_MAX:
        world.call("fork", *a_thread(world))


def thread(world: Lockstep) -> None:
    cred, pid, tid = a_thread(world)
    if pid not in world.model.tasks or len(world.model.tasks[pid].threads) < THREADS_MAX:
        world.call("thread_new", cred, pid, tid)


def exit_thread(world: Lockstep) -> None:
    cred, pid, tid = a_thread(world)
    if (pid if tid is None else tid) != pid or world.rng.random() < 0.2:
        world.call("exit_thread", cred, pid, pid if tid is None else tid)


def exit_task(world: Lockstep) -> None:
    pid = a_pid(world)
    world.call(world.rng.choice(("exit", "exec")), someone(world, pid), pid)


def vas_create(world: Lockstep) -> None:
    rng = world.rng
    if len(world.model.spaces) < SPACES_MAX:
        sharing = rng.choice((EXCLUSIVE, SHARED, SHARED)) if rng.random() < 0.95 else "open"
        world.call("vas_create", rng.choice(PEOPLE), *named(rng), sharing)


def named(rng: Random) -> tuple[str, int]:
    """A name and a mode."""
    return seldom(rng, NAMES, BAD_NAMES), seldom(rng, MODES, BAD_MODES)


def seg_create(world: Lockstep) -> None:
    rng, geometry = world.rng, world.geometry
    if len(world.model.segments) < SEGMENTS_MAX:
        start = seldom(
            rng, windows(geometry), (-geometry.page_size, 1, geometry.user_start - geometry.page_size)
        )
        end = start + seldom(rng, (1, 2, 2, 3), (0, -1)) * geometry.page_size
        name, mode = named(rng)
        sharing = rng.choice((EXCLUSIVE, SHARED, SHARED))
        world.call("vas_seg_create", rng.choice(PEOPLE), name, start, end, mode, sharing)


def delete(world: Lockstep) -> None:
    vid, sid = a_vid(world), a_sid(world)
    if world.rng.random() < 0.5:
        world.call("vas_delete", owner_of(world, world.model.spaces.get(vid)), vid)
    else:
        world.call("vas_seg_delete", owner_of(world, world.model.segments.get(sid)), sid)


def setattr_some(world: Lockstep) -> None:
    rng = world.rng
    changed = (
        seldom(rng, (None, *MODES), BAD_MODES),
        seldom(rng, (None, None, None, 1000, 1001), (-1, 2**32 - 1)),
        seldom(rng, (None, None, None, 100, 200), (-1, 2**32)),
        seldom(rng, (None, None, EXCLUSIVE, SHARED), ("open",)),
    )
    vid, sid = a_vid(world), a_sid(world)
    if rng.random() < 0.5:
        world.call("vas_setattr", owner_of(world, world.model.spaces.get(vid)), vid, *changed)
    else:
        world.call("vas_seg_setattr", owner_of(world, world.model.segments.get(sid)), sid, *changed)


def attach(world: Lockstep) -> None:
    pid, rng = a_pid(world), world.rng
    kind = seldom(rng, (0, 1, 2, 2, 2), (3, 4, -1))
    world.call("vas_attach", someone(world, pid), pid, a_vid(world), kind, rng.random() < 0.5)


def detach(world: Lockstep) -> None:
    pid = a_pid(world)
    attached = list(world.model.tasks[pid].attached) if pid in world.model.tasks else []
    world.call("vas_detach", someone(world, pid), pid, seldom(world.rng, attached or [0], (a_vid(world), -1)))


def switch(world: Lockstep) -> None:
    cred, pid, tid = a_thread(world)
    attached = list(world.model.tasks[pid].attached) if pid in world.model.tasks else []
    world.call("vas_switch", cred, pid, tid, seldom(world.rng, [*attached, *attached, 0], (a_vid(world), -1)))


def seg_attach(world: Lockstep) -> None:
    vid, kind = a_vid(world), seldom(world.rng, (0, 1, 2, 2, 2), (3, 5))
    world.call("vas_seg_attach", owner_of(world, world.model.spaces.get(vid)), vid, a_sid(world), kind)


def seg_detach(world: Lockstep) -> None:
    vid = a_vid(world)
    space = world.model.spaces.get(vid)
    sids = sorted({page.sid for page in space.pages.values() if page.sid}) if space is not None else []
    sid = seldom(world.rng, sids or [1], (0, a_sid(world)))
    world.call("vas_seg_detach", owner_of(world, space), vid, sid)


def seg_bytes(world: Lockstep) -> None:
    rng, page = world.rng, world.geometry.page_size
    sid = a_sid(world)
    cred = owner_of(world, world.model.segments.get(sid))
    offset = seldom(rng, (0, 0, page, page - 1, 3), (-1, 4 * page))
    size = rng.choice((1, page, page - 2, 2 * page, 0))
    if rng.random() < 0.4:
        world.call("seg_read", cred, sid, offset, size)
    else:
        world.call("seg_write", cred, sid, offset, rng.randbytes(size), rng.random() < 0.6)


def mmap(world: Lockstep) -> None:
    rng, geometry = world.rng, world.geometry
    cred, pid, tid = a_thread(world)
    where = rng.choice((0, rng.choice(windows(geometry)), address(world, pid, tid)))
    prot = rng.choice((3, 3, 3, 1, 2, 0, 7, 0x103))
    flags = rng.choice(ODD_FLAGS) if rng.random() < 0.2 else seldom(rng, FLAGS, BAD_FLAGS)
    world.call("mmap", cred, pid, tid, where, length(rng, geometry), prot, flags)


def munmap(world: Lockstep) -> None:
    thread = a_thread(world)
    world.call("munmap", *thread, address(world, *thread[1:]), length(world.rng, world.geometry))


def mprotect(world: Lockstep) -> None:
    thread = a_thread(world)
    prot = seldom(world.rng, (3, 3, 1, 0, 2, 5, 0xB), (0x10, 0x1000003, 0x1000001, 0x2000001, 0x3000001))
    world.call("mprotect", *thread, address(world, *thread[1:]), length(world.rng, world.geometry), prot)


def brk(world: Lockstep) -> None:
    rng, geometry = world.rng, world.geometry
    heap = geometry.text_start + 3 * geometry.page_size
    wanted = heap + rng.choice((0, 1, geometry.page_size, geometry.page_size + 7, 4 * geometry.page_size, -1))
    if rng.random() < 0.1:
        wanted = rng.choice((0, -5, geometry.arena_start, geometry.arena_start + 1))
    if wanted != geometry.arena_start or geometry is TOY:
        world.call("brk", *a_thread(world), wanted)


def read(world: Lockstep) -> None:
    rng, geometry = world.rng, world.geometry
    thread = a_thread(world)
    where = address(world, *thread[1:]) + rng.choice((0, 0, 3))
    world.call("read", *thread, where, min(length(rng, geometry), 8 * geometry.page_size))


def write(world: Lockstep) -> None:
    """Inside a page, across pages, or whole pages."""
    rng, page = world.rng, world.geometry.page_size
    thread = a_thread(world)
    where = address(world, *thread[1:]) + rng.choice((0, 0, 0, 3, page - 2))
    size = rng.choice((1, 5, page, page, 2 * page, 3 * page - 3, 0))
    world.call("write", *thread, where, rng.randbytes(size), rng.random() < 0.6)


def msync(world: Lockstep) -> None:
    rng, geometry = world.rng, world.geometry
    thread = a_thread(world)
    part = (0, 0) if rng.random() < 0.5 else (address(world, *thread[1:]), length(rng, geometry))
    world.call("msync", *thread, *part, seldom(rng, (4, 1, 6), (5, 8)))


def mremap(world: Lockstep) -> None:
    """In place, somewhere else, over something."""
    rng, geometry = world.rng, world.geometry
    thread = a_thread(world)
    where, target = (address(world, *thread[1:]) for _ in range(2))
    sizes = length(rng, geometry), length(rng, geometry)
    flags = seldom(rng, (0, 1, 1, 3, 3, 5, 7), (2, 4, 8))
    if flags & 6 and rng.random() < 0.5:
        sizes = sizes[0], sizes[0]
    elif rng.random() < 0.1:
        sizes = 0, sizes[1]
    world.call("mremap", *thread, where, *sizes, flags, target if flags & 6 else 0)


def madvise(world: Lockstep) -> None:
    advice = seldom(world.rng, (4, 4, 4, 8, 8, 9, *sorted(KNOWN)), (5, 12, 100, -1))
    thread = a_thread(world)
    world.call("madvise", *thread, address(world, *thread[1:]), length(world.rng, world.geometry), advice)


def mlock(world: Lockstep) -> None:
    rng, geometry = world.rng, world.geometry
    thread = a_thread(world)
    wanted = address(world, *thread[1:]), length(rng, geometry)
    if rng.random() < 0.4:
        world.call("munlock", *thread, *wanted)
    else:
        world.call("mlock", *thread, *wanted, seldom(rng, (0, 1), (2,)))


def mincore(world: Lockstep) -> None:
    thread = a_thread(world)
    size = min(length(world.rng, world.geometry), 8 * world.geometry.page_size)
    world.call("mincore", *thread, address(world, *thread[1:]), size)


def prlimit(world: Lockstep) -> None:
    """Mostly a bit more than what is used, so that the limits are met."""
    rng, page = world.rng, world.geometry.page_size
    pid = a_pid(world)
    pages = list(world.model.tasks[pid].pages.values()) if pid in world.model.tasks else []
    resource = seldom(rng, ("address_space", "data", "stack", "locked"), ("core",))
    around = {
        "address_space": len(pages),
        "data": sum(each.counts_as_data for each in pages),
        "stack": rng.randint(2, 5),
        "locked": rng.randint(0, 4),
    }
    value = (around.get(resource, 0) + rng.randint(0, 3)) * page + rng.choice((0, 0, 1))
    most = 2**64 - 1 if resource != "stack" else 8 * page  # the model would drown in the pages of a long one
    wanted = seldom(rng, (None, value, value, most, most), (-1, 2**64))
    world.call("prlimit", someone(world, pid), pid, resource, wanted)


def start_with_an_unlimited_stack(world: Lockstep) -> None:
    """From then on places are searched for from below."""
    pid = a_pid(world)
    cred = someone(world, pid)
    world.call("prlimit", cred, pid, "stack", 2**64 - 1)
    world.call("exec", cred, pid)
    world.call("prlimit", cred, pid, "stack", 8 * world.geometry.page_size)


def step_out(world: Lockstep) -> None:
    """Leave the space and detach it; the next step goes in again."""
    pid = min(world.model.tasks)
    active = world.model.tasks[pid].threads[pid]
    world.call("vas_switch", ROOT, pid, None, 0)
    world.call("vas_detach", ROOT, pid, active)


BROAD: dict[Step, int] = {
    spawn: 6, fork: 4, thread: 3, exit_thread: 1, exit_task: 1,
    vas_create: 6, seg_create: 5, delete: 2, setattr_some: 3,
    attach: 10, detach: 4, switch: 12, seg_attach: 8, seg_detach: 3, seg_bytes: 6,
    mmap: 16, munmap: 7, mprotect: 8, brk: 3, read: 12, write: 22, msync: 2,
    mremap: 8, madvise: 8, mlock: 4, mincore: 2, prlimit: 2,
}  # fmt: skip

DEEP: dict[Step, int] = {
    step_out: 2, seg_create: 1, seg_attach: 2, seg_detach: 1, seg_bytes: 8, mmap: 10, munmap: 6, mprotect: 2, read: 10, write: 22, msync: 2,
    exit_task: 1, fork: 1, mremap: 6, madvise: 4, mlock: 2,
}  # fmt: skip


def a_call(world: Lockstep, weights: Mapping[Step, float]) -> None:
    [step] = world.rng.choices(list(weights), list(weights.values()))
    step(world)


def disturb(world: Lockstep) -> None:
    """Something that no answer may show."""
    kinds = ("commit", "roll back", "evict", "drop tables", "late bytes", "restart", "crash")
    [kind] = world.rng.choices(kinds, (6, 6, 4, 2, 2, 0.5, 0.5))
    world.log.append(f"* {kind}")
    match kind:
        case "commit":
            world.commit(world.rng.randint(1, 4))
        case "roll back":
            world.roll_back(world.rng.randint(1, 4))
        case "evict":
            world.evict()
        case "drop tables":
            world.drop_tables()
        case "late bytes":
            world.supply_late()
        case _:
            world.restart(crashed=kind == "crash")


OWN: dict[Step, float] = {
    fork: 3, exit_task: 1, mmap: 16, munmap: 6, mprotect: 8, brk: 4, read: 10, write: 16, msync: 1,
    mremap: 12, madvise: 12, mlock: 4, mincore: 2, prlimit: 1, start_with_an_unlimited_stack: 0.3,
}  # fmt: skip
"""The memory of tasks that use no space."""


def broad_step(world: Lockstep) -> None:
    """Any call by anybody, or a disturbance."""
    if not world.model.tasks:
        spawn(world)
    elif world.rng.random() < 0.8:
        a_call(world, BROAD)
    else:
        disturb(world)


def deep_step(world: Lockstep) -> None:
    """Memory of one space and its segments, by root; many disturbances."""
    if not world.model.tasks:
        world.call("spawn", ROOT)
    elif not world.model.spaces:
        world.call("vas_create", ROOT, "deep", 0o600, SHARED)
    elif world.model.tasks[min(world.model.tasks)].threads[min(world.model.tasks)] == 0:
        move_in(world)
    elif world.rng.random() < 0.7:
        a_call(world, DEEP)
    else:
        disturb(world)


def own_step(world: Lockstep) -> None:
    """Memory of tasks alone."""
    if not world.model.tasks:
        spawn(world)
    elif world.rng.random() < 0.9:
        a_call(world, OWN)
    else:
        disturb(world)


def move_in(world: Lockstep) -> None:
    """The first task's main thread enters the first space."""
    pid, vid = min(world.model.tasks), min(world.model.spaces)
    if vid not in world.model.tasks[pid].attached:
        world.call("vas_attach", ROOT, pid, vid, world.rng.choice((2, 2, 2, 0)), world.rng.random() < 0.5)
    world.call("vas_switch", ROOT, pid, None, vid)
