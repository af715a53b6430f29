"""Clones of spaces and segments: cheap copies with a life of their own, and with an origin."""

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE, Calls
from tests.conformance.support.memory import at, put
from tests.conformance.support.objects import lineage, roots, usage
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_ID = 2_000_000_000
BIG = 1 << 40


def go_in(task: Calls, vid: int, type: int = O_RDWR) -> None:
    task.vas_attach(0, vid, type)
    task.vas_switch(vid)


def go_out(task: Calls, vid: int) -> None:
    task.vas_switch(0)
    task.vas_detach(0, vid)


def bytes_of(world: World, sid: int, length: int = 8, offset: int = 0) -> bytes:
    """The first bytes of a segment, as root reads them."""
    headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
    return world.http("root").call("GET", f"/v1/segments/{sid}/data", headers=headers, status=206).body


@row("CLONE-OK-1")
def test_a_clone_has_the_bytes_and_regions_of_its_origin(world: World) -> None:
    vid, _ = world.inside()
    world.owner.write(BASE, b"segment")
    put(world.owner, 16, 2)
    world.owner.write(at(17), b"region")
    clone = world.owner.vas_clone(vid, world.name())
    second = world.task("owner")
    go_in(second, clone)
    assert (second.read(BASE, 7), second.read(at(17), 6)) == (b"segment", b"region")
    second.write(at(16), b"clone's")
    assert world.owner.read(at(16), 7) == bytes(7)


@row("CLONE-OK-2")
def test_clone_and_origin_each_have_their_own_bytes(world: World) -> None:
    vid, sid = world.inside(pages=8)
    world.owner.write(BASE, b"same")
    put(world.owner, 16)
    clone = world.owner.vas_clone(vid, world.name())
    world.owner.write(BASE, b"left")
    world.owner.write(at(16), b"left")
    second = world.task("owner")
    go_in(second, clone)
    assert second.read(BASE, 4) == b"same"
    second.write(BASE + PAGE, b"right")
    second.write(at(16) + 8, b"right")
    assert world.owner.read(BASE, PAGE + 5) == b"left" + bytes(PAGE + 1)
    assert (world.owner.read(at(16), 13), second.read(at(16), 13)) == (
        b"left" + bytes(9),
        bytes(8) + b"right",
    )
    assert bytes_of(world, sid, 4) == b"left"


@row("CLONE-ATTR-1")
def test_a_clone_is_the_callers_and_keeps_mode_and_sharing(world: World) -> None:
    vid = world.space(0o644, "shared")
    name = world.name()
    clone = world.other.vas_clone(vid, name)
    attr = world.other.vas_getattr(clone)
    assert (attr.name, attr.mode, attr.uid, attr.gid, attr.sharing) == (name, 0o644, 1003, 1003, "shared")
    assert (attr.origin, attr.attach_count, attr.snapshot, attr.lifetime) == (vid, 0, False, "persistent")
    assert world.owner.vas_getattr(vid).origin == 0


@row("CLONE-SEG-1")
def test_segments_of_a_clone_are_clones_named_after_it(world: World) -> None:
    vid, sid = world.space_with_segment()
    segment = world.owner.vas_seg_getattr(sid).name
    name = world.name()
    clone = world.owner.vas_clone(vid, name)
    (item,) = world.http("owner").get(f"/v1/vas/{clone}/segments")["items"]
    attr = world.owner.vas_seg_getattr(item["sid"])
    assert (attr.name, attr.origin, attr.start, attr.size) == (f"{name}/{segment}", sid, BASE, 4 * PAGE)
    assert item["type"] == "rw"
    assert world.owner.vas_seg_find(f"{name}/{segment}") == item["sid"]


@row("CLONE-SEG-2")
def test_a_name_that_a_segment_has_gets_a_number(world: World) -> None:
    vid, sid = world.space_with_segment()
    name, segment = world.name(), world.owner.vas_seg_getattr(sid).name
    taken = f"{name}/{segment}"
    world.owner.vas_seg_create(taken, BASE, BASE + PAGE, 0o600)
    clone = world.owner.vas_clone(vid, name)
    (item,) = world.http("owner").get(f"/v1/vas/{clone}/segments")["items"]
    assert world.owner.vas_seg_getattr(item["sid"]).name == f"{taken}~2"


