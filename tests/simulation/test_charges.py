"""What is charged is what the engine did."""

import pytest

from engine.constants import MADV_DONTNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, SHARED
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import I386, X86_64, Geometry
from engine.machine import Machine
from engine.simulated.costs import Bill, SimTime, Work
from engine.simulated.mmu import FLUSH_CEILING, Hardware
from engine.simulated.simulation import Simulation
from engine.simulated.table1 import use_program
from storage.memory import MemoryStore

PAGE = X86_64.page_size
START = X86_64.arena_start
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def simulation(geometry: Geometry = X86_64, frames: int = 1024, **hardware: int) -> Simulation:
    return Simulation(Machine(geometry, frames), hardware=Hardware(**hardware), backing=MemoryStore(geometry))


def billed(sim: Simulation, before: Bill) -> dict[Work, int]:
    return dict(sim.clock.since(before).done)


def inside(sim: Simulation, pages: int = 4) -> tuple[int, int]:
    """(pid, vid) of a task in a shared space with pages mapped at START."""
    pid = sim.spawn()
    vid = sim.vas_create(pid, f"space-{pid}", sharing=SHARED)
    sim.vas_attach(pid, vid)
    sim.vas_switch(pid, vid)
    sim.mmap(pid, START, pages * PAGE, 3, FIXED)
    return pid, vid


def test_a_first_store_is_a_fault_an_entry_and_a_page_of_zeros() -> None:
    sim = simulation()
    pid, _ = inside(sim)
    before = sim.clock.bill()
    sim.write(pid, START, b"x")
    assert billed(sim, before) == {
        Work.WALK_LEVEL: 4, Work.FAULT: 1, Work.ENTRY_BUILD: 1, Work.PAGE_ZERO: 1,
    }  # fmt: skip


def test_what_is_in_the_tlb_costs_nothing() -> None:
    sim = simulation()
    pid, _ = inside(sim)
    sim.write(pid, START, b"x")
    now = sim.clock.now
    sim.write(pid, START + 8, b"y")
    sim.read(pid, START, 16)
    assert sim.clock.now == now


def test_faults_and_entries_are_those_that_the_task_counted() -> None:
    sim = simulation()
    pid, _ = inside(sim, 64)
    counters = sim.machine.task_status(ROOT, pid).counters
    before = sim.clock.bill()
    for number in range(64):
        sim.write(pid, START + number * PAGE, b"x")
    sim.vas_switch(pid, 0)
    use_program(sim, pid)
    after, done = sim.machine.task_status(ROOT, pid).counters, billed(sim, before)
    assert done[Work.FAULT] == after["minor_faults"] - counters["minor_faults"] == 67
    assert done[Work.ENTRY_BUILD] == after["page_table_entries_built"] - counters["page_table_entries_built"]
    assert done[Work.SPACE_SWITCH] == after["switches"] - counters["switches"] == 1


def test_a_store_after_fork_copies() -> None:
    sim = simulation()
    pid = sim.spawn()
    use_program(sim, pid)
    before = sim.clock.bill()
    sim.fork(pid)
    assert billed(sim, before) == {
        Work.SYSCALL: 1, Work.PROCESS_FORK: 1, Work.REGION_COPY: 3, Work.ENTRY_DROP: 3, Work.PAGE_INVALIDATE: 3,
    }  # fmt: skip
    before = sim.clock.bill()
    sim.write(pid, X86_64.user_end - 8, b"x")
    assert billed(sim, before)[Work.PAGE_COPY] == 1
    before = sim.clock.bill()
    sim.write(pid, X86_64.user_end - 16, b"x")
    assert billed(sim, before) == {}


def test_an_eager_attach_builds_entries_and_a_lazy_one_does_not() -> None:
    sim = simulation()
    pid, vid = inside(sim, 8)
    for number in range(8):
        sim.write(pid, START + number * PAGE, b"x")
    for lazy in (True, False):
        other = sim.spawn()
        use_program(sim, other)
        before = sim.clock.bill()
        sim.vas_attach(other, vid, O_RDONLY, lazy=lazy)
        built = (
            {} if lazy else {Work.ENTRY_BUILD: 8 + 2}
        )  # of the space, and of the task's own data and stack
        assert billed(sim, before) == {Work.SYSCALL: 1, Work.SPACE_ATTACH: 1, **built}


def test_regions_are_charged_as_they_come_and_go() -> None:
    sim = simulation()
    pid, _ = inside(sim, 8)
    before = sim.clock.bill()
    sim.mprotect(pid, START + 2 * PAGE, PAGE, 1)  # splits one into three
    done = billed(sim, before)
    assert (done[Work.REGION_INSERT], done[Work.REGION_REMOVE]) == (3, 1)
    before = sim.clock.bill()
    sim.munmap(pid, START, 8 * PAGE)
    done = billed(sim, before)
    assert done == {Work.SYSCALL: 1, Work.REGION_REMOVE: 3}


@pytest.mark.parametrize("pages", [1, FLUSH_CEILING, FLUSH_CEILING + 1])
def test_a_shootdown_takes_pages_out_one_by_one_or_flushes_the_tag(pages: int) -> None:
    sim = simulation()
    pid, _ = inside(sim, 64)
    for number in range(pages):
        sim.write(pid, START + number * PAGE, b"x")
    before = sim.clock.bill()
    sim.munmap(pid, START, 64 * PAGE)
    done = billed(sim, before)
    assert done[Work.ENTRY_DROP] == pages
    if pages > FLUSH_CEILING:
        assert (done.get(Work.PAGE_INVALIDATE, 0), done[Work.TLB_FLUSH]) == (0, 1)
    else:
        assert (done[Work.PAGE_INVALIDATE], done.get(Work.TLB_FLUSH, 0)) == (pages, 0)


