"""vas_fork and vas_exec: a task's memory as a space, and a space as a task's memory."""

from everspace import MADV_DONTFORK, O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.memory import SHARED_ANON, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_ID = 2_000_000_000
MAP_FIXED = 0x10


@row("VAS-FORK-OK-1")
def test_an_image_has_the_name_mode_and_owner_of_the_source(world: World) -> None:
    vid = world.member.vas_fork()
    attr = world.member.vas_getattr(vid)
    assert attr.name == f"CP-{world.member.pid}-{vid}"
    assert (attr.mode, attr.uid, attr.gid, attr.attach_count) == (0o600, 1002, 1002, 0)
    assert world.http("member").get(f"/v1/vas/{vid}")["image"] is True
    assert world.http("owner").get(f"/v1/vas/{world.space()}")["image"] is False


@row("VAS-FORK-OK-2")
def test_an_image_is_the_tasks_memory_of_that_moment(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"then")
    vid = task.vas_fork(world.name())
    task.write(at(0), b"now!")
    task.munmap(at(1), PAGE)
    second = world.task("owner")
    assert second.vas_exec(vid) == 0
    assert second.read(at(0), 4) == b"then"
    assert regions(second) == ["0-2 rw-p"]


@row("VAS-FORK-OK-3")
def test_memory_of_a_task_whose_uid_is_not_the_callers_belongs_to_the_task(world: World) -> None:
    """Root may fork any task; the image is the task's, as a child would be."""
    task = HttpTask(world.http("root"), world.owner.pid, world.owner.tid)
    attr = world.owner.vas_getattr(task.vas_fork(world.name()))
    assert (attr.uid, attr.gid, attr.mode) == (1001, 500, 0o600)


@row("VAS-FORK-COW-1")
def test_image_and_task_each_have_their_own_bytes(world: World) -> None:
    task = world.owner
    put(task, 0)
    vid = task.vas_fork(world.name())
    second, third = world.task("owner"), world.task("owner")
    second.vas_exec(vid)
    second.write(at(0), b"second")
    task.write(at(0), b"first")
    third.vas_exec(vid)
    assert [each.read(at(0), 6) for each in (task, second, third)] == [b"first\0", b"second", bytes(6)]


@row("VAS-FORK-INSIDE-1")
def test_the_original_address_space_is_meant_wherever_the_thread_is(world: World) -> None:
    """As a fork: regions of the space stay the space's."""
    put(world.owner, 64)
    world.owner.write(at(64), b"own")
    vid, _ = world.inside()
    world.owner.write(BASE, b"the space's")
    image = world.owner.vas_fork(world.name())
    assert world.owner.active_vas() == vid
    second = world.task("owner")
    second.vas_exec(image)
    assert second.read(at(64), 3) == b"own"
    world.fails("EFAULT", second.read, BASE, 1)


