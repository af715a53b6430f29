"""vas_attach: who may, what is checked in which order, and what a collision says."""

import itertools

from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

TYPES = (O_RDONLY, O_WRONLY, O_RDWR)
NEEDS = {O_RDONLY: 4, O_WRONLY: 2, O_RDWR: 6}
NO_PID = 2_000_000_000
UNKNOWN = (0, 2_000_000_000, 2**31, 2**70)
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


@row("VAS-ATTACH-OK-1")
def test_a_task_attaches_with_each_type(world: World) -> None:
    for type in TYPES:
        vid = world.space()
        assert world.owner.vas_attach(0, vid, type) == 0
        assert world.owner.vas_getattr(vid).attach_count == 1
        assert world.owner.active_vas() == 0
        status = world.http("owner").get(f"/v1/tasks/{world.owner.pid}/vas/{vid}")
        assert status["vid"] == vid
        assert status["type"] == ("ro", "wo", "rw")[type]
        assert status["lazy"] is True


@row("VAS-ATTACH-OK-2")
def test_another_task_of_the_same_uid_may_attach_for_it(world: World) -> None:
    vid = world.space()
    target = world.task("owner")
    world.owner.vas_attach(target.pid, vid, O_RDWR)
    target.vas_switch(vid)
    assert target.active_vas() == vid
    world.fails("EINVAL", world.owner.vas_switch, vid)


@row("VAS-ATTACH-OK-3")
def test_root_may_attach_for_any_task(world: World) -> None:
    vid = world.space(0)
    world.root.vas_attach(world.other.pid, vid, O_RDWR)
    world.other.vas_switch(vid)
    assert world.other.active_vas() == vid


@row("VAS-ATTACH-EPERM-1")
def test_nobody_attaches_for_a_task_of_another_uid(world: World) -> None:
    vid = world.space(0o666)
    for task in (world.other, world.member):
        world.fails("EPERM", task.vas_attach, world.owner.pid, vid, O_RDONLY)
    world.fails("EPERM", world.owner.vas_attach, world.root.pid, vid, O_RDONLY)


@row("VAS-ATTACH-EINVAL-1")
def test_negative_ids_are_einval(world: World) -> None:
    vid = world.space()
    world.fails("EINVAL", world.owner.vas_attach, -1, vid, O_RDWR)
    world.fails("EINVAL", world.owner.vas_attach, 0, -1, O_RDWR)
    world.fails("EINVAL", world.owner.vas_attach, -1, -1, 3)


@row("VAS-ATTACH-EINVAL-2")
def test_unknown_spaces_are_einval(world: World) -> None:
    for vid in UNKNOWN:
        world.fails("EINVAL", world.owner.vas_attach, 0, vid, O_RDWR)


@row("VAS-ATTACH-EINVAL-3")
def test_a_type_is_ro_wo_or_rw(world: World) -> None:
    vid = world.space()
    for type in (3, 4, 0o700, -1, 2**40):
        world.fails("EINVAL", world.owner.vas_attach, 0, vid, type)
    if world.way == "http":
        path = f"/v1/tasks/{world.owner.pid}/vas/{vid}"
        wrong: tuple[object, ...] = ("", "RW", "wr", "r", None, [], {}, True, 2.0)
        for bad in wrong:
            world.fails("EINVAL", world.http("owner").call, "PUT", path, {"type": bad})
        world.fails("EINVAL", world.http("owner").call, "PUT", path, {})


@row("VAS-ATTACH-ESRCH-1")
def test_an_unknown_task_is_esrch(world: World) -> None:
    vid = world.space()
    gone = world.task("owner")
    gone.exit()
    for pid in (NO_PID, 2**31, gone.pid):
        world.fails("ESRCH", world.owner.vas_attach, pid, vid, O_RDWR)