@row("CLONE-SEG-3")
def test_a_name_that_would_be_too_long_is_shortened_to_a_name(world: World) -> None:
    vid, sid = world.space_with_segment()
    world.owner.vas_seg_setattr(sid, name=world.tag + "é" * 100)
    clones = [world.owner.vas_clone(vid, world.name() + "ü" * 100) for _ in range(2)]
    names = set()
    for clone in clones:
        (item,) = world.http("owner").get(f"/v1/vas/{clone}/segments")["items"]
        name = world.owner.vas_seg_getattr(item["sid"]).name
        assert len(name.encode()) <= 255
        assert name.startswith(world.owner.vas_getattr(clone).name + "/")
        names.add(name)
    assert len(names) == 2


@row("CLONE-EEXIST-1")
def test_a_clones_name_is_had_once(world: World) -> None:
    vid, sid = world.space_with_segment()
    for name in (world.owner.vas_getattr(vid).name, world.owner.vas_getattr(world.space()).name):
        world.fails("EEXIST", world.owner.vas_clone, vid, name)
    world.fails("EEXIST", world.owner.vas_seg_clone, sid, world.owner.vas_seg_getattr(sid).name)


@row("CLONE-EINVAL-1")
def test_what_is_not_there_is_not_cloned(world: World) -> None:
    for bad in (0, -1, NO_ID, 2**40):
        world.fails("EINVAL", world.owner.vas_clone, bad, world.name())
        world.fails("EINVAL", world.owner.vas_seg_clone, bad, world.name())


@row("CLONE-EINVAL-2")
def test_a_clones_name_is_a_name(world: World) -> None:
    vid, sid = world.space_with_segment()
    for name in ("", "a\0b", "a\nb", "x" * 256):
        world.fails("EINVAL", world.owner.vas_clone, vid, name)
        world.fails("EINVAL", world.owner.vas_seg_clone, sid, name)


@row("CLONE-EACCES-1")
def test_cloning_needs_the_read_bit(world: World) -> None:
    vid, sid = world.space(0o620), world.segment(0o620)
    for task in (world.member, world.other):
        world.fails("EACCES", task.vas_clone, vid, world.name())
        world.fails("EACCES", task.vas_seg_clone, sid, world.name())
    world.owner.vas_setattr(vid, mode=0o604)
    assert world.other.vas_clone(vid, world.name()) > vid
    assert world.root.vas_seg_clone(sid, world.name()) > sid


@row("CLONE-ORDER-1")
def test_rights_are_seen_before_names(world: World) -> None:
    """A stranger learns of no name by asking for a clone of what he may not read."""
    vid, sid = world.space_with_segment()
    name, segment = world.owner.vas_getattr(vid).name, world.owner.vas_seg_getattr(sid).name
    world.fails("EACCES", world.other.vas_clone, vid, name)
    world.fails("EACCES", world.other.vas_seg_clone, sid, segment)


@row("CLONE-SEGMENT-1")
def test_a_cloned_segment_stands_alone(world: World) -> None:
    sid = world.segment(0o640, "lockable")
    world.http("owner").call(
        "PATCH",
        f"/v1/segments/{sid}/data",
        raw=b"origin",
        headers={"Content-Range": f"bytes 0-5/{4 * PAGE}"},
    )
    clone = world.owner.vas_seg_clone(sid, world.name())
    attr = world.owner.vas_seg_getattr(clone)
    assert (attr.mode, attr.sharing, attr.origin, attr.attach_count) == (0o640, "lockable", sid, 0)
    assert (attr.start, attr.end) == (BASE, BASE + 4 * PAGE)
    assert bytes_of(world, clone, 6) == b"origin"


