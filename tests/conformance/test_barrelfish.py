"""The story of Barrelfish's vas_test, in which programs meet in each other's spaces; and where its library differs."""

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE, TaskCalls
from tests.conformance.support.memory import FIXED, RW
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

PROGRAMS = 3
PLACE = 0x2000_0000_0000
LARGE = PLACE + (1 << 30)
MIB = 1 << 20
SEGMENTS = 0x3000_0000_0000


def met(world: World) -> tuple[list[TaskCalls], list[int]]:
    """Programs that have each made a space, and attached everybody's."""
    tasks = [world.task("owner") for _ in range(PROGRAMS)]
    prefix = world.name()
    for number, task in enumerate(tasks):
        task.vas_create(f"/vas/test/{prefix}/{number}", 0o600, "shared")
    vids = [tasks[0].vas_find(f"/vas/test/{prefix}/{number}") for number in range(PROGRAMS)]
    for task in tasks:
        for vid in vids:
            task.vas_attach(0, vid, O_RDWR)
    return tasks, vids


@row("BF-STORY-1")
def test_everybody_reads_each_owners_value_at_one_address(world: World) -> None:
    """Every program maps a small and a large frame in its own space; at one address each space has its owner's value."""
    tasks, vids = met(world)
    for number, (task, vid) in enumerate(zip(tasks, vids, strict=True)):
        task.vas_mmap(vid, PLACE, PAGE, RW, FIXED)
        task.vas_mmap(vid, LARGE, 2 * MIB, RW, FIXED)
        task.vas_switch(vid)
        task.write(PLACE, b"owner %d" % number)
        task.write(LARGE + 2 * MIB - 7, b"owner %d" % number)
        task.vas_switch(0)
    for task in tasks:
        for number, vid in enumerate(vids):
            task.vas_switch(vid)
            assert task.read(PLACE, 7) == task.read(LARGE + 2 * MIB - 7, 7) == b"owner %d" % number
        task.vas_switch(0)
        world.fails("EFAULT", task.read, PLACE, 1)


@row("BF-STORY-2")
def test_one_address_is_not_mapped_on_both_sides(world: World) -> None:
    """Barrelfish's test maps a frame of its own at the space's address; here each region has one owner."""
    tasks, vids = met(world)
    task = tasks[0]
    task.vas_mmap(vids[0], PLACE, PAGE, RW, FIXED)
    assert world.fails("EEXIST", task.mmap, PLACE, PAGE, RW, FIXED).names(PLACE)
    own = task.mmap(PLACE + PAGE, PAGE, RW, FIXED)
    task.write(own, b"original")
    task.vas_switch(vids[0])
    task.write(PLACE, b"space")
    assert task.read(own, 8) == b"original"
    task.vas_switch(0)
    assert task.read(own, 8) == b"original"


@row("BF-STORY-3")
def test_segments_with_the_read_flag_are_read_and_a_write_faults(world: World) -> None:
    """Barrelfish's test ends with a store that is evidently meant to fault."""
    task = world.owner
    vid = world.space()
    for number in range(4):
        start = SEGMENTS + 4 * MIB * number
        sid = task.vas_seg_create(world.name(), start, start + 2 * MIB, 0o600)
        task.vas_seg_attach(vid, sid, O_RDONLY)
    task.vas_attach(0, vid, O_RDWR)
    task.vas_switch(vid)
    for number in range(4):
        assert task.read(SEGMENTS + 4 * MIB * number, 8) == bytes(8)
    world.fails("EFAULT", task.write, SEGMENTS, b"x")
    task.vas_switch(0)
    world.fails("EFAULT", task.write, SEGMENTS, b"x")
    world.fails("EFAULT", task.read, SEGMENTS, 1)


@row("BF-LIVE-1")
def test_a_segment_comes_to_all_who_are_inside_at_once(world: World) -> None:
    tasks, vids = met(world)
    for task in tasks:
        task.vas_switch(vids[0])
    sid = world.segment(sharing="shared", start=SEGMENTS)
    world.owner.vas_seg_attach(vids[0], sid, O_RDWR)
    tasks[1].write(SEGMENTS, b"live")
    assert [task.read(SEGMENTS, 4) for task in tasks] == [b"live"] * PROGRAMS


@row("BF-NAME-1")
def test_long_names_are_not_cut_off(world: World) -> None:
    prefix = f"{world.name()}/{'x' * 60}"
    first, second = (world.owner.vas_create(f"{prefix}/{number}", 0o600) for number in range(2))
    assert [world.owner.vas_find(f"{prefix}/{number}") for number in range(2)] == [first, second]


@row("BF-STATE-1")
def test_attaching_what_is_active_and_going_where_one_is_are_no_errors(world: World) -> None:
    vid, _ = world.inside()
    assert world.owner.vas_attach(0, vid, O_RDWR) == 0
    assert world.owner.vas_switch(vid) == 0
    world.fails("EBUSY", world.owner.vas_detach, 0, vid)


@row("BF-SWITCHM-1", "http")
def test_the_space_before_is_known_in_the_same_request(world: World) -> None:
    """vas_switchm returns the former handle: here a batch asks and goes."""
    vid, _ = world.inside()
    calls = [{"call": "active_vas"}, {"call": "vas_switch", "args": {"vid": 0}}, {"call": "active_vas"}]
    path = f"/v1/tasks/{world.owner.pid}/batch?atomic=true"
    results = world.http("owner").call("POST", path, {"calls": calls}).json["results"]
    assert [result["value"] for result in results] == [vid, 0, 0]