@row("VAS-ATTACH-EACCES-1")
def test_the_mode_decides_for_owner_group_and_others(world: World) -> None:
    """Owner's bits for the owner, else the group's for its members, else the others': all modes, all types."""
    tasks = {6: world.owner, 3: world.member, 0: world.other}
    vid = world.space(0o666)
    for (shift, task), bits, type in itertools.product(tasks.items(), (0, 2, 4, 6), TYPES):
        mode = (0o666 & ~(7 << shift)) | bits << shift
        world.owner.vas_setattr(vid, mode=mode)
        if NEEDS[type] & ~bits:
            assert world.refused(task.vas_attach, 0, vid, type).errno == "EACCES"
        else:
            task.vas_attach(0, vid, type)
            task.vas_detach(0, vid)
    assert world.owner.vas_getattr(vid).attach_count == 0


@row("VAS-ATTACH-EACCES-2")
def test_a_refusal_by_the_mode_changes_nothing(world: World) -> None:
    world.fails("EACCES", world.other.vas_attach, 0, world.space(0o660), O_RDONLY)
    world.fails("EACCES", world.member.vas_attach, 0, world.space(0o606), O_RDONLY)
    world.fails("EACCES", world.owner.vas_attach, 0, world.space(0o066), O_RDONLY)
    world.fails("EACCES", world.owner.vas_attach, 0, world.space(0o466), O_RDWR)


@row("VAS-ATTACH-ROOT-1")
def test_root_needs_no_bits(world: World) -> None:
    for type in TYPES:
        world.root.vas_attach(0, world.space(0), type)


@row("VAS-ATTACH-AGAIN-1")
def test_the_same_type_again_is_0(world: World) -> None:
    for type in TYPES:
        vid = world.space()
        world.owner.vas_attach(0, vid, type)
        before = world.state()
        assert world.owner.vas_attach(0, vid, type) == 0
        assert world.state() == before
        world.owner.vas_detach(0, vid)
        world.fails("EINVAL", world.owner.vas_detach, 0, vid)


@row("VAS-ATTACH-EEXIST-1")
def test_another_type_again_is_eexist(world: World) -> None:
    for held, asked in itertools.permutations(TYPES, 2):
        vid = world.space(sharing="shared")
        world.owner.vas_attach(0, vid, held)
        world.fails("EEXIST", world.owner.vas_attach, 0, vid, asked)


@row("VAS-ATTACH-EFAULT-1")
def test_a_collision_with_the_task_is_refused_and_named(world: World) -> None:
    vid, sid = world.space_with_segment(pages=4)
    world.owner.mmap(BASE + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED)
    world.owner.write(BASE + 2 * PAGE, b"mine")
    failure = world.fails("EFAULT", world.owner.vas_attach, 0, vid, O_RDWR)
    assert failure.names(BASE, BASE + 4 * PAGE, BASE + 2 * PAGE, BASE + 3 * PAGE)
    assert "address" in failure.problem
    assert failure.problem["holder"]
    assert world.owner.read(BASE + 2 * PAGE, 4) == b"mine"
    world.owner.munmap(BASE + 2 * PAGE, PAGE)
    world.owner.vas_attach(0, vid, O_RDWR)
    assert world.owner.vas_seg_getattr(sid).attach_count == 1


@row("VAS-ATTACH-EFAULT-2")
def test_a_collision_with_a_region_made_inside_is_refused(world: World) -> None:
    vid = world.space()
    maker = world.task("owner")
    maker.vas_attach(0, vid, O_RDWR)
    maker.vas_switch(vid)
    maker.mmap(BASE, PAGE, RW, ANON | MAP_FIXED)
    maker.vas_switch(0)
    maker.vas_detach(0, vid)
    world.owner.mmap(BASE, PAGE, RW, ANON | MAP_FIXED)
    world.fails("EFAULT", world.owner.vas_attach, 0, vid, O_RDONLY)


@row("VAS-ATTACH-OK-4")
def test_spaces_may_overlap_each_other(world: World) -> None:
    first, _ = world.space_with_segment()
    second, _ = world.space_with_segment()
    world.owner.vas_attach(0, first, O_RDWR)
    world.owner.vas_attach(0, second, O_RDWR)
    world.owner.vas_switch(first)
    world.owner.write(BASE, b"first")
    world.owner.vas_switch(second)
    assert world.owner.read(BASE, 5) == bytes(5)
    world.owner.write(BASE, b"other")
    world.owner.vas_switch(first)
    assert world.owner.read(BASE, 5) == b"first"


