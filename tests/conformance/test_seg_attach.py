"""vas_seg_attach and vas_seg_detach."""

import itertools

from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

TYPES = (O_RDONLY, O_WRONLY, O_RDWR)
NEEDS = {O_RDONLY: 4, O_WRONLY: 2, O_RDWR: 6}
NO_ID = (0, 2_000_000_000, 2**31, 2**70)
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


@row("SEG-ATTACH-OK-1")
def test_a_segment_is_in_the_space_at_its_place(world: World) -> None:
    for type in TYPES:
        vid, sid = world.space_with_segment(type)
        assert world.owner.vas_seg_getattr(sid).attach_count == 1
        http = world.http("owner")
        listed = http.get(f"/v1/vas/{vid}/segments")["items"]
        assert [(item["sid"], item["type"]) for item in listed] == [(sid, ("ro", "wo", "rw")[type])]
        regions = http.get(f"/v1/vas/{vid}/regions")["items"]
        assert [(r["start"], r["end"], r["sid"]) for r in regions] == [(hex(BASE), hex(BASE + 4 * PAGE), sid)]


@row("SEG-ATTACH-OK-2")
def test_many_segments_in_a_space_and_many_spaces_for_a_segment(world: World) -> None:
    vids = [world.space() for _ in range(3)]
    sids = [world.segment(sharing="shared", start=BASE + n * 8 * PAGE) for n in range(3)]
    for vid, sid in itertools.product(vids, sids):
        world.owner.vas_seg_attach(vid, sid, O_RDWR)
    assert {world.owner.vas_seg_getattr(sid).attach_count for sid in sids} == {3}
    tasks = [world.task("owner") for _ in vids]
    for task, vid in zip(tasks, vids, strict=True):
        task.vas_attach(0, vid, O_RDWR)
        task.vas_switch(vid)
    tasks[0].write(BASE + 8 * PAGE, b"shared")
    assert [task.read(BASE + 8 * PAGE, 6) for task in tasks] == [b"shared"] * 3


@row("SEG-ATTACH-USED-1")
def test_a_segment_comes_into_a_space_that_is_in_use(world: World) -> None:
    vid, _ = world.inside()
    later = world.segment(start=BASE + 64 * PAGE)
    world.fails("EFAULT", world.owner.read, BASE + 64 * PAGE, 1)
    world.owner.vas_seg_attach(vid, later, O_RDWR)
    world.owner.write(BASE + 64 * PAGE, b"now")
    assert world.owner.read(BASE + 64 * PAGE, 3) == b"now"


@row("SEG-ATTACH-EINVAL-1")
def test_segment_attach_judges_its_arguments(world: World) -> None:
    vid, sid = world.space(), world.segment()
    for bad in (*NO_ID, -1):
        world.fails("EINVAL", world.owner.vas_seg_attach, bad, sid, O_RDWR)
        world.fails("EINVAL", world.owner.vas_seg_attach, vid, bad, O_RDWR)
    for type in (3, 4, 0o700, -1):
        world.fails("EINVAL", world.owner.vas_seg_attach, vid, sid, type)


@row("SEG-ATTACH-EINVAL-2")
def test_arguments_are_seen_before_rights(world: World) -> None:
    vid, sid = world.space(0), world.segment(0)
    world.fails("EINVAL", world.other.vas_seg_attach, vid, sid, 3)
    world.fails("EINVAL", world.other.vas_seg_attach, vid, NO_ID[1], O_RDWR)
    world.fails("EINVAL", world.other.vas_seg_attach, NO_ID[1], sid, O_RDWR)


@row("SEG-ATTACH-EACCES-1")
def test_the_mode_of_the_segment_decides(world: World) -> None:
    tasks = {6: world.owner, 3: world.member, 0: world.other}
    vid, sid = world.space(0o666), world.segment(0o666)
    for (shift, task), bits, type in itertools.product(tasks.items(), (0, 2, 4, 6), TYPES):
        world.owner.vas_seg_setattr(sid, mode=(0o666 & ~(7 << shift)) | bits << shift)
        if NEEDS[type] & ~bits:
            assert world.refused(task.vas_seg_attach, vid, sid, type).errno == "EACCES"
        else:
            task.vas_seg_attach(vid, sid, type)
            task.vas_seg_detach(vid, sid)
    assert world.owner.vas_seg_getattr(sid).attach_count == 0


