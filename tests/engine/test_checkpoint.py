"""vas_fork and vas_exec: a task's memory as a space, and back, as often as one likes and after a restart."""

import pytest

from engine.changes import IMAGE
from engine.check import check
from engine.geometry import X86_64
from tests.engine.host import ALICE, BOB, FIXED, PRIVATE, RW, SHARED_MAP, Host

PAGE = X86_64.page_size

pytestmark = pytest.mark.x86_64


def sound(host: Host) -> None:
    assert list(check(host.machine)) == []


def program(host: Host) -> int:
    """A task with a heap, a stack that has grown, private and shared memory, all written."""
    pid = host.task(ALICE)
    heap = host.do("brk", pid, None, 0)
    host.do("brk", pid, None, heap + 2 * PAGE)
    host.do("write", pid, None, heap, b"heap")
    host.do("write", pid, None, host.geometry.user_end - host.geometry.stack_size - 5 * PAGE, b"stack")
    host.map_at(pid, 0, 4)
    host.do("write", pid, None, host.base, b"0" * PAGE + b"1" * PAGE)
    host.map_at(pid, 8, 10, flags=SHARED_MAP)
    host.do("write", pid, None, host.base + 8 * PAGE, b"shared")
    host.map_at(pid, 16, 17, prot=1)
    return pid


def whole(host: Host, pid: int) -> list[bytes]:
    """What the parts of `program` hold."""
    heap = host.geometry.text_start + 3 * PAGE
    stack = host.geometry.user_end - host.geometry.stack_size - 5 * PAGE
    places = (
        (heap, PAGE),
        (stack, PAGE),
        (host.base, 4 * PAGE),
        (host.base + 8 * PAGE, 2 * PAGE),
        (host.base + 16 * PAGE, PAGE),
    )
    return [host.do("read", pid, None, address, length) for address, length in places]


def own_regions(host: Host, pid: int) -> list[tuple[int, int, str, bool]]:
    space = host.machine.tasks_table.get(pid).space
    return [(vma.start, vma.end, str(vma.access), vma.grows_down) for vma in space.vmas]


def test_an_image_is_a_space_of_the_tasks_own(host: Host) -> None:
    pid = program(host)
    vid = host.do("vas_fork", pid, cred=ALICE)
    attr = host.do("vas_getattr", vid)
    assert (attr.name, attr.mode, attr.uid, attr.gid, attr.image) == (
        f"CP-{pid}-{vid}",
        0o600,
        1000,
        100,
        True,
    )
    assert [(r.start, r.end) for r in host.do("vas_regions", vid)] == [r[:2] for r in own_regions(host, pid)]
    sound(host)


@pytest.mark.parametrize("restarted", [False, True])
def test_memory_comes_back_as_it_was(host: Host, restarted: bool) -> None:
    pid = program(host)
    before, regions, brk = whole(host, pid), own_regions(host, pid), host.do("brk", pid, None, 0)
    vid = host.do("vas_fork", pid, None, "image", cred=ALICE)
    host.do("write", pid, None, host.base, b"went on")
    if restarted:
        host.restart()
    for _ in range(2):
        runner = host.task(ALICE)
        host.do("vas_exec", runner, vid, cred=ALICE)
        sound(host)
        assert whole(host, runner) == before
        assert own_regions(host, runner) == regions
        assert host.do("brk", runner, None, 0) == brk
        host.do("write", runner, None, host.base + PAGE, b"of this run only")
        host.do("brk", runner, None, brk + 4 * PAGE)
        host.do("write", runner, None, brk + 3 * PAGE, b"more heap")
        sound(host)


def test_a_run_image_forks_and_each_goes_its_own_way(host: Host) -> None:
    pid = program(host)
    vid = host.do("vas_fork", pid, cred=ALICE)
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    assert host.do("read", runner, None, host.base, 1) == b"0"
    child = host.do("fork", runner, cred=ALICE).pid
    host.do("write", child, None, host.base + PAGE, b"child")
    host.do("write", runner, None, host.base, b"parent")
    host.do("exit", runner)
    sound(host)
    assert host.do("read", child, None, host.base, 2 * PAGE) == b"0" * PAGE + b"child" + b"1" * (PAGE - 5)
    again = host.do("vas_fork", child, None, "again", cred=ALICE)
    host.do("exit", child)
    assert host.store.load().unowned == []
    host.restart()
    runner = host.task(ALICE)
    host.do("vas_exec", runner, again, cred=ALICE)
    assert host.do("read", runner, None, host.base, 2 * PAGE) == b"0" * PAGE + b"child" + b"1" * (PAGE - 5)
    sound(host)


