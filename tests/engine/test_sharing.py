"""Spaces and segments seen by several: rights, coherence, collisions, and what survives a restart."""

from typing import Any

import pytest

from engine.credentials import ROOT
from engine.errors import Collision
from engine.geometry import Geometry
from tests.engine.conftest import MakeHost
from tests.engine.host import ALICE, EVE, FIXED, NOREPLACE, PRIVATE, RW, SHARED_MAP, Host


def both(host: Host, pages: int = 4) -> tuple[int, int, int]:
    """(pid, pid, vid) of two tasks inside one shared space."""
    pid, vid = host.inside(pages)
    other = host.task()
    host.enter(other, vid)
    return pid, other, vid


# -- coherence ---------------------------------------------------------------------------------------------------


def test_a_store_is_seen_by_who_had_read_zeros_there(host: Host) -> None:
    writer, reader, _ = both(host)
    assert host.do("read", reader, None, host.base, 4) == bytes(4)
    host.do("write", writer, None, host.base, b"seen")
    assert host.do("read", reader, None, host.base, 4) == b"seen"


def test_a_store_by_offset_is_seen_through_every_window(host: Host) -> None:
    sid = host.segment()
    readers = []
    for name in ("one", "two"):
        vid, pid = host.space(name), host.task()
        host.do("vas_seg_attach", vid, sid, 2)
        host.enter(pid, vid)
        assert host.do("read", pid, None, host.base + host.page, 4) == bytes(4)
        readers.append(pid)
    host.do("seg_write", sid, host.page, b"seen")
    assert [host.do("read", pid, None, host.base + host.page, 4) for pid in readers] == [b"seen"] * 2
    host.do("write", readers[0], None, host.base + host.page, b"back")
    assert host.do("seg_read", sid, host.page, 4) == b"back"
    assert host.do("read", readers[1], None, host.base + host.page, 4) == b"back"


def test_what_one_unmaps_or_protects_is_so_for_all(host: Host) -> None:
    pid, other, _ = both(host)
    for who in (pid, other):
        host.do("write", who, None, host.base, bytes(3 * host.page))
    host.do("munmap", pid, None, host.base, host.page)
    host.do("mprotect", pid, None, host.base + host.page, host.page, 1)
    assert host.refused("read", other, None, host.base, 1) == "EFAULT"
    assert host.refused("write", other, None, host.base + host.page, b"x") == "EFAULT"
    host.do("mmap", other, None, host.base, host.page, RW, PRIVATE | FIXED)
    assert host.do("read", pid, None, host.base, 1) == b"\0"


def test_an_unmapped_page_comes_back_as_zeros_after_a_restart_too(host: Host) -> None:
    pid, vid = host.inside(pages=2)
    host.do("write", pid, None, host.base, b"x" * (2 * host.page))
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    host.do("munmap", pid, None, host.base, host.page)
    host.do("mmap", pid, None, host.base, host.page, RW, PRIVATE | FIXED)
    shown = bytes(host.page) + b"x" * host.page
    assert host.do("read", pid, None, host.base, 2 * host.page) == shown
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    assert host.do("read", pid, None, host.base, 2 * host.page) == shown


# -- rights ------------------------------------------------------------------------------------------------------


def test_a_read_only_attachment_reads_and_changes_nothing(host: Host) -> None:
    pid, vid = host.inside(pages=2)
    reader = host.task()
    host.enter(reader, vid, 0)
    page = host.page
    assert host.do("read", reader, None, host.base, 1) == b"\0"
    assert host.refused("write", reader, None, host.base, b"x") == "EFAULT"
    for call, *args in (
        ("mmap", host.base + 4 * page, page, RW, PRIVATE),
        ("munmap", host.base, page),
        ("mprotect", host.base, page, RW),
    ):
        assert host.refused(call, reader, None, *args) == "EACCES"
    assert host.refused("munmap", reader, None, host.data, page) == ""
    assert host.refused("write", pid, None, host.base, b"x") == ""


def test_a_write_only_attachment_still_reads(host: Host) -> None:
    _, vid = host.inside(pages=1)
    writer = host.task()
    host.enter(writer, vid, 1)
    host.do("write", writer, None, host.base, b"x")
    assert host.do("read", writer, None, host.base, 1) == b"x"


def test_a_read_only_window_cannot_be_made_writable(host: Host) -> None:
    vid, pid = host.space(), host.task()
    host.do("vas_seg_attach", vid, host.segment(), 0)
    host.enter(pid, vid)
    assert host.refused("mprotect", pid, None, host.base, host.page, RW) == "EACCES"
    assert host.refused("mprotect", pid, None, host.base, host.page, 5) == ""
    assert host.refused("write", pid, None, host.base, b"x") == "EFAULT"


