"""Views and slots on modelled processors: what is charged, and that a thread sees its own."""

from engine.constants import MMVIEW_CREATE, MMVIEW_DELETE, MMVIEW_MIGRATE, MMVIEW_UNSHARE
from engine.geometry import X86_64
from engine.machine import Machine
from engine.simulated.costs import Work
from engine.simulated.mmu import Hardware
from engine.simulated.simulation import Simulation
from engine.simulated.table1 import use_program
from tests.simulation.test_charges import FIXED, PAGE, START, billed, simulation


def test_a_view_costs_its_regions_and_going_there_a_switch() -> None:
    sim = simulation()
    pid = sim.spawn()
    use_program(sim, pid)
    before = sim.clock.bill()
    view = sim.mmview(pid, MMVIEW_CREATE)
    done = billed(sim, before)
    assert (done[Work.SYSCALL], done[Work.SPACE_CREATE], done[Work.REGION_COPY]) == (1, 1, 3)
    before = sim.clock.bill()
    sim.mmview(pid, MMVIEW_MIGRATE, view)
    assert billed(sim, before) == {
        Work.SYSCALL: 1,
        Work.SPACE_SWITCH: 1,
        Work.ROOT_LOAD: 1,
        Work.TAG_ASSIGN: 1,
    }
    before = sim.clock.bill()
    sim.mmview(pid, MMVIEW_MIGRATE, view)
    assert billed(sim, before) == {Work.SYSCALL: 1}


def test_regions_are_charged_for_each_view() -> None:
    sim = simulation()
    pid = sim.spawn()
    for _ in range(2):
        sim.mmview(pid, MMVIEW_CREATE)
    before = sim.clock.bill()
    sim.mmap(pid, START, PAGE, 3, FIXED)
    assert billed(sim, before)[Work.REGION_INSERT] == 3


def test_a_store_interrupts_who_shows_the_page_in_another_view() -> None:
    sim = simulation(cpus=2)
    pid = sim.spawn()
    sim.mmap(pid, START, PAGE, 3, FIXED)
    sim.write(pid, START, b"a")
    other = sim.thread(pid)
    sim.run(pid, other, cpu=1)
    sim.mmview(pid, MMVIEW_MIGRATE, sim.mmview(pid, MMVIEW_CREATE), tid=other)
    assert sim.read(pid, START, 1, other) == b"a"
    sim.fork(pid)
    sim.read(pid, START, 1, other)
    before = sim.clock.bill()
    sim.write(pid, START, b"b")
    assert billed(sim, before)[Work.IPI] == 1
    assert sim.read(pid, START, 1, other) == b"b"
    assert list(sim.mmu.check()) == []


def test_an_unshared_page_is_copied_by_the_first_store() -> None:
    sim = simulation()
    pid = sim.spawn()
    sim.mmap(pid, START, PAGE, 3, FIXED)
    sim.mmview(pid, MMVIEW_UNSHARE, START, PAGE)
    sim.write(pid, START, b"a")
    view = sim.mmview(pid, MMVIEW_CREATE)
    sim.mmview(pid, MMVIEW_MIGRATE, view)
    before = sim.clock.bill()
    sim.write(pid, START, b"b")
    assert billed(sim, before)[Work.PAGE_COPY] == 1
    sim.mmview(pid, MMVIEW_MIGRATE, 0)
    assert sim.read(pid, START, 1) == b"a"
    sim.mmview(pid, MMVIEW_DELETE, view)
    assert len(sim.mmu.contexts) == 1


def test_slots_cost_what_views_do() -> None:
    sim = Simulation(Machine(X86_64, 1024), hardware=Hardware())
    pid = sim.spawn()
    before = sim.clock.bill()
    assert sim.new_as(pid) == 1
    assert billed(sim, before)[Work.REGION_COPY] == 3
    before = sim.clock.bill()
    sim.switch_as(pid, 1)
    assert billed(sim, before)[Work.SPACE_SWITCH] == 1
    before = sim.clock.bill()
    sim.switch_as(pid, 1)
    assert Work.SPACE_SWITCH not in billed(sim, before)
    sim.exit(pid)
    assert not sim.mmu.contexts
