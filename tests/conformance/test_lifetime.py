"""Lifetime of spaces and segments: persistent, or gone with whoever used it last."""

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

SIZE = 4 * 4096


@row("LIFE-PERSISTENT-1")
def test_everything_is_persistent_unless_asked(world: World) -> None:
    vid, sid = world.space_with_segment()
    assert world.owner.vas_getattr(vid).lifetime == "persistent"
    assert world.owner.vas_seg_getattr(sid).lifetime == "persistent"
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_detach(0, vid)
    world.owner.vas_seg_detach(vid, sid)
    assert world.owner.vas_getattr(vid).attach_count == 0
    assert world.owner.vas_seg_getattr(sid).attach_count == 0


@row("LIFE-TRANSIENT-1")
def test_a_transient_space_goes_with_its_last_detach(world: World) -> None:
    name = world.name()
    vid = world.owner.vas_create(name, 0o600, "shared", "transient")
    assert world.owner.vas_getattr(vid).lifetime == "transient"
    second = world.task("owner")
    for task in (world.owner, second):
        task.vas_attach(0, vid, O_RDWR)
    world.owner.vas_detach(0, vid)
    assert world.owner.vas_find(name) == vid
    second.vas_detach(0, vid)
    world.fails("ESRCH", world.owner.vas_find, name)
    world.fails("EINVAL", world.owner.vas_getattr, vid)


@row("LIFE-TRANSIENT-2")
def test_exit_of_the_last_task_ends_it_too(world: World) -> None:
    vid = world.owner.vas_create(world.name(), 0o600, "exclusive", "transient")
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDWR)
    second.vas_switch(vid)
    second.exit()
    world.fails("EINVAL", world.owner.vas_getattr, vid)


@row("LIFE-TRANSIENT-3")
def test_what_was_never_attached_stays(world: World) -> None:
    vid = world.owner.vas_create(world.name(), 0o600, "exclusive", "transient")
    sid = world.owner.vas_seg_create(world.name(), BASE, BASE + SIZE, 0o600, "exclusive", "transient")
    assert world.owner.vas_getattr(vid).lifetime == "transient"
    assert world.owner.vas_seg_getattr(sid).lifetime == "transient"
    world.owner.vas_delete(vid)
    world.owner.vas_seg_delete(sid)


@row("LIFE-TRANSIENT-SEG-1")
def test_a_transient_segment_goes_with_its_last_space(world: World) -> None:
    vid = world.space()
    sid = world.owner.vas_seg_create(world.name(), BASE, BASE + SIZE, 0o600, "exclusive", "transient")
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    world.owner.vas_seg_detach(vid, sid)
    world.fails("EINVAL", world.owner.vas_seg_getattr, sid)


@row("LIFE-TRANSIENT-SEG-2")
def test_a_transient_segment_goes_with_the_space_that_goes(world: World) -> None:
    vid = world.owner.vas_create(world.name(), 0o600, "exclusive", "transient")
    sid = world.owner.vas_seg_create(world.name(), BASE, BASE + SIZE, 0o600, "exclusive", "transient")
    kept = world.segment(start=BASE + SIZE)
    for each in (sid, kept):
        world.owner.vas_seg_attach(vid, each, O_RDWR)
    world.owner.vas_attach(0, vid, O_RDONLY)
    world.owner.vas_detach(0, vid)
    world.fails("EINVAL", world.owner.vas_getattr, vid)
    world.fails("EINVAL", world.owner.vas_seg_getattr, sid)
    assert world.owner.vas_seg_getattr(kept).attach_count == 0


@row("LIFE-SET-1")
def test_lifetime_can_be_changed(world: World) -> None:
    vid = world.owner.vas_create(world.name(), 0o600, "exclusive", "transient")
    world.owner.vas_setattr(vid, lifetime="persistent")
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_detach(0, vid)
    assert world.owner.vas_getattr(vid).lifetime == "persistent"
    world.owner.vas_setattr(vid, lifetime="transient")
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_detach(0, vid)
    world.fails("EINVAL", world.owner.vas_getattr, vid)


@row("LIFE-EPERM-1")
def test_only_owner_and_root_change_it(world: World) -> None:
    vid, sid = world.space(0o666), world.segment(0o666)
    world.fails("EPERM", world.other.vas_setattr, vid, lifetime="transient")
    world.fails("EPERM", world.other.vas_seg_setattr, sid, lifetime="transient")


@row("LIFE-EINVAL-1")
def test_there_are_two_lifetimes(world: World) -> None:
    vid, sid = world.space_with_segment()
    for word in ("", "forever", "Transient"):
        world.fails("EINVAL", world.owner.vas_create, world.name(), 0o600, "shared", word)
        world.fails(
            "EINVAL", world.owner.vas_seg_create, world.name(), BASE, BASE + SIZE, 0o600, "shared", word
        )
        world.fails("EINVAL", world.owner.vas_setattr, vid, lifetime=word)
        world.fails("EINVAL", world.owner.vas_seg_setattr, sid, lifetime=word)