@row("SEG-ATTACH-EACCES-2")
def test_even_a_reading_attach_needs_write_on_the_space(world: World) -> None:
    vid, sid = world.space(0o644), world.segment(0o666)
    for type in TYPES:
        world.fails("EACCES", world.other.vas_seg_attach, vid, sid, type)
    world.fails("EACCES", world.owner.vas_seg_attach, world.space(0o466), sid, O_RDONLY)
    world.root.vas_seg_attach(world.space(0), world.segment(0), O_RDWR)


@row("SEG-ATTACH-ORDER-1")
def test_rights_are_seen_before_the_attachment_that_exists(world: World) -> None:
    vid, sid = world.space_with_segment(O_RDONLY, mode=0o644)
    world.fails("EACCES", world.other.vas_seg_attach, vid, sid, O_RDONLY)
    world.owner.vas_seg_setattr(sid, mode=0)
    world.fails("EACCES", world.owner.vas_seg_attach, vid, sid, O_RDONLY)


@row("SEG-ATTACH-ORDER-2")
def test_rights_are_seen_before_the_sharing_rule(world: World) -> None:
    _, sid = world.space_with_segment(O_RDWR, mode=0o644)
    world.fails("EACCES", world.other.vas_seg_attach, world.space(0o666), sid, O_RDWR)


@row("SEG-ATTACH-ORDER-3")
def test_the_sharing_rule_is_seen_before_the_overlap(world: World) -> None:
    full, sid = world.space_with_segment(O_RDWR)
    taken, _ = world.space_with_segment(O_RDWR, start=BASE + PAGE)
    world.fails("EBUSY", world.owner.vas_seg_attach, taken, sid, O_RDONLY)
    world.owner.vas_seg_detach(full, sid)
    world.fails("EFAULT", world.owner.vas_seg_attach, taken, sid, O_RDONLY)


@row("SEG-ATTACH-AGAIN-1")
def test_the_same_type_again_is_0(world: World) -> None:
    for type in TYPES:
        vid, sid = world.space_with_segment(type)
        before = world.state()
        assert world.owner.vas_seg_attach(vid, sid, type) == 0
        assert world.state() == before


@row("SEG-ATTACH-EEXIST-1")
def test_another_type_again_is_eexist(world: World) -> None:
    for held, asked in itertools.permutations(TYPES, 2):
        vid, sid = world.space_with_segment(held)
        world.fails("EEXIST", world.owner.vas_seg_attach, vid, sid, asked)


@row("SEG-ATTACH-EBUSY-1")
def test_many_reading_spaces_or_one_writing_space(world: World) -> None:
    for held, asked in itertools.product(TYPES, TYPES):
        _, sid = world.space_with_segment(held)
        vid = world.space()
        if held == asked == O_RDONLY:
            world.owner.vas_seg_attach(vid, sid, asked)
        else:
            world.fails("EBUSY", world.owner.vas_seg_attach, vid, sid, asked)


@row("SEG-ATTACH-SHARED-1")
def test_a_shared_segment_is_in_any_number_of_spaces(world: World) -> None:
    sid = world.segment(sharing="shared")
    for held, asked in itertools.product(TYPES, TYPES):
        for type in (held, asked):
            world.owner.vas_seg_attach(world.space(), sid, type)
    assert world.owner.vas_seg_getattr(sid).attach_count == 18


@row("SEG-ATTACH-EFAULT-1")
def test_two_segments_of_a_space_do_not_overlap(world: World) -> None:
    vid, _ = world.space_with_segment(pages=4)
    for offset, pages in ((0, 4), (3, 4), (1, 1), (0, 64)):
        sid = world.segment(start=BASE + offset * PAGE, pages=pages)
        failure = world.fails("EFAULT", world.owner.vas_seg_attach, vid, sid, O_RDWR)
        assert failure.names(BASE, BASE + 4 * PAGE, BASE + offset * PAGE, BASE + (offset + pages) * PAGE)
        assert failure.problem["holder"]
    for offset in (4, 8):
        world.owner.vas_seg_attach(vid, world.segment(start=BASE + offset * PAGE), O_RDWR)


@row("SEG-ATTACH-EFAULT-2")
def test_a_segment_does_not_overlap_a_region_made_inside(world: World) -> None:
    vid, _ = world.inside()
    world.owner.mmap(BASE + 32 * PAGE, PAGE, RW, ANON | MAP_FIXED)
    sid = world.segment(start=BASE + 30 * PAGE)
    failure = world.fails("EFAULT", world.owner.vas_seg_attach, vid, sid, O_RDWR)
    assert failure.names(BASE + 30 * PAGE, BASE + 34 * PAGE, BASE + 32 * PAGE, BASE + 33 * PAGE)
    world.owner.munmap(BASE + 32 * PAGE, PAGE)
    world.owner.vas_seg_attach(vid, sid, O_RDWR)


