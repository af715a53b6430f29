"""Clones, snapshots, reset and lineage: independent from the first moment on, and O(1) in pages."""

import pytest

from engine.changes import CloneObject, PutPages
from engine.check import check
from engine.credentials import ROOT
from engine.geometry import X86_64
from engine.machine import Machine
from engine.memory.eviction import evict
from tests.engine.host import ALICE, BOB, PRIVATE, RW, Host

PAGE = X86_64.page_size

pytestmark = pytest.mark.x86_64


def sound(host: Host) -> None:
    assert list(check(host.machine)) == []


def filled(host: Host, pages: int = 4) -> tuple[int, int]:
    """(task inside, space) with `pages` pages mapped, the first two written."""
    pid, vid = host.inside(pages)
    host.do("write", pid, None, host.base, b"a" * PAGE + b"b" * PAGE)
    return pid, vid


def enter_new(host: Host, vid: int, type: int = 2) -> int:
    pid = host.task()
    host.enter(pid, vid, type)
    return pid


def test_a_clone_reads_as_its_parent_and_goes_its_own_way(host: Host) -> None:
    parent, vid = filled(host)
    child = enter_new(host, host.do("vas_clone", vid, "copy"))
    assert host.do("read", child, None, host.base, 3 * PAGE) == b"a" * PAGE + b"b" * PAGE + bytes(PAGE)
    host.do("write", child, None, host.base, b"child")
    host.do("write", parent, None, host.base + PAGE, b"parent")
    assert host.do("read", parent, None, host.base, 6) == b"aaaaaa"
    assert host.do("read", child, None, host.base + PAGE, 6) == b"bbbbbb"
    sound(host)


@pytest.mark.parametrize("evicted", [False, True])
def test_both_sides_read_right_after_eviction_and_restart(host: Host, evicted: bool) -> None:
    parent, vid = filled(host)
    copy = host.do("vas_clone", vid, "copy")
    child = enter_new(host, copy)
    host.do("write", child, None, host.base + PAGE, b"child")
    host.do("write", parent, None, host.base, b"parent")
    if evicted:
        host.machine.objects.evict(1 << 20)
        sound(host)
    else:
        host.restart()
        parent, child = enter_new(host, vid), enter_new(host, copy)
    assert host.do("read", parent, None, host.base, 6) == b"parent"
    assert host.do("read", child, None, host.base, 6) == b"aaaaaa"
    assert host.do("read", parent, None, host.base + PAGE, 6) == b"bbbbbb"
    assert host.do("read", child, None, host.base + PAGE, 6) == b"childb"
    sound(host)


def test_what_was_written_relaxed_is_cloned_too(host: Host) -> None:
    parent, vid = filled(host)
    host.do("write", parent, None, host.base, b"relaxed", durable=False)
    copy = host.do("vas_clone", vid, "copy")
    host.restart()
    assert host.do("read", enter_new(host, copy), None, host.base, 7) == b"relaxed"
    sound(host)


def test_a_clone_costs_the_same_for_a_page_and_for_many(host: Host) -> None:
    _, small = filled(host)
    _, large = filled(host, 1 << 18)
    for vid in (small, large):
        host.do("vas_clone", vid, f"copy-{vid}")
        assert not [change for change in host.changes if isinstance(change, PutPages)]
        assert len([change for change in host.changes if isinstance(change, CloneObject)]) == 2
        assert len(host.changes) == 5


def test_deleting_the_parent_harms_no_child(host: Host) -> None:
    parent, vid = filled(host)
    copy = host.do("vas_clone", vid, "copy")
    host.do("exit", parent)
    host.do("vas_delete", vid)
    sound(host)
    host.machine.objects.evict(1 << 20)
    child = enter_new(host, copy)
    assert host.do("read", child, None, host.base, 2) == b"aa"
    host.restart()
    assert host.do("read", enter_new(host, copy), None, host.base + PAGE, 2) == b"bb"
    assert host.do("vas_getattr", copy).origin == vid
    assert host.do("vas_lineage", copy).origins == (vid,)
    sound(host)


def test_segments_are_cloned_with_their_space(host: Host) -> None:
    vid, sid = host.space(), host.segment("data")
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("seg_write", sid, 0, b"before")
    copy = host.do("vas_clone", vid, "copy")
    (held,) = host.do("vas_segments", copy)
    assert held.sid != sid and held.type == 2
    clone = host.do("vas_seg_getattr", held.sid)
    assert (clone.name, clone.origin, clone.attach_count) == ("copy/data", sid, 1)
    child = enter_new(host, copy)
    host.do("write", child, None, host.base, b"after!")
    assert host.do("seg_read", sid, 0, 6) == b"before"
    assert host.do("seg_read", held.sid, 0, 6) == b"after!"
    assert host.do("vas_find", "copy") == copy
    sound(host)