def test_what_an_image_left_behind_is_let_go_at_the_next_start(host: Host) -> None:
    vid = host.do("vas_fork", program(host), cred=ALICE)
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    assert len(host.store.load().unowned) == 1
    host.restart()
    assert host.store.load().unowned == []


def test_the_image_may_be_deleted_while_it_runs(host: Host) -> None:
    pid = program(host)
    before = whole(host, pid)
    vid = host.do("vas_fork", pid, cred=ALICE)
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    host.do("vas_delete", vid, cred=ALICE)
    assert whole(host, runner) == before
    sound(host)


def test_memory_taken_away_in_a_run_image_is_zeros_afterwards_and_in_its_image(host: Host) -> None:
    vid = host.do("vas_fork", program(host), cred=ALICE)
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    host.do("munmap", runner, None, host.base, PAGE)
    host.do("madvise", runner, None, host.base + PAGE, PAGE, 4)
    host.map_at(runner, 0, 1)
    again = host.do("vas_fork", runner, None, "again", cred=ALICE)
    for pid in (runner, host.task(ALICE)):
        if pid != runner:
            host.do("vas_exec", pid, again, cred=ALICE)
        assert host.do("read", pid, None, host.base, 2 * PAGE) == bytes(2 * PAGE)
    sound(host)


def test_memory_of_a_run_image_can_be_moved(host: Host) -> None:
    vid = host.do("vas_fork", program(host), cred=ALICE)
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    target = host.base + 64 * PAGE
    assert host.do("mremap", runner, None, host.base, 4 * PAGE, 4 * PAGE, 3, target) == target
    assert host.do("read", runner, None, target, 2 * PAGE) == b"0" * PAGE + b"1" * PAGE
    host.map_at(runner, 0, 4)
    assert host.do("read", runner, None, host.base, 4 * PAGE) == bytes(4 * PAGE)
    sound(host)


def test_swapped_out_pages_are_in_the_image() -> None:
    host = Host(frames=32, swap=256)
    pid = host.task()
    host.map_at(pid, 0, 24)
    for page in range(24):
        host.do("write", pid, None, host.base + page * PAGE, bytes([page]) * PAGE)
    host.do("madvise", pid, None, host.base, 24 * PAGE, 21)
    vid = host.do("vas_fork", pid)
    runner = host.task()
    host.do("vas_exec", runner, vid)
    for page in range(24):
        assert host.do("read", runner, None, host.base + page * PAGE, PAGE) == bytes([page]) * PAGE
    sound(host)


def test_more_pages_than_frames_are_refused() -> None:
    host = Host(frames=32, swap=256)
    pid = host.task()
    host.map_at(pid, 0, 48)
    for page in range(48):
        host.do("write", pid, None, host.base + page * PAGE, bytes([page]) * PAGE)
    assert host.refused("vas_fork", pid) == "ENOMEM"
    assert host.do("vas_list") == []
    sound(host)


def test_dontfork_memory_is_left_out(host: Host) -> None:
    pid = program(host)
    host.do("madvise", pid, None, host.base, PAGE, 10)
    vid = host.do("vas_fork", pid, cred=ALICE)
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    assert host.refused("read", runner, None, host.base, 1) == "EFAULT"
    assert host.do("read", runner, None, host.base + PAGE, 1) == b"1"


def test_exec_drops_threads_and_attachments(host: Host) -> None:
    vid = host.do("vas_fork", program(host), cred=ALICE)
    other, runner = host.space(), host.task(ALICE)
    host.enter(runner, other)
    host.do("thread", runner)
    host.do("vas_exec", runner, vid, cred=ALICE)
    status = host.do("task_status", runner)
    assert [(thread.tid, thread.active) for thread in status.threads] == [(runner, 0)]
    assert status.attachments == ()
    sound(host)


def test_clones_and_snapshots_of_images_are_images(host: Host) -> None:
    pid = program(host)
    before, brk = whole(host, pid), host.do("brk", pid, None, 0)
    vid = host.do("vas_fork", pid, cred=ALICE)
    snap = host.do("vas_snapshot", vid, "snap", cred=ALICE)
    host.do("vas_delete", vid)
    host.restart()
    copy = host.do("vas_clone", snap, "copy", cred=ALICE)
    for image in (snap, copy):
        runner = host.task(ALICE)
        host.do("vas_exec", runner, image, cred=ALICE)
        assert whole(host, runner) == before
        assert host.do("brk", runner, None, 0) == brk
    sound(host)


