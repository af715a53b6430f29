"""vas_detach, vas_switch, active_vas."""

import everspace
from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_PID = 2_000_000_000
NO_VID = (0, 2_000_000_000, 2**31)


@row("VAS-DETACH-OK-1")
def test_a_detached_space_is_gone_from_the_task(world: World) -> None:
    vid, _ = world.inside()
    world.owner.vas_switch(0)
    assert world.owner.vas_detach(0, vid) == 0
    assert world.owner.vas_getattr(vid).attach_count == 0
    world.fails("EINVAL", world.owner.vas_switch, vid)
    world.owner.vas_attach(0, vid, O_RDONLY)


@row("VAS-DETACH-OK-2")
def test_the_same_uid_and_root_may_detach_for_a_task(world: World) -> None:
    vid = world.space(sharing="shared")
    for detacher in (world.task("owner"), world.root):
        world.owner.vas_attach(0, vid, O_RDWR)
        detacher.vas_detach(world.owner.pid, vid)
        world.fails("EINVAL", world.owner.vas_switch, vid)


@row("VAS-DETACH-OK-3")
def test_detach_needs_no_permission_on_the_space(world: World) -> None:
    vid = world.space(0o666)
    world.other.vas_attach(0, vid, O_RDWR)
    world.owner.vas_setattr(vid, mode=0)
    world.other.vas_detach(0, vid)
    assert world.owner.vas_getattr(vid).attach_count == 0


@row("VAS-DETACH-EINVAL-1")
def test_detaching_what_is_not_attached(world: World) -> None:
    vid = world.space()
    for wrong in (*NO_VID, vid, -1):
        world.fails("EINVAL", world.owner.vas_detach, 0, wrong)
    world.fails("EINVAL", world.owner.vas_detach, -1, vid)
    world.fails("EINVAL", world.owner.vas_detach, NO_PID, -1)


@row("VAS-DETACH-ESRCH-1")
def test_detaching_from_no_task(world: World) -> None:
    world.fails("ESRCH", world.owner.vas_detach, NO_PID, world.space())
    world.fails("ESRCH", world.owner.vas_detach, NO_PID, NO_VID[1])


@row("VAS-DETACH-EPERM-1")
def test_nobody_detaches_from_a_task_of_another_uid(world: World) -> None:
    vid, unattached = world.space(0o666), world.space(0o666)
    world.owner.vas_attach(0, vid, O_RDWR)
    for task in (world.other, world.member):
        for wanted in (vid, unattached, NO_VID[1]):
            world.fails("EPERM", task.vas_detach, world.owner.pid, wanted)


@row("VAS-DETACH-EBUSY-1")
def test_nothing_is_detached_under_its_main_thread(world: World) -> None:
    vid, _ = world.inside()
    for task in (world.owner, world.root):
        world.fails("EBUSY", task.vas_detach, world.owner.pid, vid)
    world.owner.write(BASE, b"alive")
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)


@row("VAS-DETACH-EBUSY-2")
def test_nothing_is_detached_under_any_thread(world: World) -> None:
    vid, _ = world.space_with_segment()
    world.owner.vas_attach(0, vid, O_RDWR)
    first, second = world.owner.thread(), world.owner.thread()
    first.vas_switch(vid)
    second.vas_switch(vid)
    world.fails("EBUSY", world.owner.vas_detach, 0, vid)
    first.vas_switch(0)
    world.fails("EBUSY", world.owner.vas_detach, 0, vid)
    second.exit()
    world.owner.vas_detach(0, vid)