def test_names_of_cloned_segments_are_free_ones(host: Host) -> None:
    vid, sid = host.space(), host.segment("data")
    host.do("vas_seg_attach", vid, sid, 0)
    host.segment("copy/data", at=64)
    long = "n" * 255
    for name, expected in (("copy", "copy/data~2"), (long, long)):
        (held,) = host.do("vas_segments", host.do("vas_clone", vid, name))
        assert host.do("vas_seg_getattr", held.sid).name == expected
    sound(host)


def test_a_clone_belongs_to_the_caller_and_keeps_mode_and_sharing(host: Host) -> None:
    vid = host.do("vas_create", "lab", 0o644, "shared", cred=ALICE)
    copy = host.do("vas_clone", vid, "copy", cred=BOB)
    attr = host.do("vas_getattr", copy)
    assert (attr.uid, attr.gid, attr.mode, attr.sharing, attr.origin) == (1001, 100, 0o644, "shared", vid)
    assert (attr.snapshot, attr.lifetime, attr.image) == (False, "persistent", False)


def test_refused_clones_change_nothing(host: Host) -> None:
    vid, sid = host.space(mode=0o600), host.segment(mode=0o600)
    host.do("vas_seg_attach", vid, sid, 2)
    for call, number in (("vas_clone", vid), ("vas_seg_clone", sid), ("vas_snapshot", vid)):
        name = "space" if "seg" not in call else "segment"
        assert host.refused(call, number, name) == "EEXIST"
        assert host.refused(call, number, "") == "EINVAL"
        assert host.refused(call, 99, "new") == "EINVAL"
        assert host.refused(call, number, "new", cred=BOB) == "EACCES"
    assert len(host.machine.spaces.registry) == len(host.machine.segments.registry) == 1
    assert len(list(host.machine.objects)) <= 2
    sound(host)


def test_a_clone_that_is_rolled_back_leaves_no_trace(host: Host) -> None:
    parent, vid = filled(host)
    sid = host.segment("data", at=64)
    host.do("vas_seg_attach", vid, sid, 2)
    machine = host.machine
    with machine.transaction() as txn:
        copy = machine.vas_clone(ROOT, vid, "copy")
    txn.rollback()
    assert host.refused("vas_getattr", copy) == "EINVAL"
    assert host.refused("vas_find", "copy") == "ESRCH"
    sound(host)
    host.do("write", parent, None, host.base, b"more")
    assert host.do("read", parent, None, host.base, 5) == b"morea"
    host.machine.objects.evict(1 << 20)
    assert host.do("read", parent, None, host.base, 5) == b"morea"
    sound(host)


def test_resident_pages_that_clones_share_can_be_evicted() -> None:
    host = Host(frames=64)
    pid, vid = host.inside(48)
    host.do("write", pid, None, host.base, b"x" * (40 * PAGE))
    children = [enter_new(host, host.do("vas_clone", vid, f"copy-{number}")) for number in range(4)]
    for number, child in enumerate(children):
        host.do("write", child, None, host.base + number * PAGE, bytes([number]) * (30 * PAGE))
        sound(host)
    for number, child in enumerate(children):
        seen = host.do("read", child, None, host.base, 40 * PAGE)
        expected = bytearray(b"x" * (40 * PAGE))
        expected[number * PAGE : (number + 30) * PAGE] = bytes([number]) * (30 * PAGE)
        assert seen == bytes(expected)
    assert host.do("read", pid, None, host.base, 40 * PAGE) == b"x" * (40 * PAGE)
    sound(host)


def test_who_reads_a_shared_page_sees_no_stale_frame_after_eviction() -> None:
    host = Host(frames=64)
    pid, vid = filled(host)
    child = enter_new(host, host.do("vas_clone", vid, "copy"))
    for reader in (pid, child):
        assert host.do("read", reader, None, host.base, 1) == b"a"
    first = host.machine.spaces.registry.get(vid).memory.memory
    assert evict(first, 1 << 20) > 0
    host.do("write", host.inside(60)[0], None, host.base, b"z" * (50 * PAGE))
    for reader in (pid, child):
        assert host.do("read", reader, None, host.base, 1) == b"a"
    sound(host)


