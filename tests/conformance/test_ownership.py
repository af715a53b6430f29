"""Every region has one owner, a task or a space; what the RFC had to synchronise is simply the same region."""

from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

ANON = MAP_PRIVATE | MAP_ANONYMOUS
FIXED = ANON | MAP_FIXED
RW = PROT_READ | PROT_WRITE


def own_regions(world: World, vid: int) -> list[tuple[int, int]]:
    """Regions of the space's own memory (not of a segment), as its owner sees them."""
    items = world.http("owner").get(f"/v1/vas/{vid}/regions")["items"]
    return [(int(r["start"], 16), int(r["end"], 16)) for r in items if r["sid"] is None]


@row("OWN-SPACE-1")
def test_a_region_made_inside_belongs_to_the_space(world: World) -> None:
    vid, _ = world.inside()
    at = world.owner.mmap(0, 2 * PAGE, RW, ANON)
    world.owner.write(at, b"the space's")
    assert own_regions(world, vid) == [(at, at + 2 * PAGE)]
    world.owner.vas_switch(0)
    world.fails("EFAULT", world.owner.read, at, 1)
    world.owner.vas_detach(0, vid)
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDONLY)
    second.vas_switch(vid)
    assert second.read(at, 11) == b"the space's"


@row("OWN-SPACE-2")
def test_a_region_made_inside_outlives_its_maker(world: World) -> None:
    vid = world.space()
    maker = world.task("owner")
    maker.vas_attach(0, vid, O_RDWR)
    maker.vas_switch(vid)
    at = maker.mmap(0, PAGE, RW, ANON)
    maker.write(at, b"left")
    maker.exit()
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    assert world.owner.read(at, 4) == b"left"


@row("OWN-SPACE-3")
def test_what_is_unmapped_inside_stays_unmapped(world: World) -> None:
    """In the RFC a region unmapped inside is back at the next attach."""
    vid = world.space()
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    at = world.owner.mmap(0, 3 * PAGE, RW, ANON)
    world.owner.munmap(at + PAGE, PAGE)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    world.owner.vas_attach(0, vid, O_RDONLY)
    world.owner.vas_switch(vid)
    assert own_regions(world, vid) == [(at, at + PAGE), (at + 2 * PAGE, at + 3 * PAGE)]
    world.fails("EFAULT", world.owner.read, at + PAGE, 1)


@row("OWN-SPACE-4")
def test_protection_changed_inside_is_the_spaces(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    at = world.owner.mmap(0, PAGE, RW, ANON)
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDWR)
    second.vas_switch(vid)
    second.write(at, b"x")
    world.owner.mprotect(at, PAGE, PROT_READ)
    world.fails("EFAULT", second.write, at, b"y")
    assert second.read(at, 1) == b"x"


@row("OWN-TASK-1")
def test_the_tasks_regions_are_the_same_inside(world: World) -> None:
    vid, _ = world.space_with_segment()
    own = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(own, b"before")
    world.owner.vas_attach(0, vid, O_RDWR)
    thread = world.owner.thread()
    thread.vas_switch(vid)
    assert thread.read(own, 6) == b"before"
    thread.write(own, b"inside")
    assert world.owner.read(own, 6) == b"inside"
    world.owner.write(own, b"beside")
    assert thread.read(own, 6) == b"beside"


@row("OWN-TASK-2")
def test_a_first_touch_is_seen_on_the_other_side(world: World) -> None:
    """In the RFC each side may get a zero page of its own."""
    vid, _ = world.space_with_segment()
    own = world.owner.mmap(0, 4 * PAGE, RW, ANON)
    world.owner.vas_attach(0, vid, O_RDWR)
    thread = world.owner.thread()
    thread.vas_switch(vid)
    assert thread.read(own, 1) == b"\0"
    thread.write(own, b"in")
    world.owner.write(own + PAGE, b"out")
    assert world.owner.read(own, 2) == b"in"
    assert thread.read(own + PAGE, 3) == b"out"


@row("OWN-TASK-3")
def test_an_unmap_on_either_side_is_one_on_both(world: World) -> None:
    vid, _ = world.space_with_segment()
    own = world.owner.mmap(0, 4 * PAGE, RW, ANON)
    world.owner.vas_attach(0, vid, O_RDWR)
    thread = world.owner.thread()
    thread.vas_switch(vid)
    assert thread.read(own, 4 * PAGE) == bytes(4 * PAGE)
    world.owner.munmap(own, PAGE)
    world.fails("EFAULT", thread.read, own, 1)
    thread.munmap(own + PAGE, PAGE)
    world.fails("EFAULT", world.owner.read, own + PAGE, 1)
    thread.vas_switch(0)
    assert thread.maps() == world.owner.maps()


@row("OWN-TASK-4")
def test_memory_stays_one_after_a_fork(world: World) -> None:
    """In the RFC a page that is write-protected by fork is copied on each side."""
    vid, _ = world.space_with_segment()
    own = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(own, b"start")
    world.owner.vas_attach(0, vid, O_RDWR)
    thread = world.owner.thread()
    thread.vas_switch(vid)
    child = world.adopt(world.owner.fork())
    thread.write(own, b"in")
    assert world.owner.read(own, 2) == b"in"
    world.owner.write(own, b"ou")
    assert thread.read(own, 2) == b"ou"
    assert child.read(own, 5) == b"start"


@row("OWN-TASK-5")
def test_maps_made_after_attach_outside_are_there_inside(world: World) -> None:
    vid, _ = world.space_with_segment()
    world.owner.vas_attach(0, vid, O_RDWR)
    thread = world.owner.thread()
    thread.vas_switch(vid)
    own = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(own, b"new")
    assert thread.read(own, 3) == b"new"


@row("OWN-UNION-1")
def test_a_thread_inside_sees_both_owners_in_one_map(world: World) -> None:
    _, _ = world.inside()
    thread = world.owner.thread()
    outside = thread.maps().splitlines()
    inside = world.owner.maps().splitlines()
    only = [line for line in inside if line not in outside]
    assert [line for line in outside if line not in inside] == []
    assert [line.split()[0] for line in only] == [f"{BASE:x}-{BASE + 4 * PAGE:x}"]
    starts = [int(line.split("-")[0], 16) for line in inside]
    assert starts == sorted(starts)


@row("OWN-UNION-2")
def test_an_access_may_cross_from_one_owner_to_the_other(world: World) -> None:
    world.owner.mmap(BASE + 4 * PAGE, PAGE, RW, FIXED)
    world.inside(pages=4)
    edge = BASE + 4 * PAGE
    world.owner.write(edge - 4, b"spantask")
    assert world.owner.read(edge - 4, 8) == b"spantask"
    world.owner.vas_switch(0)
    assert world.owner.read(edge, 4) == b"task"


@row("OWN-COLLISION-1")
def test_equal_bounds_are_a_collision_and_no_pages_leak(world: World) -> None:
    """In the RFC the task's pages are silently mapped over the space's region and become others' to read."""
    vid, _ = world.space_with_segment()
    world.owner.mmap(BASE, 4 * PAGE, RW, FIXED)
    world.owner.write(BASE, b"private")
    world.fails("EFAULT", world.owner.vas_attach, 0, vid, O_RDWR)
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDWR)
    second.vas_switch(vid)
    assert second.read(BASE, 7) == bytes(7)
