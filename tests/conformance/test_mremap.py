"""mremap: shrink, grow, move, and everything that it refuses, as on Linux."""

from everspace import (
    MAP_FIXED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    O_RDONLY,
    PROT_READ,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import RW, SHARED_ANON, USER_END, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

TO_PLACE = MREMAP_MAYMOVE | MREMAP_FIXED
LEAVING = MREMAP_MAYMOVE | MREMAP_DONTUNMAP


@row("MREMAP-SHRINK-1")
def test_shrinking_unmaps_the_tail(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    task.write(at(0), b"kept")
    assert task.mremap(at(0), 4 * PAGE, PAGE) == at(0)
    assert regions(task) == ["0-1 rw-p"]
    assert task.read(at(0), 4) == b"kept"


@row("MREMAP-SHRINK-2")
def test_shrinking_goes_over_several_regions_and_holes(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    put(task, 3, 1, PROT_READ)
    put(task, 5)
    assert task.mremap(at(0), 6 * PAGE, PAGE) == at(0)
    assert regions(task) == ["0-1 rw-p"]


@row("MREMAP-GROW-1")
def test_growing_where_there_is_room_moves_nothing(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(1), b"kept")
    assert task.mremap(at(0), 2 * PAGE, 4 * PAGE) == at(0)
    assert task.read(at(1), 4) == b"kept"
    assert task.read(at(2), 2 * PAGE) == bytes(2 * PAGE)
    assert regions(task) == ["0-4 rw-p"]


@row("MREMAP-SAME-1")
def test_the_same_size_changes_nothing(world: World) -> None:
    put(world.owner, 0, 2)
    before = world.state()
    assert world.owner.mremap(at(0), 2 * PAGE, 2 * PAGE) == at(0)
    assert world.owner.mremap(at(0), 2 * PAGE - 1, 2 * PAGE, MREMAP_MAYMOVE) == at(0)
    assert world.state() == before


@row("MREMAP-MOVE-1")
def test_without_room_it_moves_if_it_may(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    put(task, 2, 1, PROT_READ)
    task.write(at(0), b"first")
    task.write(at(1), b"second")
    moved = task.mremap(at(0), 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE)
    assert moved != at(0)
    assert task.read(moved, 5) == b"first"
    assert task.read(moved + PAGE, 6) == b"second"
    assert task.read(moved + 2 * PAGE, PAGE) == bytes(PAGE)
    assert regions(task) == ["2-3 r--p"]


@row("MREMAP-MOVE-2")
def test_the_middle_of_a_region_moves_out_of_it(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    for page in range(4):
        task.write(at(page), bytes([page]))
    assert task.mremap(at(1), 2 * PAGE, 2 * PAGE, TO_PLACE, at(8)) == at(8)
    assert regions(task) == ["0-1 rw-p", "3-4 rw-p", "8-10 rw-p"]
    assert task.read(at(8), 1) == b"\x01"
    assert task.read(at(9), 1) == b"\x02"


@row("MREMAP-MERGE-1")
def test_what_was_written_merges_again_only_where_it_was(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    task.write(at(0), b"x")
    put(task, 20)
    assert task.mremap(at(1), PAGE, PAGE, TO_PLACE, at(21)) == at(21)
    assert regions(task) == ["0-1 rw-p", "2-3 rw-p", "20-21 rw-p", "21-22 rw-p"]
    assert task.mremap(at(21), PAGE, PAGE, TO_PLACE, at(1)) == at(1)
    assert regions(task) == ["0-3 rw-p", "20-21 rw-p"]


@row("MREMAP-FIXED-1")
def test_fixed_replaces_what_is_at_the_target(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.write(at(0), b"moved")
    put(task, 8, 3, PROT_READ)
    assert task.mremap(at(0), PAGE, PAGE, TO_PLACE, at(9)) == at(9)
    assert regions(task) == ["8-9 r--p", "9-10 rw-p", "10-11 r--p"]
    assert task.read(at(9), 5) == b"moved"


@row("MREMAP-FIXED-2")
def test_fixed_may_change_the_size_too(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"moved")
    assert task.mremap(at(0), 2 * PAGE, 3 * PAGE, TO_PLACE, at(8)) == at(8)
    assert regions(task) == ["8-11 rw-p"]
    assert task.mremap(at(8), 3 * PAGE, PAGE, TO_PLACE, at(0)) == at(0)
    assert regions(task) == ["0-1 rw-p"]
    assert task.read(at(0), 5) == b"moved"


@row("MREMAP-DONTUNMAP-1")
def test_dontunmap_leaves_an_empty_region(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"moved")
    moved = task.mremap(at(0), 2 * PAGE, 2 * PAGE, LEAVING)
    assert moved != at(0)
    assert task.read(moved, 5) == b"moved"
    assert task.read(at(0), 5) == bytes(5)
    assert task.mremap(moved, 2 * PAGE, 2 * PAGE, LEAVING | MREMAP_FIXED, at(8)) == at(8)
    assert task.read(at(8), 5) == b"moved"
    assert task.read(moved, 5) == bytes(5)


@row("MREMAP-SHARED-1")
def test_an_old_size_of_0_shows_shared_memory_twice(world: World) -> None:
    task = world.owner
    put(task, 0, 2, RW, SHARED_ANON | MAP_FIXED)
    twice = task.mremap(at(0), 0, 2 * PAGE, MREMAP_MAYMOVE)
    task.write(at(1), b"one memory")
    assert task.read(twice + PAGE, 10) == b"one memory"


@row("MREMAP-SPACE-1")
def test_a_region_of_a_space_moves_for_everybody(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    put(world.owner, 16, 2)
    world.owner.write(at(16), b"moved")
    assert world.owner.mremap(at(16), 2 * PAGE, 4 * PAGE, TO_PLACE, at(32)) == at(32)
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDONLY)
    second.vas_switch(vid)
    assert second.read(at(32), 5) == b"moved"
    world.fails("EFAULT", second.read, at(16), 1)
    world.fails("EACCES", second.mremap, at(32), 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)


@row("MREMAP-EINVAL-1")
def test_mremap_judges_its_arguments(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    for args in (
        (at(0) + 1, PAGE, PAGE),
        (at(0), PAGE, 0),
        (at(0), PAGE, 2**63),
        (at(0), PAGE, 2**64),
        (at(0), PAGE, 2**200),
        (at(0), PAGE, -PAGE),
        (at(0), -PAGE, PAGE),
        (-PAGE, PAGE, PAGE),
        (at(0), PAGE, 2 * PAGE, 8),
        (at(0), PAGE, 2 * PAGE, -1),
    ):
        world.fails("EINVAL", task.mremap, *args)


@row("MREMAP-EINVAL-2")
def test_mremap_judges_its_target(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    for size, flags, target in (
        (PAGE, MREMAP_FIXED, at(8)),
        (PAGE, TO_PLACE, at(8) + 1),
        (2 * PAGE, TO_PLACE, at(1)),
        (2 * PAGE, TO_PLACE, at(0)),
        (PAGE, TO_PLACE, USER_END),
        (PAGE, TO_PLACE, 2**64),
        (PAGE, TO_PLACE, -PAGE),
    ):
        world.fails("EINVAL", task.mremap, at(0), 2 * PAGE, size, flags, target)


@row("MREMAP-EINVAL-3")
def test_dontunmap_needs_maymove_and_keeps_the_size(world: World) -> None:
    put(world.owner, 0, 4)
    world.fails("EINVAL", world.owner.mremap, at(0), PAGE, PAGE, MREMAP_DONTUNMAP)
    world.fails("EINVAL", world.owner.mremap, at(0), PAGE, 2 * PAGE, LEAVING)
    world.fails("EINVAL", world.owner.mremap, at(0), 2 * PAGE, PAGE, LEAVING)


@row("MREMAP-EINVAL-4")
def test_private_memory_is_not_shown_twice(world: World) -> None:
    put(world.owner, 0, 4)
    world.fails("EINVAL", world.owner.mremap, at(0), 0, PAGE, MREMAP_MAYMOVE)


@row("MREMAP-EFAULT-1")
def test_what_is_not_mapped_is_efault(world: World) -> None:
    put(world.owner, 8, 2)
    failure = world.fails("EFAULT", world.owner.mremap, at(0), PAGE, 2 * PAGE, MREMAP_MAYMOVE)
    assert failure.problem["address"] == hex(at(0))
    world.fails("EFAULT", world.owner.mremap, at(0), PAGE, PAGE, TO_PLACE, at(8))
    assert regions(world.owner) == ["8-10 rw-p"]


@row("MREMAP-EFAULT-2")
def test_growing_over_the_end_of_a_region_is_efault(world: World) -> None:
    put(world.owner, 0, 2)
    put(world.owner, 2, 2, PROT_READ)
    world.fails("EFAULT", world.owner.mremap, at(0), 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)
    world.fails("EFAULT", world.owner.mremap, at(1), 2 * PAGE, 3 * PAGE, TO_PLACE, at(16))


@row("MREMAP-ENOMEM-1")
def test_without_room_and_without_maymove_it_is_enomem(world: World) -> None:
    put(world.owner, 0, 2)
    put(world.owner, 2, 1, PROT_READ)
    world.fails("ENOMEM", world.owner.mremap, at(0), 2 * PAGE, 3 * PAGE)
    world.fails("ENOMEM", world.owner.mremap, at(0), PAGE, 2 * PAGE)


@row("MREMAP-ENOMEM-2")
def test_growing_keeps_the_limits(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.prlimit("address_space", 4096 * PAGE)
    world.fails("ENOMEM", task.mremap, at(0), 2 * PAGE, 5000 * PAGE, MREMAP_MAYMOVE)
    task.prlimit("data", 16 * PAGE)
    world.fails("ENOMEM", task.mremap, at(0), 2 * PAGE, 32 * PAGE, MREMAP_MAYMOVE)
    assert task.mremap(at(0), 2 * PAGE, 4 * PAGE) == at(0)


@row("MREMAP-EAGAIN-1")
def test_growing_locked_memory_over_the_limit_is_eagain(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.mlock(at(0), 2 * PAGE)
    task.prlimit("locked", 3 * PAGE)
    world.fails("EAGAIN", task.mremap, at(0), 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE)
    assert task.mremap(at(0), 2 * PAGE, 3 * PAGE) == at(0)


@row("MREMAP-EBUSY-1")
def test_a_segment_is_not_moved(world: World) -> None:
    world.inside()
    for args in ((BASE, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE), (BASE, PAGE, PAGE, TO_PLACE, at(32))):
        failure = world.fails("EBUSY", world.owner.mremap, *args)
        assert failure.names(BASE, BASE + 4 * PAGE)
        assert failure.problem["holder"]


@row("MREMAP-EEXIST-1")
def test_another_owners_region_is_not_replaced(world: World) -> None:
    put(world.owner, 64)
    world.owner.write(at(64), b"own")
    world.inside()
    put(world.owner, 16)
    failure = world.fails("EEXIST", world.owner.mremap, at(16), PAGE, PAGE, TO_PLACE, at(64))
    assert failure.names(at(64))
    world.fails("EEXIST", world.owner.mremap, at(16), PAGE, PAGE, TO_PLACE, at(1))
    assert world.owner.read(at(64), 3) == b"own"


@row("MREMAP-EPERM-1")
def test_nothing_moves_below_the_users_range(world: World) -> None:
    put(world.owner, 0)
    world.fails("EPERM", world.owner.mremap, at(0), PAGE, PAGE, TO_PLACE, PAGE)
