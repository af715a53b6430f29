"""vas_getattr and vas_setattr, vas_seg_getattr and vas_seg_setattr: they judge alike."""

from typing import Any

import everspace
from tests.conformance.support.calls import PAGE, Calls, SpaceAttr
from tests.conformance.support.rows import row
from tests.conformance.support.world import ACCOUNTS, BASE, World

NO_ID = (0, -1, 2_000_000_000, 2**31, 2**70)
OTHER_UID, OTHER_GIDS = ACCOUNTS["other"]


class Kind:
    """A space or a segment: how to make one, and the calls on its attributes."""

    def __init__(self, world: World, segment: bool) -> None:
        self.world = world
        self.segment = segment

    def make(self, mode: int = 0o600, sharing: str = "exclusive") -> int:
        return self.world.segment(mode, sharing) if self.segment else self.world.space(mode, sharing)

    def get(self, task: Calls, id: int) -> SpaceAttr:
        return task.vas_seg_getattr(id) if self.segment else task.vas_getattr(id)

    def set(self, task: Calls, id: int, **values: Any) -> int:
        return task.vas_seg_setattr(id, **values) if self.segment else task.vas_setattr(id, **values)

    def triple(self, id: int) -> tuple[int, int, int]:
        attr = self.get(self.world.owner, id)
        return attr.mode, attr.uid, attr.gid

    def attach(self, id: int) -> None:
        if self.segment:
            self.world.owner.vas_seg_attach(self.world.space(), id, everspace.O_RDONLY)
        else:
            self.world.owner.vas_attach(0, id, everspace.O_RDONLY)


def both(world: World) -> list[Kind]:
    return [Kind(world, segment=False), Kind(world, segment=True)]


@row("VAS-GETATTR-OK-1")
def test_getattr_of_a_space_needs_no_permission(world: World) -> None:
    vid = world.space(0)
    uid, gids = ACCOUNTS["owner"]
    for task in (world.owner, world.other):
        attr = task.vas_getattr(vid)
        assert (attr.mode, attr.uid, attr.gid) == (0, uid, gids[0])


@row("SEG-GETATTR-OK-1")
def test_getattr_of_a_segment_needs_no_permission(world: World) -> None:
    sid = world.segment(0, pages=3)
    for task in (world.owner, world.other):
        attr = task.vas_seg_getattr(sid)
        assert (attr.mode, attr.uid, attr.gid) == (0, ACCOUNTS["owner"][0], ACCOUNTS["owner"][1][0])
        assert (attr.start, attr.end, attr.size) == (BASE, BASE + 3 * PAGE, 3 * PAGE)


@row("VAS-GETATTR-COUNT-1")
def test_attach_count_is_the_number_of_tasks(world: World) -> None:
    vid = world.space()
    first, second = world.task("owner"), world.task("owner")
    first.vas_attach(0, vid, everspace.O_RDONLY)
    second.vas_attach(0, vid, everspace.O_RDONLY)
    first.thread()
    assert world.owner.vas_getattr(vid).attach_count == 2
    first.vas_detach(0, vid)
    assert world.owner.vas_getattr(vid).attach_count == 1


@row("VAS-GETATTR-EINVAL-1")
def test_getattr_of_an_unknown_space(world: World) -> None:
    for vid in NO_ID:
        world.fails("EINVAL", world.owner.vas_getattr, vid)


@row("SEG-GETATTR-EINVAL-1")
def test_getattr_of_an_unknown_segment(world: World) -> None:
    for sid in NO_ID:
        world.fails("EINVAL", world.owner.vas_seg_getattr, sid)


def chmod_changes_only_the_mode(kind: Kind) -> None:
    id = kind.make(0o600)
    _, uid, gid = kind.triple(id)
    for mode in (0o640, 0o777, 0):
        assert kind.set(kind.world.owner, id, mode=mode) == 0
        assert kind.triple(id) == (mode & 0o666, uid, gid)
    assert kind.get(kind.world.owner, id).sharing == "exclusive"


def chown_is_for_root(kind: Kind) -> None:
    id = kind.make(0o666)
    for task in (kind.world.owner, kind.world.member, kind.world.other):
        kind.world.fails("EPERM", kind.set, task, id, uid=OTHER_UID)
        kind.world.fails("EPERM", kind.set, task, id, gid=OTHER_GIDS[0])
    kind.world.fails("EPERM", kind.set, kind.world.owner, id, mode=0, uid=OTHER_UID)
    kind.set(kind.world.root, id, uid=OTHER_UID)
    assert kind.triple(id) == (0o666, OTHER_UID, ACCOUNTS["owner"][1][0])
    kind.set(kind.world.root, id, gid=OTHER_GIDS[0], mode=0o644)
    assert kind.triple(id) == (0o644, OTHER_UID, OTHER_GIDS[0])
    kind.world.fails("EPERM", kind.set, kind.world.owner, id, mode=0o600)
    kind.set(kind.world.other, id, mode=0o600)
    assert kind.triple(id)[0] == 0o600


