"""mmap, munmap, mprotect, brk, msync, loads and stores: what Linux does, rule by rule."""

import pytest

from engine.changes import DropPages, DropRegion, PutPages, PutRegion
from engine.errors import Collision, EngineError, PageFault
from tests.engine.host import EVE, FIXED, NOREPLACE, PRIVATE, RW, SHARED_MAP, Host

MAP_GROWSDOWN = 0x100


@pytest.fixture
def pid(host: Host) -> int:
    return host.task()


# -- mmap --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errno", "place", "length", "flags", "why"),
    [
        ("EINVAL", 0, 0, PRIVATE, "no length"),
        ("EINVAL", 0.5, 0, PRIVATE | FIXED, "no length before not aligned"),
        ("EINVAL", 0.5, 0.5, PRIVATE | FIXED, "not aligned"),
        ("ENOMEM", 0, 1 << 52, PRIVATE, "longer than everything"),
        ("ENOMEM", 0.5, 1 << 52, PRIVATE | FIXED, "too long before not aligned"),
        ("ENOMEM", 1 << 52, 1, PRIVATE | FIXED, "beyond the end"),
        ("EINVAL", 0, 1, 0x20, "neither shared nor private"),
        ("EINVAL", 0, 1, 0x23, "both"),
        ("EINVAL", 0, 1, 0x02, "not anonymous"),
        ("EINVAL", 0, 1, SHARED_MAP | MAP_GROWSDOWN, "shared memory does not grow"),
        ("EEXIST", 1, 0.5, PRIVATE | NOREPLACE, "taken"),
        ("EEXIST", 1, 0.5, PRIVATE | FIXED | NOREPLACE, "taken, with both flags"),
        ("EEXIST", 1, 0.5, 0x20 | NOREPLACE, "taken before neither shared nor private"),
        ("", 0, 1, PRIVATE | NOREPLACE, "beside a neighbour"),
        ("", 1, 1, PRIVATE | FIXED, "replaces"),
    ],
)
def test_mmap_refuses_in_the_order_of_linux(
    host: Host, pid: int, errno: str, place: float, length: float, flags: int, why: str
) -> None:
    """`place` and `length` in pages, from the arena's start."""
    host.map_at(pid, 1, 2)
    where, size = host.base + int(place * host.page), int(length * host.page)
    assert host.refused("mmap", pid, None, where, size, RW, flags) == errno
    assert host.pages_of(pid) == [(0 if why == "beside a neighbour" else 1, 2, "rw-")]


@pytest.mark.roomy
def test_nothing_is_mapped_below_the_user_s_range(host: Host, pid: int) -> None:
    for where in (0, host.geometry.user_start - host.page):
        assert host.refused("mmap", pid, None, where, host.page, RW, PRIVATE | FIXED) == "EPERM"
        assert host.refused("mmap", pid, None, where, host.page, RW, PRIVATE | NOREPLACE) == "EPERM"


@pytest.mark.roomy
def test_a_hint_is_rounded_honoured_when_free_and_passed_over_when_taken(host: Host, pid: int) -> None:
    wanted = host.base + 5 * host.page
    assert host.do("mmap", pid, None, wanted + 7, 1, RW, PRIVATE) == wanted
    elsewhere = host.do("mmap", pid, None, wanted, 1, RW, PRIVATE)
    assert elsewhere == host.geometry.mmap_top - host.page
    assert host.do("mmap", pid, None, host.page + 1, 1, RW, PRIVATE) == host.geometry.user_start
    assert host.do("mmap", pid, None, host.page - 1, 1, RW, PRIVATE) == elsewhere - host.page


def test_places_are_found_top_down_around_what_both_owners_have(host: Host) -> None:
    pid, vid = host.inside(pages=0)
    top, page = host.geometry.arena_end, host.page
    host.do("vas_switch", pid, None, 0)
    host.do("mmap", pid, None, top - 2 * page, page, RW, PRIVATE | FIXED)
    host.do("vas_switch", pid, None, vid)
    assert host.do("mmap", pid, None, 0, page, RW, PRIVATE) == top - page
    assert host.do("mmap", pid, None, 0, 2 * page, RW, PRIVATE) == top - 4 * page