def test_clones_of_clones(host: Host) -> None:
    _, vid = filled(host)
    ids, chain = [vid], []
    for number in range(6):
        copy = host.do("vas_clone", ids[-1], f"copy-{number}")
        pid = enter_new(host, copy)
        host.do("write", pid, None, host.base + 2 * PAGE, f"generation {number}".encode())
        ids.append(copy)
        chain.append(pid)
    for number, pid in enumerate(chain):
        assert host.do("read", pid, None, host.base + 2 * PAGE, 12) == f"generation {number}".encode()
        assert host.do("read", pid, None, host.base, 1) == b"a"
    assert host.do("vas_lineage", ids[3]).origins == (ids[2], ids[1], ids[0])
    assert host.do("vas_lineage", ids[3]).clones == (ids[4],)
    sound(host)


# -- snapshots -------------------------------------------------------------------------------------------------------


def test_nobody_changes_a_snapshot(host: Host) -> None:
    writer, vid = filled(host)
    sid = host.segment("data", at=64)
    host.do("seg_write", sid, 0, b"kept")
    other = host.segment("other", at=128)
    host.do("vas_seg_attach", vid, sid, 2)
    snap = host.do("vas_snapshot", vid, "snap")
    (held,) = host.do("vas_segments", snap)
    pid = host.task()
    for type in (1, 2):
        assert host.refused("vas_attach", pid, snap, type) == "EPERM"
    assert host.refused("vas_seg_attach", snap, other, 0) == "EPERM"
    assert host.refused("vas_seg_detach", snap, held.sid) == "EPERM"
    assert host.refused("seg_write", held.sid, 0, b"x") == "EPERM"
    assert host.refused("vas_seg_attach", vid, held.sid, 2) == "EPERM"
    assert host.refused("vas_set_root", snap, "r", host.base) == "EPERM"
    assert host.refused("vas_mmap", snap, 0, PAGE, RW, PRIVATE) == "EPERM"
    assert host.refused("vas_munmap", snap, host.base, PAGE) == "EPERM"
    assert host.refused("vas_mprotect", snap, host.base, PAGE, 1) == "EPERM"
    assert host.refused("vas_reset", snap) == "EPERM"
    assert host.refused("vas_seg_reset", held.sid) == "EPERM"
    host.enter(pid, snap, 0)
    assert host.refused("write", pid, None, host.base, b"x") == "EFAULT"
    assert host.refused("mmap", pid, None, 0, PAGE, RW, PRIVATE) == "EACCES"
    host.do("write", writer, None, host.base, b"later")
    assert host.do("read", pid, None, host.base, 5) == b"aaaaa"
    assert host.do("read", pid, None, host.base + 64 * PAGE, 4) == b"kept"
    assert host.do("vas_getattr", snap).snapshot and host.do("vas_seg_getattr", held.sid).snapshot
    sound(host)


def test_a_snapshot_is_renamed_cloned_and_deleted(host: Host) -> None:
    _, vid = filled(host)
    snap = host.do("vas_snapshot", vid, "snap")
    host.do("vas_setattr", snap, name="kept")
    copy = host.do("vas_clone", snap, "copy")
    assert not host.do("vas_getattr", copy).snapshot
    pid = enter_new(host, copy)
    host.do("write", pid, None, host.base, b"new")
    host.restart()
    assert host.do("vas_getattr", snap).snapshot
    host.do("vas_delete", host.do("vas_find", "kept"))
    assert host.do("read", enter_new(host, copy), None, host.base, 4) == b"newa"
    sound(host)


# -- reset -----------------------------------------------------------------------------------------------------------


def test_reset_brings_bytes_map_and_roots_back(host: Host) -> None:
    parent, vid = filled(host)
    host.do("vas_set_root", vid, "head", host.base)
    copy = host.do("vas_clone", vid, "copy")
    child = enter_new(host, copy)
    host.do("write", child, None, host.base, b"changed")
    host.do("munmap", child, None, host.base + PAGE, PAGE)
    host.do("mmap", child, None, host.base + 32 * PAGE, PAGE, RW, PRIVATE | 0x10)
    host.do("vas_set_root", copy, "head", host.base + PAGE)
    host.do("vas_set_root", copy, "tail", host.base)
    host.do("write", parent, None, host.base, b"the parent went on")
    assert host.refused("vas_reset", copy) == "EBUSY"
    host.do("vas_switch", child, None, 0)
    host.do("vas_reset", copy)
    sound(host)
    for _ in range(2):
        child = enter_new(host, copy)
        assert host.do("read", child, None, host.base, 2 * PAGE) == b"a" * PAGE + b"b" * PAGE
        assert host.refused("read", child, None, host.base + 32 * PAGE, 1) == "EFAULT"
        assert host.do("vas_roots", copy) == {"head": host.base}
        assert host.do("vas_regions", copy) == host.do("vas_regions", vid)
        host.restart()


