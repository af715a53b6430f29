"""Snapshots, which nobody changes; differences between spaces or segments; new names."""

from everspace import O_RDONLY, O_RDWR, O_WRONLY
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, RW, at, put
from tests.conformance.support.objects import diff, lineage, roots
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_ID = 2_000_000_000


def store(world: World, sid: int, offset: int, data: bytes, size: int = 4 * PAGE) -> None:
    headers = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/{size}"}
    world.http("root").call("PATCH", f"/v1/segments/{sid}/data", raw=data, headers=headers)


@row("SNAPSHOT-OK-1")
def test_a_snapshot_keeps_what_was(world: World) -> None:
    vid, _ = world.inside()
    world.owner.write(BASE, b"then")
    put(world.owner, 16)
    world.owner.vas_set_root("r", BASE)
    name = world.name()
    snapshot = world.owner.vas_snapshot(vid, name)
    world.owner.write(BASE, b"now!")
    world.owner.munmap(at(16), PAGE)
    world.owner.vas_set_root("r", BASE + 1)
    attr = world.owner.vas_getattr(snapshot)
    assert (attr.name, attr.origin, attr.snapshot) == (name, vid, True)
    assert not world.owner.vas_getattr(vid).snapshot
    second = world.task("owner")
    second.vas_attach(0, snapshot, O_RDONLY)
    second.vas_switch(snapshot)
    assert (second.read(BASE, 4), second.read(at(16), 1)) == (b"then", b"\0")
    assert roots(world, snapshot) == {"r": BASE}


@row("SNAPSHOT-EPERM-1")
def test_nobody_attaches_a_snapshot_for_writing(world: World) -> None:
    snapshot = world.owner.vas_snapshot(world.space_with_segment()[0], world.name())
    for task in (world.owner, world.root):
        for type in (O_RDWR, O_WRONLY):
            world.fails("EPERM", task.vas_attach, 0, snapshot, type)
        task.vas_attach(0, snapshot, O_RDONLY)


@row("SNAPSHOT-EPERM-2")
def test_nobody_changes_the_map_of_a_snapshot(world: World) -> None:
    vid, _ = world.space_with_segment()
    snapshot = world.owner.vas_snapshot(vid, world.name())
    (item,) = world.http("owner").get(f"/v1/vas/{snapshot}/segments")["items"]
    other = world.segment(start=at(64))
    for task in (world.owner, world.root):
        world.fails("EPERM", task.vas_mmap, snapshot, at(32), PAGE, RW, ANON)
        world.fails("EPERM", task.vas_seg_attach, snapshot, other, O_RDONLY)
        world.fails("EPERM", task.vas_seg_detach, snapshot, item["sid"])
        world.fails("EPERM", task.vas_reset, snapshot)
    world.owner.vas_attach(0, snapshot, O_RDONLY)
    world.owner.vas_switch(snapshot)
    world.fails("EACCES", world.owner.mmap, at(32), PAGE, RW, ANON | 0x10)


@row("SNAPSHOT-EPERM-3")
def test_nobody_changes_roots_of_a_snapshot(world: World) -> None:
    vid, _ = world.space_with_segment()
    world.http("owner").call("PUT", f"/v1/vas/{vid}/roots/r", {"addr": hex(BASE)})
    snapshot = world.owner.vas_snapshot(vid, world.name())
    for account in ("owner", "root"):
        http = world.http(account)
        world.fails("EPERM", http.call, "PUT", f"/v1/vas/{snapshot}/roots/r", {"addr": hex(BASE)})
        world.fails("EPERM", http.call, "PUT", f"/v1/vas/{snapshot}/roots/new", {"addr": hex(BASE)})
        world.fails("EPERM", http.call, "DELETE", f"/v1/vas/{snapshot}/roots/r")
    assert roots(world, snapshot) == {"r": BASE}


@row("SNAPSHOT-SEG-EPERM-1")
def test_nobody_stores_into_a_snapshot_of_a_segment(world: World) -> None:
    sid = world.segment()
    store(world, sid, 0, b"then")
    snapshot = world.owner.vas_seg_snapshot(sid, world.name())
    store(world, sid, 0, b"now!")
    vid = world.space()
    for account, task in (("owner", world.owner), ("root", world.root)):
        headers = {"Content-Range": f"bytes 0-3/{4 * PAGE}"}
        path = f"/v1/segments/{snapshot}/data"
        world.fails("EPERM", world.http(account).call, "PATCH", path, raw=b"none", headers=headers)
        for type in (O_RDWR, O_WRONLY):
            world.fails("EPERM", task.vas_seg_attach, vid, snapshot, type)
    world.owner.vas_seg_attach(vid, snapshot, O_RDONLY)
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    assert world.owner.read(BASE, 4) == b"then"
    world.fails("EFAULT", world.owner.write, BASE, b"x")
    assert world.owner.vas_seg_getattr(snapshot).snapshot


