"""Swap under the resident limit: tasks' own memory across forks, shared memory, spaces; failures; the memory limit."""

import pytest

from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import TOY, X86_64, Geometry
from tests.engine.conftest import MakeHost
from tests.engine.host import PRIVATE, RW, SHARED_MAP, Host

FRAMES, SLOTS, PAGES = 4, 16, 8


@pytest.fixture
def tight(make_host: MakeHost, geometry: Geometry) -> Host:
    """Four page frames, sixteen pages of swap."""
    return make_host(geometry, FRAMES, SLOTS)


def filled(host: Host, letter: bytes = b"a", flags: int = PRIVATE) -> int:
    """A task with eight pages in the arena, the n-th full of the n-th letter from `letter` on."""
    pid = host.task()
    host.map_at(pid, 0, PAGES, flags=flags)
    for number in range(PAGES):
        host.do("write", pid, None, host.base + number * host.page, bytes([letter[0] + number]) * host.page)
    return pid


def shown(host: Host, pid: int) -> str:
    """The letters of the pages, each page being full of one."""
    letters = []
    for number in range(PAGES):
        data = host.do("read", pid, None, host.base + number * host.page, host.page)
        assert len(set(data)) == 1
        letters.append(chr(data[0]))
    return "".join(letters)


@pytest.mark.everywhere
def test_memory_beyond_the_frames_goes_out_and_comes_back(tight: Host) -> None:
    pid = filled(tight)
    assert tight.machine.slots.used >= PAGES - FRAMES
    for _ in range(3):
        assert shown(tight, pid) == "abcdefgh"
    tight.do("write", pid, None, tight.base, b"Z" * tight.page)
    tight.do("write", pid, None, tight.base + 7 * tight.page, b"Y" * tight.page)
    assert shown(tight, pid) == "ZbcdefgY"


def test_what_is_given_up_leaves_the_swap_area(tight: Host) -> None:
    pid = filled(tight)
    tight.do("munmap", pid, None, tight.base, 2 * tight.page)
    tight.do("madvise", pid, None, tight.base + 2 * tight.page, 2 * tight.page, 4)
    assert shown_from(tight, pid, 2) == "\0\0efgh"
    tight.do("exit", pid)
    assert (tight.machine.slots.used, tight.machine.pool.free_count) == (0, FRAMES)


def shown_from(host: Host, pid: int, first: int) -> str:
    return "".join(
        host.do("read", pid, None, host.base + number * host.page, 1).decode()
        for number in range(first, PAGES)
    )


def test_parent_and_child_share_what_is_swapped_until_one_writes(tight: Host) -> None:
    pid = filled(tight)
    child = tight.do("fork", pid).pid
    assert (shown(tight, pid), shown(tight, child)) == ("abcdefgh", "abcdefgh")
    for number in (0, 3, 7):
        tight.do("write", child, None, tight.base + number * tight.page, b"C" * tight.page)
    grandchild = tight.do("fork", child).pid
    tight.do("write", pid, None, tight.base + 3 * tight.page, b"P" * tight.page)
    assert [shown(tight, who) for who in (pid, child, grandchild)] == ["abcPefgh", "CbcCefgC", "CbcCefgC"]
    tight.do("exit", child)
    assert [shown(tight, who) for who in (pid, grandchild)] == ["abcPefgh", "CbcCefgC"]


def test_shared_memory_is_swapped_for_all_who_show_it(tight: Host) -> None:
    pid = filled(tight, flags=SHARED_MAP)
    child = tight.do("fork", pid).pid
    tight.do("write", child, None, tight.base + tight.page, b"S" * tight.page)
    assert [shown(tight, who) for who in (pid, child)] == ["aScdefgh"] * 2
    tight.do("exit", pid)
    assert shown(tight, child) == "aScdefgh"


