"""The RFC's table on the simulated machine - spaces against processes - and what tags, laziness and regions change.

Every figure is the bill of calls that the engine really carried out. `SEED` has what the authors of the RFC measured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from engine.constants import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, SHARED
from engine.geometry import X86_64
from engine.machine import Machine
from engine.simulated.costs import Bill, Costs, SimTime
from engine.simulated.mmu import Hardware
from engine.simulated.simulation import Simulation

GEOMETRY: Final = X86_64
SPACE_COUNTS: Final = (2, 4, 8, 16, 32, 64, 128, 256)
REGION_COUNTS: Final = (1, 4, 16, 64, 256)
TASK_COUNTS: Final = (1, 2, 4, 8)
REGION_PAGES: Final = 4
SHOT_PAGES: Final = 16
FEW_TAGS: Final = 16
ROUNDS: Final = 4
_FRAMES: Final = 1 << 14
_WARM_UP: Final = 2
_READ_WRITE: Final = 3
_FIXED_MAP: Final = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
_WORD: Final = b"everspac"

SEED: Final = {
    ("switch", "space"): 468,
    ("switch", "process"): 1944,
    ("create", "space"): 20003,
    ("create", "process"): 150491,
}
"""ns on a Xeon E5620 at 2.40 GHz, Linux 4.11 (cover letter of the RFC, March 2017): measured, not simulated."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something done `times` times, and what that cost in all."""

    bill: Bill
    times: int = 1

    @property
    def each(self) -> SimTime:
        """What it cost once."""
        return self.bill.time.each(self.times)


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of the RFC's table: the same with a space and with a process."""

    what: str
    space: Figure
    process: Figure


@dataclass(frozen=True, slots=True)
class Switching:
    """Switching through `spaces` spaces in turn with `tags` tags (0: none); the figure includes what is used then."""

    spaces: int
    tags: int
    switch: Figure


