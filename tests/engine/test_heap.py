"""vas_malloc, vas_free, heap_usage: through threads inside spaces, over restarts, with what is refused and why."""

import random

import pytest

from engine.credentials import ROOT
from engine.errors import EngineError, PagesNeeded
from engine.geometry import X86_64
from engine.heap import check
from engine.heap.window import SegmentBytes
from tests.engine.conftest import MakeHost
from tests.engine.host import ALICE, BOB, PRIVATE, RW, Host

pytestmark = pytest.mark.roomy


def placed(host: Host, pages: int = 8, type: int = 2, name: str = "space") -> tuple[int, int, int]:
    """(pid, vid, sid) of a task inside a space that has a segment of `pages` pages."""
    sid = host.segment(f"{name}-segment", pages=pages)
    pid, vid = host.task(), host.space(name)
    host.do("vas_seg_attach", vid, sid, type)
    host.enter(pid, vid)
    return pid, vid, sid


def sound(host: Host, sid: int) -> None:
    """The heap of a segment keeps every rule."""
    segment = host.machine.segments.registry.get(sid)
    for _ in range(64):
        try:
            assert list(check.problems(SegmentBytes(segment.obj, segment.range.length))) == []
        except PagesNeeded as need:
            host.machine.supply(need, host.store.fetch(need.object_id, need.pages))
        else:
            return


@pytest.mark.everywhere
def test_what_is_given_out_is_aligned_apart_and_inside(host: Host) -> None:
    pid, _, sid = placed(host)
    taken: dict[int, int] = {}
    for size in (1, 16, 17, 100, host.page, 3):
        addr = host.do("vas_malloc", pid, None, size)
        assert addr % 16 == 0
        assert host.base <= addr < addr + size <= host.base + 8 * host.page
        assert all(addr + size <= at or at + held <= addr for at, held in taken.items())
        host.do("write", pid, None, addr, bytes([size & 255]) * size)
        taken[addr] = size
    for addr, size in taken.items():
        assert host.do("read", pid, None, addr, size) == bytes([size & 255]) * size
    assert host.do("heap_usage", sid).blocks == 6
    for addr in taken:
        host.do("vas_free", pid, None, addr)
    told = host.do("heap_usage", sid)
    assert (told.blocks, told.allocated, told.free_blocks) == (0, 0, 0)
    assert told.size == 8 * host.page == told.overhead + told.free
    sound(host, sid)


def test_the_heap_survives_a_restart_and_is_the_same_in_every_space(host: Host) -> None:
    pid, vid, sid = placed(host)
    one, two = host.do("vas_malloc", pid, None, 100), host.do("vas_malloc", pid, None, 2 * host.page)
    host.do("write", pid, None, one, b"one")
    other = host.space("other")
    host.do("vas_seg_attach", other, sid, 2)
    before = host.do("heap_usage", sid)
    host.restart()
    assert host.do("heap_usage", sid) == before
    pid, reader = host.task(), host.task()
    host.enter(pid, other)
    host.enter(reader, vid)
    host.do("vas_free", pid, None, two)
    three = host.do("vas_malloc", reader, None, host.page, sid)
    assert three == two
    assert host.do("read", pid, None, one, 3) == b"one"
    assert host.refused("vas_free", pid, None, one + 16) == "EINVAL"
    host.do("vas_free", reader, None, one)
    sound(host, sid)


def test_pages_come_back_from_the_store(make_host: MakeHost) -> None:
    host = make_host(X86_64, 24)
    pid, _, sid = placed(host, pages=400)
    rng, live = random.Random(3), {}
    for number in range(120):
        size = rng.choice((40, 700, 5000, 9000))
        addr = host.do("vas_malloc", pid, None, size)
        live[addr] = bytes([number]) * min(size, 64)
        host.do("write", pid, None, addr, live[addr])
        if number % 3 == 2:
            gone = rng.choice(list(live))
            assert host.do("read", pid, None, gone, len(live[gone])) == live.pop(gone)
            host.do("vas_free", pid, None, gone)
    assert host.fetches > 20
    assert host.do("heap_usage", sid).blocks == len(live)
    for addr, held in live.items():
        assert host.do("read", pid, None, addr, len(held)) == held
        host.do("vas_free", pid, None, addr)
    assert host.do("heap_usage", sid).blocks == 0


