"""Small stories of the machine, each named by the property that it shows."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.check import check
from engine.constants import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE
from engine.credentials import ROOT, Credentials
from engine.errors import ENOMEM, Collision, EngineError, PageFault, PagesNeeded
from engine.geometry import X86_64
from engine.machine import Machine
from engine.memory.eviction import evict

PAGE = X86_64.page_size
BASE = X86_64.arena_start
RW = PROT_READ | PROT_WRITE
ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS
ADA = Credentials(1000, (1000,))


@pytest.fixture
def machine() -> Iterator[Machine]:
    built = Machine(X86_64, frames=1024)
    yield built
    assert list(check(built)) == []


def inside(
    machine: Machine, *, pages: int = 16, attach_type: int = O_RDWR, lazy: bool = True
) -> tuple[int, int]:
    """A task inside a new space with a segment at BASE: (pid, vid)."""
    vid = machine.vas_create(ROOT, f"space-{len(machine.spaces.registry)}", 0o600, "shared")
    sid = machine.vas_seg_create(ROOT, f"segment-{vid}", BASE, BASE + pages * PAGE, 0o600)
    machine.vas_seg_attach(ROOT, vid, sid, O_RDWR)
    return enter(machine, vid, attach_type, lazy=lazy), vid


def enter(machine: Machine, vid: int, attach_type: int = O_RDWR, *, lazy: bool = True) -> int:
    pid = machine.spawn(ROOT, None, 60).pid
    machine.vas_attach(ROOT, pid, vid, attach_type, lazy)
    machine.vas_switch(ROOT, pid, None, vid)
    return pid


def test_lazy_and_eager_attach_differ_in_counters_and_not_in_bytes(machine: Machine) -> None:
    writer, vid = inside(machine)
    machine.write(ROOT, writer, None, BASE + 100, b"seen by both" * 1000)
    lazy, eager = enter(machine, vid, lazy=True), enter(machine, vid, lazy=False)
    built = [machine.task_status(ROOT, pid).counters["page_table_entries_built"] for pid in (lazy, eager)]
    assert built == [0, 3]
    seen = [machine.read(ROOT, pid, None, BASE, 16 * PAGE) for pid in (lazy, eager)]
    assert seen[0] == seen[1]
    faults = [machine.task_status(ROOT, pid).counters["minor_faults"] for pid in (lazy, eager)]
    assert faults == [16, 13]


def test_dropping_every_translation_changes_nothing_readable(machine: Machine) -> None:
    pid, vid = inside(machine)
    machine.write(ROOT, pid, None, BASE + PAGE - 3, b"across")
    before = machine.read(ROOT, pid, None, BASE, 16 * PAGE), machine.maps_text(ROOT, pid)
    task = machine.require_task(ROOT, pid)
    task.original.table.drop()
    task.attachments[vid].union.table.drop()
    assert (machine.read(ROOT, pid, None, BASE, 16 * PAGE), machine.maps_text(ROOT, pid)) == before


def test_fork_copies_no_page_until_one_side_writes(machine: Machine) -> None:
    pid = machine.spawn(ROOT, None, 60).pid
    heap = machine.brk(ROOT, pid, None)
    machine.brk(ROOT, pid, None, heap + 600 * PAGE)
    machine.write(ROOT, pid, None, heap, b"x" * (600 * PAGE))
    free = machine.pool.free_count
    child = machine.fork(ROOT, pid).pid
    assert machine.pool.free_count == free
    machine.write(ROOT, child, None, heap + PAGE, b"child")
    assert machine.pool.free_count == free - 1
    assert machine.read(ROOT, pid, None, heap + PAGE, 5) == b"xxxxx"
    assert machine.read(ROOT, child, None, heap + PAGE, 5) == b"child"
    machine.exit(ROOT, child)
    assert machine.pool.free_count == free


def test_a_store_over_a_hole_changes_nothing_and_names_its_first_byte(machine: Machine) -> None:
    pid, _ = inside(machine, pages=2)
    machine.write(ROOT, pid, None, BASE, b"before")
    with pytest.raises(PageFault) as fault, machine.transaction():
        machine.write(ROOT, pid, None, BASE, b"y" * (3 * PAGE))
    assert fault.value.address == BASE + 2 * PAGE
    assert machine.read(ROOT, pid, None, BASE, 6) == b"before"


def test_running_out_of_frames_half_way_changes_nothing(machine: Machine) -> None:
    pid = machine.spawn(ROOT, None, 60).pid
    where = machine.mmap(ROOT, pid, None, 0, 4096 * PAGE, RW, ANONYMOUS)
    machine.write(ROOT, pid, None, where, b"before")
    free = machine.pool.free_count
    with pytest.raises(EngineError) as refused, machine.transaction():
        machine.write(ROOT, pid, None, where, b"y" * (2048 * PAGE))
    assert refused.value.errno == ENOMEM
    assert machine.read(ROOT, pid, None, where, 6) == b"before"
    assert machine.pool.free_count == free


def test_rollback_of_an_atomic_batch_undoes_volatile_things_too(machine: Machine) -> None:
    pid, vid = inside(machine)
    before = machine.maps_text(ROOT, pid), machine.vas_list(ROOT), machine.task_status(ROOT, pid)
    with machine.transaction() as txn:
        other = machine.vas_create(ROOT, "other", 0o600)
        machine.vas_switch(ROOT, pid, None, 0)
        machine.vas_attach(ROOT, pid, other, O_RDONLY)
        machine.write(ROOT, pid, None, machine.geometry.user_end - 8, b"stack")
        machine.vas_detach(ROOT, pid, vid)
    txn.rollback()
    after = machine.maps_text(ROOT, pid), machine.vas_list(ROOT), machine.task_status(ROOT, pid)
    assert after[:2] == before[:2]
    assert after[2].attachments == before[2].attachments
    assert after[2].threads == before[2].threads
    machine.vas_switch(ROOT, pid, None, 0)
    assert machine.read(ROOT, pid, None, machine.geometry.user_end - 8, 5) == bytes(5)


def test_a_collision_is_refused_where_it_is_made_and_names_both_ranges(machine: Machine) -> None:
    pid, vid = inside(machine)
    machine.vas_switch(ROOT, pid, None, 0)
    with pytest.raises(Collision) as refused:
        machine.mmap(ROOT, pid, None, BASE, PAGE, RW, ANONYMOUS | MAP_FIXED)
    assert (refused.value.wanted.start, refused.value.held.end) == (BASE, BASE + 16 * PAGE)
    assert f"space {vid}" in refused.value.holder


def test_what_one_attacher_maps_another_sees_at_once(machine: Machine) -> None:
    one, vid = inside(machine)
    other = enter(machine, vid)
    where = machine.mmap(ROOT, one, None, 0, PAGE, RW, ANONYMOUS)
    machine.write(ROOT, one, None, where, b"shared")
    assert machine.read(ROOT, other, None, where, 6) == b"shared"
    machine.munmap(ROOT, other, None, where, PAGE)
    with pytest.raises(PageFault):
        machine.read(ROOT, one, None, where, 1)


def test_a_read_only_attacher_cannot_store_or_map(machine: Machine) -> None:
    writer, vid = inside(machine)
    reader = enter(machine, vid, O_RDONLY)
    with pytest.raises(PageFault):
        machine.write(ROOT, reader, None, BASE, b"x")
    for call in (
        lambda: machine.mmap(ROOT, reader, None, 0, PAGE, RW, ANONYMOUS),
        lambda: machine.mprotect(ROOT, reader, None, BASE, PAGE, PROT_READ),
        lambda: machine.munmap(ROOT, reader, None, BASE, PAGE),
    ):
        with pytest.raises(EngineError, match="EACCES"):
            call()
    machine.write(ROOT, writer, None, BASE, b"x")
    assert machine.read(ROOT, reader, None, BASE, 1) == b"x"


def test_evicted_pages_are_asked_for_by_name(machine: Machine) -> None:
    pid, _ = inside(machine)
    with machine.transaction() as txn:
        machine.write(ROOT, pid, None, BASE, b"z" * (2 * PAGE))
    txn.settle()
    (obj,) = (obj for obj in machine.objects if obj.pages.resident())
    assert evict(obj, 10) == 2
    with pytest.raises(PagesNeeded) as need:
        machine.read(ROOT, pid, None, BASE + PAGE, 2 * PAGE)
    assert need.value.pages == [1]
    machine.supply(need.value, {1: b"z" * PAGE})
    assert machine.read(ROOT, pid, None, BASE + PAGE, 2 * PAGE) == b"z" * PAGE + bytes(PAGE)


def test_strangers_may_not_act_on_a_task(machine: Machine) -> None:
    pid, vid = inside(machine)
    for call in (
        lambda: machine.read(ADA, pid, None, BASE, 1),
        lambda: machine.vas_detach(ADA, pid, vid),
        lambda: machine.maps_text(ADA, pid),
        lambda: machine.exit(ADA, pid),
    ):
        with pytest.raises(EngineError, match="EPERM"):
            call()
    assert machine.task_status(ADA, pid).pid == pid


def test_code_and_document_number_the_same_invariants() -> None:
    root = Path(__file__).parents[2]
    cited = {
        number
        for path in (root / "engine").glob("*.py")
        for number in re.findall(r"\bI\d{1,2}\b", path.read_text())
    }
    listed = set(re.findall(r"^\| (I\d+) \|", (root / "docs/invariants.md").read_text(), re.MULTILINE))
    assert cited == listed