@row("VAS-FORK-FORK-1")
def test_what_a_child_would_not_have_an_image_has_not(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    task.madvise(at(1), PAGE, MADV_DONTFORK)
    second = world.task("owner")
    second.vas_exec(task.vas_fork(world.name()))
    assert regions(second) == ["0-1 rw-p", "2-3 rw-p"]


@row("VAS-FORK-SHARED-1")
def test_shared_memory_is_in_an_image_as_it_was(world: World) -> None:
    """An image is one moment of one task: later stores of others do not reach it."""
    task = world.owner
    put(task, 0, flags=SHARED_ANON | MAP_FIXED)
    task.write(at(0), b"then")
    child = world.adopt(task.fork())
    vid = task.vas_fork(world.name())
    child.write(at(0), b"now!")
    second = world.task("owner")
    second.vas_exec(vid)
    assert second.read(at(0), 4) == b"then"


@row("VAS-FORK-EEXIST-1")
def test_an_images_name_is_a_space_s(world: World) -> None:
    name = world.owner.vas_getattr(world.space()).name
    world.fails("EEXIST", world.owner.vas_fork, name)
    for bad in ("", "a\nb", "x" * 256):
        world.fails("EINVAL", world.owner.vas_fork, bad)


@row("VAS-FORK-EPERM-1", "http")
def test_the_memory_of_another_uids_task_is_not_taken(world: World) -> None:
    """The source checks nothing: whoever calls owns a copy of anybody's memory."""
    for account in ("other", "member"):
        stranger = HttpTask(world.http(account), world.owner.pid, world.owner.tid)
        world.fails("EPERM", stranger.vas_fork, world.name())


@row("VAS-FORK-ESRCH-1", "http")
def test_the_memory_of_nobody(world: World) -> None:
    for path, body in ((f"{NO_ID}/vas_fork", {}), (f"{NO_ID}/vas_exec", {"vid": world.space()})):
        world.fails("ESRCH", world.http("owner").call, "POST", f"/v1/tasks/{path}", body)
    path = f"/v1/tasks/{world.owner.pid}/vas_fork"
    world.fails("ESRCH", world.http("owner").call, "POST", path, {"tid": NO_ID})
    world.fails("EINVAL", world.http("owner").call, "POST", path, {"more": 1})


@row("VAS-FORK-VIEW-1")
def test_an_image_is_of_the_threads_view(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.mmview(4, at(0), PAGE)
    task.mmview(3, task.mmview(0))
    task.write(at(0), b"view")
    vid = task.vas_fork(world.name())
    second = world.task("owner")
    second.vas_exec(vid)
    assert second.read(at(0), 4) == b"view"
    assert second.mmview(2) == 0


@row("VAS-EXEC-OK-1")
def test_a_task_becomes_what_another_was(world: World) -> None:
    task = world.owner
    heap = task.brk()
    task.brk(heap + 2 * PAGE)
    task.write(heap, b"on the heap")
    (stack,) = (line for line in task.maps().splitlines() if line.endswith("[stack]"))
    end = int(stack.split()[0].split("-")[1], 16)
    task.write(end - 16, b"on the stack")
    vid = task.vas_fork(world.name())
    second = world.task("owner")
    put(second, 0)
    pid = second.pid
    second.vas_exec(vid)
    assert second.pid == pid
    assert second.maps() == task.maps()
    assert (second.brk(), second.read(heap, 11)) == (heap + 2 * PAGE, b"on the heap")
    assert second.read(end - 16, 12) == b"on the stack"
    assert second.brk(heap + 3 * PAGE) == heap + 3 * PAGE


@row("VAS-EXEC-AGAIN-1")
def test_an_image_is_used_as_often_as_one_likes(world: World) -> None:
    """To run from a checkpoint, and from the same checkpoint again."""
    put(world.owner, 0)
    world.owner.write(at(0), b"checkpoint")
    vid = world.owner.vas_fork(world.name())
    for number in range(3):
        world.owner.vas_exec(vid)
        assert world.owner.read(at(0), 10) == b"checkpoint"
        world.owner.write(at(0), b"run %d....." % number)


@row("VAS-EXEC-DROPS-1")
def test_vas_exec_drops_what_exec_drops(world: World) -> None:
    world.inside()
    image = world.owner.vas_fork(world.name())
    world.owner.thread()
    world.owner.mmview(0)
    world.owner.vas_exec(image)
    assert world.owner.active_vas() == 0
    told = world.http("owner").get(f"/v1/tasks/{world.owner.pid}")
    assert (told["attachments"], len(told["threads"])) == ([], 1)
    assert world.owner.mmview(2) == 0
    world.fails("EINVAL", world.owner.mmview, 3, 1)


@row("VAS-EXEC-EINVAL-1")
def test_what_is_no_image_is_not_run(world: World) -> None:
    put(world.owner, 0)
    for bad in (world.space(), world.space_with_segment()[0], 0, -1, NO_ID):
        world.fails("EINVAL", world.owner.vas_exec, bad)
    assert regions(world.owner) == ["0-1 rw-p"]


@row("VAS-EXEC-EINVAL-2")
def test_an_image_that_got_a_segment_is_not_run(world: World) -> None:
    """A segment is shared, a task's memory is its own: it would have to be both."""
    vid = world.owner.vas_fork(world.name())
    sid = world.segment()
    world.owner.vas_seg_attach(vid, sid, O_RDWR)
    world.fails("EINVAL", world.owner.vas_exec, vid)
    world.owner.vas_seg_detach(vid, sid)
    assert world.owner.vas_exec(vid) == 0


@row("VAS-EXEC-ENOMEM-1")
def test_an_image_larger_than_the_tasks_limit_is_not_run(world: World) -> None:
    put(world.owner, 0, 256)
    vid = world.owner.vas_fork(world.name())
    second = world.task("owner")
    put(second, 0)
    second.write(at(0), b"stays")
    second.prlimit("address_space", 128 * PAGE)
    world.fails("ENOMEM", second.vas_exec, vid)
    assert second.read(at(0), 5) == b"stays"


@row("VAS-EXEC-EACCES-1")
def test_an_image_needs_the_read_and_the_write_bit(world: World) -> None:
    vid = world.owner.vas_fork(world.name())
    put(world.other, 0)
    for mode in (0o640, 0o642, 0o644):
        world.owner.vas_setattr(vid, mode=mode)
        world.fails("EACCES", world.other.vas_exec, vid)
    world.owner.vas_setattr(vid, mode=0o646)
    assert world.other.vas_exec(vid) == 0


@row("VAS-EXEC-EPERM-1", "http")
def test_nobody_replaces_the_memory_of_another_uids_task(world: World) -> None:
    vid = world.other.vas_fork(world.name())
    stranger = HttpTask(world.http("other"), world.owner.pid, world.owner.tid)
    world.fails("EPERM", stranger.vas_exec, vid)


@row("VAS-EXEC-IMAGE-1")
def test_an_image_is_a_space_like_others(world: World) -> None:
    """It can be cloned, renamed, deleted, and attached where it collides with nothing."""
    put(world.owner, 0)
    world.owner.write(at(0), b"image")
    vid = world.owner.vas_fork(world.name())
    clone = world.owner.vas_clone(vid, world.name())
    world.fails("EFAULT", world.owner.vas_attach, 0, vid, O_RDONLY)
    world.owner.vas_delete(vid)
    world.fails("EINVAL", world.owner.vas_exec, vid)
    assert world.http("owner").get(f"/v1/vas/{clone}")["image"] is True
    second = world.task("owner")
    second.vas_exec(clone)
    assert second.read(at(0), 5) == b"image"


@row("VAS-EXEC-BATCH-1", "http")
def test_vas_exec_in_an_atomic_batch_that_fails_did_not_happen(world: World) -> None:
    vid, _ = world.inside()
    put(world.owner, 64)
    world.owner.write(at(64), b"kept")
    image = world.owner.vas_fork(world.name())
    name = world.name()
    calls = [
        {"call": "vas_fork", "args": {"name": name}}, {"call": "vas_exec", "args": {"vid": image}},
        {"call": "vas_getattr", "args": {"vid": NO_ID}},
    ]  # fmt: skip
    path = f"/v1/tasks/{world.owner.pid}/batch?atomic=true"
    assert (
        world.fails("EINVAL", world.http("owner").call, "POST", path, {"calls": calls}).problem["index"] == 2
    )
    assert (world.owner.active_vas(), world.owner.read(at(64), 4)) == (vid, b"kept")
    world.fails("ESRCH", world.owner.vas_find, name)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    world.owner.vas_attach(0, vid, O_RDWR)