@row("CLONE-SPARSE-1")
def test_a_clone_of_a_tebibyte_costs_nothing(world: World) -> None:
    sid = world.owner.vas_seg_create(world.name(), BASE, BASE + BIG, 0o600)
    vid = world.space()
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    go_in(world.owner, vid)
    world.owner.write(BASE + BIG - 4, b"last")
    clone = world.owner.vas_clone(vid, world.name())
    (item,) = world.http("owner").get(f"/v1/vas/{clone}/segments")["items"]
    assert usage(world, "segments", item["sid"]) == (PAGE, PAGE, 0)
    second = world.task("owner")
    go_in(second, clone)
    assert second.read(BASE + BIG - 4, 4) == b"last"


@row("CLONE-PARENT-1")
def test_deleting_the_origin_never_harms_a_clone(world: World) -> None:
    vid, sid = world.inside()
    world.owner.write(BASE, b"inherited")
    clone = world.owner.vas_clone(vid, world.name())
    again = world.owner.vas_clone(clone, world.name())
    go_out(world.owner, vid)
    world.owner.vas_delete(vid)
    world.owner.vas_seg_delete(sid)
    for each in (clone, again):
        go_in(world.owner, each)
        assert world.owner.read(BASE, 9) == b"inherited"
        go_out(world.owner, each)
    world.owner.vas_delete(clone)
    go_in(world.owner, again)
    assert world.owner.read(BASE, 9) == b"inherited"


@row("CLONE-CHAIN-1")
def test_a_clone_of_a_clone_has_what_its_own_origin_had(world: World) -> None:
    sids = [world.segment()]
    for number in range(8):
        headers = {"Content-Range": f"bytes {number}-{number}/{4 * PAGE}"}
        path = f"/v1/segments/{sids[-1]}/data"
        world.http("owner").call("PATCH", path, raw=b"%d" % number, headers=headers)
        sids.append(world.owner.vas_seg_clone(sids[-1], world.name()))
    for number, sid in enumerate(sids):
        assert bytes_of(world, sid, 8) == b"01234567"[: number + 1].ljust(8, b"\0")


