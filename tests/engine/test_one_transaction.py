"""A clone, a reset or a run image is used in the transaction that made it, though the store does not know of it yet."""

import pytest

from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError, PagesNeeded
from engine.geometry import X86_64
from tests.engine.host import FIXED, PRIVATE, RW, Host

PAGE = X86_64.page_size

pytestmark = pytest.mark.x86_64


def together(host: Host, *calls: tuple[object, ...]) -> list[object]:
    """The calls in one transaction, made durable; begun anew when pages are lacking. `$0` is the first one's answer."""
    for _ in range(8):
        try:
            with host.machine.transaction() as txn:
                answers: list[object] = []
                for name, *args in calls:
                    known = [answers[int(a[1:])] if isinstance(a, str) and a[:1] == "$" else a for a in args]
                    answers.append(getattr(host.machine, str(name))(ROOT, *known))
        except PagesNeeded as need:
            assert not list(check(host.machine))
            host.machine.supply(need, host.store.fetch(need.object_id, need.pages))
        else:
            host.settle(txn)
            assert not list(check(host.machine))
            return answers
    raise AssertionError("pages are lacking for ever")


def cold_segment(host: Host) -> int:
    """A segment whose bytes are in the store only."""
    sid = host.segment(pages=4)
    host.do("seg_write", sid, 0, b"a" * PAGE + b"b" * PAGE)
    host.restart()
    return sid


def test_a_clone_is_read_and_written(host: Host) -> None:
    sid = cold_segment(host)
    answers = together(
        host,
        ("vas_seg_clone", sid, "copy"),
        ("seg_read", "$0", PAGE - 1, 2),
        ("seg_write", "$0", 0, b"copy"),
        ("seg_read", "$0", 0, 5),
        ("seg_read", sid, 0, 5),
    )
    assert answers[1:] == [b"ab", 4, b"copya", b"aaaaa"]
    host.restart()
    assert host.do("seg_read", host.do("vas_seg_find", "copy"), 0, 5) == b"copya"
    assert host.do("seg_read", sid, 0, 5) == b"aaaaa"


def test_a_clone_of_a_clone_is_read(host: Host) -> None:
    sid = cold_segment(host)
    calls = (("vas_seg_clone", sid, "x"), ("vas_seg_clone", "$0", "y"), ("seg_read", "$1", PAGE - 1, 2))
    assert together(host, *calls)[-1] == b"ab"


def test_what_was_reset_is_read_and_written(host: Host) -> None:
    copy = host.do("vas_seg_clone", cold_segment(host), "copy")
    host.do("seg_write", copy, 0, b"changed")
    host.restart()
    answers = together(
        host, ("vas_seg_reset", copy), ("seg_write", copy, 0, b"xyz"), ("seg_read", copy, 0, 4)
    )
    assert answers[-1] == b"xyza"
    assert together(host, ("vas_seg_reset", copy), ("seg_read", copy, PAGE, 1))[-1] == b"b"
    host.machine.objects.evict(1 << 20)
    assert host.do("seg_read", copy, 0, 4) == b"aaaa"


def test_a_run_image_is_read_and_written(host: Host) -> None:
    pid = host.task()
    host.map_at(pid, 0, 4)
    host.do("write", pid, None, host.base, b"a" * PAGE + b"b" * PAGE)
    vid = host.do("vas_fork", pid)
    host.restart()
    pid = host.task()
    answers = together(
        host,
        ("vas_exec", pid, vid),
        ("read", pid, None, host.base + PAGE - 1, 2),
        ("write", pid, None, host.base, b"run"),
        ("fork", pid),
        ("read", pid, None, host.base, 4),
    )
    child = answers[3].pid  # type: ignore[attr-defined]
    assert (answers[1], answers[4]) == (b"ab", b"runa")
    assert host.do("read", child, None, host.base, 4) == b"runa"
    assert host.do("read", child, None, host.base + PAGE, 1) == b"b"
    assert together(host, ("vas_exec", pid, vid), ("exit", pid))[-1] is None
    assert len(host.store.load().unowned) == 1
    host.do("exit", child)
    assert host.store.load().unowned == []


def test_what_changed_between_cloning_and_reading_is_refused_at_once(host: Host) -> None:
    sid = cold_segment(host)
    with pytest.raises(EngineError) as refused:
        together(
            host,
            ("vas_seg_clone", sid, "copy"),
            ("seg_write", sid, 0, b"n" * PAGE),
            ("seg_read", "$0", 0, 1),
        )
    assert refused.value.errno == "EAGAIN"
    assert host.do("seg_read", sid, 0, 1) == b"a"
    assert host.refused("vas_seg_find", "copy") == "ESRCH"


def test_a_change_by_a_later_transaction_is_no_hindrance(host: Host) -> None:
    """The clone is not durable yet when its parent is changed; the reader waits for the store."""
    sid = cold_segment(host)
    machine = host.machine
    with machine.transaction() as first:
        copy = machine.vas_seg_clone(ROOT, sid, "copy")
    with machine.transaction() as second:
        machine.seg_write(ROOT, sid, 0, b"n" * PAGE)
    with pytest.raises(PagesNeeded) as lacking, machine.transaction():
        machine.seg_read(ROOT, copy, 0, 1)
    host.settle(first)
    host.settle(second)
    need = lacking.value
    machine.supply(need, host.store.fetch(need.object_id, need.pages))
    assert host.do("seg_read", copy, 0, 1) == b"a"
    assert host.do("seg_read", sid, 0, 1) == b"n"
    assert not list(check(machine))