def test_fixed_replaces_splits_and_zeroes(host: Host, pid: int) -> None:
    where = host.map_at(pid, 0, 4)
    host.do("write", pid, None, where, b"x" * (4 * host.page))
    host.map_at(pid, 1, 2, prot=1)
    assert host.pages_of(pid) == [(0, 1, "rw-"), (1, 2, "r--"), (2, 4, "rw-")]
    shown = host.do("read", pid, None, where, 4 * host.page)
    assert shown == b"x" * host.page + bytes(host.page) + b"x" * (2 * host.page)


def test_neighbours_merge_and_a_filled_hole_merges_three(host: Host, pid: int) -> None:
    host.map_at(pid, 0, 1)
    host.map_at(pid, 2, 3)
    assert host.pages_of(pid) == [(0, 1, "rw-"), (2, 3, "rw-")]
    host.map_at(pid, 1, 2)
    assert host.pages_of(pid) == [(0, 3, "rw-")]


def test_shared_maps_do_not_merge_but_the_parts_of_one_do(host: Host, pid: int) -> None:
    where = host.map_at(pid, 0, 2, flags=SHARED_MAP)
    host.map_at(pid, 2, 3, flags=SHARED_MAP)
    assert host.pages_of(pid) == [(0, 2, "rw-"), (2, 3, "rw-")]
    host.do("mprotect", pid, None, where, host.page, 1)
    assert host.pages_of(pid) == [(0, 1, "r--"), (1, 2, "rw-"), (2, 3, "rw-")]
    host.do("mprotect", pid, None, where, host.page, 3)
    assert host.pages_of(pid) == [(0, 2, "rw-"), (2, 3, "rw-")]


def test_too_many_regions_are_refused_and_nothing_is_unmapped(host: Host, pid: int) -> None:
    """As on Linux a mapping may be the one too many, and the split of another region not."""
    host.map_at(pid, 0, 3)
    host.do("prlimit", pid, "map_count", 5)
    host.do("munmap", pid, None, host.base + host.page, host.page)
    assert host.pages_of(pid) == [(0, 1, "rw-"), (2, 3, "rw-")]
    host.map_at(pid, 4, 7, prot=1)
    assert host.refused("munmap", pid, None, host.base + 5 * host.page, host.page) == "ENOMEM"
    assert host.refused("mprotect", pid, None, host.base + 5 * host.page, host.page, 0) == "ENOMEM"
    assert host.refused("madvise", pid, None, host.base + 5 * host.page, host.page, 10) == "EAGAIN"
    assert (
        host.refused("mmap", pid, None, host.base + 7 * host.page, host.page, 1, PRIVATE | FIXED) == "ENOMEM"
    )
    assert host.pages_of(pid) == [(0, 1, "rw-"), (2, 3, "rw-"), (4, 7, "r--")]
    host.do("munmap", pid, None, host.base + 5 * host.page, 2 * host.page)
    assert host.pages_of(pid)[2:] == [(4, 5, "r--")]


# -- munmap, mprotect --------------------------------------------------------------------------------------------


def test_munmap_passes_over_holes_and_splits(host: Host, pid: int) -> None:
    host.map_at(pid, 0, 3)
    host.map_at(pid, 4, 5)
    host.do("munmap", pid, None, host.base + host.page, host.page)
    assert host.pages_of(pid) == [(0, 1, "rw-"), (2, 3, "rw-"), (4, 5, "rw-")]
    host.do("munmap", pid, None, host.base, 4 * host.page)
    assert host.pages_of(pid) == [(4, 5, "rw-")]
    host.do("munmap", pid, None, host.base, host.page)


@pytest.mark.parametrize(
    ("place", "length"), [(0, 0), (1, 4096), (0, -1), (-(1 << 62), 4096), (0, 1 << 60)], ids=str
)
def test_munmap_refuses_bad_ranges(host: Host, pid: int, place: int, length: int) -> None:
    assert host.refused("munmap", pid, None, host.base + place, length) == "EINVAL"


def test_mprotect_changes_what_lies_before_a_hole(host: Host, pid: int) -> None:
    host.map_at(pid, 0, 2)
    with pytest.raises(EngineError) as refused:
        host.do("mprotect", pid, None, host.base + host.page, 3 * host.page, 1)
    assert (refused.value.errno, refused.value.data["address"]) == ("ENOMEM", host.base + 2 * host.page)
    assert refused.value.partial
    assert host.pages_of(pid) == [(0, 1, "rw-"), (1, 2, "r--")]


