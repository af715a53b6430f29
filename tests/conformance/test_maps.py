"""Where mappings go and when neighbours become one region: the rules of Linux, seen in /proc/{pid}/maps."""

from everspace import (
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    RLIM_INFINITY,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, FIXED, RW, SHARED_ANON, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import World


@row("MMAP-HINT-1")
def test_a_hint_is_rounded_to_its_page(world: World) -> None:
    assert world.owner.mmap(at(8) + 5, PAGE, RW, ANON) == at(8)


@row("MMAP-HINT-2")
def test_a_taken_hint_goes_elsewhere(world: World) -> None:
    put(world.owner, 8, 2)
    elsewhere = world.owner.mmap(at(7), 2 * PAGE, RW, ANON)
    assert elsewhere >= at(10) or elsewhere + 2 * PAGE <= at(8)
    assert regions(world.owner) == ["8-10 rw-p"]


@row("MMAP-PLACE-1")
def test_mappings_without_a_hint_go_top_down(world: World) -> None:
    first = world.owner.mmap(0, 4 * PAGE, RW, ANON)
    assert world.owner.mmap(0, PAGE, PROT_READ, ANON) == first - PAGE
    world.owner.munmap(first, 4 * PAGE)
    assert world.owner.mmap(0, 2 * PAGE, RW, ANON) == first + 2 * PAGE


@row("MMAP-PLACE-2")
def test_a_program_with_an_unlimited_stack_maps_bottom_up(world: World) -> None:
    world.root.prlimit("stack", RLIM_INFINITY)
    world.root.exec()
    first = world.root.mmap(0, 4 * PAGE, RW, ANON)
    assert world.root.mmap(0, PAGE, PROT_READ, ANON) == first + 4 * PAGE


@row("MMAP-FIXED-2")
def test_fixed_splits_what_it_replaces_in_the_middle(world: World) -> None:
    put(world.owner, 0, 6)
    put(world.owner, 2, 2, PROT_READ)
    assert regions(world.owner) == ["0-2 rw-p", "2-4 r--p", "4-6 rw-p"]
    put(world.owner, 2, 2)
    assert regions(world.owner) == ["0-6 rw-p"]


@row("MMAP-FIXED-3")
def test_a_fixed_mapping_that_fails_leaves_what_was_there(world: World) -> None:
    put(world.owner, 0, 4)
    world.owner.write(at(0), b"kept")
    world.fails("EINVAL", world.owner.mmap, at(0) + 8, PAGE, RW, FIXED)
    world.fails("EINVAL", world.owner.mmap, at(0), PAGE, RW, FIXED & ~MAP_PRIVATE)
    world.fails("ENOMEM", world.owner.mmap, at(0), 2**47, RW, FIXED)
    world.owner.prlimit("address_space", 64 * PAGE)
    world.fails("ENOMEM", world.owner.mmap, at(0), 4096 * PAGE, RW, FIXED)
    assert world.owner.read(at(0), 4) == b"kept"


@row("MMAP-NOREPLACE-2")
def test_noreplace_wins_over_fixed_and_merges_beside_a_neighbour(world: World) -> None:
    put(world.owner, 0, 2)
    for more in (0, MAP_FIXED):
        flags = ANON | MAP_FIXED_NOREPLACE | more
        for page, count in ((0, 1), (1, 1), (1, 2), (0, 3)):
            world.fails("EEXIST", world.owner.mmap, at(page), count * PAGE, RW, flags)
    put(world.owner, 2, 2, RW, ANON | MAP_FIXED_NOREPLACE)
    assert regions(world.owner) == ["0-4 rw-p"]


@row("MMAP-EINVAL-2")
def test_memory_is_either_shared_or_private_and_only_private_memory_grows(world: World) -> None:
    task = world.owner
    world.fails("EINVAL", task.mmap, 0, PAGE, RW, ANON | MAP_SHARED)
    world.fails("EINVAL", task.mmap, 0, PAGE, RW, ANON & ~MAP_PRIVATE)
    world.fails("EINVAL", task.mmap, 0, PAGE, RW, SHARED_ANON | MAP_GROWSDOWN)


@row("MMAP-SHARED-1")
def test_shared_memory_is_one_with_a_childs(world: World) -> None:
    shared = world.owner.mmap(0, PAGE, RW, SHARED_ANON)
    private = world.owner.mmap(0, PAGE, RW, ANON)
    child = world.adopt(world.owner.fork())
    for task, text in ((world.owner, b"parent"), (child, b"child ")):
        task.write(shared, text)
        task.write(private, text)
    assert world.owner.read(shared, 6) == child.read(shared, 6) == b"child "
    assert (world.owner.read(private, 6), child.read(private, 6)) == (b"parent", b"child ")


@row("MMAP-POPULATE-1")
def test_populate_maps_pages_at_once(world: World) -> None:
    put(world.owner, 0, 3)
    put(world.owner, 8, 3, RW, FIXED | MAP_POPULATE)
    assert world.owner.mincore(at(0), 3 * PAGE) == bytes([0, 0, 0])
    assert world.owner.mincore(at(8), 3 * PAGE) == bytes([1, 1, 1])


@row("MERGE-OK-1")
def test_equal_neighbours_are_one_region_and_a_filled_hole_joins_three(world: World) -> None:
    for page in (0, 2, 1):
        put(world.owner, page)
    assert regions(world.owner) == ["0-3 rw-p"]
    put(world.owner, 4, 2, PROT_READ)
    world.owner.mprotect(at(4), 2 * PAGE, RW)
    put(world.owner, 3)
    assert regions(world.owner) == ["0-6 rw-p"]


@row("MERGE-DIFFERENT-1")
def test_neighbours_that_differ_stay_apart(world: World) -> None:
    task = world.owner
    put(task, 0)
    for page, prot, flags in (
        (1, PROT_READ, FIXED),
        (2, PROT_READ | PROT_EXEC, FIXED),
        (3, RW, FIXED | MAP_NORESERVE),
        (4, RW, SHARED_ANON | MAP_FIXED),
        (5, RW, SHARED_ANON | MAP_FIXED),
        (6, RW, FIXED | MAP_GROWSDOWN),
    ):
        put(task, page, 1, prot, flags)
    rights = ["rw-p", "r--p", "r-xp", "rw-p", "rw-s", "rw-s", "rw-p"]
    assert regions(task) == [f"{page}-{page + 1} {text}" for page, text in enumerate(rights)]


@row("MERGE-ADVICE-1")
def test_what_is_locked_or_advised_differs_until_it_no_longer_is(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    apart = ["0-1 rw-p", "1-2 rw-p", "2-3 rw-p"]
    task.mlock(at(1), PAGE, 1)
    assert regions(task) == apart
    task.munlock(at(1), PAGE)
    assert regions(task) == ["0-3 rw-p"]
    task.madvise(at(1), PAGE, MADV_DONTFORK)
    assert regions(task) == apart
    task.madvise(at(1), PAGE, MADV_DOFORK)
    assert regions(task) == ["0-3 rw-p"]
    task.madvise(at(1), PAGE, MADV_DONTDUMP)
    assert regions(task) == apart


@row("MERGE-TOUCHED-1")
def test_what_was_written_separately_stays_apart(world: World) -> None:
    """The filler joins the left one only: the two were written as regions of their own."""
    for page in (0, 2):
        put(world.owner, page)
        world.owner.write(at(page), b"x")
    put(world.owner, 1)
    assert regions(world.owner) == ["0-2 rw-p", "2-3 rw-p"]


@row("MERGE-SHARED-1")
def test_a_shared_region_that_was_split_is_one_again(world: World) -> None:
    task = world.owner
    put(task, 0, 3, RW, SHARED_ANON | MAP_FIXED)
    task.mprotect(at(1), PAGE, PROT_READ)
    assert regions(task) == ["0-1 rw-s", "1-2 r--s", "2-3 rw-s"]
    task.mprotect(at(1), PAGE, RW)
    assert regions(task) == ["0-3 rw-s"]
    put(task, 3, 1, RW, SHARED_ANON | MAP_FIXED)
    assert regions(task) == ["0-3 rw-s", "3-4 rw-s"]


@row("MERGE-SPACE-1")
def test_regions_of_a_space_are_one_when_they_are_equal(world: World) -> None:
    world.inside()
    for page in (16, 18):
        put(world.owner, page)
        world.owner.write(at(page), b"x")
    put(world.owner, 17)
    assert regions(world.owner) == ["0-4 rw-s", "16-19 rw-p"]


@row("MUNMAP-SPLIT-1")
def test_munmap_in_the_middle_splits(world: World) -> None:
    put(world.owner, 0, 5)
    world.owner.munmap(at(1), PAGE)
    world.owner.munmap(at(3), PAGE)
    assert regions(world.owner) == ["0-1 rw-p", "2-3 rw-p", "4-5 rw-p"]
    world.owner.munmap(at(0), 64 * PAGE)
    assert regions(world.owner) == []


@row("MPROTECT-SPLIT-1")
def test_mprotect_splits_and_joins(world: World) -> None:
    put(world.owner, 0, 5)
    world.owner.mprotect(at(1), 2 * PAGE, PROT_READ)
    assert regions(world.owner) == ["0-1 rw-p", "1-3 r--p", "3-5 rw-p"]
    world.owner.mprotect(at(0), PAGE, PROT_READ)
    assert regions(world.owner) == ["0-3 r--p", "3-5 rw-p"]
    world.owner.mprotect(at(0), 3 * PAGE, RW)
    assert regions(world.owner) == ["0-5 rw-p"]


@row("MPROTECT-ENOMEM-2")
def test_mprotect_keeps_what_lies_before_a_hole(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    put(task, 4, 2)
    failure = world.refused(task.mprotect, at(0), 6 * PAGE, PROT_READ)
    assert (failure.errno, failure.problem["address"]) == ("ENOMEM", hex(at(2)))
    assert regions(task) == ["0-2 r--p", "4-6 rw-p"]
    failure = world.fails("ENOMEM", task.mprotect, at(3), 3 * PAGE, PROT_READ)
    assert failure.problem["address"] == hex(at(3))