def test_a_window_leaves_by_detach_only(host: Host) -> None:
    vid, pid = host.space(), host.task()
    sid = host.segment(pages=2)
    host.do("vas_seg_attach", vid, sid, 2)
    host.enter(pid, vid)
    assert host.refused("munmap", pid, None, host.base, host.page) == "EBUSY"
    with pytest.raises(Collision) as refused:
        host.do("mmap", pid, None, host.base + host.page, host.page, RW, PRIVATE | FIXED)
    assert (refused.value.errno, refused.value.holder) == ("EEXIST", f"segment {sid} in space {vid}")
    host.do("mprotect", pid, None, host.base, host.page, 1)
    host.do("exit", pid)
    host.do("vas_seg_detach", vid, sid)
    assert host.do("vas_regions", vid) == []
    assert host.do("vas_segments", vid) == []


def test_a_chmod_does_not_end_an_attachment(host: Host) -> None:
    vid, pid = host.space(mode=0o666), host.task(EVE)
    host.do("vas_attach", pid, vid, 2, cred=EVE)
    host.do("vas_setattr", vid, 0)
    host.do("vas_switch", pid, None, vid, cred=EVE)
    assert host.refused("mmap", pid, None, 0, host.page, RW, PRIVATE, cred=EVE) == ""
    host.do("vas_switch", pid, None, 0, cred=EVE)
    host.do("vas_detach", pid, vid, cred=EVE)
    assert host.refused("vas_attach", pid, vid, 0, cred=EVE) == "EACCES"


def test_many_readers_or_one_writer_of_a_segment_counted_over_spaces(host: Host) -> None:
    sid = host.segment(sharing="exclusive")
    one, two, three = (host.space(name) for name in ("one", "two", "three"))
    assert [host.refused("vas_seg_attach", vid, sid, 0) for vid in (one, two)] == ["", ""]
    assert host.refused("vas_seg_attach", three, sid, 2) == "EBUSY"
    host.do("vas_seg_detach", one, sid)
    host.do("vas_seg_detach", two, sid)
    assert host.refused("vas_seg_attach", three, sid, 2) == ""
    assert host.refused("vas_seg_attach", one, sid, 0) == "EBUSY"
    assert host.machine.vas_seg_getattr(ROOT, sid).attach_count == 1


# -- collisions --------------------------------------------------------------------------------------------------


def test_collisions_are_refused_on_every_way_and_name_both(host: Host) -> None:
    pid, vid = host.inside(pages=2)
    base, page = host.base, host.page
    host.do("vas_switch", pid, None, 0)
    mine = host.do("mmap", pid, None, base + 8 * page, 2 * page, RW, PRIVATE | FIXED)
    sid = host.segment("over", pages=2, at=7)
    other = host.space("other")
    host.do("vas_seg_attach", other, sid, 2)
    cases: list[tuple[str, tuple[Any, ...], int, int, str]] = [
        ("EFAULT", ("vas_attach", pid, other, 2), base + 7 * page, mine, f"task {pid}"),
        ("EFAULT", ("vas_seg_attach", vid, sid, 2), base + 7 * page, mine, f"task {pid}"),
        (
            "EEXIST",
            ("mmap", pid, None, base + page, page, RW, PRIVATE | FIXED),
            base + page,
            base,
            f"space {vid}",
        ),
        ("EEXIST", ("mmap", pid, None, base, page, RW, PRIVATE | NOREPLACE), base, base, f"space {vid}"),
    ]
    before = host.do("maps_text", pid), host.do("vas_regions", vid)
    for errno, call, wanted, held, holder in cases:
        with pytest.raises(Collision) as refused:
            host.do(*call)
        error = refused.value
        assert (error.errno, error.wanted.start, error.held.start, error.holder) == (
            errno,
            wanted,
            held,
            holder,
        )
        assert error.data["address"] == max(wanted, held)
        assert (host.do("maps_text", pid), host.do("vas_regions", vid)) == before


def test_inside_a_space_the_task_s_memory_is_in_the_way_too(host: Host) -> None:
    pid, vid = host.inside(pages=0)
    with pytest.raises(Collision) as refused:
        host.do("mmap", pid, None, host.data, host.page, RW, PRIVATE | FIXED)
    assert (refused.value.errno, refused.value.holder) == ("EEXIST", f"task {pid}")
    other = host.task()
    host.do("mmap", other, None, host.base, host.page, RW, PRIVATE | FIXED)
    host.do("vas_attach", other, vid, 2)
    assert host.refused("mmap", pid, None, host.base, host.page, RW, PRIVATE | NOREPLACE) == "EEXIST"


