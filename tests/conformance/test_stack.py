"""Stacks grow when they are touched below, down to their limit and not into what lies there."""

from everspace import MAP_GROWSDOWN, PROT_GROWSDOWN, PROT_NONE, PROT_READ
from tests.conformance.support.calls import PAGE, Calls
from tests.conformance.support.memory import FIXED, RW, SHARED_ANON, USER_END, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

DOWN = FIXED | MAP_GROWSDOWN
GAP = 256
"""Pages that a stack keeps from what lies below it."""


def stack(task: Calls) -> tuple[int, int]:
    """Start and end of the task's stack."""
    (line,) = (line for line in task.maps().splitlines() if line.endswith("[stack]"))
    start, end = line.split()[0].split("-")
    return int(start, 16), int(end, 16)


@row("STACK-GROW-1")
def test_a_store_below_the_stack_makes_it_longer(world: World) -> None:
    task = world.owner
    start, end = stack(task)
    assert end == USER_END
    task.write(start - 20 * PAGE + 5, b"deep")
    assert stack(task) == (start - 20 * PAGE, end)
    assert task.read(start - 20 * PAGE + 5, 4) == b"deep"
    assert task.read(start - PAGE, PAGE) == bytes(PAGE)


@row("STACK-GROW-2")
def test_a_load_below_the_stack_does_so_too(world: World) -> None:
    start, end = stack(world.owner)
    assert world.owner.read(start - 4, 8) == bytes(8)
    assert stack(world.owner) == (start - PAGE, end)


@row("STACK-GROW-3")
def test_the_stack_grows_for_a_thread_inside_a_space(world: World) -> None:
    start, end = stack(world.owner)
    world.inside()
    world.owner.write(start - 1, b"x")
    world.owner.vas_switch(0)
    assert stack(world.owner) == (start - PAGE, end)


@row("STACK-MAP-1")
def test_memory_mapped_growsdown_is_a_stack(world: World) -> None:
    put(world.owner, 1000, 2, RW, DOWN)
    world.owner.write(at(995), b"x")
    assert regions(world.owner) == ["995-1002 rw-p"]


@row("STACK-EFAULT-1")
def test_a_stack_keeps_a_gap_from_what_lies_below(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    put(task, 1000, 2, RW, DOWN)
    failure = world.fails("EFAULT", task.write, at(2), b"x")
    assert "stack guard" in failure.problem["reason"]
    assert failure.problem["address"] == hex(at(2))
    world.fails("EFAULT", task.read, at(2 + GAP) - 1, 1)
    task.write(at(2 + GAP), b"x")
    assert regions(task) == ["0-2 rw-p", f"{2 + GAP}-1002 rw-p"]


@row("STACK-EFAULT-2")
def test_what_cannot_be_accessed_needs_no_gap(world: World) -> None:
    """As on Linux: such a region is the guard that a program itself puts below its stack."""
    put(world.owner, 0, 2, PROT_NONE)
    put(world.owner, 1000, 2, RW, DOWN)
    world.owner.write(at(2), b"x")
    assert regions(world.owner) == ["0-2 ---p", "2-1002 rw-p"]


@row("STACK-EFAULT-3")
def test_a_stack_grows_to_its_limit(world: World) -> None:
    task = world.owner
    _, end = stack(task)
    task.write(end - (8 << 20), b"x")
    assert stack(task) == (end - (8 << 20), end)
    failure = world.fails("EFAULT", task.write, end - (8 << 20) - 1, b"x")
    assert failure.problem["reason"] == "no region"
    put(task, 1000, 2, RW, DOWN)
    task.prlimit("stack", 4 * PAGE)
    task.write(at(998), b"x")
    world.fails("EFAULT", task.write, at(997), b"x")


@row("STACK-EFAULT-4")
def test_a_stack_keeps_the_limit_of_the_address_space(world: World) -> None:
    task = world.owner
    start, _ = stack(task)
    task.prlimit("address_space", 64 * PAGE)
    failure = world.fails("EFAULT", task.write, start - 128 * PAGE, b"x")
    assert failure.problem["reason"]


@row("STACK-PLACE-1")
def test_mappings_that_may_go_anywhere_stay_out_of_the_gap(world: World) -> None:
    put(world.owner, 1000, 2, RW, DOWN)
    assert world.owner.mmap(at(999), PAGE, RW, FIXED & ~0x10) != at(999)
    put(world.owner, 999)
    assert "999-1000 rw-p" in regions(world.owner)


@row("STACK-MPROTECT-1")
def test_growsdown_reaches_to_the_start_of_a_stack(world: World) -> None:
    task = world.owner
    put(task, 1000, 4, RW, DOWN)
    task.mprotect(at(1002), PAGE, PROT_READ | PROT_GROWSDOWN)
    assert regions(task) == ["1000-1003 r--p", "1003-1004 rw-p"]
    put(task, 0)
    world.fails("EINVAL", task.mprotect, at(0), PAGE, PROT_READ | PROT_GROWSDOWN)
    world.fails("EINVAL", task.mprotect, at(1000), PAGE, PROT_READ | PROT_GROWSDOWN | 0x2000000)
    world.fails("EINVAL", task.mmap, 0, PAGE, RW, SHARED_ANON | MAP_GROWSDOWN)


@row("STACK-SPACE-1")
def test_a_stack_does_not_grow_into_a_space(world: World) -> None:
    task = world.owner
    put(task, 1000, 2, RW, DOWN)
    vid, _ = world.space_with_segment(start=at(990), pages=2)
    task.vas_attach(0, vid, 2)
    failure = world.fails("EFAULT", task.write, at(991), b"x")
    assert failure.problem["reason"]
    task.vas_detach(0, vid)
    task.write(at(991), b"x")