def test_few_frames_and_much_memory_of_tasks() -> None:
    """What a call needs of the store stays while the rest of it comes, and tasks' memory leaves instead."""
    host = Host(frames=16, swap=200)
    sid = host.segment(pages=5)
    host.do("seg_write", sid, 0, bytes(range(5)) * PAGE)
    host.restart()
    pid = host.task()
    host.do("mmap", pid, None, host.base + (64 << 20), 13 * PAGE, RW, PRIVATE | FIXED)
    for page in range(13):
        host.do("write", pid, None, host.base + (64 << 20) + page * PAGE, b"own")
    for page in (4, 3):
        host.do("seg_read", sid, page * PAGE, 1)
    assert host.do("seg_read", sid, 0, 5 * PAGE) == bytes(range(5)) * PAGE
    assert not list(check(host.machine))


@pytest.mark.parametrize("reads_in", ["the same", "a later"])
def test_a_clone_does_not_take_from_a_parent_that_was_reset_meanwhile(host: Host, reads_in: str) -> None:
    parent = host.do("vas_seg_clone", cold_segment(host), "parent")
    host.do("seg_write", parent, 0, b"r" * 2 * PAGE)
    host.restart()
    machine = host.machine
    if reads_in == "the same":
        with pytest.raises(EngineError) as refused:
            together(
                host, ("vas_seg_clone", parent, "copy"), ("vas_seg_reset", parent), ("seg_read", "$0", 0, 1)
            )
        assert refused.value.errno == "EAGAIN"
        return
    with machine.transaction() as first:
        copy = machine.vas_seg_clone(ROOT, parent, "copy")
    with machine.transaction() as second:
        machine.vas_seg_reset(ROOT, parent)
    with pytest.raises(PagesNeeded) as lacking, machine.transaction():
        machine.seg_write(ROOT, copy, 0, b"W")
    assert lacking.value.memory is machine.segments.registry.get(copy).obj
    host.settle(first)
    host.settle(second)
    host.do("seg_write", copy, 0, b"W")
    for _ in range(2):
        assert host.do("seg_read", copy, 0, 3) == b"Wrr"
        assert host.do("seg_read", parent, 0, 3) == b"aaa"
        host.restart()


def test_the_core_of_a_run_image_outlives_its_task(host: Host) -> None:
    pid = host.task()
    host.map_at(pid, 0, 2)
    host.do("write", pid, None, host.base, b"kept")
    vid = host.do("vas_fork", pid)
    host.restart()
    pid = host.task()
    host.do("vas_exec", pid, vid)
    image = host.do("task_core", pid)
    host.do("exit", pid)
    stored = {u.object_id: host.store.stored_pages(u.object_id, u.first, u.count) for u in image.unknown()}
    image.layout(stored)
    number = next(n for n, (held, first) in enumerate(image._windows) if first == host.base // PAGE)
    with pytest.raises(PagesNeeded) as lacking:
        image.read(number, 0, 1)
    need = lacking.value
    host.machine.supply(need, host.store.fetch(need.object_id, need.pages))
    assert image.read(number, 0, 1)[:4] == b"kept"
    image.release()
    with host.machine.transaction() as txn:
        host.machine.flush()
    host.settle(txn)
    assert host.store.load().unowned == []
    assert not list(check(host.machine))


def test_many_clones_of_clones_are_read(host: Host) -> None:
    sid = cold_segment(host)
    calls = [("vas_seg_clone", f"${number - 1}" if number else sid, f"c{number}") for number in range(400)]
    assert together(host, *calls, ("seg_read", "$399", PAGE - 1, 2))[-1] == b"ab"


def test_a_clone_reset_as_soon_as_it_was_made(host: Host) -> None:
    sid = cold_segment(host)
    calls = (("vas_seg_clone", sid, "copy"), ("vas_seg_reset", "$0"), ("seg_read", "$0", PAGE - 1, 2))
    assert together(host, *calls)[-1] == b"ab"
    host.restart()
    machine = host.machine
    with machine.transaction() as first:
        copy = machine.vas_seg_clone(ROOT, sid, "again")
    with machine.transaction() as second:
        machine.vas_seg_reset(ROOT, copy)
    with pytest.raises(PagesNeeded), machine.transaction():
        machine.seg_read(ROOT, copy, 0, 1)
    host.settle(first)
    host.settle(second)
    assert host.do("seg_read", copy, PAGE - 1, 2) == b"ab"


def test_a_reset_taken_back_brings_no_old_parent_back(host: Host) -> None:
    sid = cold_segment(host)
    machine = host.machine
    with machine.transaction() as first:
        copy = machine.vas_seg_clone(ROOT, sid, "copy")
    with machine.transaction() as second:
        machine.vas_seg_reset(ROOT, copy)
    host.settle(first)
    second.rollback()
    host.do("seg_write", sid, 0, b"n" * PAGE)
    machine.objects.evict(1 << 20)
    assert host.do("seg_read", copy, 0, 2) == b"aa"


def test_a_clone_of_a_clone_does_not_take_what_its_grandparent_became(host: Host) -> None:
    sid = cold_segment(host)
    machine = host.machine
    with machine.transaction() as first:
        middle = machine.vas_seg_clone(ROOT, sid, "middle")
    with machine.transaction() as between:
        machine.seg_write(ROOT, sid, 0, b"n" * PAGE)
    with machine.transaction() as second:
        copy = machine.vas_seg_clone(ROOT, middle, "copy")
    host.settle(first)
    host.settle(between)
    with pytest.raises(PagesNeeded), machine.transaction():
        machine.seg_read(ROOT, copy, 0, 1)
    host.settle(second)
    assert host.do("seg_read", copy, 0, 2) == b"aa"
    assert host.do("seg_read", sid, 0, 2) == b"nn"
