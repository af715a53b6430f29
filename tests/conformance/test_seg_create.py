"""vas_seg_create, vas_seg_find, vas_seg_delete."""

import everspace
from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import ACCOUNTS, BASE, World

NO_ID = (0, -1, 2_000_000_000, 2**31, 2**70)
USER_START, USER_END = 0x10000, 0x7FFF_FFFF_F000


@row("SEG-CREATE-OK-1")
def test_the_creator_owns_the_segment(world: World) -> None:
    name = world.name()
    sid = world.owner.vas_seg_create(name, BASE, BASE + 2 * PAGE, 0o640)
    attr = world.owner.vas_seg_getattr(sid)
    uid, gids = ACCOUNTS["owner"]
    assert sid > 0
    assert (attr.name, attr.mode, attr.uid, attr.gid) == (name, 0o640, uid, gids[0])
    assert (attr.sharing, attr.attach_count) == ("exclusive", 0)
    assert (attr.start, attr.end, attr.size) == (BASE, BASE + 2 * PAGE, 2 * PAGE)


@row("SEG-CREATE-MODE-1")
def test_only_rw_bits_of_the_mode_are_kept(world: World) -> None:
    for given, kept in ((0o777, 0o666), (0o111, 0), (0, 0), (0o7064, 0o064)):
        assert world.owner.vas_seg_getattr(world.segment(given)).mode == kept


@row("SEG-CREATE-SHARING-1")
def test_sharing_of_a_segment(world: World) -> None:
    assert world.owner.vas_seg_getattr(world.segment(sharing="shared")).sharing == "shared"
    world.fails("EINVAL", world.owner.vas_seg_create, world.name(), BASE, BASE + PAGE, 0o600, "any")


@row("SEG-CREATE-EDGES-1")
def test_the_user_range_is_usable_to_its_edges(world: World) -> None:
    for start, end in ((USER_START, USER_START + PAGE), (USER_END - PAGE, USER_END)):
        attr = world.owner.vas_seg_getattr(world.owner.vas_seg_create(world.name(), start, end, 0o600))
        assert (attr.start, attr.end) == (start, end)


@row("SEG-CREATE-SPARSE-1")
def test_a_huge_segment_costs_what_is_written(world: World) -> None:
    end = BASE + 2**46
    sid = world.owner.vas_seg_create(world.name(), BASE, end, 0o600)
    vid = world.space()
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    for address in (BASE, BASE + 2**45 + 5, end - 5):
        assert world.owner.read(address, 5) == bytes(5)
        world.owner.write(address, b"point")
    assert [world.owner.read(address, 5) for address in (BASE, BASE + 2**45 + 5, end - 5)] == [b"point"] * 3


@row("SEG-CREATE-EINVAL-1")
def test_bounds_are_page_aligned(world: World) -> None:
    for start, end in ((BASE + 1, BASE + PAGE), (BASE, BASE + PAGE - 1), (BASE + 512, BASE + PAGE + 512)):
        world.fails("EINVAL", world.owner.vas_seg_create, world.name(), start, end, 0o600)


@row("SEG-CREATE-EINVAL-2")
def test_a_segment_is_not_empty_and_not_reversed(world: World) -> None:
    for start, end in ((BASE, BASE), (BASE + PAGE, BASE), (BASE, 0), (0, 0)):
        world.fails("EINVAL", world.owner.vas_seg_create, world.name(), start, end, 0o600)


@row("SEG-CREATE-EFAULT-1")
def test_a_segment_lies_in_the_user_range(world: World) -> None:
    ranges = (
        (0, PAGE), (USER_START - PAGE, USER_START), (0, USER_END), (USER_END, USER_END + PAGE),
        (USER_END - PAGE, USER_END + PAGE), (2**47, 2**47 + PAGE), (BASE, 2**63), (2**64 - 2 * PAGE, 2**64 - PAGE),
    )  # fmt: skip
    for start, end in ranges:
        world.fails("EFAULT", world.owner.vas_seg_create, world.name(), start, end, 0o600)


@row("SEG-CREATE-EFAULT-2")
def test_addresses_beyond_64_bits_and_below_0_are_refused(world: World) -> None:
    for start, end in (
        (BASE, 2**64),
        (2**64, 2**64 + PAGE),
        (2**200, 2**201),
        (-PAGE, PAGE),
        (-2 * PAGE, -PAGE),
    ):
        create = world.owner.vas_seg_create
        before = world.state()
        failure = world.refused(create, world.name(), start, end, 0o600)
        assert failure.errno in ("EFAULT", "EINVAL")
        assert world.state() == before