def test_reset_works_after_the_parent_is_gone_and_again(host: Host) -> None:
    parent, vid = filled(host)
    copy = host.do("vas_clone", vid, "copy")
    host.do("exit", parent)
    host.do("vas_delete", vid)
    for number in range(3):
        child = enter_new(host, copy)
        assert host.do("read", child, None, host.base, 1) == b"a"
        host.do("write", child, None, host.base, bytes([number]) * PAGE)
        host.do("exit", child)
        host.do("vas_reset", copy)
        sound(host)
        if number == 1:
            host.restart()
    assert host.do("read", enter_new(host, copy), None, host.base + PAGE, 1) == b"b"


def test_reset_of_a_space_resets_the_segments_cloned_with_it(host: Host) -> None:
    vid, sid = host.space(), host.segment("data")
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("seg_write", sid, 0, b"before")
    copy = host.do("vas_clone", vid, "copy")
    (held,) = host.do("vas_segments", copy)
    host.do("seg_write", held.sid, 0, b"after!")
    host.do("seg_write", sid, 0, b"parent")
    added = host.segment("added", at=64)
    host.do("vas_seg_attach", copy, added, 2)
    host.do("seg_write", added, 0, b"stays")
    host.do("vas_reset", copy)
    assert host.do("seg_read", held.sid, 0, 6) == b"before"
    assert host.do("seg_read", added, 0, 5) == b"stays"
    assert [each.sid for each in host.do("vas_segments", copy)] == sorted([held.sid, added])
    host.do("seg_write", held.sid, 0, b"again!")
    host.do("vas_seg_reset", held.sid)
    host.restart()
    assert host.do("seg_read", held.sid, 0, 6) == b"before"
    sound(host)


def test_reset_is_refused_to_strangers_and_for_what_is_no_clone(host: Host) -> None:
    vid, sid = host.space(mode=0o644), host.segment(mode=0o644)
    assert host.refused("vas_reset", vid) == host.refused("vas_seg_reset", sid) == "EINVAL"
    assert host.refused("vas_reset", 99) == host.refused("vas_seg_reset", 99) == "EINVAL"
    copy, clone = host.do("vas_clone", vid, "copy"), host.do("vas_seg_clone", sid, "clone")
    for mode in (0o644, 0o666):
        host.do("vas_setattr", copy, mode=mode)
        host.do("vas_seg_setattr", clone, mode=mode)
        assert host.refused("vas_reset", copy, cred=BOB) == "EPERM"
        assert host.refused("vas_seg_reset", clone, cred=BOB) == "EPERM"


def test_a_reset_that_is_rolled_back_changes_nothing(host: Host) -> None:
    _, vid = filled(host)
    copy = host.do("vas_clone", vid, "copy")
    child = enter_new(host, copy)
    host.do("write", child, None, host.base, b"changed")
    host.do("write", child, None, host.base + PAGE, b"relaxed", durable=False)
    host.do("vas_switch", child, None, 0)
    machine = host.machine
    with machine.transaction() as txn:
        machine.vas_reset(ROOT, copy)
    txn.rollback()
    sound(host)
    host.do("vas_switch", child, None, copy)
    assert host.do("read", child, None, host.base, 8) == b"changeda"
    host.restart()
    child = enter_new(host, copy)
    assert host.do("read", child, None, host.base + PAGE, 8) == b"relaxedb"


def test_a_region_in_the_way_of_a_reset_is_named(host: Host) -> None:
    _, vid = filled(host)
    copy = host.do("vas_clone", vid, "copy")
    host.do("vas_munmap", copy, host.base, 4 * PAGE)
    pid = host.task()
    host.do("vas_attach", pid, copy, 2)
    host.map_at(pid, 0, 1)
    assert host.refused("vas_reset", copy) == "EFAULT"
    assert host.do("vas_regions", copy) == []
    sound(host)


# -- attributes ------------------------------------------------------------------------------------------------------