def test_a_transaction_that_fails_takes_its_calls_back(host: Host) -> None:
    pid, _, sid = placed(host)
    kept = host.do("vas_malloc", pid, None, 50)
    before = host.do("seg_read", sid, 0, 8 * host.page)
    for keep_first in (False, True):
        with host.machine.transaction() as txn:
            if keep_first:
                host.machine.vas_free(ROOT, pid, None, kept)
            for size in (10, 3000, 500):
                host.machine.vas_free(ROOT, pid, None, host.machine.vas_malloc(ROOT, pid, None, size))
                host.machine.vas_malloc(ROOT, pid, None, size)
        txn.rollback()
        assert host.do("seg_read", sid, 0, 8 * host.page) == before
        assert host.do("heap_usage", sid).blocks == 1
    host.do("vas_free", pid, None, kept)


def test_it_can_be_full(host: Host) -> None:
    pid, _, sid = placed(host, pages=2)
    largest = host.do("heap_usage", sid).largest_free
    assert host.refused("vas_malloc", pid, None, largest + 1) == "ENOMEM"
    assert host.refused("vas_malloc", pid, None, 1 << 80) == "ENOMEM"
    addr = host.do("vas_malloc", pid, None, largest)
    with pytest.raises(EngineError) as full:
        host.do("vas_malloc", pid, None, 1)
    assert full.value.errno == "ENOMEM"
    assert full.value.data == {"length": 1, "largest_free": 0}
    host.do("vas_free", pid, None, addr)
    assert host.do("vas_malloc", pid, None, largest) == addr


def test_which_segment(host: Host) -> None:
    pid, vid, sid = placed(host, pages=2)
    other = host.segment("other", pages=2, at=4)
    assert host.refused("vas_malloc", pid, None, 1, other) == "EINVAL"
    host.do("vas_seg_attach", vid, other, 2)
    assert host.refused("vas_malloc", pid, None, 1) == "EINVAL"
    for wanted in (sid, other):
        addr = host.do("vas_malloc", pid, None, 1, wanted)
        assert host.do("heap_usage", wanted).blocks == 1
        host.do("vas_free", pid, None, addr)
        assert host.do("heap_usage", wanted).blocks == 0
    for wrong in (99, 0, -1):
        assert host.refused("vas_malloc", pid, None, 1, wrong) == "EINVAL"
    assert host.refused("heap_usage", 99) == "EINVAL"


def test_only_the_segment_attached_rw_is_meant(host: Host) -> None:
    pid, vid, sid = placed(host, pages=2, type=0)
    assert host.refused("vas_malloc", pid, None, 1) == "EINVAL"
    assert host.refused("vas_malloc", pid, None, 1, sid) == "EACCES"
    written, both = host.segment("wo", pages=2, at=4), host.segment("rw", pages=2, at=8)
    host.do("vas_seg_attach", vid, written, 1)
    host.do("vas_seg_attach", vid, both, 2)
    host.do("vas_malloc", pid, None, 1)
    assert host.do("heap_usage", both).blocks == 1
    addr = host.do("vas_malloc", pid, None, 1, written)
    host.do("vas_free", pid, None, addr)


def test_who_may(host: Host) -> None:
    pid, vid, sid = placed(host, pages=2)
    addr = host.do("vas_malloc", pid, None, 1)
    assert host.refused("vas_malloc", 999, None, 1) == "ESRCH"
    assert host.refused("vas_malloc", pid, 999, 1) == "ESRCH"
    assert host.refused("vas_malloc", pid, None, 1, cred=ALICE) == "EPERM"
    assert host.refused("vas_free", pid, None, addr, cred=ALICE) == "EPERM"
    for size in (0, -1):
        assert host.refused("vas_malloc", pid, None, size) == "EINVAL"
    reader = host.task()
    host.enter(reader, vid, 0)
    for wanted in (sid, None, 99):
        assert host.refused("vas_malloc", reader, None, 1, wanted) == "EACCES"
    for wrong in (addr, 0, addr + 1):
        assert host.refused("vas_free", reader, None, wrong) == "EACCES"
    host.do("vas_switch", pid, None, 0)
    assert host.refused("vas_malloc", pid, None, 1) == "EINVAL"
    assert host.refused("vas_free", pid, None, addr) == "EINVAL"
    host.do("vas_seg_setattr", sid, 0o600, ALICE.uid)
    assert host.do("heap_usage", sid, cred=ALICE).blocks == 1
    assert host.refused("heap_usage", sid, cred=BOB) == "EACCES"


