"""Faults: what a problem document tells of one, who counts it, and copy-on-write as parent and child see it."""

from everspace import (
    MADV_DONTFORK,
    MADV_DONTNEED,
    O_RDONLY,
    O_RDWR,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import USER_END, at, counters, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World


@row("FAULT-REASON-1")
def test_a_fault_names_address_access_and_reason(world: World) -> None:
    task = world.owner
    put(task, 0)
    put(task, 1, 1, PROT_READ)
    put(task, 2, 1, PROT_NONE)
    put(task, 3, 1, PROT_EXEC)
    for call, args, address, access, reason in (
        (task.read, (at(8), 1), at(8), "read", "no region"),
        (task.write, (at(8), b"x"), at(8), "write", "no region"),
        (task.write, (at(1) - 2, b"four"), at(1), "write", "region is r--"),
        (task.read, (at(1), 2 * PAGE), at(2), "read", "region is ---"),
        (task.write, (at(2), b"x"), at(2), "write", "region is ---"),
        (task.read, (at(3), 1), at(3), "read", "region is --x"),
        (task.read, (0, 1), 0, "read", "no region"),
        (task.read, (USER_END, 1), USER_END, "read", "no region"),
    ):
        problem = world.fails("EFAULT", call, *args).problem
        told = (problem["address"], problem["access"], problem["reason"])
        assert told == (hex(address), access, reason)
        assert hex(address)[2:] in problem["detail"]


@row("FAULT-RIGHTS-1")
def test_what_can_be_written_can_be_read(world: World) -> None:
    put(world.owner, 0, 1, PROT_WRITE)
    world.owner.write(at(0), b"text")
    assert world.owner.read(at(0), 4) == b"text"


@row("FAULT-REASON-2")
def test_a_fault_in_a_space_attached_for_reading(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    problem = world.fails("EFAULT", reader.write, BASE, b"x").problem
    assert (problem["address"], problem["access"], problem["reason"]) == (hex(BASE), "write", "region is r--")


@row("FAULT-MINOR-1")
def test_minor_faults_are_counted_by_page_and_once(world: World) -> None:
    task = world.owner
    put(task, 0, 8)
    before = counters(world, task)["minor_faults"]
    task.write(at(0), b"x" * 3 * PAGE)
    assert counters(world, task)["minor_faults"] == before + 3
    task.write(at(0), b"y" * 3 * PAGE)
    assert task.read(at(0), 1) == b"y"
    assert counters(world, task)["minor_faults"] == before + 3
    task.madvise(at(0), PAGE, MADV_DONTNEED)
    task.read(at(0), PAGE)
    assert counters(world, task)["minor_faults"] == before + 4


@row("FAULT-MINOR-2")
def test_copies_on_write_are_minor_faults(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"x" * 2 * PAGE)
    child = world.adopt(task.fork())
    before = counters(world, child)["minor_faults"]
    child.write(at(0), b"y" * 2 * PAGE)
    assert counters(world, child)["minor_faults"] == before + 2
    assert task.read(at(0), 2 * PAGE) == b"x" * 2 * PAGE
    assert counters(world, child)["major_faults"] == 0


@row("FAULT-STATUS-1")
def test_the_counters_are_in_the_status_file_too(world: World) -> None:
    put(world.owner, 0)
    world.owner.write(at(0), b"x")
    told = counters(world, world.owner)
    text = world.http("owner").call("GET", f"/v1/proc/{world.owner.pid}/status").text
    fields = dict(line.split(":\t", 1) for line in text.splitlines())
    assert int(fields["MinorFaults"]) == told["minor_faults"] > 0
    assert int(fields["MajorFaults"]) == told["major_faults"] == 0


@row("FORK-COW-1")
def test_parent_and_child_each_write_their_own_copy(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    task.write(at(0), b"parent" * 100)
    child = world.adopt(task.fork())
    grandchild = world.adopt(child.fork())
    for each, text in ((child, b"child "), (task, b"father"), (grandchild, b"third ")):
        each.write(at(0), text)
    assert [each.read(at(0), 12) for each in (task, child, grandchild)] == [
        b"fatherparent",
        b"child parent",
        b"third parent",
    ]


@row("FORK-MAP-1")
def test_a_child_has_the_same_map_of_the_original_space(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    put(task, 2, 1, PROT_READ)
    before = task.maps()
    vid, _ = world.space_with_segment(start=at(64))
    task.vas_attach(0, vid, O_RDWR)
    task.vas_switch(vid)
    child = world.adopt(task.fork())
    assert child.maps() == before
    assert child.active_vas() == 0


@row("FORK-DONTFORK-1")
def test_what_is_advised_dontfork_is_not_in_the_child(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    task.write(at(0), b"x" * 3 * PAGE)
    task.madvise(at(1), PAGE, MADV_DONTFORK)
    child = world.adopt(task.fork())
    assert regions(child) == ["0-1 rw-p", "2-3 rw-p"]
    world.fails("EFAULT", child.read, at(1), 1)
    put(child, 1)
    assert child.read(at(0), 3 * PAGE) == b"x" * PAGE + bytes(PAGE) + b"x" * PAGE
    assert task.read(at(1), 1) == b"x"