def test_two_spaces_of_one_task_may_use_the_same_addresses(host: Host) -> None:
    pid, first = host.inside(pages=1)
    second = host.space("second")
    host.enter(pid, second)
    host.do("mmap", pid, None, host.base, host.page, RW, PRIVATE | FIXED)
    for vid, data in ((first, b"1"), (second, b"2")):
        host.do("vas_switch", pid, None, vid)
        host.do("write", pid, None, host.base, data)
    seen = []
    for vid in (first, second):
        host.do("vas_switch", pid, None, vid)
        seen.append(host.do("read", pid, None, host.base, 1))
    assert seen == [b"1", b"2"]


# -- attributes and restart --------------------------------------------------------------------------------------


def test_attributes_tell_who_has_what(host: Host) -> None:
    vid = host.space("space", 0o640, "shared", cred=ALICE)
    sid = host.segment("segment", mode=0o604)
    host.do("vas_seg_attach", vid, sid, 0)
    host.do("vas_attach", host.task(), vid, 2)
    space, segment = host.machine.vas_getattr(EVE, vid), host.machine.vas_seg_getattr(EVE, sid)
    assert (space.uid, space.gid, space.mode, space.sharing) == (1000, 100, 0o640, "shared")
    assert (space.attach_count, space.segments, segment.attach_count) == (1, (sid,), 1)
    assert (segment.mode, segment.size, segment.start) == (0o604, 4 * host.page, host.base)
    assert host.machine.vas_list(EVE) == [space]
    assert host.machine.vas_seg_list(EVE) == [segment]


def test_a_restart_shows_the_same_and_uses_no_id_again(make_host: MakeHost, geometry: Geometry) -> None:
    host = make_host(geometry, 64)
    pid, vid = host.inside(pages=3)
    sid = host.segment(at=4, pages=2)
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("mprotect", pid, None, host.base + host.page, host.page, 1)
    host.do("mprotect", pid, None, host.base + 4 * host.page, host.page, 1)
    host.do("write", pid, None, host.base, b"own", durable=False)
    host.do("write", pid, None, host.base + 5 * host.page, b"window")
    host.do("vas_delete", host.space("gone"))
    host.do("vas_seg_delete", host.segment("gone", at=6, pages=1))
    host.do("exit", pid)
    before = host.machine.vas_list(ROOT), host.machine.vas_seg_list(ROOT), host.do("vas_regions", vid)
    host.restart()
    assert (
        host.machine.vas_list(ROOT),
        host.machine.vas_seg_list(ROOT),
        host.do("vas_regions", vid),
    ) == before
    assert host.machine.tasks(ROOT) == []
    assert (host.space("gone"), host.segment("gone", at=6, pages=1)) == (3, 3)
    pid = host.task()
    host.enter(pid, vid)
    assert host.do("read", pid, None, host.base, 3) == b"own"
    assert host.do("read", pid, None, host.base + 5 * host.page, 6) == b"window"


def test_deleting_a_space_frees_its_memory_and_keeps_segments(host: Host) -> None:
    pid, vid = host.inside(pages=4)
    sid = host.segment(at=4)
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("write", pid, None, host.base, b"x" * (4 * host.page))
    host.do("write", pid, None, host.base + 4 * host.page, b"kept")
    host.do("exit", pid)
    host.do("vas_delete", vid)
    assert host.machine.pool.free_count == host.frames - 1
    assert host.do("seg_read", sid, 0, 4) == b"kept"
    host.do("vas_seg_delete", sid)
    assert host.machine.pool.free_count == host.frames
    assert host.store.load().regions == {}


def test_a_region_made_inside_a_space_is_the_space_s_shared_or_private(host: Host) -> None:
    pid, vid = host.inside(pages=0)
    host.do("mmap", pid, None, host.base, host.page, RW, SHARED_MAP | FIXED)
    host.do("mmap", pid, None, host.base + host.page, host.page, RW, PRIVATE | FIXED)
    host.do("write", pid, None, host.base, b"x" * (2 * host.page))
    host.do("exit", pid)
    other = host.task()
    host.enter(other, vid)
    assert host.do("read", other, None, host.base, 2 * host.page) == b"x" * (2 * host.page)
    assert [region.shared for region in host.do("vas_regions", vid)] == [True, False]
