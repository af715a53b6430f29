"""Work is put off until it is needed, and nobody can tell but by the counters."""

from collections.abc import Callable

import pytest

from engine.credentials import ROOT
from engine.memory.page_map import LEAF_PAGES, Leaf, PageMap
from engine.memory.page_table import PageTable
from tests.engine.host import FIXED, PRIVATE, RW, Host


@pytest.fixture
def leaves_made(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many page-map leaves were made since the last time."""
    made = [0]
    real = Leaf.__init__

    def counting(leaf: Leaf, entries: object) -> None:
        made[0] += 1
        real(leaf, entries)  # type: ignore[arg-type]

    monkeypatch.setattr(Leaf, "__init__", counting)

    def since() -> int:
        count, made[0] = made[0], 0
        return count

    return since


def spread(host: Host, leaves: int) -> int:
    """A task with one written page in each of `leaves` leaves."""
    pid = host.task()
    host.do("mmap", pid, None, host.base, leaves * LEAF_PAGES * host.page, RW, PRIVATE | FIXED)
    for number in range(leaves):
        host.do("write", pid, None, host.base + number * LEAF_PAGES * host.page, bytes([number + 1]))
    return pid


def most_of_the_arena(host: Host) -> int:
    """A gigabyte under i386, tebibytes elsewhere."""
    return (host.geometry.arena_end - host.geometry.arena_start) // 2


@pytest.mark.roomy
@pytest.mark.parametrize("leaves", [1, 40])
def test_a_fork_costs_the_same_for_little_and_for_much(
    host: Host, leaves_made: Callable[[], int], leaves: int
) -> None:
    pid = spread(host, leaves)
    free = host.machine.pool.free_count
    leaves_made()
    child = host.do("fork", pid).pid
    assert (leaves_made(), host.machine.pool.free_count) == (0, free)
    host.do("write", child, None, host.base, b"c")
    assert (leaves_made(), host.machine.pool.free_count) == (1, free - 1)
    host.do("write", child, None, host.base + 1, b"c")
    assert (leaves_made(), host.machine.pool.free_count) == (0, free - 1)
    assert host.do("read", pid, None, host.base, 2) == b"\1\0"


@pytest.mark.roomy
def test_a_huge_sparse_segment_costs_nothing(host: Host, leaves_made: Callable[[], int]) -> None:
    most = most_of_the_arena(host)
    sid = host.do("vas_seg_create", "huge", host.base, host.base + most, 0o600)
    vid, pid = host.space(), host.task()
    host.do("vas_seg_attach", vid, sid, 2)
    for lazy in (True, False):
        host.enter(pid, vid, lazy=lazy)
        host.do("vas_switch", pid, None, 0)
        host.do("vas_detach", pid, vid)
    assert (leaves_made(), host.machine.pool.free_count) == (0, host.frames)
    host.do("seg_write", sid, most - 1, b"x")
    assert (leaves_made(), host.machine.pool.free_count) == (1, host.frames - 1)


@pytest.mark.roomy
def test_a_read_of_memory_never_written_takes_no_frame(host: Host) -> None:
    pid, _ = host.inside(pages=LEAF_PAGES * 2)
    length = LEAF_PAGES * 2 * host.page
    assert host.do("read", pid, None, host.base, length) == bytes(length)
    assert host.machine.pool.free_count == host.frames


def test_a_switch_builds_and_drops_nothing(host: Host) -> None:
    pid, vid = host.inside()
    host.do("write", pid, None, host.base, b"x" * host.page)
    host.do("read", pid, None, host.data, 1)
    before = host.counters(pid)
    for _ in range(5):
        host.do("vas_switch", pid, None, 0)
        host.do("vas_switch", pid, None, vid)
    assert host.do("read", pid, None, host.base, 1) == b"x"
    after = host.counters(pid)
    assert after.pop("switches") - before.pop("switches") == 10
    assert after == before


@pytest.mark.roomy
def test_lazy_and_eager_attach_differ_in_counters_only(host: Host) -> None:
    pid, vid = host.inside(pages=2 * LEAF_PAGES)
    written = [0, 3, 4, LEAF_PAGES - 1, LEAF_PAGES, LEAF_PAGES + 7]
    for page in written:
        host.do("write", pid, None, host.base + page * host.page + page % 5, bytes([page % 251]))
    lazy, eager = host.task(), host.task()
    host.enter(lazy, vid, lazy=True)
    host.enter(eager, vid, lazy=False)
    assert [host.counters(who)["page_table_entries"] for who in (lazy, eager)] == [0, len(written)]
    length = 2 * LEAF_PAGES * host.page
    shown = [host.do("read", who, None, host.base, length) for who in (pid, lazy, eager)]
    assert shown[0] == shown[1] == shown[2]
    faults = [host.counters(who)["minor_faults"] for who in (lazy, eager)]
    assert faults[0] - faults[1] == len(written)
    host.do("write", eager, None, host.base, b"new")
    assert host.do("read", lazy, None, host.base, 3) == b"new"


def test_an_eager_read_only_attachment_has_no_writable_entry(host: Host) -> None:
    pid, vid = host.inside()
    host.do("write", pid, None, host.base, b"x")
    reader = host.task()
    host.enter(reader, vid, 0, lazy=False)
    assert host.counters(reader)["page_table_entries"] == 1
    assert host.refused("write", reader, None, host.base, b"y") == "EFAULT"
    assert host.do("read", pid, None, host.base, 1) == b"x"


def test_a_second_access_faults_nothing(host: Host) -> None:
    pid, _ = host.inside()
    for _ in range(3):
        host.do("write", pid, None, host.base, b"x" * (3 * host.page))
        host.do("read", pid, None, host.base, 3 * host.page)
    assert host.counters(pid)["minor_faults"] == 3
    assert host.counters(pid)["major_faults"] == 0


def test_what_a_restart_left_in_the_store_is_fetched_when_it_is_read_and_only_then(host: Host) -> None:
    pid, vid = host.inside(pages=4)
    host.do("write", pid, None, host.base, b"x" * (4 * host.page))
    host.restart()
    pid = host.task()
    host.enter(pid, vid, lazy=False)
    assert (host.fetches, host.machine.pool.free_count) == (0, host.frames)
    host.do("write", pid, None, host.base, b"y" * host.page)
    assert host.fetches == 0
    host.do("read", pid, None, host.base, 2 * host.page)
    assert (host.fetches, host.counters(pid)["major_faults"]) == (1, 1)


@pytest.mark.roomy
def test_many_regions_of_one_object_are_fetched_at_once(host: Host) -> None:
    pages = 40
    pid, vid = host.inside(pages=pages)
    host.do("write", pid, None, host.base, b"x" * (pages * host.page))
    for page in range(0, pages, 2):
        host.do("mprotect", pid, None, host.base + page * host.page, host.page, 1)
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    assert len(host.do("vas_regions", vid)) == pages
    assert host.do("read", pid, None, host.base, pages * host.page) == b"x" * (pages * host.page)
    assert host.fetches == 1


@pytest.mark.roomy
def test_dropping_every_table_changes_nothing_readable(host: Host) -> None:
    pid, vid = host.inside(pages=2 * LEAF_PAGES)
    edge = host.base + LEAF_PAGES * host.page
    host.do("write", pid, None, edge - 5, b"over the edge")
    child = host.do("fork", pid).pid
    host.do("write", pid, None, host.data, b"parent")
    before = everything(host, pid, vid, child)
    for task in host.machine.tasks_table:
        for union in task.space.unions:
            union.table.drop()
    assert everything(host, pid, vid, child) == before


def everything(host: Host, pid: int, vid: int, child: int) -> object:
    return (
        host.do("read", pid, None, host.base, 2 * LEAF_PAGES * host.page),
        [host.do("read", who, None, host.data, host.page) for who in (pid, child)],
        [host.do("maps_text", who) for who in (pid, child)],
        host.do("vas_regions", vid),
    )


@pytest.mark.roomy
def test_unmapping_costs_what_is_present(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pid, _ = host.inside(pages=0)
    most = most_of_the_arena(host)
    host.do("mmap", pid, None, host.base, most, RW, PRIVATE | FIXED)
    host.do("write", pid, None, host.base + most - 1, b"x")
    visited: list[int] = []
    for kind, name in ((PageMap, "present"), (PageTable, "_parts")):
        real = getattr(kind, name)

        def counting(
            self: object, first: int, count: int, real: Callable[..., list[object]] = real
        ) -> list[object]:
            found = real(self, first, count)
            visited.append(len(found))
            return found

        monkeypatch.setattr(kind, name, counting)
    host.do("munmap", pid, None, host.base, most)
    assert max(visited) == 1
    assert host.machine.pool.free_count == host.frames


def test_threads_of_one_task_share_what_is_built(host: Host) -> None:
    pid, vid = host.inside()
    tid = host.do("thread", pid)
    host.do("vas_switch", pid, tid, vid)
    host.do("read", pid, None, host.base, 1)
    built = host.counters(pid)["page_table_entries_built"]
    host.do("read", pid, tid, host.base, 1)
    assert host.counters(pid)["page_table_entries_built"] == built
    assert host.machine.task_status(ROOT, pid).threads[1].active == vid