@row("SNAPSHOT-SEGMENTS-1")
def test_the_segments_of_a_snapshot_are_snapshots(world: World) -> None:
    vid, sid = world.space_with_segment()
    snapshot = world.owner.vas_snapshot(vid, world.name())
    (item,) = world.http("owner").get(f"/v1/vas/{snapshot}/segments")["items"]
    attr = world.owner.vas_seg_getattr(item["sid"])
    assert (attr.snapshot, attr.origin) == (True, sid)


@row("SNAPSHOT-EACCES-1")
def test_snapshots_keep_the_rules_of_clones(world: World) -> None:
    vid, sid = world.space_with_segment()
    names = world.owner.vas_getattr(vid).name, world.owner.vas_seg_getattr(sid).name
    world.fails("EACCES", world.other.vas_snapshot, vid, world.name())
    world.fails("EACCES", world.other.vas_seg_snapshot, sid, world.name())
    world.fails("EEXIST", world.owner.vas_snapshot, vid, names[0])
    world.fails("EEXIST", world.owner.vas_seg_snapshot, sid, names[1])
    for bad in (0, -1, NO_ID):
        world.fails("EINVAL", world.owner.vas_snapshot, bad, world.name())
        world.fails("EINVAL", world.owner.vas_seg_snapshot, bad, world.name())


@row("SNAPSHOT-CLONE-1")
def test_a_clone_of_a_snapshot_can_be_written(world: World) -> None:
    """This is how one goes back: clone what was kept."""
    vid, _ = world.inside()
    world.owner.write(BASE, b"kept")
    snapshot = world.owner.vas_snapshot(vid, world.name())
    clone = world.owner.vas_clone(snapshot, world.name())
    assert not world.owner.vas_getattr(clone).snapshot
    second = world.task("owner")
    second.vas_attach(0, clone, O_RDWR)
    second.vas_switch(clone)
    second.write(BASE, b"new!")
    assert second.read(BASE, 4) == b"new!"
    assert lineage(world, "vas", clone)[0] == [snapshot, vid]


@row("SNAPSHOT-ATTR-1")
def test_a_snapshot_may_be_renamed_given_away_and_deleted(world: World) -> None:
    vid, _ = world.space_with_segment()
    snapshot = world.owner.vas_snapshot(vid, world.name())
    name = world.name()
    world.owner.vas_setattr(snapshot, name=name, mode=0o644)
    assert world.owner.vas_find(name) == snapshot
    world.owner.vas_delete(snapshot)
    world.fails("ESRCH", world.owner.vas_find, name)


@row("DIFF-SEG-1")
def test_a_clone_differs_in_the_pages_that_were_written(world: World) -> None:
    sid = world.segment(pages=16)
    store(world, sid, 0, b"x" * 16 * PAGE, 16 * PAGE)
    clone = world.owner.vas_seg_clone(sid, world.name())
    assert diff(world, "segments", sid, clone) == []
    for page in (3, 4, 9):
        store(world, clone, page * PAGE, b"y", 16 * PAGE)
    store(world, sid, 12 * PAGE, b"z", 16 * PAGE)
    runs = [(at(first), at(end), "changed") for first, end in ((3, 5), (9, 10), (12, 13))]
    assert diff(world, "segments", sid, clone) == runs
    assert diff(world, "segments", clone, sid) == runs


@row("DIFF-SEG-2")
def test_equal_bytes_do_not_differ_wherever_they_are_kept(world: World) -> None:
    sid = world.segment()
    clone = world.owner.vas_seg_clone(sid, world.name())
    for text in (b"one", b"two"):
        store(world, sid, 0, text)
    store(world, clone, 0, b"two")
    store(world, clone, PAGE, b"x")
    store(world, clone, PAGE, b"\0")
    assert diff(world, "segments", sid, clone) == []
    assert diff(world, "segments", sid, sid) == []


