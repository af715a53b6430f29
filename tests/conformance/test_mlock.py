"""mlock, munlock, mincore and MAP_LOCKED, with the limit of locked memory."""

from everspace import (
    MADV_DONTNEED_LOCKED,
    MAP_FIXED,
    MAP_LOCKED,
    MLOCK_ONFAULT,
    MS_INVALIDATE,
    PROT_NONE,
    PROT_READ,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, FIXED, RW, SHARED_ANON, USER_END, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World


@row("MLOCK-OK-1")
def test_locked_memory_is_in_memory_at_once(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    assert task.mlock(at(1), 2 * PAGE) == 0
    assert task.mincore(at(0), 4 * PAGE) == bytes([0, 1, 1, 0])
    assert regions(task) == ["0-1 rw-p", "1-3 rw-p", "3-4 rw-p"]
    assert task.munlock(at(0), 4 * PAGE) == 0
    assert regions(task) == ["0-4 rw-p"]


@row("MLOCK-OK-2")
def test_the_address_is_rounded_down_and_the_end_up(world: World) -> None:
    put(world.owner, 0, 3)
    world.owner.mlock(at(1) - 1, 2)
    assert world.owner.mincore(at(0), 3 * PAGE) == bytes([1, 1, 0])
    assert regions(world.owner)[0] == "0-2 rw-p"
    assert world.owner.munlock(at(0) + 5, PAGE) == 0


@row("MLOCK-ONFAULT-1")
def test_on_fault_locks_what_is_touched(world: World) -> None:
    put(world.owner, 0, 2)
    world.owner.mlock(at(0), 2 * PAGE, MLOCK_ONFAULT)
    assert world.owner.mincore(at(0), 2 * PAGE) == bytes(2)
    world.owner.write(at(1), b"x")
    assert world.owner.mincore(at(0), 2 * PAGE) == bytes([0, 1])


@row("MLOCK-EINVAL-1")
def test_mlock_judges_its_arguments(world: World) -> None:
    """The limit is looked at before a range that wraps: root has none."""
    put(world.owner, 0)
    put(world.root, 0)
    for flags in (2, 4, -1, 2**31, 2**64):
        world.fails("EINVAL", world.owner.mlock, at(0), PAGE, flags)
    for call in (world.root.mlock, world.owner.munlock):
        for address, length in (
            (at(0), 2**64 - PAGE),
            (at(0), 2**64),
            (at(0), 2**200),
            (at(0), -1),
            (-PAGE, PAGE),
        ):
            world.fails("EINVAL", call, address, length)


@row("MLOCK-ENOMEM-1")
def test_what_lies_before_a_hole_is_locked(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    put(task, 3)
    failure = world.refused(task.mlock, at(1), 3 * PAGE)
    assert (failure.errno, failure.problem["address"]) == ("ENOMEM", hex(at(2)))
    assert regions(task) == ["0-1 rw-p", "1-2 rw-p", "3-4 rw-p"]
    world.fails("ENOMEM", task.mlock, at(8), PAGE)
    world.fails("ENOMEM", task.mlock, USER_END, PAGE)


@row("MLOCK-ENOMEM-2")
def test_more_than_the_limit_is_enomem(world: World) -> None:
    task = world.owner
    assert task.prlimit("locked") == 8 << 20
    task.prlimit("locked", 4 * PAGE)
    put(task, 0, 8)
    world.fails("ENOMEM", task.mlock, at(0), 5 * PAGE)
    task.mlock(at(0), 4 * PAGE)
    task.mlock(at(0), 4 * PAGE)
    world.fails("ENOMEM", task.mlock, at(4), PAGE)
    task.munlock(at(0), PAGE)
    task.mlock(at(4), PAGE)


@row("MLOCK-ENOMEM-3")
def test_what_cannot_be_accessed_cannot_be_brought(world: World) -> None:
    put(world.owner, 0, 1, PROT_NONE)
    assert world.refused(world.owner.mlock, at(0), PAGE).errno == "ENOMEM"


@row("MLOCK-EPERM-1")
def test_with_a_limit_of_0_nothing_is_locked(world: World) -> None:
    put(world.owner, 0)
    world.owner.prlimit("locked", 0)
    world.fails("EPERM", world.owner.mlock, at(0), PAGE)
    world.fails("EPERM", world.owner.mmap, 0, PAGE, RW, ANON | MAP_LOCKED)


@row("MLOCK-ROOT-1")
def test_root_has_no_limit_of_locked_memory(world: World) -> None:
    size = 16 << 20
    start = world.root.mmap(0, size, RW, ANON)
    assert world.root.mlock(start, size, MLOCK_ONFAULT) == 0


@row("MLOCK-FORK-1")
def test_locks_are_not_inherited(world: World) -> None:
    put(world.owner, 0, 3)
    world.owner.mlock(at(1), PAGE)
    child = world.adopt(world.owner.fork())
    child.prlimit("locked", PAGE)
    child.mlock(at(0), PAGE)
    world.owner.munlock(at(1), PAGE)
    assert child.read(at(0), 3 * PAGE) == bytes(3 * PAGE)


@row("MLOCK-SPACE-1")
def test_memory_of_a_segment_is_brought_and_not_kept(world: World) -> None:
    vid, _ = world.inside()
    regions_before = world.http("owner").get(f"/v1/vas/{vid}/regions")
    world.owner.write(BASE, b"locked")
    world.owner.mlock(BASE, 2 * PAGE)
    assert world.owner.mincore(BASE, 1) == b"\x01"
    assert world.http("owner").get(f"/v1/vas/{vid}/regions") == regions_before
    assert world.owner.munlock(BASE, 4 * PAGE) == 0
    assert world.owner.read(BASE, 6) == b"locked"


@row("MUNLOCK-ENOMEM-1")
def test_munlock_of_a_hole_is_enomem(world: World) -> None:
    put(world.owner, 0)
    world.owner.mlock(at(0), PAGE)
    assert world.refused(world.owner.munlock, at(0), 2 * PAGE).errno == "ENOMEM"
    put(world.owner, 1)
    assert regions(world.owner) == ["0-1 rw-p", "1-2 rw-p"] or regions(world.owner) == ["0-2 rw-p"]
    world.fails("ENOMEM", world.owner.munlock, at(8), PAGE)


@row("MMAP-LOCKED-1")
def test_locked_mappings_are_in_memory_and_counted(world: World) -> None:
    task = world.owner
    put(task, 0, 2, RW, FIXED | MAP_LOCKED)
    assert task.mincore(at(0), 2 * PAGE) == bytes([1, 1])
    task.prlimit("locked", 3 * PAGE)
    world.fails("EAGAIN", task.mmap, at(8), 2 * PAGE, RW, FIXED | MAP_LOCKED)
    put(task, 8, 1, RW, FIXED | MAP_LOCKED)
    task.munmap(at(0), 2 * PAGE)
    put(task, 16, 2, RW, FIXED | MAP_LOCKED)


@row("MINCORE-OK-1")
def test_mincore_tells_which_pages_are_in_memory(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    task.write(at(1), b"x")
    task.write(at(3), b"x")
    assert task.mincore(at(0), 4 * PAGE) == bytes([0, 1, 0, 1])
    assert task.mincore(at(1), 2 * PAGE + 1) == bytes([1, 0, 1])
    assert task.mincore(at(0), 0) == b""
    task.madvise(at(1), PAGE, MADV_DONTNEED_LOCKED)
    assert task.mincore(at(0), 2 * PAGE) == bytes([0, 0])


@row("MINCORE-OK-2")
def test_mincore_of_shared_memory_and_segments(world: World) -> None:
    task = world.owner
    put(task, 64, 2, RW, SHARED_ANON | MAP_FIXED)
    child = world.adopt(task.fork())
    child.write(at(65), b"x")
    assert task.mincore(at(64), 2 * PAGE) == bytes([0, 1])
    world.inside()
    task.write(BASE + PAGE, b"x")
    assert task.mincore(BASE, 2 * PAGE) == bytes([0, 1])


@row("MINCORE-EINVAL-1")
def test_mincore_wants_an_aligned_address(world: World) -> None:
    put(world.owner, 0)
    world.fails("EINVAL", world.owner.mincore, at(0) + 1, PAGE)
    world.fails("EINVAL", world.owner.mincore, -PAGE, PAGE)


@row("MINCORE-ENOMEM-1")
def test_mincore_of_a_hole_or_beyond_the_range_is_enomem(world: World) -> None:
    put(world.owner, 0)
    failure = world.fails("ENOMEM", world.owner.mincore, at(0), 2 * PAGE)
    assert failure.problem["address"] == hex(at(1))
    world.fails("ENOMEM", world.owner.mincore, at(8), PAGE)
    for length in (2**47, 2**63, 2**64 - PAGE):
        world.fails("ENOMEM", world.owner.mincore, at(0), length)
    world.fails("ENOMEM", world.owner.mincore, USER_END, PAGE)


@row("MINCORE-E2BIG-1")
def test_an_answer_has_an_end(world: World) -> None:
    """As a load has: one byte for each of more pages than an answer may have bytes."""
    world.fails("E2BIG", world.owner.mincore, at(0), 2**40)


@row("MSYNC-EBUSY-1")
def test_locked_memory_is_not_invalidated(world: World) -> None:
    put(world.owner, 0, 2)
    world.owner.mlock(at(0), PAGE)
    assert world.owner.msync(at(0), 2 * PAGE) == 0
    assert world.refused(world.owner.msync, at(0), 2 * PAGE, MS_INVALIDATE).errno == "EBUSY"
    world.owner.munlock(at(0), PAGE)
    assert world.owner.msync(at(0), 2 * PAGE, MS_INVALIDATE) == 0


@row("MSYNC-FLAGS-1")
def test_msync_takes_one_of_sync_and_async(world: World) -> None:
    put(world.owner, 0, 1, PROT_READ)
    for flags in (0, 1, 2, 3, 4, 6):
        assert world.owner.msync(at(0), PAGE, flags) == 0
    for flags in (5, 7, 8, -1, 2**31, 2**64):
        world.fails("EINVAL", world.owner.msync, at(0), PAGE, flags)