@row("VAS-ATTACH-LAYOUT-1")
def test_a_new_task_leaves_the_middle_of_the_range_free(world: World) -> None:
    """0x1000_0000_0000 to 0x6fff_ffff_ffff collides with no task: one segment over all of it is attached."""
    vid = world.space()
    sid = world.owner.vas_seg_create(world.name(), 0x1000_0000_0000, 0x7000_0000_0000, 0o600)
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    world.owner.brk(world.owner.brk() + 16 * PAGE)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    world.owner.write(0x6FFF_FFFF_F000, b"top")
    assert world.owner.read(0x6FFF_FFFF_F000, 3) == b"top"


@row("VAS-ATTACH-ORDER-1")
def test_negative_ids_are_seen_before_the_unknown_task(world: World) -> None:
    world.fails("EINVAL", world.owner.vas_attach, NO_PID, -1, O_RDWR)


@row("VAS-ATTACH-ORDER-2")
def test_the_unknown_task_is_seen_before_the_type(world: World) -> None:
    world.fails("ESRCH", world.owner.vas_attach, NO_PID, world.space(), 3)
    world.fails("ESRCH", world.owner.vas_attach, NO_PID, 2_000_000_000, 3)


@row("VAS-ATTACH-ORDER-3")
def test_the_type_is_seen_before_the_right_on_the_task(world: World) -> None:
    world.fails("EINVAL", world.other.vas_attach, world.owner.pid, world.space(0o666), 3)


@row("VAS-ATTACH-ORDER-4")
def test_the_right_on_the_task_is_seen_before_the_unknown_space(world: World) -> None:
    world.fails("EPERM", world.other.vas_attach, world.owner.pid, 2_000_000_000, O_RDWR)
    world.fails("EPERM", world.other.vas_attach, world.owner.pid, world.space(0), O_RDWR)


@row("VAS-ATTACH-ORDER-5")
def test_the_mode_is_seen_before_the_attachment_that_exists(world: World) -> None:
    vid = world.space(0o666)
    world.other.vas_attach(0, vid, O_RDONLY)
    world.owner.vas_setattr(vid, mode=0o600)
    for type in (O_RDONLY, O_RDWR):
        world.fails("EACCES", world.other.vas_attach, 0, vid, type)


@row("VAS-ATTACH-ORDER-6")
def test_the_mode_is_seen_before_the_sharing_rule(world: World) -> None:
    vid = world.space(0o640)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.fails("EACCES", world.other.vas_attach, 0, vid, O_RDWR)
    world.fails("EBUSY", world.member.vas_attach, 0, vid, O_RDONLY)


@row("VAS-ATTACH-ORDER-7")
def test_the_attachment_that_exists_is_seen_before_the_sharing_rule(world: World) -> None:
    vid = world.space()
    second = world.task("owner")
    world.owner.vas_attach(0, vid, O_RDONLY)
    second.vas_attach(0, vid, O_RDONLY)
    world.fails("EEXIST", world.owner.vas_attach, 0, vid, O_RDWR)
    assert world.owner.vas_attach(0, vid, O_RDONLY) == 0


@row("VAS-ATTACH-ORDER-8")
def test_the_sharing_rule_is_seen_before_the_collision(world: World) -> None:
    vid, _ = world.space_with_segment()
    holder = world.task("owner")
    holder.vas_attach(0, vid, O_RDWR)
    world.owner.mmap(BASE, PAGE, RW, ANON | MAP_FIXED)
    world.fails("EBUSY", world.owner.vas_attach, 0, vid, O_RDONLY)
    holder.vas_detach(0, vid)
    world.fails("EFAULT", world.owner.vas_attach, 0, vid, O_RDONLY)