def test_moved_memory_takes_its_swap_slots_along(tight: Host) -> None:
    pid = tight.task()
    tight.map_at(pid, 0, 4)
    for number in range(4):
        tight.do("write", pid, None, tight.base + number * tight.page, b"%d" % number)
    tight.machine.reclaim.free(FRAMES)
    assert tight.machine.pool.free_count == FRAMES
    tight.do("mremap", pid, None, tight.base, 4 * tight.page, 4 * tight.page, 3, tight.base + 4 * tight.page)
    assert tight.machine.pool.free_count == FRAMES
    assert shown_from(tight, pid, 4)[:4] == "0123"


def test_spaces_and_tasks_press_each_other_and_both_keep_their_bytes(tight: Host) -> None:
    pid = filled(tight)
    vid = tight.space()
    other = tight.task()
    tight.enter(other, vid)
    tight.do("mmap", other, None, tight.base, PAGES * tight.page, RW, PRIVATE | 0x10)
    for number in range(PAGES):
        tight.do("write", other, None, tight.base + number * tight.page, bytes([65 + number]) * tight.page)
    for _ in range(2):
        assert (shown(tight, pid), shown(tight, other)) == ("abcdefgh", "ABCDEFGH")
    tight.restart()
    assert tight.machine.slots.used == 0
    pid = tight.task()
    tight.enter(pid, vid)
    assert shown(tight, pid) == "ABCDEFGH"


def test_locked_memory_stays_resident(tight: Host) -> None:
    pid = tight.task()
    tight.map_at(pid, 0, PAGES)
    tight.do("mlock", pid, None, tight.base, 2 * tight.page)
    for number in range(PAGES):
        tight.do("write", pid, None, tight.base + number * tight.page, b"x")
    assert tight.do("mincore", pid, None, tight.base, 2 * tight.page) == b"\1\1"
    tight.machine.reclaim.free(FRAMES)
    assert tight.do("mincore", pid, None, tight.base, 3 * tight.page) == b"\1\1\0"
    tight.do("munlock", pid, None, tight.base, tight.page)
    tight.machine.reclaim.free(FRAMES)
    assert tight.do("mincore", pid, None, tight.base, 2 * tight.page) == b"\0\1"


def test_pageout_puts_aside_what_is_named_and_nothing_else(make_host: MakeHost, geometry: Geometry) -> None:
    host = make_host(geometry, 128, SLOTS)
    pid = filled(host)
    host.do("madvise", pid, None, host.base + host.page, 3 * host.page, 21)
    assert host.do("mincore", pid, None, host.base, 5 * host.page) == b"\1\0\0\0\1"
    host.do("madvise", pid, None, host.base, PAGES * host.page, 3)
    assert host.do("mincore", pid, None, host.base, 5 * host.page) == b"\1" * 5
    assert shown(host, pid) == "abcdefgh"


def test_when_frames_and_swap_are_used_up_a_store_is_refused_and_changes_nothing(
    make_host: MakeHost, geometry: Geometry
) -> None:
    host = make_host(geometry, FRAMES, 3)  # one slot is kept for exchanges
    pid = host.task()
    host.map_at(pid, 0, PAGES)
    for number in range(FRAMES + 2):
        host.do("write", pid, None, host.base + number * host.page, bytes([97 + number]) * host.page)
    with pytest.raises(EngineError) as caught:
        host.do("write", pid, None, host.base + 6 * host.page, b"x" * 2 * host.page)
    assert caught.value.errno == "ENOMEM"
    assert f"of {FRAMES} free" in caught.value.detail
    assert "2 of 3 pages of swap used" in caught.value.detail
    assert shown(host, pid) == "abcdef\0\0"
    host.do("munmap", pid, None, host.base, 2 * host.page)
    host.do("write", pid, None, host.base + 6 * host.page, b"x" * 2 * host.page)
    assert shown_from(host, pid, 2) == "cdefxx"


