"""madvise: what each advice does to bytes and regions, what it refuses, and the advice that hides a region in spaces."""

from everspace import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_VAS_PRIVATE,
    MADV_VAS_SHARED,
    MADV_WILLNEED,
    MAP_FIXED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    O_RDONLY,
    O_RDWR,
    PROT_NONE,
    PROT_READ,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import RW, SHARED_ANON, USER_END, at, outside_and_inside, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

HARMLESS = (
    MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP,
    MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
    MADV_VAS_PRIVATE, MADV_VAS_SHARED,
)  # fmt: skip


@row("MADVISE-OK-1")
def test_advice_that_is_no_order_keeps_every_byte(world: World) -> None:
    put(world.owner, 0, 4)
    world.owner.write(at(1), b"kept" * 1024)
    for advice in HARMLESS:
        assert world.owner.madvise(at(0), 4 * PAGE, advice) == 0
        assert world.owner.read(at(1), 4096) == b"kept" * 1024


@row("MADVISE-OK-2")
def test_a_length_of_0_is_nothing_to_advise(world: World) -> None:
    put(world.owner, 8)
    before = world.state()
    for advice in (MADV_DONTNEED, MADV_WILLNEED, MADV_POPULATE_WRITE):
        assert world.owner.madvise(at(0), 0, advice) == 0
    assert world.state() == before


@row("MADVISE-DONTNEED-1")
def test_dontneed_gives_private_memory_back_at_once(world: World) -> None:
    for task in outside_and_inside(world):
        put(task, 16, 3)
        task.write(at(16), b"x" * 3 * PAGE)
        task.madvise(at(17), PAGE, MADV_DONTNEED)
        assert task.read(at(16), PAGE) == b"x" * PAGE
        assert task.read(at(17), PAGE) == bytes(PAGE)
        assert task.read(at(18), PAGE) == b"x" * PAGE
        assert "16-19 rw-p" in regions(task)


@row("MADVISE-DONTNEED-2")
def test_dontneed_works_without_any_right(world: World) -> None:
    put(world.owner, 0)
    world.owner.write(at(0), b"secret")
    world.owner.mprotect(at(0), PAGE, PROT_NONE)
    world.owner.madvise(at(0), PAGE, MADV_DONTNEED)
    world.owner.mprotect(at(0), PAGE, PROT_READ)
    assert world.owner.read(at(0), 6) == bytes(6)


@row("MADVISE-DONTNEED-3")
def test_dontneed_keeps_shared_memory_and_segments(world: World) -> None:
    put(world.owner, 16, 1, RW, SHARED_ANON | MAP_FIXED)
    world.owner.write(at(16), b"shared")
    world.owner.madvise(at(16), PAGE, MADV_DONTNEED)
    assert world.owner.read(at(16), 6) == b"shared"
    world.inside()
    world.owner.write(BASE, b"segment")
    world.owner.madvise(BASE, PAGE, MADV_DONTNEED)
    assert world.owner.read(BASE, 7) == b"segment"


@row("MADVISE-REMOVE-1")
def test_remove_empties_shared_memory_for_everybody(world: World) -> None:
    task = world.owner
    put(task, 0, 2, RW, SHARED_ANON | MAP_FIXED)
    task.write(at(0), b"x" * 2 * PAGE)
    child = world.adopt(task.fork())
    child.madvise(at(1), PAGE, MADV_REMOVE)
    assert task.read(at(0), 2 * PAGE) == b"x" * PAGE + bytes(PAGE)
    put(task, 8)
    world.fails("EINVAL", task.madvise, at(8), PAGE, MADV_REMOVE)
    task.mprotect(at(0), PAGE, PROT_READ)
    assert task.madvise(at(0), PAGE, MADV_REMOVE) == 0


@row("MADVISE-FREE-1")
def test_free_keeps_what_is_written_after_it(world: World) -> None:
    """What was there before may be gone or not; either is right."""
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"x" * 2 * PAGE)
    task.madvise(at(0), 2 * PAGE, MADV_FREE)
    assert task.read(at(1), PAGE) in (b"x" * PAGE, bytes(PAGE))
    task.write(at(0), b"after")
    assert task.read(at(0), 5) == b"after"


@row("MADVISE-FREE-EINVAL-1")
def test_free_is_for_private_memory(world: World) -> None:
    put(world.owner, 0, 1, RW, SHARED_ANON | MAP_FIXED)
    world.fails("EINVAL", world.owner.madvise, at(0), PAGE, MADV_FREE)