@row("VAS-DETACH-NEW-1")
def test_what_is_made_inside_is_seen_by_others_before_detach(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    private = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
    made = world.owner.mmap(0, PAGE, everspace.PROT_READ | everspace.PROT_WRITE, private)
    world.owner.write(made, b"fresh")
    assert reader.read(made, 5) == b"fresh"


@row("VAS-SWITCH-OK-1")
def test_a_thread_goes_in_and_out(world: World) -> None:
    vid, _ = world.space_with_segment()
    world.owner.vas_attach(0, vid, O_RDWR)
    world.fails("EFAULT", world.owner.read, BASE, 1)
    assert world.owner.vas_switch(vid) == 0
    assert world.owner.active_vas() == vid
    assert world.owner.read(BASE, 1) == b"\0"
    assert world.owner.vas_switch(0) == 0
    assert world.owner.active_vas() == 0
    world.fails("EFAULT", world.owner.read, BASE, 1)


@row("VAS-SWITCH-OK-2")
def test_switching_to_where_one_is_changes_nothing(world: World) -> None:
    vid, _ = world.inside()
    before = world.state()
    assert world.owner.vas_switch(vid) == 0
    assert world.state() == before
    world.owner.vas_switch(0)
    assert world.owner.vas_switch(0) == 0


@row("VAS-SWITCH-OK-3")
def test_from_one_space_into_another(world: World) -> None:
    first, _ = world.space_with_segment()
    second, _ = world.space_with_segment(start=BASE + 64 * PAGE)
    for vid in (first, second):
        world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(first)
    world.owner.write(BASE, b"1")
    world.owner.vas_switch(second)
    assert world.owner.active_vas() == second
    world.fails("EFAULT", world.owner.read, BASE, 1)
    world.owner.write(BASE + 64 * PAGE, b"2")
    world.owner.vas_switch(first)
    assert world.owner.read(BASE, 1) == b"1"


@row("VAS-SWITCH-OK-4")
def test_switching_needs_no_permission_but_the_attachment(world: World) -> None:
    vid = world.space(0)
    world.root.vas_attach(world.other.pid, vid, O_RDONLY)
    world.other.vas_switch(vid)
    assert world.other.active_vas() == vid


@row("VAS-SWITCH-THREADS-1")
def test_threads_are_in_different_spaces_at_once(world: World) -> None:
    """A thread in a space, another in a second one, a third in the original address space."""
    first, _ = world.space_with_segment()
    second, _ = world.space_with_segment()
    for vid in (first, second):
        world.owner.vas_attach(0, vid, O_RDWR)
    one, two = world.owner.thread(), world.owner.thread()
    one.vas_switch(first)
    two.vas_switch(second)
    assert [thread.active_vas() for thread in (world.owner, one, two)] == [0, first, second]
    one.write(BASE, b"one")
    two.write(BASE, b"two")
    assert (one.read(BASE, 3), two.read(BASE, 3)) == (b"one", b"two")
    world.fails("EFAULT", world.owner.read, BASE, 3)
    threads = world.http("other").get(f"/v1/tasks/{world.owner.pid}")["threads"]
    assert {thread["tid"]: thread["active"] for thread in threads} == {
        world.owner.tid: 0,
        one.tid: first,
        two.tid: second,
    }


@row("VAS-SWITCH-EINVAL-1")
def test_a_thread_goes_only_where_its_task_is_attached(world: World) -> None:
    vid, _ = world.inside()
    other = world.space(0o666)
    world.task("owner").vas_attach(0, other, O_RDWR)
    for wrong in (*NO_VID[1:], other, -1):
        world.fails("EINVAL", world.owner.vas_switch, wrong)
        assert world.owner.active_vas() == vid


@row("VAS-SWITCH-NEVER-EFAULT-1")
def test_no_change_on_either_side_ever_hinders_a_switch(world: World) -> None:
    """Heap growth in and outside, splits, unmaps and stores by two threads: the RFC's EFAULT has no ground."""
    vid, _ = world.space_with_segment()
    world.owner.vas_attach(0, vid, O_RDWR)
    thread = world.owner.thread()
    rw = everspace.PROT_READ | everspace.PROT_WRITE
    own = world.owner.mmap(0, 8 * PAGE, rw, everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS)
    for turn in range(4):
        thread.vas_switch(vid)
        heap = thread.brk()
        thread.brk(heap + PAGE)
        world.owner.brk(heap + 3 * PAGE)
        thread.write(heap + PAGE, b"%d" % turn)
        world.owner.write(heap + 2 * PAGE, b"%d" % turn)
        thread.mprotect(own + turn * PAGE, PAGE, everspace.PROT_READ)
        world.owner.munmap(own + (7 - turn) * PAGE, PAGE)
        thread.vas_switch(0)
        assert thread.read(heap + PAGE, 1) == world.owner.read(heap + 2 * PAGE, 1) == b"%d" % turn
        assert thread.maps() == world.owner.maps()


@row("ACTIVE-OK-1")
def test_a_new_task_is_in_its_original_space(world: World) -> None:
    vid = world.space()
    assert world.owner.active_vas() == 0
    world.owner.vas_attach(0, vid, O_RDONLY)
    assert world.owner.active_vas() == 0
    world.owner.vas_switch(vid)
    assert world.owner.active_vas() == vid


@row("ACTIVE-HTTP-1", "http")
def test_active_says_where_each_thread_is(world: World) -> None:
    vid, _ = world.inside()
    path = f"/v1/tasks/{world.owner.pid}/threads/{world.owner.tid}/active"
    http = world.http("owner")
    assert http.get(path)["vid"] == vid
    missing = f"/v1/tasks/{world.owner.pid}/threads/{NO_PID}/active"
    world.fails("ESRCH", http.get, missing)
    world.fails("ESRCH", http.call, "PUT", missing, {"vid": 0})
    world.fails("ESRCH", http.get, f"/v1/tasks/{NO_PID}/threads/{NO_PID}/active")
    for bad in ({}, {"vid": "x"}, {"vid": None}, {"vid": vid, "timeout_s": -1}, {"vid": vid, "what": 1}):
        world.fails("EINVAL", http.call, "PUT", path, bad)
