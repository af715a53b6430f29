"""Loads and stores, mmap, munmap, mprotect, brk, msync: as on Linux, in the original space and inside a space."""

from everspace import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    O_RDWR,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, FIXED, RW, USER_END, USER_START, outside_and_inside
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World


@row("MEM-RW-1")
def test_what_is_stored_is_loaded(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, 4 * PAGE, RW, ANON)
        assert at % PAGE == 0
        assert task.read(at, 4 * PAGE) == bytes(4 * PAGE)
        data = bytes(range(256)) * 40
        assert task.write(at + 100, data) == len(data)
        assert task.read(at + 100, len(data)) == data
        assert task.read(at, 100) == bytes(100)


@row("MEM-RW-2")
def test_nothing_is_loaded_and_stored_with_length_0(world: World) -> None:
    at = world.owner.mmap(0, PAGE, RW, ANON)
    assert world.owner.read(at, 0) == b""
    assert world.owner.write(at, b"") == 0
    assert world.owner.read(BASE, 0) == b""


@row("MEM-EFAULT-1")
def test_a_fault_names_the_first_bad_address_and_stores_nothing(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, 3 * PAGE, RW, ANON)
        task.munmap(at + PAGE, PAGE)
        task.write(at, b"before")
        failure = world.fails("EFAULT", task.write, at + 2, bytes(b"x" * 2 * PAGE))
        assert failure.problem["address"] == hex(at + PAGE)
        assert task.read(at, 6) == b"before"
        assert task.read(at + 2 * PAGE, 6) == bytes(6)
        failure = world.fails("EFAULT", task.read, at + PAGE - 1, 2)
        assert failure.problem["address"] == hex(at + PAGE)
        failure = world.fails("EFAULT", task.read, at + PAGE + 7, 2)
        assert failure.problem["address"] == hex(at + PAGE + 7)


@row("MEM-EFAULT-2")
def test_protection_forbids_loads_and_stores(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, 2 * PAGE, PROT_READ, ANON)
        failure = world.fails("EFAULT", task.write, at + 5, b"x")
        assert failure.problem["address"] == hex(at + 5)
        task.mprotect(at, PAGE, RW)
        failure = world.fails("EFAULT", task.write, at + PAGE - 1, b"xy")
        assert failure.problem["address"] == hex(at + PAGE)
        assert task.read(at + PAGE - 1, 1) == b"\0"
        task.mprotect(at, PAGE, PROT_NONE)
        world.fails("EFAULT", task.read, at, 1)


@row("MEM-EFAULT-3")
def test_addresses_beyond_the_geometry_fault(world: World) -> None:
    task = world.owner
    for at in (0, USER_START - 1, USER_END, 2**47, 2**48 - 1, 2**63, 2**64 - 1):
        world.fails("EFAULT", task.read, at, 1)
        world.fails("EFAULT", task.write, at, b"x")
    for at in (2**64, 2**100, -1):
        assert world.refused(task.read, at, 1).errno in ("EFAULT", "EINVAL")
        assert world.refused(task.write, at, b"x").errno in ("EFAULT", "EINVAL")


@row("MMAP-OK-1")
def test_mmap_finds_a_place_of_its_own(world: World) -> None:
    for task in outside_and_inside(world):
        places = sorted(task.mmap(0, n * PAGE, RW, ANON) for n in (1, 2, 3, 1))
        assert len(set(places)) == 4
        text = task.maps()
        assert all(place % PAGE == 0 for place in places)
        assert places[0] >= USER_START
        assert places[-1] < USER_END
        assert "rw-p" in text


@row("MMAP-OK-2")
def test_a_free_hint_is_taken_and_the_length_is_rounded_up(world: World) -> None:
    at = world.owner.mmap(BASE, 1, RW, ANON)
    assert at == BASE
    world.owner.write(BASE + PAGE - 1, b"x")
    world.fails("EFAULT", world.owner.write, BASE + PAGE, b"x")
    assert world.owner.mmap(BASE, PAGE, RW, ANON) != BASE