def test_pointers_that_were_not_given_out(host: Host) -> None:
    pid, _, _ = placed(host, pages=2)
    host.map_at(pid, 20, 21)
    addr = host.do("vas_malloc", pid, None, 100)
    wrong = [addr + 1, addr + 16, addr - 16, addr + 4 * host.page, host.base, host.data, 0, -1, 1 << 70]
    for other in (*wrong, host.base + 20 * host.page + 16):
        assert host.refused("vas_free", pid, None, other) == "EINVAL"
    host.do("vas_free", pid, None, addr)
    assert host.refused("vas_free", pid, None, addr) == "EINVAL"


def test_bytes_that_are_no_heap(host: Host) -> None:
    pid, _, sid = placed(host, pages=2)
    host.do("write", pid, None, host.base + 40, b"data")
    with pytest.raises(EngineError, match="no heap") as refused:
        host.do("vas_malloc", pid, None, 1)
    assert (refused.value.errno, refused.value.data["address"]) == ("EFAULT", host.base)
    assert host.refused("heap_usage", sid) == "EFAULT"
    assert host.refused("vas_free", pid, None, host.base + 1024) == "EFAULT"
    assert host.do("read", pid, None, host.base + 40, 4) == b"data"
    host.do("write", pid, None, host.base + 40, bytes(4))
    host.do("vas_malloc", pid, None, 1)


def test_an_overrun_is_named(host: Host) -> None:
    pid, _, sid = placed(host, pages=2)
    one, two = (host.do("vas_malloc", pid, None, 24) for _ in range(2))
    host.do("write", pid, None, one, b"x" * 48)
    before = host.do("seg_read", sid, 0, 2 * host.page)
    for addr in (one, two):
        with pytest.raises(EngineError) as refused:
            host.do("vas_free", pid, None, addr)
        assert (refused.value.errno, refused.value.data["address"]) == ("EFAULT", two - 16)
    assert host.do("seg_read", sid, 0, 2 * host.page) == before


def test_a_small_call_changes_one_page(host: Host) -> None:
    pid, _, _ = placed(host)
    host.do("vas_malloc", pid, None, 20)
    pages = [len(change.pages) for change in host.changes]  # type: ignore[union-attr]
    assert pages == [1]
    addr = host.do("vas_malloc", pid, None, 3 * host.page)
    host.do("vas_malloc", pid, None, 1)
    host.do("vas_free", pid, None, addr)
    assert len(host.changes) <= 2


def test_a_thread_of_its_own(host: Host) -> None:
    pid, vid, _ = placed(host, pages=2)
    tid = host.do("thread", pid)
    assert host.refused("vas_malloc", pid, tid, 1) == "EINVAL"
    host.do("vas_switch", pid, tid, vid)
    host.do("vas_switch", pid, None, 0)
    addr = host.do("vas_malloc", pid, tid, 1)
    host.do("vas_free", pid, tid, addr)


def test_a_segment_of_terabytes(make_host: MakeHost) -> None:
    host = make_host(X86_64, 64)
    pid, _, sid = placed(host, pages=1 << 33)
    one = host.do("vas_malloc", pid, None, 1 << 44)
    two = host.do("vas_malloc", pid, None, 1)
    assert two - one >= 1 << 44
    host.do("vas_free", pid, None, one)
    assert host.do("vas_malloc", pid, None, 1 << 43) == one
    told = host.do("heap_usage", sid)
    assert (told.size, told.blocks, told.free_blocks) == (1 << 45, 2, 1)
    host.restart()
    assert host.do("heap_usage", sid) == told


def test_a_space_of_its_own_has_no_heap(host: Host) -> None:
    pid, _ = host.inside()
    assert host.refused("vas_malloc", pid, None, 1) == "EINVAL"
    assert host.refused("vas_free", pid, None, host.base + 16) == "EINVAL"
    host.do("mmap", pid, None, 0, host.page, RW, PRIVATE)


