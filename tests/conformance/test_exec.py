"""exec: a program that begins anew keeps nothing of the one before, above all no attachment."""

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, RW, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_PID = 2_000_000_000


@row("EXEC-MAP-1")
def test_exec_gives_a_fresh_map(world: World) -> None:
    fresh = world.task("owner").maps()
    task = world.owner
    own = task.mmap(0, 4 * PAGE, RW, ANON)
    put(task, 0)
    heap = task.brk()
    task.brk(heap + PAGE)
    task.write(heap, b"old heap")
    (stack,) = (line for line in task.maps().splitlines() if line.endswith("[stack]"))
    end = int(stack.split()[0].split("-")[1], 16)
    task.write(end - 8, b"old call")
    pid, tid = task.pid, task.tid
    assert task.exec() == 0
    assert (task.pid, task.tid) == (pid, tid)
    assert task.maps() == fresh
    assert regions(task) == []
    assert task.brk() == heap
    assert task.read(end - 8, 8) == bytes(8)
    world.fails("EFAULT", task.read, own, 1)
    task.brk(heap + PAGE)
    assert task.read(heap, 8) == bytes(8)


@row("EXEC-ATTACH-1")
def test_exec_drops_every_attachment(world: World) -> None:
    vid, _ = world.inside()
    other, _ = world.space_with_segment(start=BASE + 64 * PAGE)
    world.owner.vas_attach(0, other, O_RDONLY)
    world.owner.write(BASE, b"stays in the space")
    world.owner.exec()
    assert world.owner.active_vas() == 0
    assert world.http("owner").get(f"/v1/tasks/{world.owner.pid}")["attachments"] == []
    assert world.owner.vas_getattr(vid).attach_count == 0
    world.fails("EFAULT", world.owner.read, BASE, 1)
    world.fails("EINVAL", world.owner.vas_switch, vid)
    world.fails("EINVAL", world.owner.vas_detach, 0, vid)
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDWR)
    second.vas_switch(vid)
    assert second.read(BASE, 18) == b"stays in the space"


@row("EXEC-THREADS-1")
def test_exec_leaves_one_thread(world: World) -> None:
    vid, _ = world.inside()
    threads = [world.owner.thread() for _ in range(3)]
    threads[0].vas_switch(vid)
    world.owner.exec()
    told = world.http("owner").get(f"/v1/tasks/{world.owner.pid}")["threads"]
    assert told == [{"tid": world.owner.pid, "active": 0}]
    for thread in threads:
        world.fails("ESRCH", thread.active_vas)
        world.fails("ESRCH", thread.read, BASE, 1)


@row("EXEC-RIGHT-1", "http")
def test_exec_is_for_the_uid_and_for_root(world: World) -> None:
    path = f"/v1/tasks/{world.owner.pid}/exec"
    for account in ("other", "member"):
        world.fails("EPERM", world.http(account).call, "POST", path, {})
    put(world.owner, 0)
    assert world.http("root").call("POST", path, {}, status=200).json["pid"] == world.owner.pid
    assert regions(world.owner) == []
    world.fails("ESRCH", world.http("owner").call, "POST", f"/v1/tasks/{NO_PID}/exec", {})
    world.fails("EINVAL", world.http("owner").call, "POST", path, {"path": "sh"})


@row("EXEC-BATCH-1")
def test_exec_in_an_atomic_batch_that_fails_did_not_happen(world: World) -> None:
    vid, _ = world.inside()
    put(world.owner, 64)
    world.owner.write(BASE + 64 * PAGE, b"kept")
    http = world.http("owner")
    calls = [{"call": "exec"}, {"call": "read", "args": {"addr": BASE + 64 * PAGE, "length": 4}}]
    path = f"/v1/tasks/{world.owner.pid}/batch?atomic=true"
    assert world.fails("EFAULT", http.call, "POST", path, {"calls": calls}).problem["index"] == 1
    assert world.owner.active_vas() == vid
    assert world.owner.read(BASE + 64 * PAGE, 4) == b"kept"


@row("VFORK-HOLE-1")
def test_a_spawned_program_never_has_its_parents_attachments(world: World) -> None:
    """What vfork and posix_spawn do: a child is made, then it becomes another program. Neither sees the space."""
    vid, _ = world.inside()
    world.owner.write(BASE, b"secret")
    child = world.adopt(world.owner.fork())
    for _ in range(2):
        world.fails("EFAULT", child.read, BASE, 6)
        world.fails("EINVAL", child.vas_switch, vid)
        assert world.http("owner").get(f"/v1/tasks/{child.pid}")["attachments"] == []
        child.exec()
    assert world.owner.read(BASE, 6) == b"secret"
    assert world.owner.active_vas() == vid


@row("VFORK-HOLE-2")
def test_a_program_after_exec_sees_nothing_of_its_parent(world: World) -> None:
    own = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(own, b"secret")
    child = world.adopt(world.owner.fork())
    child.exec()
    world.fails("EFAULT", child.read, own, 6)
    assert child.mmap(own, PAGE, RW, ANON | 0x10) == own
    assert child.read(own, 6) == bytes(6)
    assert world.owner.read(own, 6) == b"secret"
