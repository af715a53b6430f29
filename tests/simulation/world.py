"""A small simulated machine that random calls are made on: few pages, few frames, few tags, two CPUs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from engine.check import check_union
from engine.constants import (
    MADV_DONTNEED,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MMVIEW_CREATE,
    MMVIEW_DELETE,
    MMVIEW_MIGRATE,
    MMVIEW_SWITCH_BASE,
    MMVIEW_UNSHARE,
    MREMAP_MAYMOVE,
    O_RDONLY,
    O_RDWR,
)
from engine.credentials import ROOT
from engine.errors import EngineError, PagesNeeded
from engine.geometry import TOY
from engine.invariant import InvariantError
from engine.machine import Machine
from engine.simulated.mmu import Hardware, Mmu
from engine.simulated.simulation import Simulation
from storage.memory import MemoryStore
from tests.engine.host import MemorySwap

TASKS_MAX = 4
SPACES_MAX = 4
THREADS_MAX = 3
VIEWS_MAX = 3
CPUS = 2
PAGE = TOY.page_size
PAGES = TOY.user_end // PAGE
ARENA = TOY.arena_start // PAGE
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
ADVICE = (MADV_DONTNEED, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE)


@dataclass(frozen=True)
class Step:
    """A call and numbers from which its arguments are chosen: who, and what."""

    call: str
    who: int
    a: int
    b: int
    c: int


CALLS = (
    "spawn", "exec", "exit", "thread", "create", "detach", "munmap", "mprotect", "brk", "madvise", "mremap",
    "slot", "unshare", *("view",) * 4, *("fork",) * 2, *("attach",) * 4, *("run",) * 3, *("switch",) * 8, *("mmap",) * 4, *("read",) * 16, *("write",) * 16,
)  # fmt: skip
"""Every call, those that matter most several times."""


def steps_from(seed: int, count: int) -> list[Step]:
    """Random steps; one seed gives the same ones."""
    chance = Random(seed)
    return [Step(chance.choice(CALLS), *(chance.randrange(64) for _ in range(4))) for _ in range(count)]


class World:
    """`problems` names what is wrong after a step: stale translations, or page tables that the engine's rules forbid."""

    def __init__(self, tags: int, make_mmu: Callable[..., Mmu] = Mmu, frames: int = 10) -> None:
        self.machine = Machine(TOY, frames, swap=MemorySwap(64))
        self.sim = Simulation(
            self.machine,
            hardware=Hardware(cpus=CPUS, tlb_entries=16, ways=2, tags=tags),
            backing=MemoryStore(TOY),
            make_mmu=make_mmu,
        )
        self.refused = 0
        self.last = (0, 0)
        """Who made the last call; mostly it makes the next one too."""
        for pid in (self.sim.spawn(), self.sim.spawn()):
            for number in range(2):
                vid = self.sim.vas_create(pid, f"space-{pid}-{number}", sharing="shared")
                self.sim.vas_attach(pid, vid)

    def play(self, steps: Sequence[Step]) -> list[str]:
        """Make the calls until something is wrong; what it is."""
        for number, step in enumerate(steps):
            try:
                self.step(step)
            except (EngineError, PagesNeeded):
                self.refused += 1
            except InvariantError as error:
                return [f"step {number}, {step}: a stale translation was used: {error}"]
            wrong = self.problems()
            if wrong:
                return [f"step {number}, {step}: {line}" for line in wrong]
        return []

    def problems(self) -> list[str]:
        tables = [line for union in self.sim.mmu.contexts for line in check_union(union)]
        return [*self.sim.mmu.check(), *tables]

    def step(self, step: Step) -> None:
        threads = [(t.pid, tid) for t in self.machine.tasks_table for tid in t.threads]
        if not threads or step.call == "spawn":
            if len(self.machine.tasks_table) < TASKS_MAX:
                self.sim.spawn()
            return
        if step.who < 16 or self.last not in threads:
            self.last = threads[step.who % len(threads)]
        pid, tid = self.last
        getattr(self, f"do_{step.call}")(step, pid, tid)

    # -- one method for each call --------------------------------------------------------------------------------

    def do_fork(self, step: Step, pid: int, tid: int) -> None:
        if len(self.machine.tasks_table) < TASKS_MAX:
            child = self.sim.fork(pid, tid)
            self.sim.run(child, cpu=step.a % CPUS)

    def do_exec(self, step: Step, pid: int, tid: int) -> None:
        self.sim.exec(pid)

    def do_exit(self, step: Step, pid: int, tid: int) -> None:
        if step.a % 2:
            self.sim.exit(pid)

    def do_thread(self, step: Step, pid: int, tid: int) -> None:
        if len(self.machine.tasks_table.get(pid).threads) < THREADS_MAX:
            made = self.sim.thread(pid, tid)
            self.sim.run(pid, made, cpu=step.a % CPUS)

    def do_run(self, step: Step, pid: int, tid: int) -> None:
        self.sim.run(pid, tid, cpu=step.a % CPUS)

    def do_create(self, step: Step, pid: int, tid: int) -> None:
        if len(self.machine.spaces.registry) < SPACES_MAX:
            self.sim.vas_create(pid, f"space-{step.a}-{step.b}", sharing="shared")

    def do_attach(self, step: Step, pid: int, tid: int) -> None:
        self.sim.vas_attach(
            pid, self._space(step.a), (O_RDWR, O_RDWR, O_RDONLY)[step.b % 3], lazy=bool(step.c % 2)
        )

    def do_detach(self, step: Step, pid: int, tid: int) -> None:
        self.sim.vas_detach(pid, self._space(step.a))

    def do_switch(self, step: Step, pid: int, tid: int) -> None:
        attached = list(self.machine.tasks_table.get(pid).attachments)
        self.sim.vas_switch(pid, [0, *attached][step.a % (len(attached) + 1)], tid)

    def do_view(self, step: Step, pid: int, tid: int) -> None:
        task = self.machine.tasks_table.get(pid)
        ops = (
            MMVIEW_CREATE,
            MMVIEW_MIGRATE,
            MMVIEW_MIGRATE,
            MMVIEW_MIGRATE,
            MMVIEW_DELETE,
            MMVIEW_SWITCH_BASE,
        )
        op = ops[step.a % len(ops)]
        if op != MMVIEW_CREATE or len(task.views) < VIEWS_MAX:
            self.sim.mmview(pid, op, list(task.views)[step.b % len(task.views)], tid=tid)

    def do_unshare(self, step: Step, pid: int, tid: int) -> None:
        addr, length = self._mapped(pid, tid, step.a), PAGE * (1 + step.b % 3)
        self.sim.mmview(pid, MMVIEW_UNSHARE, addr, length, tid=tid)

    def do_slot(self, step: Step, pid: int, tid: int) -> None:
        task = self.machine.tasks_table.get(pid)
        if step.a % 4 == 0 and len(task.views) < VIEWS_MAX:
            self.sim.new_as(pid, tid)
        else:
            self.sim.switch_as(pid, step.b % VIEWS_MAX, tid)

    def do_mmap(self, step: Step, pid: int, tid: int) -> None:
        self.sim.mmap(pid, self._page(step.a), PAGE * (1 + step.b % 3), (3, 3, 3, 1)[step.c % 4], FIXED, tid)

    def do_munmap(self, step: Step, pid: int, tid: int) -> None:
        self.sim.munmap(pid, self._mapped(pid, tid, step.a), PAGE * (1 + step.b % 3), tid)

    def do_mprotect(self, step: Step, pid: int, tid: int) -> None:
        self.sim.mprotect(pid, self._mapped(pid, tid, step.a), PAGE * (1 + step.b % 3), step.c % 4, tid)

    def do_brk(self, step: Step, pid: int, tid: int) -> None:
        self.sim.brk(pid, self.machine.tasks_table.get(pid).space.brk.start + step.a % (2 * PAGE), tid)

    def do_madvise(self, step: Step, pid: int, tid: int) -> None:
        addr, length, advice = (
            self._mapped(pid, tid, step.a),
            PAGE * (1 + step.b % 2),
            ADVICE[step.c % len(ADVICE)],
        )
        self.sim.system_call(pid, lambda machine: machine.madvise(ROOT, pid, tid, addr, length, advice), tid)

    def do_mremap(self, step: Step, pid: int, tid: int) -> None:
        addr, old, new = self._mapped(pid, tid, step.a), PAGE * (1 + step.b % 2), PAGE * (1 + step.c % 3)
        self.sim.system_call(
            pid, lambda machine: machine.mremap(ROOT, pid, tid, addr, old, new, MREMAP_MAYMOVE), tid
        )

    def do_read(self, step: Step, pid: int, tid: int) -> None:
        addr, length = self._byte(step, pid, tid)
        assert len(self.sim.read(pid, addr, length, tid)) == length

    def do_write(self, step: Step, pid: int, tid: int) -> None:
        addr, length = self._byte(step, pid, tid)
        data = bytes([step.c] * length)
        self.sim.write(pid, addr, data, tid)
        assert self.machine.read(ROOT, pid, tid, addr, length) == data

    def _space(self, number: int) -> int:
        vids = self.machine.spaces.registry.listed()
        return vids[number % len(vids)]

    def _page(self, number: int) -> int:
        """Mostly the arena, where spaces are; sometimes the rest."""
        return PAGE * ((ARENA + number % 6) if number < 48 else number % PAGES)

    def _mapped(self, pid: int, tid: int, number: int) -> int:
        """Mostly a page that the thread sees."""
        regions = self.machine.tasks_table.get(pid).thread(tid).union.regions()
        pages = [page for vma, _ in regions for page in range(vma.start, vma.end, PAGE)]
        return pages[number % len(pages)] if pages and number < 56 else self._page(number)

    def _byte(self, step: Step, pid: int, tid: int) -> tuple[int, int]:
        return self._mapped(pid, tid, step.a) + step.b % PAGE, 1 + step.c % PAGE


def caught(make_mmu: Callable[..., Mmu], tags: int, seeds: Sequence[int], count: int = 120) -> list[str]:
    """What the first of these seeds finds that finds anything."""
    for seed in seeds:
        found = World(tags, make_mmu).play(steps_from(seed, count))
        if found:
            return [f"seed {seed}, {line}" for line in found]
    return []