@row("MMAP-FIXED-1")
def test_fixed_replaces_what_the_same_owner_has(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, 4 * PAGE, RW, ANON)
        task.write(at, b"old" * PAGE)
        assert task.mmap(at + PAGE, PAGE, PROT_READ, FIXED) == at + PAGE
        assert task.read(at + PAGE, PAGE) == bytes(PAGE)
        assert task.read(at, 3) == b"old"
        world.fails("EFAULT", task.write, at + PAGE, b"x")


@row("MMAP-NOREPLACE-1")
def test_noreplace_takes_free_ranges_only(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, 2 * PAGE, RW, ANON)
        task.write(at, b"kept")
        wanted = (at + PAGE, 4 * PAGE)
        failure = world.fails("EEXIST", task.mmap, *wanted, RW, ANON | MAP_FIXED_NOREPLACE)
        assert failure.names(at + PAGE, at + 5 * PAGE)
        assert failure.problem["holder"]
        assert task.read(at, 4) == b"kept"
        free = BASE + 1024 * PAGE
        assert task.mmap(free, PAGE, RW, ANON | MAP_FIXED_NOREPLACE) == free


@row("MMAP-EEXIST-1")
def test_fixed_does_not_replace_what_another_owner_has(world: World) -> None:
    """A task inside does not map over its own regions, and a task outside not over those of its spaces."""
    own = world.owner.mmap(BASE + 64 * PAGE, PAGE, RW, FIXED)
    world.owner.write(own, b"own")
    world.inside()
    failure = world.fails("EEXIST", world.owner.mmap, own, 2 * PAGE, RW, FIXED)
    assert failure.names(own, own + PAGE, own + 2 * PAGE)
    assert failure.problem["holder"]
    world.owner.vas_switch(0)
    failure = world.fails("EEXIST", world.owner.mmap, BASE + 3 * PAGE, 2 * PAGE, RW, FIXED)
    assert failure.names(BASE + 3 * PAGE, BASE + 5 * PAGE, BASE, BASE + 4 * PAGE)
    assert world.owner.read(own, 3) == b"own"