def test_refusals(host: Host) -> None:
    pid = program(host)
    vid, plain = host.do("vas_fork", pid, cred=ALICE), host.space()
    assert host.refused("vas_fork", 999_999) == host.refused("vas_exec", 999_999, vid) == "ESRCH"
    assert host.refused("vas_fork", pid, cred=BOB) == host.refused("vas_exec", pid, vid, cred=BOB) == "EPERM"
    assert host.refused("vas_fork", pid, None, "space", cred=ALICE) == "EEXIST"
    assert host.refused("vas_fork", pid, None, "", cred=ALICE) == "EINVAL"
    assert host.refused("vas_exec", pid, 999) == host.refused("vas_exec", pid, plain) == "EINVAL"
    runner = host.task(BOB)
    assert host.refused("vas_exec", runner, vid, cred=BOB) == "EACCES"
    host.do("vas_setattr", vid, mode=0o644)
    assert host.refused("vas_exec", runner, vid, cred=BOB) == "EACCES"
    sid = host.segment("data", at=512)
    host.do("vas_seg_attach", vid, sid, 2)
    assert host.refused("vas_exec", pid, vid, cred=ALICE) == "EINVAL"
    host.do("vas_seg_detach", vid, sid)
    host.do("prlimit", pid, "address_space", 4 * PAGE)
    assert host.refused("vas_exec", pid, vid, cred=ALICE) == "ENOMEM"
    assert whole(host, pid)[2].startswith(b"0")
    sound(host)


def test_what_is_rolled_back_leaves_no_trace(host: Host) -> None:
    pid = program(host)
    before = whole(host, pid)
    vid = host.do("vas_fork", pid, cred=ALICE)
    machine = host.machine
    with machine.transaction() as txn:
        machine.vas_fork(ALICE, pid)
        machine.vas_exec(ALICE, pid, vid)
    txn.rollback()
    assert whole(host, pid) == before
    assert [space.vid for space in machine.spaces.registry if space.flags & IMAGE] == [vid]
    sound(host)


def test_an_image_is_seen_like_other_spaces(host: Host) -> None:
    """A task whose own regions are elsewhere may attach it and look at, or change, the program's memory."""
    pid = host.task(ALICE)
    host.do("munmap", pid, None, 0x10000, X86_64.user_end - 0x10000)
    host.do("mmap", pid, None, host.base, PAGE, RW, PRIVATE | FIXED)
    host.do("write", pid, None, host.base, b"frozen")
    vid = host.do("vas_fork", pid, cred=ALICE)
    visitor = host.task(ALICE)
    host.enter(visitor, vid)
    assert host.do("read", visitor, None, host.base, 6) == b"frozen"
    host.do("write", visitor, None, host.base, b"thawed")
    host.do("vas_exec", pid, vid, cred=ALICE)
    assert host.do("read", pid, None, host.base, 6) == b"thawed"
    sound(host)


def test_regions_that_differ_in_what_an_image_does_not_keep_are_one_in_it(host: Host) -> None:
    pid = program(host)
    host.do("mlock", pid, None, host.base, PAGE)
    host.do("mmview", pid, None, 4, host.base + 2 * PAGE, PAGE)
    vid = host.do("vas_fork", pid, cred=ALICE)
    sound(host)
    assert (host.base, host.base + 4 * PAGE) in [(r.start, r.end) for r in host.do("vas_regions", vid)]
    runner = host.task(ALICE)
    host.do("vas_exec", runner, vid, cred=ALICE)
    assert host.do("read", runner, None, host.base, 2 * PAGE) == b"0" * PAGE + b"1" * PAGE
    sound(host)


def test_dontfork_memory_of_a_run_image_is_left_out_too(host: Host) -> None:
    runner = host.task(ALICE)
    host.do("vas_exec", runner, host.do("vas_fork", program(host), cred=ALICE), cred=ALICE)
    host.do("madvise", runner, None, host.base, PAGE, 10)
    again = host.do("vas_fork", runner, None, "again", cred=ALICE)
    host.do("vas_mmap", again, host.base, PAGE, RW, PRIVATE | FIXED, cred=ALICE)
    other = host.task(ALICE)
    host.do("vas_exec", other, again, cred=ALICE)
    assert host.do("read", other, None, host.base, 2 * PAGE) == bytes(PAGE) + b"1" * PAGE