def chmod_is_for_owner_and_root(kind: Kind) -> None:
    id = kind.make(0o666)
    for task in (kind.world.member, kind.world.other):
        kind.world.fails("EPERM", kind.set, task, id, mode=0o600)
        kind.world.fails("EPERM", kind.set, task, id, sharing="shared")
    kind.set(kind.world.owner, id, mode=0)
    kind.set(kind.world.owner, id, mode=0o660)
    kind.set(kind.world.root, id, mode=0o600)


def sharing_is_fixed_while_attached(kind: Kind) -> None:
    id = kind.make(sharing="exclusive")
    kind.set(kind.world.owner, id, sharing="shared")
    assert kind.get(kind.world.owner, id).sharing == "shared"
    kind.attach(id)
    for task in (kind.world.owner, kind.world.root):
        kind.world.fails("EBUSY", kind.set, task, id, sharing="exclusive")
        kind.world.fails("EBUSY", kind.set, task, id, sharing="exclusive", mode=0)
    kind.world.fails("EPERM", kind.set, kind.world.other, id, sharing="exclusive")
    kind.set(kind.world.owner, id, mode=0o640)
    assert kind.triple(id)[0] == 0o640


def bad_values_are_einval(kind: Kind) -> None:
    id = kind.make(0o666)
    for owner in (kind.world.owner, kind.world.other, kind.world.root):
        kind.world.fails("EINVAL", kind.set, owner, id, sharing="neither")
    kind.world.fails("EINVAL", kind.set, kind.world.root, id, uid=-1)
    kind.world.fails("EINVAL", kind.set, kind.world.root, id, gid=-1)
    kind.world.fails("EINVAL", kind.set, kind.world.root, id, uid=2**40)


def unknown_ids_are_einval(kind: Kind) -> None:
    for id in NO_ID:
        kind.world.fails("EINVAL", kind.set, kind.world.root, id, mode=0o600)
        kind.world.fails("EINVAL", kind.set, kind.world.other, id, uid=0)


@row("VAS-SETATTR-OK-1")
def test_chmod_of_a_space(world: World) -> None:
    chmod_changes_only_the_mode(both(world)[0])


@row("SEG-SETATTR-OK-1")
def test_chmod_of_a_segment(world: World) -> None:
    chmod_changes_only_the_mode(both(world)[1])


@row("VAS-SETATTR-EPERM-1")
def test_only_root_gives_a_space_away(world: World) -> None:
    chown_is_for_root(both(world)[0])


@row("SEG-SETATTR-EPERM-1")
def test_only_root_gives_a_segment_away(world: World) -> None:
    chown_is_for_root(both(world)[1])


@row("VAS-SETATTR-EPERM-2")
def test_write_permission_is_not_enough_to_chmod_a_space(world: World) -> None:
    chmod_is_for_owner_and_root(both(world)[0])


@row("SEG-SETATTR-EPERM-2")
def test_write_permission_is_not_enough_to_chmod_a_segment(world: World) -> None:
    chmod_is_for_owner_and_root(both(world)[1])


@row("VAS-SETATTR-EBUSY-1")
def test_sharing_of_an_attached_space(world: World) -> None:
    sharing_is_fixed_while_attached(both(world)[0])


@row("SEG-SETATTR-EBUSY-1")
def test_sharing_of_an_attached_segment(world: World) -> None:
    sharing_is_fixed_while_attached(both(world)[1])


@row("VAS-SETATTR-EINVAL-1")
def test_unknown_spaces_have_no_attributes(world: World) -> None:
    unknown_ids_are_einval(both(world)[0])


@row("SEG-SETATTR-EINVAL-1")
def test_unknown_segments_have_no_attributes(world: World) -> None:
    unknown_ids_are_einval(both(world)[1])


@row("VAS-SETATTR-EINVAL-2")
def test_bad_attributes_of_a_space(world: World) -> None:
    bad_values_are_einval(both(world)[0])


@row("SEG-SETATTR-EINVAL-2")
def test_bad_attributes_of_a_segment(world: World) -> None:
    bad_values_are_einval(both(world)[1])


@row("VAS-SETATTR-KEEPS-1")
def test_a_chmod_ends_no_attachment(world: World) -> None:
    vid, _ = world.space_with_segment(mode=0o666)
    world.other.vas_attach(0, vid, everspace.O_RDWR)
    world.other.vas_switch(vid)
    world.owner.vas_setattr(vid, mode=0)
    assert world.other.active_vas() == vid
    world.other.write(BASE, b"still")
    assert world.other.read(BASE, 5) == b"still"
    world.other.vas_switch(0)
    world.other.vas_switch(vid)
    world.other.vas_switch(0)
    world.other.vas_detach(0, vid)
    world.fails("EACCES", world.other.vas_attach, 0, vid, everspace.O_RDWR)


@row("SEG-SETATTR-KEEPS-1")
def test_a_chmod_of_a_segment_ends_no_attachment(world: World) -> None:
    vid, sid = world.inside()
    world.owner.vas_seg_setattr(sid, mode=0)
    world.owner.write(BASE, b"still")
    assert world.owner.read(BASE, 5) == b"still"
    assert world.http("owner").get(f"/v1/vas/{vid}/segments")["items"][0]["sid"] == sid