@row("MMAP-EEXIST-2")
def test_a_region_of_a_space_does_not_come_over_another_attached_task(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    second = world.task("owner")
    second.mmap(BASE + 128 * PAGE, PAGE, RW, FIXED)
    second.vas_attach(0, vid, O_RDWR)
    failure = world.fails("EEXIST", world.owner.mmap, BASE + 128 * PAGE, PAGE, RW, FIXED)
    assert failure.problem["holder"]
    assert second.read(BASE + 128 * PAGE, 1) == b"\0"
    at = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(at, b"free for all")
    second.vas_switch(vid)
    assert second.read(at, 12) == b"free for all"


@row("MMAP-EINVAL-1")
def test_mmap_judges_its_arguments(world: World) -> None:
    for task in outside_and_inside(world):
        world.fails("EINVAL", task.mmap, 0, 0, RW, ANON)
        world.fails("EINVAL", task.mmap, BASE + 8 * PAGE + 1, PAGE, RW, FIXED)
        world.fails("EINVAL", task.mmap, 0, PAGE, RW, MAP_ANONYMOUS)
        world.refused(task.mmap, 0, -PAGE, RW, ANON)


@row("MMAP-ENOMEM-1")
def test_what_does_not_fit_is_enomem(world: World) -> None:
    for task in outside_and_inside(world):
        for length in (2**47, 2**62, 2**63):
            world.fails("ENOMEM", task.mmap, 0, length, RW, ANON)
        world.fails("ENOMEM", task.mmap, USER_END, PAGE, RW, FIXED)
        world.fails("ENOMEM", task.mmap, USER_END - PAGE, 2 * PAGE, RW, FIXED)
        before = world.state()
        for length in (2**64 - PAGE, 2**64, 2**100):
            assert world.refused(task.mmap, 0, length, RW, ANON).errno in ("ENOMEM", "EINVAL")
        for low in (0, USER_START - PAGE):
            assert world.refused(task.mmap, low, PAGE, RW, FIXED).errno in ("ENOMEM", "EPERM", "EINVAL")
        assert world.state() == before


@row("MMAP-EPERM-1")
def test_nothing_is_mapped_below_the_users_range(world: World) -> None:
    for address in (0, PAGE, USER_START - PAGE):
        world.fails("EPERM", world.owner.mmap, address, PAGE, RW, FIXED)
        world.fails("EPERM", world.owner.mmap, address, PAGE, RW, ANON | MAP_FIXED_NOREPLACE)
    assert world.owner.mmap(PAGE, PAGE, RW, ANON) == USER_START


@row("MUNMAP-OK-1")
def test_munmap_takes_parts_and_ignores_holes(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(BASE + 32 * PAGE, 8 * PAGE, RW, ANON)
        assert task.munmap(at + 2 * PAGE, 2 * PAGE) == 0
        assert task.munmap(at + PAGE, 4 * PAGE) == 0
        assert task.munmap(BASE + 4096 * PAGE, PAGE) == 0
        assert task.read(at, PAGE) == bytes(PAGE)
        world.fails("EFAULT", task.read, at + PAGE, 1)
        world.fails("EFAULT", task.read, at + 4 * PAGE, 1)
        assert task.read(at + 5 * PAGE, 3 * PAGE) == bytes(3 * PAGE)


@row("MUNMAP-OK-2")
def test_what_is_mapped_again_reads_as_zeros(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, PAGE, RW, ANON)
        task.write(at, b"gone")
        task.munmap(at, PAGE)
        assert task.mmap(at, PAGE, RW, ANON | MAP_FIXED_NOREPLACE) == at
        assert task.read(at, 4) == bytes(4)


@row("MUNMAP-EINVAL-1")
def test_munmap_judges_its_arguments(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, PAGE, RW, ANON)
        world.fails("EINVAL", task.munmap, at + 1, PAGE)
        world.fails("EINVAL", task.munmap, at, 0)
        world.fails("EINVAL", task.munmap, USER_END, PAGE)
        world.fails("EINVAL", task.munmap, at, 2**63)
        world.fails("EINVAL", task.munmap, at, 2**64)


@row("MPROTECT-OK-1")
def test_mprotect_changes_what_may_be_done(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, 3 * PAGE, RW, ANON)
        task.write(at, b"text")
        task.mprotect(at + PAGE, PAGE, PROT_READ | PROT_EXEC)
        assert f"{at + PAGE:x}-{at + 2 * PAGE:x} r-xp" in task.maps()
        world.fails("EFAULT", task.write, at + PAGE, b"x")
        task.mprotect(at, 3 * PAGE, RW)
        task.write(at + PAGE, b"x")
        assert task.read(at, 4) == b"text"
        assert task.mprotect(at, 0, PROT_NONE) == 0
        task.write(at, b"TEXT")


@row("MPROTECT-ENOMEM-1")
def test_mprotect_of_a_hole_is_enomem(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(BASE + 32 * PAGE, PAGE, RW, ANON)
        world.fails("ENOMEM", task.mprotect, at + 64 * PAGE, PAGE, PROT_READ)
        assert world.refused(task.mprotect, at, 2 * PAGE, PROT_READ).errno == "ENOMEM"
        world.fails("ENOMEM", task.mprotect, USER_END, PAGE, PROT_READ)


@row("MPROTECT-EINVAL-1")
def test_mprotect_judges_its_arguments(world: World) -> None:
    for task in outside_and_inside(world):
        at = task.mmap(0, PAGE, RW, ANON)
        world.fails("EINVAL", task.mprotect, at + 8, PAGE, PROT_READ)
        world.fails("EINVAL", task.mprotect, at, PAGE, 0x1000)


@row("BRK-OK-1")
def test_the_heap_grows_and_shrinks(world: World) -> None:
    for task in outside_and_inside(world):
        start = task.brk()
        assert task.brk(start + 3 * PAGE) == start + 3 * PAGE
        assert task.brk() == start + 3 * PAGE
        task.write(start, b"heap" * (PAGE // 2))
        assert task.brk(start + PAGE) == start + PAGE
        assert task.brk(start + 2 * PAGE) == start + 2 * PAGE
        end = -(-(start + PAGE) // PAGE) * PAGE
        assert task.read(end, 4) == bytes(4)
        assert "[heap]" in task.maps()
        assert task.brk(start) == start


@row("BRK-LOW-1")
def test_a_break_below_the_heap_only_asks(world: World) -> None:
    start = world.owner.brk()
    world.owner.brk(start + PAGE)
    for address in (0, 1, start - 1, -1):
        assert world.owner.brk(address) == start + PAGE


@row("BRK-INSIDE-1")
def test_the_heap_is_the_tasks_wherever_its_threads_are(world: World) -> None:
    vid, _ = world.inside()
    thread = world.owner.thread()
    start = world.owner.brk()
    world.owner.brk(start + 2 * PAGE)
    assert thread.brk() == start + 2 * PAGE
    thread.write(start, b"from outside")
    assert world.owner.read(start, 12) == b"from outside"
    assert all(
        int(r["start"], 16) >= BASE for r in world.http("owner").get(f"/v1/vas/{vid}/regions")["items"]
    )


@row("BRK-ENOMEM-1")
def test_the_heap_does_not_grow_into_a_space(world: World) -> None:
    """The break stays, also for a thread that is not in that space. As on Linux one page above the heap stays free."""
    start = world.owner.brk()
    wall = -(-start // PAGE) * PAGE + 16 * PAGE
    vid, _ = world.space_with_segment(start=wall, pages=1)
    world.owner.vas_attach(0, vid, O_RDWR)
    failure = world.fails("ENOMEM", world.owner.brk, wall + 1)
    assert failure.names(wall, wall + PAGE)
    assert failure.problem["holder"]
    assert world.owner.brk() == start
    world.fails("ENOMEM", world.owner.brk, wall)
    assert world.owner.brk(wall - PAGE) == wall - PAGE
    world.owner.vas_switch(vid)
    world.fails("ENOMEM", world.owner.brk, wall)
    assert world.owner.brk() == wall - PAGE


@row("BRK-ENOMEM-2")
def test_the_heap_does_not_grow_into_the_task_or_out_of_the_range(world: World) -> None:
    start = world.owner.brk()
    page = -(-start // PAGE) * PAGE
    world.owner.mmap(page + 8 * PAGE, PAGE, RW, FIXED)
    for end in (page + 9 * PAGE, 2**47, 2**63):
        world.fails("ENOMEM", world.owner.brk, end)
        assert world.owner.brk() == start


@row("MSYNC-OK-1")
def test_msync_takes_everything_or_a_range(world: World) -> None:
    world.inside()
    world.owner.write(BASE, b"relaxed", durability="relaxed")
    assert world.owner.read(BASE, 7) == b"relaxed"
    assert world.owner.msync() == 0
    world.owner.write(BASE + PAGE, b"relaxed", durability="relaxed")
    assert world.owner.msync(BASE, 4 * PAGE) == 0


@row("MSYNC-EINVAL-1")
def test_msync_judges_its_range(world: World) -> None:
    world.inside()
    world.fails("EINVAL", world.owner.msync, BASE + 1, PAGE)
    world.fails("ENOMEM", world.owner.msync, BASE + 512 * PAGE, PAGE)


@row("MEM-WORD-1")
def test_numbers_beyond_a_register_are_refused_by_every_call(world: World) -> None:
    """Linux has no such numbers; what is negative there is a very large one."""
    task = world.owner
    own = task.mmap(0, 2 * PAGE, RW, ANON)
    for number in (2**64, 2**64 + PAGE, 2**200, -(2**64), -(2**200)):
        for call, args in (
            (task.munmap, (own, number)),
            (task.munmap, (number, PAGE)),
            (task.mprotect, (own, number, RW)),
            (task.mprotect, (own, PAGE, number)),
            (task.mremap, (own, PAGE, number)),
            (task.mremap, (own, number, PAGE)),
            (task.mremap, (own, PAGE, PAGE, number)),
            (task.mremap, (own, PAGE, PAGE, 3, number)),
            (task.madvise, (own, number, 4)),
            (task.madvise, (own, PAGE, number)),
            (task.mlock, (own, number)),
            (task.mlock, (own, PAGE, number)),
            (task.munlock, (number, PAGE)),
            (task.msync, (own, number)),
            (task.msync, (own, PAGE, number)),
            (task.mmap, (0, number, RW, ANON)),
        ):
            world.fails("EINVAL", call, *args)
        assert world.refused(task.mincore, own, number).errno in ("EINVAL", "ENOMEM")