@dataclass(frozen=True, slots=True)
class Attaching:
    """Attaching a space of `regions` regions and then using each of its `pages` pages once.

    `fork` is that of a task with as many regions and pages of its own.
    """

    regions: int
    pages: int
    switch: Figure
    fork: Figure
    attach_lazy: Figure
    attach_eager: Figure
    use_lazy: Figure
    use_eager: Figure

    @property
    def break_even(self) -> int:
        """Lazy is the cheaper way when fewer than so many of the pages are used."""
        saved = (self.use_lazy.each - self.use_eager.each).ns
        extra = (self.attach_eager.each - self.attach_lazy.each).ns
        return min(self.pages, -(-extra * self.pages // saved)) if saved > 0 else self.pages


@dataclass(frozen=True, slots=True)
class Unmapping:
    """Unmapping pages that `tasks` tasks, each on a CPU of its own, used in a space; all but the caller have left it."""

    tasks: int
    tagged: Figure
    untagged: Figure


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that `everspaced simulate table1` shows."""

    hardware: Hardware
    few_tags: int
    costs: Costs
    compared: list[Compared]
    switching: list[Switching]
    attaching: list[Attaching]
    unmapping: list[Unmapping]


def table1(costs: Costs, hardware: Hardware | None = None, few_tags: int = FEW_TAGS) -> Table:
    """Run all scenarios. The same arguments give the same table.

    `hardware` is the machine with all its tags; `few_tags` is how many it has when they are to run out.
    """
    tagged = hardware or Hardware()
    untagged, few = replace(tagged, tags=0), replace(tagged, tags=few_tags)
    return Table(
        tagged,
        few_tags,
        costs,
        compare(costs, untagged),
        [switch_through(costs, kind, count) for count in SPACE_COUNTS for kind in (untagged, few, tagged)],
        [attach_regions(costs, untagged, count) for count in REGION_COUNTS],
        [unmap_shared(costs, tagged, untagged, count) for count in TASK_COUNTS],
    )


def compare(costs: Costs, hardware: Hardware) -> list[Compared]:
    """The RFC's own table: switch and create."""
    sim = _simulation(costs, hardware)
    ours, other, parent = (_program(sim) for _ in range(3))
    use_program(sim, ours)
    create = _billed(sim, partial(sim.vas_create, ours, "lab"))
    vid = sim.machine.vas_find(sim.cred, "lab")
    sim.vas_attach(ours, vid)
    spaces = _switches(sim, ours, (vid, 0))

    def processes() -> None:
        for pid in (other, ours):
            sim.run(pid)
            use_program(sim, pid)

    switching = _steady(sim, processes, 2)
    use_program(sim, parent)
    fork = _billed(sim, partial(sim.fork, parent))
    return [Compared("switch", spaces, switching), Compared("create", create, fork)]


def switch_through(costs: Costs, hardware: Hardware, spaces: int) -> Switching:
    """One thread goes round `spaces` spaces."""
    sim = _simulation(costs, hardware)
    pid = _program(sim)
    vids = [sim.vas_create(pid, f"space-{number}") for number in range(spaces)]
    for vid in vids:
        sim.vas_attach(pid, vid)
    return Switching(spaces, hardware.tags, _switches(sim, pid, vids))


def attach_regions(costs: Costs, hardware: Hardware, regions: int) -> Attaching:
    """What depends on the number of regions, and what does not."""
    sim = _simulation(costs, hardware)
    writer, lazy, eager = (_program(sim) for _ in range(3))
    vid = sim.vas_create(writer, "lab", sharing=SHARED)
    sim.vas_attach(writer, vid)
    sim.vas_switch(writer, vid)
    pages = _fill(sim, writer, regions)
    figures = {}
    for pid in (lazy, eager):
        use_program(sim, pid)
        attach = _billed(sim, partial(sim.vas_attach, pid, vid, lazy=pid == lazy))
        sim.vas_switch(pid, vid)
        use = _billed(sim, partial(_use, sim, pid, pages))
        figures[pid] = (attach, use)
    parent = _program(sim)
    _fill(sim, parent, regions)
    fork = _billed(sim, partial(sim.fork, parent))
    return Attaching(
        regions,
        len(pages),
        _switches(sim, lazy, (0, vid)),
        fork,
        attach_lazy=figures[lazy][0],
        attach_eager=figures[eager][0],
        use_lazy=figures[lazy][1],
        use_eager=figures[eager][1],
    )


def unmap_shared(costs: Costs, tagged: Hardware, untagged: Hardware, tasks: int) -> Unmapping:
    """A range goes for everybody who has the space attached: with tags their TLBs still know it."""
    figures = []
    for hardware in (tagged, untagged):
        sim = _simulation(costs, replace(hardware, cpus=tasks))
        pids = [_program(sim, cpu) for cpu in range(tasks)]
        vid = sim.vas_create(pids[0], "lab", sharing=SHARED)
        for pid in pids:
            sim.vas_attach(pid, vid)
            sim.vas_switch(pid, vid)
        start = GEOMETRY.arena_start
        size = SHOT_PAGES * GEOMETRY.page_size
        sim.mmap(pids[0], start, size, _READ_WRITE, _FIXED_MAP)
        for pid in pids:
            _use(sim, pid, range(start, start + size, GEOMETRY.page_size))
        for pid in pids[1:]:
            sim.vas_switch(pid, 0)
        figures.append(_billed(sim, partial(sim.munmap, pids[0], start, size)))
    return Unmapping(tasks, *figures)


def use_program(sim: Simulation, pid: int) -> None:
    """What a thread touches wherever it is: a page of text, a page of data, a page of its stack."""
    sim.read(pid, GEOMETRY.text_start, len(_WORD))
    sim.write(pid, GEOMETRY.text_start + GEOMETRY.page_size, _WORD)
    sim.write(pid, GEOMETRY.user_end - len(_WORD), _WORD)


def _simulation(costs: Costs, hardware: Hardware) -> Simulation:
    return Simulation(Machine(GEOMETRY, _FRAMES), costs, hardware)


def _program(sim: Simulation, cpu: int = 0) -> int:
    pid = sim.spawn()
    sim.run(pid, cpu=cpu)
    use_program(sim, pid)
    return pid


def _fill(sim: Simulation, pid: int, regions: int) -> list[int]:
    """Map regions with a page's gap between them and write every page; the pages' addresses."""
    page = GEOMETRY.page_size
    starts = [GEOMETRY.arena_start + number * (REGION_PAGES + 1) * page for number in range(regions)]
    pages = [start + number * page for start in starts for number in range(REGION_PAGES)]
    for start in starts:
        sim.mmap(pid, start, REGION_PAGES * page, _READ_WRITE, _FIXED_MAP)
    for address in pages:
        sim.write(pid, address, _WORD)
    return pages


def _use(sim: Simulation, pid: int, pages: Iterable[int]) -> None:
    for address in pages:
        sim.read(pid, address, len(_WORD))


def _switches(sim: Simulation, pid: int, vids: Sequence[int]) -> Figure:
    """Switch through spaces in turn, using the program in each."""

    def round_trip() -> None:
        for vid in vids:
            sim.vas_switch(pid, vid)
            use_program(sim, pid)

    return _steady(sim, round_trip, len(vids))


def _steady(sim: Simulation, round_trip: Callable[[], None], times: int) -> Figure:
    """What a round costs once everything has been touched; it does something `times` times."""

    def rounds(count: int) -> None:
        for _ in range(count):
            round_trip()

    rounds(_WARM_UP)
    return Figure(_billed(sim, partial(rounds, ROUNDS)).bill, times * ROUNDS)


def _billed(sim: Simulation, action: Callable[[], object]) -> Figure:
    start = sim.clock.bill()
    action()
    return Figure(sim.clock.since(start))