@pytest.mark.parametrize(
    ("tags", "stay", "interrupts"), [(16, True, 3), (16, False, 3), (0, True, 3), (0, False, 0)]
)
def test_each_other_cpu_that_holds_the_tag_is_interrupted_once(
    tags: int, stay: bool, interrupts: int
) -> None:
    sim = simulation(cpus=5, tags=tags)
    pid, vid = inside(sim)
    sim.write(pid, START, b"x")
    for cpu in (1, 2, 3):
        other = sim.spawn()
        sim.run(other, cpu=cpu)
        sim.vas_attach(other, vid)
        sim.vas_switch(other, vid)
        assert sim.read(other, START, 1) == b"x"
        if not stay:
            sim.vas_switch(other, 0)
    before = sim.clock.bill()
    sim.munmap(pid, START, 4 * PAGE)
    done = billed(sim, before)
    assert done[Work.ENTRY_DROP] == 4
    assert done.get(Work.IPI, 0) == interrupts
    assert done[Work.PAGE_INVALIDATE] == 1 + interrupts


def test_a_call_that_is_refused_costs_the_system_call() -> None:
    sim = simulation()
    pid, vid = inside(sim)
    before = sim.clock.bill()
    with pytest.raises(EngineError, match="EINVAL"):
        sim.vas_switch(pid, vid + 1)
    with pytest.raises(EngineError, match="EINVAL"):
        sim.munmap(pid, START + 1, PAGE)
    assert billed(sim, before) == {Work.SYSCALL: 2}


def test_switching_to_where_one_is_costs_the_system_call() -> None:
    sim = simulation()
    pid, vid = inside(sim)
    before = sim.clock.bill()
    sim.vas_switch(pid, vid)
    sim.vas_attach(pid, vid)
    assert billed(sim, before) == {Work.SYSCALL: 2}


def test_threads_of_one_task_share_what_is_loaded() -> None:
    sim = simulation(tags=0)
    pid = sim.spawn()
    use_program(sim, pid)
    tid = sim.thread(pid)
    before = sim.clock.bill()
    sim.run(pid, tid)
    sim.read(pid, X86_64.text_start, 8, tid)
    assert billed(sim, before) == {Work.SYSCALL: 1, Work.CONTEXT_SWITCH: 1}


def test_exit_drops_everything_and_leaves_cpus_idle() -> None:
    sim = simulation(cpus=2)
    pid, _ = inside(sim)
    use_program(sim, pid)
    tid = sim.thread(pid)
    sim.run(pid, tid, cpu=1)
    before = sim.clock.bill()
    sim.exit(pid)
    done = billed(sim, before)
    assert done[Work.PROCESS_EXIT] == done[Work.SPACE_DETACH] == 1
    assert done[Work.ENTRY_DROP] == 3
    assert [cpu.thread for cpu in sim.mmu.cpus] == [None, None]
    assert sim.mmu.contexts == {}


def test_pages_that_were_evicted_are_fetched() -> None:
    sim = simulation(frames=16)
    pid, _ = inside(sim, 24)
    for number in range(24):
        sim.write(pid, START + number * PAGE, bytes([number]))
    before, faults = sim.clock.bill(), sim.machine.task_status(ROOT, pid).counters["major_faults"]
    assert [sim.read(pid, START + number * PAGE, 1)[0] for number in range(24)] == list(range(24))
    for number in range(24):
        sim.write(pid, START + number * PAGE, b"x")
    done = billed(sim, before)
    assert done[Work.PAGE_FETCH] == sim.machine.task_status(ROOT, pid).counters["major_faults"] - faults > 1
    assert Work.PAGE_ZERO not in done


def test_other_calls_are_charged_by_what_they_do_too() -> None:
    sim = simulation()
    pid = sim.spawn()
    addr = sim.mmap(pid, 0, 4 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    for number in range(4):
        sim.write(pid, addr + number * PAGE, b"x")
    before = sim.clock.bill()
    sim.system_call(pid, lambda machine: machine.madvise(ROOT, pid, None, addr, 4 * PAGE, MADV_DONTNEED))
    assert billed(sim, before) == {Work.SYSCALL: 1, Work.ENTRY_DROP: 4, Work.PAGE_INVALIDATE: 4}
    assert sim.read(pid, addr, 1) == b"\0"


def test_two_levels_are_walked_where_there_are_two() -> None:
    sim = simulation(I386)
    pid = sim.spawn()
    sim.run(pid)
    before = sim.clock.bill()
    sim.read(pid, I386.text_start, 1)
    assert billed(sim, before)[Work.WALK_LEVEL] == 2


def test_time_is_charges_alone() -> None:
    sim = simulation()
    assert sim.clock.now == SimTime(0)
    pid, _ = inside(sim)
    now = sim.clock.now
    sim.machine.task_status(ROOT, pid)
    sim.machine.maps_text(ROOT, pid)
    assert sim.clock.now == now
    with pytest.raises(ValueError, match="no CPU 1"):
        sim.run(pid, cpu=1)