@row("MADVISE-POPULATE-1")
def test_populate_write_brings_pages_and_populate_read_needs_none(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    task.madvise(at(0), 2 * PAGE, MADV_POPULATE_WRITE)
    assert task.mincore(at(0), 4 * PAGE) == bytes([1, 1, 0, 0])
    task.madvise(at(0), 4 * PAGE, MADV_POPULATE_READ)
    assert task.read(at(0), 4 * PAGE) == bytes(4 * PAGE)


@row("MADVISE-POPULATE-EINVAL-1")
def test_populate_needs_the_right_to_access(world: World) -> None:
    put(world.owner, 0, 1, PROT_READ)
    put(world.owner, 8, 1, PROT_NONE)
    world.fails("EINVAL", world.owner.madvise, at(0), PAGE, MADV_POPULATE_WRITE)
    world.fails("EINVAL", world.owner.madvise, at(8), PAGE, MADV_POPULATE_READ)


@row("MADVISE-LOCKED-1")
def test_locked_memory_is_discarded_by_its_own_advice_only(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.mlock(at(0), PAGE)
    task.write(at(0), b"locked")
    for advice in (MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT):
        world.fails("EINVAL", task.madvise, at(0), PAGE, advice)
    assert task.read(at(0), 6) == b"locked"
    task.madvise(at(0), PAGE, MADV_DONTNEED_LOCKED)
    assert task.read(at(0), 6) == bytes(6)


@row("MADVISE-HUGE-1")
def test_huge_pages_are_advised_and_not_seen_in_the_bytes(world: World) -> None:
    task, huge = world.owner, 2 << 20
    start = -(-BASE // huge) * huge
    task.mmap(start, 2 * huge, RW, 0x32)
    task.madvise(start, 2 * huge, MADV_HUGEPAGE)
    task.write(start + PAGE, b"text")
    assert task.read(start + PAGE, 4) == b"text"
    assert task.read(start + huge - PAGE, PAGE) == bytes(PAGE)
    task.madvise(start, PAGE, MADV_NOHUGEPAGE)
    assert regions(task) == ["0-1 rw-p", "1-1024 rw-p"]
    assert task.read(start + PAGE, 4) == b"text"


@row("MADVISE-ENOMEM-1")
def test_both_sides_of_a_hole_are_advised(world: World) -> None:
    task = world.owner
    for page in (0, 2):
        put(task, page)
        task.write(at(page), b"text")
    failure = world.refused(task.madvise, at(0), 3 * PAGE, MADV_DONTNEED)
    assert (failure.errno, failure.problem["address"]) == ("ENOMEM", hex(at(1)))
    assert task.read(at(0), 4) == task.read(at(2), 4) == bytes(4)
    world.fails("ENOMEM", task.madvise, at(8), PAGE, MADV_DONTNEED)


@row("MADVISE-ENOMEM-2")
def test_populate_stops_at_a_hole(world: World) -> None:
    task = world.owner
    for page in (0, 2):
        put(task, page)
    assert world.refused(task.madvise, at(0), 3 * PAGE, MADV_POPULATE_WRITE).errno == "ENOMEM"
    assert task.mincore(at(0), PAGE) == b"\x01"
    assert task.mincore(at(2), PAGE) == b"\x00"


@row("MADVISE-EINVAL-1")
def test_madvise_judges_its_arguments(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    for advice in (5, 6, 7, 26, 99, -1, 2**31, 2**64):
        world.fails("EINVAL", task.madvise, at(0), PAGE, advice)
        world.fails("EINVAL", task.madvise, at(64), PAGE, advice)
    for address, length in (
        (at(0) + 1, PAGE),
        (at(0), -1),
        (at(0), 2**64 - PAGE),
        (at(0), 2**200),
        (-PAGE, PAGE),
    ):
        world.fails("EINVAL", task.madvise, address, length, MADV_DONTNEED)
    assert world.refused(task.madvise, USER_END, PAGE, MADV_DONTNEED).errno == "ENOMEM"


@row("MADVISE-COLLAPSE-EINVAL-1")
def test_what_holds_no_huge_page_is_not_collapsed(world: World) -> None:
    put(world.owner, 1)
    world.fails("EINVAL", world.owner.madvise, at(1), PAGE, MADV_COLLAPSE)


@row("MADVISE-EACCES-1")
def test_a_reader_of_a_space_discards_nothing(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    put(world.owner, 16)
    world.owner.write(at(16), b"kept")
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    for advice in (MADV_DONTNEED, MADV_FREE):
        world.fails("EACCES", reader.madvise, at(16), PAGE, advice)
    assert world.owner.read(at(16), 4) == b"kept"


@row("MADVISE-SPACE-1")
def test_advice_leaves_the_regions_of_a_space_as_they_are(world: World) -> None:
    """Whoever has the space attached, for reading or for writing: what one task advises is not every task's."""
    vid, _ = world.inside(sharing="shared")
    put(world.owner, 16, 4)
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    before = world.http("owner").get(f"/v1/vas/{vid}/regions")
    for task in (world.owner, reader):
        for advice in (
            MADV_RANDOM,
            MADV_DONTFORK,
            MADV_DONTDUMP,
            MADV_HUGEPAGE,
            MADV_NOHUGEPAGE,
            MADV_SEQUENTIAL,
        ):
            assert task.madvise(at(17), PAGE, advice) == 0
            assert task.madvise(BASE + PAGE, PAGE, advice) == 0
        task.mlock(at(18), PAGE)
        assert world.http("owner").get(f"/v1/vas/{vid}/regions") == before


@row("VAS-PRIVATE-1")
def test_a_private_region_is_not_seen_in_spaces(world: World) -> None:
    task = world.owner
    put(task, 64, 2)
    task.write(at(64), b"secret")
    task.madvise(at(64), PAGE, MADV_VAS_PRIVATE)
    assert task.read(at(64), 6) == b"secret"
    vid, _ = world.inside()
    failure = world.fails("EFAULT", task.read, at(64), 6)
    assert failure.problem["reason"] == "no region"
    world.fails("EFAULT", task.write, at(64), b"x")
    assert task.read(at(65), 1) == b"\0"
    assert regions(task) == ["0-4 rw-s", "65-66 rw-p"]
    task.vas_switch(0)
    assert task.read(at(64), 6) == b"secret"
    assert regions(task) == ["64-65 rw-p", "65-66 rw-p"]
    thread = task.thread()
    thread.vas_switch(vid)
    world.fails("EFAULT", thread.read, at(64), 6)


@row("VAS-PRIVATE-2")
def test_vas_shared_takes_it_back(world: World) -> None:
    task = world.owner
    put(task, 64)
    task.write(at(64), b"seen")
    task.madvise(at(64), PAGE, MADV_VAS_PRIVATE)
    vid, _ = world.inside()
    task.vas_switch(0)
    task.madvise(at(64), PAGE, MADV_VAS_SHARED)
    task.vas_switch(vid)
    assert task.read(at(64), 4) == b"seen"


@row("VAS-PRIVATE-3")
def test_a_hidden_region_keeps_its_place(world: World) -> None:
    """It is not seen, but still there: the ownership rule holds."""
    task = world.owner
    put(task, 64)
    task.madvise(at(64), PAGE, MADV_VAS_PRIVATE)
    vid, _ = world.inside()
    world.fails("EEXIST", task.mmap, at(64), PAGE, RW, 0x32)
    sid = world.segment(start=at(64), pages=1)
    world.fails("EFAULT", task.vas_seg_attach, vid, sid, O_RDWR)
    elsewhere = task.mmap(at(64), PAGE, RW, 0x22)
    assert elsewhere != at(64)


@row("VAS-PRIVATE-4")
def test_a_region_of_a_space_is_always_the_spaces(world: World) -> None:
    """The source's later tree lets regions made inside be kept from others; here they belong to the space."""
    world.inside()
    put(world.owner, 16)
    assert world.owner.madvise(at(16), PAGE, MADV_VAS_PRIVATE) == 0
    world.owner.write(at(16), b"shown")
    assert world.owner.read(at(16), 5) == b"shown"


@row("VAS-PRIVATE-5")
def test_calls_made_inside_leave_a_hidden_region_alone(world: World) -> None:
    task = world.owner
    put(task, 64, 2)
    task.write(at(64), b"kept")
    task.madvise(at(64), PAGE, MADV_VAS_PRIVATE)
    world.inside()
    put(task, 16)
    world.fails("ENOMEM", task.mprotect, at(64), PAGE, PROT_READ)
    world.fails("ENOMEM", task.madvise, at(64), PAGE, MADV_DONTNEED)
    world.fails("ENOMEM", task.mlock, at(64), PAGE)
    world.fails("ENOMEM", task.mincore, at(64), PAGE)
    world.fails("EFAULT", task.mremap, at(64), PAGE, 2 * PAGE, MREMAP_MAYMOVE)
    world.fails("EEXIST", task.mremap, at(16), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(64))
    assert task.munmap(at(64), 2 * PAGE) == 0
    task.vas_switch(0)
    assert regions(task) == ["64-65 rw-p"]
    assert task.read(at(64), 4) == b"kept"