@row("DIFF-SEG-3")
def test_segments_of_no_kinship_are_compared_too(world: World) -> None:
    first, second = world.segment(), world.segment()
    store(world, first, PAGE, b"only here")
    assert diff(world, "segments", first, second) == [(at(1), at(2), "changed")]


@row("DIFF-VAS-1")
def test_two_spaces_are_compared_by_address(world: World) -> None:
    vid, _ = world.inside()
    put(world.owner, 16, 2)
    world.owner.write(at(16), b"both")
    clone = world.owner.vas_clone(vid, world.name())
    put(world.owner, 32)
    world.owner.write(at(32), b"left")
    world.owner.write(BASE + PAGE, b"changed")
    second = world.task("owner")
    second.vas_attach(0, clone, O_RDWR)
    second.vas_switch(clone)
    second.munmap(at(17), PAGE)
    put(second, 48)
    runs = diff(world, "vas", vid, clone)
    assert runs == [
        (at(1), at(2), "changed"), (at(17), at(18), "left"), (at(32), at(33), "left"), (at(48), at(49), "right"),
    ]  # fmt: skip


@row("DIFF-EINVAL-1")
def test_segments_of_different_ranges_are_not_compared(world: World) -> None:
    sid = world.segment()
    for other in (world.segment(start=BASE + PAGE), world.segment(pages=5), 0, -1, NO_ID):
        world.fails("EINVAL", diff, world, "segments", sid, other)
    world.fails("EINVAL", diff, world, "vas", world.space(), NO_ID)
    http = world.http("owner")
    for query in ("", "?other=", "?other=x"):
        world.fails("EINVAL", http.get, f"/v1/segments/{sid}/diff{query}")


@row("DIFF-EACCES-1")
def test_a_comparison_needs_the_read_bit_of_both(world: World) -> None:
    mine, theirs = world.segment(by=world.other), world.segment()
    world.fails("EACCES", diff, world, "segments", mine, theirs, "other")
    world.fails("EACCES", diff, world, "segments", theirs, mine, "other")
    spaces = world.space(by=world.other), world.space()
    world.fails("EACCES", diff, world, "vas", *spaces, "other")
    assert diff(world, "segments", mine, theirs, "root") == []


@row("RENAME-1")
def test_a_new_name_is_found_and_the_old_one_is_free(world: World) -> None:
    vid, sid = world.space_with_segment()
    old, new = world.owner.vas_getattr(vid).name, world.name()
    world.owner.vas_setattr(vid, name=new)
    assert world.owner.vas_find(new) == vid
    world.fails("ESRCH", world.owner.vas_find, old)
    assert world.owner.vas_create(old, 0o600) > vid
    world.owner.vas_seg_setattr(sid, name=new)
    assert world.owner.vas_seg_find(new) == sid


@row("RENAME-2")
def test_a_rename_changes_nothing_for_those_who_are_inside(world: World) -> None:
    vid, _ = world.inside()
    world.owner.write(BASE, b"stays")
    world.owner.vas_setattr(vid, name=world.name())
    assert (world.owner.active_vas(), world.owner.read(BASE, 5)) == (vid, b"stays")


@row("RENAME-EEXIST-1")
def test_a_name_that_another_has_is_refused(world: World) -> None:
    vid, sid = world.space_with_segment()
    other, segment = world.space(), world.segment()
    world.fails("EEXIST", world.owner.vas_setattr, vid, name=world.owner.vas_getattr(other).name)
    world.fails("EEXIST", world.owner.vas_seg_setattr, sid, name=world.owner.vas_seg_getattr(segment).name)
    own = world.owner.vas_getattr(vid).name
    assert world.owner.vas_setattr(vid, name=own) == 0


@row("RENAME-EINVAL-1")
def test_a_new_name_is_a_name(world: World) -> None:
    vid, sid = world.space_with_segment()
    for name in ("", "a\0b", "a\nb", "x" * 256):
        world.fails("EINVAL", world.owner.vas_setattr, vid, name=name)
        world.fails("EINVAL", world.owner.vas_seg_setattr, sid, name=name)


@row("RENAME-EPERM-1")
def test_only_owner_and_root_rename(world: World) -> None:
    vid, sid = world.space(0o666), world.segment(0o666)
    for task in (world.member, world.other):
        world.fails("EPERM", task.vas_setattr, vid, name=world.name())
        world.fails("EPERM", task.vas_seg_setattr, sid, name=world.name())
    world.root.vas_setattr(vid, name=world.name())