def test_without_swap_the_memory_limit_is_the_frames(make_host: MakeHost) -> None:
    host = make_host(TOY, FRAMES)
    pid = host.task()
    host.map_at(pid, 0, PAGES)
    host.do("write", pid, None, host.base, b"x" * (FRAMES * host.page))
    with pytest.raises(EngineError, match="swap") as caught:
        host.do("write", pid, None, host.base + FRAMES * host.page, b"x")
    assert caught.value.errno == "ENOMEM"
    assert host.do("read", pid, None, host.base + FRAMES * host.page, 1) == b"\0"
    child = host.do("fork", pid).pid
    assert host.refused("write", child, None, host.base, b"y") == "ENOMEM"
    assert host.do("read", pid, None, host.base, 1) == b"x"


def test_a_swap_area_that_fails_to_store_loses_nothing(tight: Host) -> None:
    tight.swap.failing = {1, 2, 4}
    pid = tight.task()
    tight.map_at(pid, 0, PAGES)
    written = ""
    for number in range(PAGES):
        data = bytes([97 + number]) * tight.page
        for _ in range(4):
            if tight.refused("write", pid, None, tight.base + number * tight.page, data) == "":
                written += chr(97 + number)
                break
    assert written == "abcdefgh"
    assert tight.machine.slots.failures == 3
    assert shown(tight, pid) == "abcdefgh"


def test_a_swap_area_that_cannot_be_read_is_told(tight: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = filled(tight)

    def load(slots: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(tight.swap, "load", load)
        assert "EIO" in {
            tight.refused("read", pid, None, tight.base + n * tight.page, 1) for n in range(PAGES)
        }
        assert list(check(tight.machine)) == []
    assert shown(tight, pid) == "abcdefgh"


def test_what_an_open_transaction_wrote_is_not_swapped_and_can_be_taken_back(tight: Host) -> None:
    pid = tight.task()
    tight.map_at(pid, 0, PAGES)
    tight.do("write", pid, None, tight.base, b"before")
    with tight.machine.transaction() as txn:
        tight.machine.write(ROOT, pid, None, tight.base, b"after!")
    tight.machine.reclaim.free(FRAMES)
    assert tight.do("mincore", pid, None, tight.base, tight.page) == b"\1"
    txn.rollback()
    tight.machine.reclaim.free(FRAMES)
    assert tight.do("mincore", pid, None, tight.base, tight.page) == b"\0"
    assert tight.do("read", pid, None, tight.base, 6) == b"before"


def test_swapped_memory_survives_a_rollback_of_what_swapped_it(tight: Host) -> None:
    pid = filled(tight)
    with tight.machine.transaction() as txn:
        tight.machine.write(ROOT, pid, None, tight.base, b"Z" * (2 * tight.page))
        tight.machine.munmap(ROOT, pid, None, tight.base + 4 * tight.page, 2 * tight.page)
    txn.rollback()
    assert shown(tight, pid) == "abcdefgh"


def test_a_core_of_everything_fits_through_few_frames(make_host: MakeHost) -> None:
    host = make_host(X86_64, FRAMES, 2 * PAGES)
    pid = filled(host)
    child = host.do("fork", pid).pid
    for _ in range(2):
        for number in range(PAGES):
            for who in (pid, child):
                assert host.do("read", who, None, host.base + number * host.page, 1) == bytes([97 + number])
    assert list(check(host.machine)) == []


def test_page_maps_have_a_bound_of_their_own(make_host: MakeHost) -> None:
    host = make_host(X86_64, 64)
    host.machine.pool.leaves_max = 8
    pid, step = host.task(), 512 * host.page
    host.do("mmap", pid, None, host.base, 64 * step, 3, 0x32)
    reached = 0
    with pytest.raises(EngineError, match="page maps have 8 leaves") as caught:
        for number in range(64):
            host.do("read", pid, None, host.base + number * step, 1)
            reached += 1
    assert (caught.value.errno, reached) == ("ENOMEM", 8)
    assert host.do("read", pid, None, host.base, 1) == b"\0"
    host.do("exit", pid)
    again = host.task()
    host.do("mmap", again, None, host.base, step, 3, 0x32)
    assert host.do("write", again, None, host.base, b"x") == 1