@row("SEG-CREATE-EEXIST-1")
def test_a_segment_name_is_had_once(world: World) -> None:
    name = world.name()
    sid = world.owner.vas_seg_create(name, BASE, BASE + PAGE, 0)
    for task in (world.owner, world.other):
        world.fails("EEXIST", task.vas_seg_create, name, BASE + PAGE, BASE + 2 * PAGE, 0o666)
    world.root.vas_seg_delete(sid)
    assert world.other.vas_seg_create(name, BASE, BASE + PAGE, 0) > sid


@row("SEG-CREATE-OVERLAP-1")
def test_segments_may_overlap_each_other(world: World) -> None:
    sids = [world.segment(start=BASE + offset * PAGE) for offset in (0, 0, 1, 3)]
    assert len(set(sids)) == 4


@row("SEG-CREATE-ZERO-1")
def test_a_segment_is_born_as_zeros_without_exec(world: World) -> None:
    vid, sid = world.inside()
    assert world.owner.read(BASE, 4 * PAGE) == bytes(4 * PAGE)
    region = world.http("owner").get(f"/v1/vas/{vid}/regions")["items"]
    assert [(r["start"], r["end"], r["sid"]) for r in region] == [(hex(BASE), hex(BASE + 4 * PAGE), sid)]
    assert region[0]["prot"] == everspace.PROT_READ | everspace.PROT_WRITE


@row("SEG-ID-1")
def test_segment_ids_are_never_used_again(world: World) -> None:
    seen = []
    for _ in range(5):
        sid = world.segment()
        world.owner.vas_seg_delete(sid)
        seen.append(sid)
    assert seen == sorted(set(seen))
    assert world.segment() > seen[-1]


@row("SEG-FIND-OK-1")
def test_anybody_finds_a_segment_by_name(world: World) -> None:
    name = world.name()
    sid = world.owner.vas_seg_create(name, BASE, BASE + PAGE, 0)
    for task in (world.owner, world.other, world.root):
        assert task.vas_seg_find(name) == sid


@row("SEG-FIND-ESRCH-1")
def test_no_such_segment_name_is_esrch(world: World) -> None:
    name = world.name()
    world.fails("ESRCH", world.owner.vas_seg_find, name)
    world.owner.vas_create(name, 0o600)
    world.fails("ESRCH", world.owner.vas_seg_find, name)
    world.owner.vas_seg_delete(world.owner.vas_seg_create(name, BASE, BASE + PAGE, 0o600))
    world.fails("ESRCH", world.owner.vas_seg_find, name)


@row("SEG-FIND-LIST-1", "http")
def test_the_filtered_list_of_segments_is_empty_without_a_match(world: World) -> None:
    http = world.http("other")
    name = world.name()
    assert http.get(f"/v1/segments?name={name}") == {"items": [], "next": None}
    sid = world.owner.vas_seg_create(name, BASE, BASE + PAGE, 0)
    assert http.get(f"/v1/segments?name={name}")["items"] == [http.get(f"/v1/segments/{sid}")]


@row("SEG-DELETE-OK-1")
def test_write_permission_is_enough_to_delete_a_segment(world: World) -> None:
    for task, mode in ((world.owner, 0o200), (world.member, 0o020), (world.other, 0o002), (world.root, 0)):
        sid = world.segment(mode)
        assert task.vas_seg_delete(sid) == 0
        world.fails("EINVAL", task.vas_seg_getattr, sid)


@row("SEG-DELETE-EACCES-1")
def test_without_write_permission_nobody_deletes_a_segment(world: World) -> None:
    for task, mode in ((world.owner, 0o466), (world.member, 0o646), (world.other, 0o664)):
        world.fails("EACCES", task.vas_seg_delete, world.segment(mode))


@row("SEG-DELETE-EACCES-2")
def test_a_stranger_does_not_learn_that_a_segment_is_busy(world: World) -> None:
    _, sid = world.space_with_segment(mode=0o644)
    world.fails("EACCES", world.other.vas_seg_delete, sid)


@row("SEG-DELETE-EBUSY-1")
def test_an_attached_segment_is_not_deleted(world: World) -> None:
    vid, sid = world.space_with_segment(O_RDONLY, mode=0o666)
    for task in (world.owner, world.other, world.root):
        world.fails("EBUSY", task.vas_seg_delete, sid)
    world.owner.vas_seg_detach(vid, sid)
    world.owner.vas_seg_delete(sid)


@row("SEG-DELETE-EINVAL-1")
def test_deleting_a_segment_that_is_not_there(world: World) -> None:
    for sid in NO_ID:
        world.fails("EINVAL", world.owner.vas_seg_delete, sid)