@row("CLONE-USED-1")
def test_a_space_in_use_is_cloned_as_it_is_at_that_moment(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    second = world.task("owner")
    go_in(second, vid)
    second.write(BASE, b"by another", durability="relaxed")
    clone = world.owner.vas_clone(vid, world.name())
    second.write(BASE, b"later.....")
    go_in(world.root, clone, O_RDONLY)
    assert world.root.read(BASE, 10) == b"by another"
    assert world.owner.active_vas() == vid
    assert world.owner.vas_getattr(clone).attach_count == 1


@row("CLONE-ROOT-1")
def test_roots_and_heaps_are_cloned(world: World) -> None:
    vid, _ = world.inside(pages=16)
    block = world.owner.vas_malloc(100)
    world.owner.write(block, b"in the heap")
    world.owner.vas_set_root("head", block)
    clone = world.owner.vas_clone(vid, world.name())
    assert roots(world, clone) == {"head": block}
    second = world.task("owner")
    go_in(second, clone)
    assert second.read(second.vas_get_root("head"), 11) == b"in the heap"
    assert second.vas_free(block) == 0
    assert world.owner.vas_free(block) == 0


@row("CLONE-LINEAGE-1")
def test_lineage_names_origins_and_clones(world: World) -> None:
    first = world.segment()
    second = world.owner.vas_seg_clone(first, world.name())
    third = world.owner.vas_seg_clone(second, world.name())
    fourth = world.owner.vas_seg_clone(second, world.name())
    assert lineage(world, "segments", first) == ([], [second])
    assert lineage(world, "segments", second) == ([first], [third, fourth])
    assert lineage(world, "segments", fourth) == ([second, first], [])
    world.owner.vas_seg_delete(third)
    assert lineage(world, "segments", second) == ([first], [fourth])


@row("CLONE-LINEAGE-2")
def test_lineage_of_spaces_outlives_the_origin(world: World) -> None:
    vid, _ = world.space_with_segment()
    clone = world.owner.vas_clone(vid, world.name())
    grandchild = world.owner.vas_clone(clone, world.name())
    assert lineage(world, "vas", vid) == ([], [clone])
    world.owner.vas_delete(vid)
    assert world.owner.vas_getattr(clone).origin == vid
    assert lineage(world, "vas", grandchild)[0][0] == clone
    world.fails("EINVAL", lineage, world, "vas", vid)


@row("CLONE-RESET-1")
def test_a_reset_clone_is_what_it_was_when_it_was_cloned(world: World) -> None:
    vid, _ = world.inside(pages=8)
    world.owner.write(BASE, b"at birth")
    put(world.owner, 16)
    world.owner.write(at(16), b"region")
    world.owner.vas_set_root("r", BASE)
    clone = world.owner.vas_clone(vid, world.name())
    world.owner.write(BASE, b"went on.")
    second = world.task("owner")
    go_in(second, clone)
    second.write(BASE, b"changed!")
    second.write(BASE + 5 * PAGE, b"new page")
    second.munmap(at(16), PAGE)
    put(second, 32)
    second.vas_set_root("r", BASE + 8)
    second.vas_set_root("more", BASE)
    go_out(second, clone)
    assert world.owner.vas_reset(clone) == 0
    go_in(second, clone)
    assert (second.read(BASE, 8), second.read(BASE + 5 * PAGE, 8)) == (b"at birth", bytes(8))
    assert second.read(at(16), 6) == b"region"
    world.fails("EFAULT", second.read, at(32), 1)
    assert roots(world, clone) == {"r": BASE}
    assert world.owner.read(BASE, 8) == b"went on."


@row("CLONE-RESET-2")
def test_a_clone_is_reset_whatever_became_of_its_origin_and_as_often_as_one_likes(world: World) -> None:
    vid, sid = world.inside()
    world.owner.write(BASE, b"birth")
    clone = world.owner.vas_clone(vid, world.name())
    go_out(world.owner, vid)
    world.owner.vas_delete(vid)
    world.owner.vas_seg_delete(sid)
    for text in (b"one", b"two"):
        go_in(world.owner, clone)
        world.owner.write(BASE, text)
        go_out(world.owner, clone)
        world.owner.vas_reset(clone)
        go_in(world.owner, clone)
        assert world.owner.read(BASE, 5) == b"birth"
        go_out(world.owner, clone)


@row("CLONE-RESET-3")
def test_a_cloned_segment_is_reset_by_itself(world: World) -> None:
    sid = world.segment()
    clone = world.owner.vas_seg_clone(sid, world.name())
    path = f"/v1/segments/{clone}/data"
    headers = {"Content-Range": f"bytes 0-2/{4 * PAGE}"}
    world.http("owner").call("PATCH", path, raw=b"new", headers=headers)
    world.owner.vas_seg_reset(clone)
    assert bytes_of(world, clone, 3) == bytes(3)


@row("CLONE-RESET-EINVAL-1")
def test_what_is_no_clone_is_not_reset(world: World) -> None:
    vid, sid = world.space_with_segment()
    for bad in (vid, 0, -1, NO_ID):
        world.fails("EINVAL", world.owner.vas_reset, bad)
    for bad in (sid, 0, -1, NO_ID):
        world.fails("EINVAL", world.owner.vas_seg_reset, bad)


@row("CLONE-RESET-EPERM-1")
def test_only_the_owner_and_root_reset(world: World) -> None:
    vid, sid = world.space(0o644), world.segment(0o644)
    clone, segment = (
        world.owner.vas_clone(vid, world.name()),
        world.owner.vas_seg_clone(sid, world.name()),
    )
    world.fails("EPERM", world.other.vas_reset, clone)
    world.fails("EPERM", world.other.vas_seg_reset, segment)
    assert world.root.vas_reset(clone) == 0


@row("CLONE-RESET-EBUSY-1")
def test_nothing_is_reset_under_a_thread(world: World) -> None:
    vid, _ = world.space_with_segment()
    clone = world.owner.vas_clone(vid, world.name())
    (item,) = world.http("owner").get(f"/v1/vas/{clone}/segments")["items"]
    thread = world.owner.thread()
    world.owner.vas_attach(0, clone, O_RDWR)
    thread.vas_switch(clone)
    world.fails("EBUSY", world.owner.vas_reset, clone)
    world.fails("EBUSY", world.owner.vas_seg_reset, item["sid"])
    thread.vas_switch(0)
    assert world.owner.vas_reset(clone) == 0


@row("CLONE-RESET-EFAULT-1")
def test_a_reset_does_not_come_over_a_region_of_a_task(world: World) -> None:
    vid = world.space()
    world.owner.vas_mmap(vid, at(16), PAGE, 3, 0x32)
    clone = world.owner.vas_clone(vid, world.name())
    world.owner.vas_munmap(clone, at(16), PAGE)
    world.owner.vas_mmap(clone, at(32), PAGE, 3, 0x32)
    world.owner.vas_attach(0, clone, O_RDWR)
    own = put(world.owner, 16)
    assert world.fails("EFAULT", world.owner.vas_reset, clone).names(own)
    world.owner.munmap(own, PAGE)
    assert world.owner.vas_reset(clone) == 0


@row("CLONE-USAGE-1")
def test_usage_tells_logical_shared_and_private_bytes(world: World) -> None:
    sid = world.segment(pages=64)
    path = f"/v1/segments/{sid}/data"
    headers = {"Content-Range": f"bytes 0-{8 * PAGE - 1}/{64 * PAGE}"}
    world.http("owner").call("PATCH", path, raw=b"x" * 8 * PAGE, headers=headers)
    assert usage(world, "segments", sid) == (8 * PAGE, 0, 8 * PAGE)
    clone = world.owner.vas_seg_clone(sid, world.name())
    assert usage(world, "segments", sid) == usage(world, "segments", clone) == (8 * PAGE, 8 * PAGE, 0)
    headers = {"Content-Range": f"bytes 0-0/{64 * PAGE}"}
    world.http("owner").call("PATCH", f"/v1/segments/{clone}/data", raw=b"y", headers=headers)
    logical, shared, private = usage(world, "segments", clone)
    assert (logical, shared, private) == (8 * PAGE, 7 * PAGE, PAGE)
    world.owner.vas_seg_delete(sid)
    assert usage(world, "segments", clone) == (8 * PAGE, 0, 8 * PAGE)


@row("CLONE-USAGE-2")
def test_a_space_uses_its_own_regions_and_segments_count_by_themselves(world: World) -> None:
    vid, sid = world.inside()
    put(world.owner, 16, 4)
    world.owner.write(at(16), b"x" * 3 * PAGE)
    world.owner.write(BASE, b"x")
    assert usage(world, "vas", vid) == (3 * PAGE, 0, 3 * PAGE)
    assert usage(world, "segments", sid) == (PAGE, 0, PAGE)
    clone = world.owner.vas_clone(vid, world.name())
    world.owner.write(at(17), b"y")
    assert usage(world, "vas", clone) == (3 * PAGE, 3 * PAGE, 0)
    assert usage(world, "vas", vid) == (3 * PAGE, 2 * PAGE, PAGE)


@row("CLONE-USAGE-EINVAL-1")
def test_what_is_not_there_uses_nothing(world: World) -> None:
    world.fails("EINVAL", usage, world, "vas", NO_ID)
    world.fails("EINVAL", usage, world, "segments", NO_ID)
    world.fails("EINVAL", lineage, world, "segments", NO_ID)


@row("CLONE-BATCH-1", "http")
def test_a_clone_in_an_atomic_batch_that_fails_was_not_made(world: World) -> None:
    vid, sid = world.space_with_segment()
    name = world.name()
    calls = [
        {"call": "vas_clone", "args": {"vid": vid, "name": name}},
        {"call": "vas_seg_clone", "args": {"sid": sid, "name": name}},
        {"call": "vas_clone", "args": {"vid": vid, "name": name}},
    ]
    http = world.http("owner")
    path = f"/v1/tasks/{world.owner.pid}/batch?atomic=true"
    assert world.fails("EEXIST", http.call, "POST", path, {"calls": calls}).problem["index"] == 2
    world.fails("ESRCH", world.owner.vas_find, name)
