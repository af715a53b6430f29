"""Root pointers, and mapping into spaces that nobody is in."""

import pytest

from engine.check import check
from engine.credentials import ROOT
from tests.engine.host import ALICE, BOB, FIXED, PRIVATE, RW, Host

pytestmark = pytest.mark.roomy


def test_roots_are_kept(host: Host) -> None:
    vid, other = host.space("a"), host.space("b")
    host.do("vas_set_root", vid, "head", host.base)
    host.do("vas_set_root", vid, "ü/tail", host.base + 1)
    host.do("vas_set_root", vid, "head", host.base + 8)
    host.do("vas_set_root", other, "head", host.base)
    for _ in range(2):
        assert host.do("vas_roots", vid) == {"head": host.base + 8, "ü/tail": host.base + 1}
        assert host.do("vas_get_root", vid, "head") == host.base + 8
        assert host.do("vas_get_root", other, "head") == host.base
        host.restart()
    host.do("vas_delete_root", vid, "head")
    host.restart()
    assert host.refused("vas_get_root", vid, "head") == "ENOENT"
    host.do("vas_delete", vid)
    host.restart()
    assert host.do("vas_roots", other) == {"head": host.base}


def test_roots_of_the_space_that_a_thread_is_in(host: Host) -> None:
    pid, vid = host.inside(0)
    host.do("set_root", pid, None, "head", host.base)
    assert host.do("get_root", pid, None, "head") == host.do("vas_get_root", vid, "head") == host.base
    reader = host.task()
    assert host.refused("set_root", reader, None, "head", host.base) == "EINVAL"
    assert host.refused("get_root", reader, None, "head") == "EINVAL"
    host.enter(reader, vid, 0)
    assert host.do("get_root", reader, None, "head") == host.base
    assert host.refused("set_root", reader, None, "head", host.base) == "EACCES"
    assert host.refused("get_root", reader, None, "tail") == "ENOENT"
    assert host.refused("get_root", reader, None, "head", cred=BOB) == "EPERM"


def test_bad_roots(host: Host) -> None:
    vid = host.do("vas_create", "lab", 0o640, "shared", cred=ALICE)
    for name in ("", "n" * 256, "a\nb"):
        assert host.refused("vas_set_root", vid, name, host.base) == "EINVAL"
        assert host.refused("vas_get_root", vid, name) == "EINVAL"
    for address in (-1, 0, host.geometry.user_end, 1 << 70):
        assert host.refused("vas_set_root", vid, "head", address) == "EINVAL"
    assert host.refused("vas_set_root", vid, "head", host.base, cred=BOB) == "EACCES"
    assert host.refused("vas_delete_root", vid, "head", cred=ALICE) == "ENOENT"
    assert host.refused("vas_get_root", vid, "head", cred=BOB) == "ENOENT"
    assert host.refused("vas_roots", 99) == host.refused("vas_set_root", 99, "head", host.base) == "EINVAL"
    assert host.do("vas_roots", vid) == {}


def test_roots_roll_back(host: Host) -> None:
    vid = host.space()
    host.do("vas_set_root", vid, "kept", host.base)
    machine = host.machine
    with machine.transaction() as txn:
        machine.vas_set_root(ROOT, vid, "kept", host.base + 1)
        machine.vas_set_root(ROOT, vid, "new", host.base)
        machine.vas_delete_root(ROOT, vid, "kept")
    txn.rollback()
    assert host.do("vas_roots", vid) == {"kept": host.base}


def test_mapping_into_a_space_that_nobody_is_in(host: Host) -> None:
    vid = host.space()
    found = host.do("vas_mmap", vid, 0, 2 * host.page, RW, PRIVATE)
    assert host.do("vas_mmap", vid, host.base, host.page, RW, PRIVATE | FIXED) == host.base
    host.do("vas_mprotect", vid, host.base, host.page, 1)
    host.do("vas_munmap", vid, found, host.page)
    host.restart()
    regions = [(region.start, region.end, region.prot) for region in host.do("vas_regions", vid)]
    assert regions == sorted(
        [(host.base, host.base + host.page, 1), (found + host.page, found + 2 * host.page, RW)]
    )


def test_who_is_inside_sees_it_at_once(host: Host) -> None:
    pid, vid = host.inside(0)
    where = host.do("vas_mmap", vid, 0, host.page, RW, PRIVATE)
    host.do("write", pid, None, where, b"seen")
    host.do("vas_mprotect", vid, where, host.page, 1)
    assert host.refused("write", pid, None, where, b"no") == "EFAULT"
    host.do("vas_munmap", vid, where, host.page)
    assert host.refused("read", pid, None, where, 1) == "EFAULT"


def test_mapping_from_outside_collides_as_from_inside(host: Host) -> None:
    pid, vid = host.task(), host.space()
    host.map_at(pid, 0, 1)
    host.do("vas_attach", pid, vid, 2)
    assert host.refused("vas_mmap", vid, host.base, host.page, RW, PRIVATE | FIXED) == "EEXIST"
    sid = host.segment(at=8)
    host.do("vas_seg_attach", vid, sid, 2)
    window = host.base + 8 * host.page
    assert host.refused("vas_mmap", vid, window, host.page, RW, PRIVATE | FIXED) == "EEXIST"
    assert host.refused("vas_munmap", vid, window, host.page) == "EBUSY"
    assert list(check(host.machine)) == []


def test_mapping_from_outside_needs_write_permission(host: Host) -> None:
    vid = host.do("vas_create", "lab", 0o644, "shared", cred=ALICE)
    for call, *args in (
        ("vas_mmap", 0, host.page, RW, PRIVATE),
        ("vas_munmap", host.base, host.page),
        ("vas_mprotect", host.base, host.page, 1),
    ):
        assert host.refused(call, vid, *args, cred=BOB) == "EACCES"
        assert host.refused(call, 99, *args) == "EINVAL"
    for length in (0, -1):
        assert host.refused("vas_mmap", vid, 0, length, RW, PRIVATE) == "EINVAL"
        assert host.refused("vas_munmap", vid, host.base, length) == "EINVAL"
    assert host.refused("vas_munmap", vid, host.base + 1, host.page) == "EINVAL"
    assert host.do("vas_regions", vid) == []