def test_rename(host: Host) -> None:
    vid, sid = host.space("old", 0o644), host.segment("old")
    host.space("taken")
    host.segment("taken", at=64)
    for call, find, number in (("vas_setattr", "vas_find", vid), ("vas_seg_setattr", "vas_seg_find", sid)):
        assert host.refused(call, number, name="taken") == "EEXIST"
        assert host.refused(call, number, name="") == "EINVAL"
        assert host.refused(call, number, name="new", cred=BOB) == "EPERM"
        assert host.refused(call, number, name="new", mode=-1) == "EINVAL"
        assert host.do(find, "old") == number
        host.do(call, number, name="old")
        host.do(call, number, name="new")
        assert host.do(find, "new") == number
        assert host.refused(find, "old") == "ESRCH"
        host.restart()
        assert host.do(find, "new") == number
    host.space("old")
    sound(host)


def test_a_transient_space_goes_with_its_last_attachment(host: Host) -> None:
    vid = host.space("brief", lifetime="transient")
    first, second = host.task(), host.task()
    for pid in (first, second):
        host.do("vas_attach", pid, vid, 2)
    host.do("vas_detach", first, vid)
    assert host.do("vas_getattr", vid).lifetime == "transient"
    host.do("exit", second)
    assert host.refused("vas_getattr", vid) == "EINVAL"
    sound(host)


def test_a_transient_segment_goes_with_its_last_attachment(host: Host) -> None:
    vid, other = host.space("a"), host.space("b")
    sid = host.segment("brief")
    host.do("vas_seg_setattr", sid, lifetime="transient")
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("vas_seg_attach", other, sid, 2)
    host.do("vas_seg_detach", vid, sid)
    assert host.do("vas_seg_getattr", sid).lifetime == "transient"
    host.do("vas_delete", other)
    assert host.refused("vas_seg_getattr", sid) == "EINVAL"
    sound(host)


def test_what_is_transient_does_not_survive_a_restart(host: Host) -> None:
    vid, kept = host.space("brief", lifetime="transient"), host.space("kept")
    sid, held, free = host.segment("held"), host.segment("in both", at=64), host.segment("free", at=128)
    for number in (sid, held, free):
        host.do("vas_seg_setattr", number, lifetime="transient")
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("vas_seg_attach", vid, held, 2)
    host.do("vas_seg_attach", kept, held, 2)
    host.restart()
    assert host.refused("vas_getattr", vid) == host.refused("vas_seg_getattr", sid) == "EINVAL"
    assert host.refused("vas_seg_getattr", free) == "EINVAL"
    assert host.do("vas_seg_getattr", held).attach_count == 1
    host.do("vas_setattr", kept, lifetime="transient")
    host.do("vas_setattr", kept, lifetime="persistent")
    host.restart()
    assert host.do("vas_getattr", kept).lifetime == "persistent"
    assert host.refused("vas_setattr", kept, lifetime="eternal") == "EINVAL"
    sound(host)


def test_a_machine_starts_with_nothing_to_let_go() -> None:
    machine = Machine(X86_64)
    with machine.transaction() as txn:
        machine.start()
    assert txn.changes == []


def test_no_segment_is_reset_under_a_thread(host: Host) -> None:
    vid, sid = host.space(), host.segment("data")
    clone = host.do("vas_seg_clone", sid, "clone")
    host.do("vas_seg_attach", vid, clone, 2)
    pid = enter_new(host, vid)
    host.do("write", pid, None, host.base, b"changed")
    assert host.refused("vas_seg_reset", clone) == "EBUSY"
    host.do("vas_switch", pid, None, 0)
    host.do("vas_seg_reset", clone)
    assert host.do("seg_read", clone, 0, 7) == bytes(7)


def test_pages_that_a_reset_took_away_are_not_evicted_from_under_its_undo(host: Host) -> None:
    """A clone that shares them knows nothing of what was written relaxed before both are taken back."""
    _, vid = filled(host)
    child = enter_new(host, host.do("vas_clone", vid, "copy"))
    copy = host.do("vas_find", "copy")
    host.do("write", child, None, host.base, b"relaxed", durable=False)
    host.do("exit", child)
    with host.machine.transaction() as cloning:
        host.machine.vas_clone(ROOT, copy, "copy of the copy")
    with host.machine.transaction() as resetting:
        host.machine.vas_reset(ROOT, copy)
    host.machine.objects.evict(100)
    resetting.rollback()
    cloning.rollback()
    sound(host)
    assert host.do("read", enter_new(host, copy), None, host.base, 7) == b"relaxed"
    with host.machine.transaction() as txn:
        host.machine.flush()
    host.settle(txn)
    sound(host)
