"""Mapping into a space that nobody is in, or that others are in: as_mmap and its relatives."""

from everspace import MAP_FIXED_NOREPLACE, O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, FIXED, RW, at, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_ID = 2_000_000_000


@row("INACTIVE-MMAP-1")
def test_a_space_is_filled_before_anybody_goes_in(world: World) -> None:
    vid = world.space()
    assert world.owner.vas_mmap(vid, BASE, 4 * PAGE, RW, FIXED) == BASE
    (item,) = world.http("owner").get(f"/v1/vas/{vid}/regions")["items"]
    assert (item["start"], item["end"], item["sid"]) == (hex(BASE), hex(BASE + 4 * PAGE), None)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    world.owner.write(BASE, b"filled")
    assert regions(world.owner) == ["0-4 rw-p"]


@row("INACTIVE-MMAP-2")
def test_an_address_is_found_when_none_is_given(world: World) -> None:
    vid, _ = world.space_with_segment()
    made = world.owner.vas_mmap(vid, 0, PAGE, RW, ANON)
    assert made % PAGE == 0
    assert not BASE <= made < BASE + 4 * PAGE
    assert world.owner.vas_mmap(vid, 0, PAGE, RW, ANON) != made


@row("INACTIVE-MMAP-3")
def test_a_region_is_there_at_once_for_those_inside(world: World) -> None:
    """Barrelfish's as well: what anybody maps is visible to all who have the space."""
    vid, _ = world.inside(sharing="shared")
    stranger = world.task("owner")
    stranger.vas_mmap(vid, at(16), PAGE, RW, FIXED)
    world.owner.write(at(16), b"live")
    stranger.vas_munmap(vid, at(16), PAGE)
    world.fails("EFAULT", world.owner.read, at(16), 1)


@row("INACTIVE-MUNMAP-1")
def test_a_part_is_unmapped(world: World) -> None:
    vid = world.space()
    world.owner.vas_mmap(vid, BASE, 4 * PAGE, RW, FIXED)
    assert world.owner.vas_munmap(vid, at(1), PAGE) == 0
    items = world.http("owner").get(f"/v1/vas/{vid}/regions")["items"]
    assert [(item["start"], item["end"]) for item in items] == [
        (hex(BASE), hex(at(1))),
        (hex(at(2)), hex(at(4))),
    ]


@row("INACTIVE-MPROTECT-1")
def test_protection_is_the_spaces(world: World) -> None:
    vid = world.space()
    world.owner.vas_mmap(vid, BASE, 2 * PAGE, RW, FIXED)
    assert world.owner.vas_mprotect(vid, BASE, PAGE, 1) == 0
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    assert regions(world.owner) == ["0-1 r--p", "1-2 rw-p"]
    world.fails("EFAULT", world.owner.write, BASE, b"x")


@row("INACTIVE-MPROTECT-ENOMEM-1")
def test_a_hole_has_no_protection(world: World) -> None:
    vid = world.space()
    world.owner.vas_mmap(vid, BASE, PAGE, RW, FIXED)
    assert world.refused(world.owner.vas_mprotect, vid, BASE, 2 * PAGE, 1).errno == "ENOMEM"


@row("INACTIVE-EACCES-1")
def test_mapping_needs_the_write_bit(world: World) -> None:
    vid = world.space(0o644)
    world.owner.vas_mmap(vid, BASE, PAGE, RW, FIXED)
    for task in (world.member, world.other):
        world.fails("EACCES", task.vas_mmap, vid, at(16), PAGE, RW, FIXED)
        world.fails("EACCES", task.vas_munmap, vid, BASE, PAGE)
        world.fails("EACCES", task.vas_mprotect, vid, BASE, PAGE, 1)
    world.root.vas_munmap(vid, BASE, PAGE)


@row("INACTIVE-EINVAL-1")
def test_the_calls_judge_their_arguments(world: World) -> None:
    vid = world.space()
    for bad in (0, -1, NO_ID):
        world.fails("EINVAL", world.owner.vas_mmap, bad, BASE, PAGE, RW, FIXED)
        world.fails("EINVAL", world.owner.vas_munmap, bad, BASE, PAGE)
        world.fails("EINVAL", world.owner.vas_mprotect, bad, BASE, PAGE, 1)
    for addr, length in ((BASE + 1, PAGE), (BASE, 0)):
        world.fails("EINVAL", world.owner.vas_mmap, vid, addr, length, RW, FIXED)
        world.fails("EINVAL", world.owner.vas_munmap, vid, addr, length)


@row("INACTIVE-EEXIST-1")
def test_a_collision_is_refused_and_named(world: World) -> None:
    """With the space's own regions only when asked; with tasks that have it attached always."""
    vid = world.space()
    world.owner.vas_mmap(vid, BASE, PAGE, RW, FIXED)
    world.fails("EEXIST", world.owner.vas_mmap, vid, BASE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.mmap(at(16), PAGE, RW, FIXED)
    failure = world.fails("EEXIST", world.owner.vas_mmap, vid, at(15), 2 * PAGE, RW, FIXED)
    assert failure.names(at(16))


@row("INACTIVE-SEGMENT-1")
def test_a_segment_is_not_mapped_over(world: World) -> None:
    vid, _ = world.space_with_segment()
    for call in (world.owner.vas_mmap, world.root.vas_mmap):
        world.fails("EEXIST", call, vid, BASE, PAGE, RW, FIXED)
    world.fails("EBUSY", world.owner.vas_munmap, vid, BASE, PAGE)


@row("INACTIVE-SHARING-1")
def test_a_reader_elsewhere_does_not_hinder_the_owner(world: World) -> None:
    """The mode's bits decide, not attachments: as for the bytes of a segment by offset."""
    vid = world.space()
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    world.owner.vas_mmap(vid, BASE, PAGE, RW, FIXED)
    assert reader.read(BASE, 1) == b"\0"
    world.fails("EFAULT", reader.write, BASE, b"x")