def test_a_geometry_too_small_for_a_heap(toy: Host) -> None:
    pid, _, sid = placed(toy, pages=8)
    assert toy.refused("vas_malloc", pid, None, 1) == "ENOMEM"
    assert toy.do("heap_usage", sid).largest_free == 0


def test_a_clone_has_a_heap_of_its_own(host: Host) -> None:
    pid, vid, sid = placed(host)
    one = host.do("vas_malloc", pid, None, 100)
    host.do("write", pid, None, one, b"before")
    copy = host.do("vas_clone", vid, "copy")
    (cloned,) = [held.sid for held in host.do("vas_segments", copy)]
    other = host.task()
    host.enter(other, copy)
    assert host.do("heap_usage", cloned) == host.do("heap_usage", sid)
    two = host.do("vas_malloc", other, None, 50)
    assert host.do("vas_malloc", pid, None, 50) == two
    host.do("vas_free", other, None, one)
    assert host.refused("vas_free", other, None, one) == "EINVAL"
    assert host.do("read", pid, None, one, 6) == b"before"
    host.do("vas_free", pid, None, one)
    assert (host.do("heap_usage", sid).blocks, host.do("heap_usage", cloned).blocks) == (1, 1)
    host.do("vas_switch", other, None, 0)
    host.do("vas_reset", copy)
    host.do("vas_switch", other, None, copy)
    assert host.do("read", other, None, one, 6) == b"before"
    host.do("vas_free", other, None, one)
    assert host.do("heap_usage", cloned).blocks == 0
    sound(host, sid)
    sound(host, cloned)


def test_the_heap_of_a_snapshot_is_looked_at_only(host: Host) -> None:
    pid, vid, sid = placed(host)
    host.do("vas_malloc", pid, None, 100)
    kept = host.do("vas_seg_snapshot", sid, "kept")
    assert host.do("heap_usage", kept).blocks == 1
    space = host.space("other")
    assert host.refused("vas_seg_attach", space, kept, 2) == "EPERM"
    host.do("vas_seg_attach", space, kept, 0)
    other = host.task()
    host.enter(other, space)
    assert host.refused("vas_malloc", other, None, 1, kept) == "EACCES"
    frozen = host.do("vas_snapshot", vid, "frozen")
    reader = host.task()
    host.enter(reader, frozen, 0)
    assert host.refused("vas_malloc", reader, None, 1) == "EACCES"


def together(host: Host, calls: list[tuple[str, int, None, int]]) -> int:
    """Calls of one transaction, tried on when one lacks pages, as an atomic batch does; how often pages were asked for."""
    for rounds in range(64):
        needs: list[PagesNeeded] = []
        try:
            with host.machine.transaction() as txn:
                for call, *args in calls:
                    try:
                        getattr(host.machine, call)(ROOT, *args)
                    except PagesNeeded as need:
                        needs.append(need)
                if needs:
                    raise needs[0].widened(sorted({page for need in needs for page in need.pages}))
        except PagesNeeded as need:
            host.machine.supply(need, host.store.fetch(need.object_id, need.pages))
        else:
            host.settle(txn)
            return rounds
    raise AssertionError("it never had all its pages")


def test_a_batch_on_a_heap_that_is_not_resident_asks_a_few_times(make_host: MakeHost) -> None:
    host = make_host(X86_64, 1 << 13)
    rng = random.Random(5)
    pid, vid, sid = placed(host, pages=1500)
    live = [host.do("vas_malloc", pid, None, rng.randrange(1, 9000)) for _ in range(500)]
    rng.shuffle(live)
    for addr in live[:300]:
        host.do("vas_free", pid, None, addr)
    for calls in (
        [("vas_malloc", rng.randrange(1, 9000)) for _ in range(300)],
        [("vas_free", addr) for addr in live[300:]],
    ):
        host.restart()
        pid = host.task()
        host.enter(pid, vid)
        assert together(host, [(call, pid, None, value) for call, value in calls]) <= 12
        sound(host, sid)
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    host.fetches = 0
    host.do("vas_malloc", pid, None, 5000)
    assert host.fetches <= 6