def test_mprotect_that_starts_in_a_hole_changes_nothing(host: Host, pid: int) -> None:
    host.map_at(pid, 1, 2)
    with pytest.raises(EngineError, match="ENOMEM") as refused:
        host.do("mprotect", pid, None, host.base, 2 * host.page, 1)
    assert not refused.value.partial
    assert host.pages_of(pid) == [(1, 2, "rw-")]


def test_mprotect_refuses_bad_arguments_but_not_an_empty_range(host: Host, pid: int) -> None:
    assert host.refused("mprotect", pid, None, host.base, 0, 1) == ""
    assert host.refused("mprotect", pid, None, host.base, 0, 0x1000) == ""
    assert host.refused("mprotect", pid, None, host.base + 1, 0, 1) == "EINVAL"
    assert host.refused("mprotect", pid, None, host.base, host.page, 0x1000) == "EINVAL"


def test_mprotect_stops_at_a_segment_attached_read_only_and_keeps_what_it_did(host: Host) -> None:
    pid, vid = host.inside(pages=1)
    host.do("vas_seg_attach", vid, host.segment(at=1), 0)
    with pytest.raises(EngineError) as refused:
        host.do("mprotect", pid, None, host.base, 2 * host.page, 7)
    assert (refused.value.errno, refused.value.partial) == ("EACCES", True)
    assert [region.prot for region in host.do("vas_regions", vid)] == [7, 1]
    assert host.refused("mprotect", pid, None, host.base + host.page, host.page, 5) == ""


# -- brk ---------------------------------------------------------------------------------------------------------


def test_brk_grows_shrinks_and_forgets(host: Host, pid: int) -> None:
    heap = host.do("brk", pid, None)
    assert host.do("brk", pid, None, heap + 5) == heap + 5
    host.do("write", pid, None, heap, b"heap")
    assert host.do("brk", pid, None, heap - 1) == heap + 5
    assert host.do("brk", pid, None, heap) == heap
    assert host.refused("read", pid, None, heap, 1) == "EFAULT"
    host.do("brk", pid, None, heap + 1)
    assert host.do("read", pid, None, heap, 4) == bytes(4)


@pytest.mark.roomy
def test_brk_that_meets_something_changes_nothing_and_says_what(host: Host, pid: int) -> None:
    heap, page = host.do("brk", pid, None), host.page
    host.do("mmap", pid, None, heap + 2 * page, page, RW, PRIVATE | FIXED)
    with pytest.raises(Collision) as refused:
        host.do("brk", pid, None, heap + 3 * page)
    assert (refused.value.errno, refused.value.holder) == ("ENOMEM", f"task {pid}")
    assert (refused.value.held.start, refused.value.wanted.start) == (heap + 2 * page, heap)
    assert host.do("brk", pid, None) == heap
    assert host.refused("brk", pid, None, host.geometry.arena_start + 1) == "ENOMEM"


def test_the_heap_grows_inside_a_space_and_is_seen_everywhere(host: Host) -> None:
    pid, _ = host.inside(pages=0)
    heap = host.do("brk", pid, None)
    host.do("brk", pid, None, heap + 1)
    host.do("write", pid, None, heap, b"kept")
    assert host.changes == []
    host.do("vas_switch", pid, None, 0)
    assert host.do("read", pid, None, heap, 4) == b"kept"


# -- loads and stores --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prot", "may_load", "may_store"),
    [
        (0, False, False),
        (1, True, False),
        (2, True, True),
        (3, True, True),
        (4, False, False),
        (5, True, False),
    ],
)
def test_rights_are_those_of_the_processor(
    host: Host, pid: int, prot: int, may_load: bool, may_store: bool
) -> None:
    where = host.map_at(pid, 0, 1, prot=prot)
    assert (host.refused("read", pid, None, where, 1) == "") is may_load
    assert (host.refused("write", pid, None, where, b"x") == "") is may_store


def test_a_fault_names_the_first_byte_that_could_not_be_accessed(host: Host, pid: int) -> None:
    where = host.map_at(pid, 0, 1)
    with pytest.raises(PageFault) as fault:
        host.do("read", pid, None, where + 5, 2 * host.page)
    assert fault.value.data == {"address": where + host.page, "access": "read", "reason": "no region"}
    host.map_at(pid, 1, 2, prot=1)
    with pytest.raises(PageFault) as fault:
        host.do("write", pid, None, where, bytes(2 * host.page))
    assert fault.value.data == {"address": where + host.page, "access": "write", "reason": "region is r--"}
    with pytest.raises(PageFault) as fault:
        host.do("read", pid, None, -5, 1)
    assert fault.value.address == -5