@row("SEG-ATTACH-EFAULT-3")
def test_a_segment_does_not_overlap_a_task_that_holds_the_space(world: World) -> None:
    """Refused where it is made: no attached task ever has two regions at one address."""
    vid = world.space()
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.mmap(BASE + PAGE, PAGE, RW, ANON | MAP_FIXED)
    sid = world.segment()
    failure = world.fails("EFAULT", world.owner.vas_seg_attach, vid, sid, O_RDWR)
    assert failure.names(BASE, BASE + 4 * PAGE, BASE + PAGE, BASE + 2 * PAGE)
    assert failure.problem["holder"]
    world.owner.munmap(BASE + PAGE, PAGE)
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    failure = world.fails("EEXIST", world.owner.mmap, BASE + PAGE, PAGE, RW, ANON | MAP_FIXED)
    assert failure.problem["holder"]


@row("SEG-TYPE-RO-1")
def test_a_reading_attachment_of_a_segment_strips_write(world: World) -> None:
    vid, _ = world.space_with_segment(O_RDONLY)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    assert world.owner.read(BASE, 4) == bytes(4)
    failure = world.fails("EFAULT", world.owner.write, BASE, b"x")
    assert failure.problem["address"] == hex(BASE)
    world.fails("EACCES", world.owner.mprotect, BASE, PAGE, RW)
    regions = world.http("owner").get(f"/v1/vas/{vid}/regions")["items"]
    assert [region["prot"] for region in regions] == [PROT_READ]


@row("SEG-TYPE-RO-2")
def test_a_reading_task_does_not_write_a_written_segment(world: World) -> None:
    vid, _ = world.space_with_segment(O_RDWR)
    world.owner.vas_attach(0, vid, O_RDONLY)
    world.owner.vas_switch(vid)
    world.fails("EFAULT", world.owner.write, BASE, b"x")
    world.fails("EACCES", world.owner.mprotect, BASE, PAGE, RW)


@row("SEG-DETACH-OK-1")
def test_a_detached_segment_is_gone_from_the_space(world: World) -> None:
    vid, sid = world.space_with_segment()
    assert world.owner.vas_seg_detach(vid, sid) == 0
    assert world.owner.vas_seg_getattr(sid).attach_count == 0
    http = world.http("owner")
    assert http.get(f"/v1/vas/{vid}/regions")["items"] == []
    assert http.get(f"/v1/vas/{vid}/segments")["items"] == []
    world.owner.vas_seg_attach(world.space(), sid, O_RDWR)


@row("SEG-DETACH-BYTES-1")
def test_a_segment_takes_its_bytes_along(world: World) -> None:
    vid, sid = world.inside()
    world.owner.write(BASE + PAGE, b"carried")
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    world.owner.vas_seg_detach(vid, sid)
    again = world.space()
    world.owner.vas_seg_attach(again, sid, O_RDONLY)
    world.owner.vas_attach(0, again, O_RDONLY)
    world.owner.vas_switch(again)
    assert world.owner.read(BASE + PAGE, 7) == b"carried"


@row("SEG-DETACH-EINVAL-1")
def test_detaching_a_segment_that_is_not_there(world: World) -> None:
    vid, sid = world.space(), world.segment()
    for bad in (*NO_ID, -1):
        world.fails("EINVAL", world.owner.vas_seg_detach, bad, sid)
        world.fails("EINVAL", world.owner.vas_seg_detach, vid, bad)
    world.fails("EINVAL", world.owner.vas_seg_detach, vid, sid)


@row("SEG-DETACH-EBUSY-1")
def test_no_segment_leaves_a_space_that_is_attached(world: World) -> None:
    vid, sid = world.space_with_segment(O_RDONLY)
    world.owner.vas_attach(0, vid, O_RDONLY)
    for task in (world.owner, world.root):
        world.fails("EBUSY", task.vas_seg_detach, vid, sid)
    world.owner.vas_detach(0, vid)
    world.owner.vas_seg_detach(vid, sid)


@row("SEG-DETACH-EACCES-1")
def test_segment_detach_needs_write_on_the_space(world: World) -> None:
    vid, sid = world.space_with_segment(mode=0o664)
    world.fails("EACCES", world.other.vas_seg_detach, vid, sid)
    world.owner.vas_attach(0, vid, O_RDONLY)
    world.fails("EACCES", world.other.vas_seg_detach, vid, sid)
    world.owner.vas_detach(0, vid)
    world.owner.vas_seg_setattr(sid, mode=0)
    world.member.vas_seg_detach(vid, sid)