def test_nothing_is_read_and_written_anywhere(host: Host, pid: int) -> None:
    assert host.do("read", pid, None, -1, 0) == b""
    assert host.do("write", pid, None, 1 << 70, b"") == 0
    assert host.refused("read", pid, None, host.base, -1) == "EINVAL"


def test_threads_and_tids_are_the_task_s_own(host: Host, pid: int) -> None:
    tid = host.do("thread", pid)
    where = host.map_at(pid, 0, 1)
    host.do("write", pid, tid, where, b"one")
    assert host.do("read", pid, None, where, 3) == b"one"
    assert host.refused("read", pid, 0, where, 3) == "ESRCH"
    assert host.refused("read", pid, host.task(), where, 1) == "ESRCH"
    assert host.refused("read", pid, tid, where, 1, cred=EVE) == "EPERM"


# -- what the store is asked to remember -------------------------------------------------------------------------


def test_a_durable_store_puts_whole_pages_and_a_relaxed_one_nothing(host: Host) -> None:
    pid, _ = host.inside()
    host.do("write", pid, None, host.base + host.page - 2, b"abcd", durable=False)
    assert host.changes == []
    host.do("write", pid, None, host.base, b"xy")
    [put] = host.changes
    assert isinstance(put, PutPages)
    assert (put.pages, put.data[:2], put.data[-2:]) == ((host.base // host.page,), b"xy", b"ab")


def test_msync_puts_what_was_written_relaxed_once(host: Host) -> None:
    pid, _ = host.inside()
    for number in (0, 2, 3):
        host.do("write", pid, None, host.base + number * host.page, b"x", durable=False)
    host.do("msync", pid, None, host.base + 2 * host.page, host.page)
    first = host.base // host.page
    assert [change.pages for change in host.changes if isinstance(change, PutPages)] == [(first + 2,)]
    host.do("msync", pid, None)
    assert [change.pages for change in host.changes if isinstance(change, PutPages)] == [(first, first + 3)]
    host.do("msync", pid, None)
    assert host.changes == []


def test_msync_tells_holes_and_syncs_beyond_them(host: Host) -> None:
    pid, _ = host.inside()
    host.do("munmap", pid, None, host.base + host.page, host.page)
    for number in (0, 2):
        host.do("write", pid, None, host.base + number * host.page, b"x", durable=False)
    with pytest.raises(EngineError, match="ENOMEM") as refused:
        host.do("msync", pid, None, host.base, 4 * host.page)
    assert refused.value.data["address"] == host.base + host.page
    assert len(host.changes) == 2
    assert host.refused("msync", pid, None, host.base + 1, 0) == "EINVAL"
    assert host.refused("msync", pid, None, host.base, 0, 5) == "EINVAL"
    assert host.refused("msync", pid, None, host.base, 0, 8) == "EINVAL"


def test_regions_of_a_space_are_put_and_dropped_as_they_change(host: Host) -> None:
    pid, vid = host.inside(pages=4)
    base, page = host.base, host.page
    host.do("munmap", pid, None, base + page, page)
    put = {change.record.start for change in host.changes if isinstance(change, PutRegion)}
    gone = [change for change in host.changes if isinstance(change, DropPages)]
    assert put == {base, base + 2 * page}
    assert [(drop.first, drop.count) for drop in gone] == [(base // page + 1, 1)]
    host.do("munmap", pid, None, base, page)
    assert DropRegion(vid, base) in host.changes


def test_memory_of_a_task_is_never_told_to_the_store(host: Host) -> None:
    pid, _ = host.inside()
    host.do("vas_switch", pid, None, 0)
    where = host.do("mmap", pid, None, 0, host.page, RW, SHARED_MAP)
    host.do("write", pid, None, where, b"volatile")
    host.do("munmap", pid, None, where, host.page)
    assert host.changes == []


def test_a_growing_region_of_a_space_merges_the_same_before_and_after_a_restart(host: Host) -> None:
    pid, vid = host.inside(pages=1)
    host.do("mmap", pid, None, host.base + host.page, host.page, RW, PRIVATE | FIXED | MAP_GROWSDOWN)
    before = host.do("vas_regions", vid)
    host.restart()
    assert host.do("vas_regions", vid) == before
    assert len(before) == 1
