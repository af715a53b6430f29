"""Tasks and threads: what a new one has, what fork and exit do with attachments."""

import time
from typing import Any

from everspace import MAP_ANONYMOUS, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.service import until
from tests.conformance.support.world import ACCOUNTS, BASE, World

ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
NO_PID = 2_000_000_000
MORE_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mremap", {"old_addr": hex(BASE), "old_size": PAGE, "new_size": PAGE}),
    ("madvise", {"addr": hex(BASE), "length": PAGE, "advice": 4}),
    ("mincore", {"addr": hex(BASE), "length": PAGE}),
    ("mlock", {"addr": hex(BASE), "length": PAGE}),
    ("munlock", {"addr": hex(BASE), "length": PAGE}),
)


@row("TASK-SPAWN-1")
def test_a_new_task_belongs_to_its_account(world: World) -> None:
    uid, gids = ACCOUNTS["member"]
    status = world.http("other").get(f"/v1/tasks/{world.member.pid}")
    assert (status["pid"], status["tid"], status["uid"]) == (world.member.pid, world.member.pid, uid)
    assert tuple(status["gids"]) == gids
    assert status["threads"] == [{"tid": world.member.pid, "active": 0}]
    assert status["attachments"] == []
    assert status["lease_s"] == 60


@row("TASK-SPAWN-2", "http")
def test_name_and_lease_of_a_task(world: World) -> None:
    http = world.http("owner")
    made = http.call("POST", "/v1/tasks", {"name": "worker", "lease_s": 5}, status=201).json
    assert (made["name"], made["lease_s"]) == ("worker", 5)
    assert http.get(f"/v1/tasks/{made['pid']}")["name"] == "worker"
    http.call("DELETE", f"/v1/tasks/{made['pid']}")
    bare = http.call("POST", "/v1/tasks", {}, status=201).json
    assert bare["lease_s"] == 60
    http.call("DELETE", f"/v1/tasks/{bare['pid']}")


@row("TASK-LEASE-EINVAL-1")
def test_a_lease_is_1_to_86400_seconds(world: World) -> None:
    http, client = world.http("owner"), world.site.clients["owner"]
    for bad in (0, 0.5, -1, 86401, 1e300):
        if world.way == "http":
            world.fails("EINVAL", http.call, "POST", "/v1/tasks", {"lease_s": bad}, status=201)
        else:
            world.fails("EINVAL", client.spawn, lease=bad)
    for good in (1, 86400):
        made = http.call("POST", "/v1/tasks", {"lease_s": good}, status=201).json
        http.call("DELETE", f"/v1/tasks/{made['pid']}")


@row("TASK-LEASE-1", "http")
def test_a_task_that_is_not_heard_of_ends(world: World) -> None:
    """Over HTTP nobody renews by himself. Looking at the task would renew it, so its space is looked at."""
    http = world.http("owner")
    vid = world.space()
    made = http.call("POST", "/v1/tasks", {"lease_s": 1}, status=201).json
    http.call("PUT", f"/v1/tasks/{made['pid']}/vas/{vid}", {"type": "rw"})
    assert http.get(f"/v1/vas/{vid}")["attach_count"] == 1
    until("the lease ends the task", lambda: http.get(f"/v1/vas/{vid}")["attach_count"] == 0)
    world.fails("ESRCH", http.get, f"/v1/tasks/{made['pid']}")
    world.fails("ESRCH", http.call, "POST", f"/v1/tasks/{made['pid']}/heartbeat", {})


@row("TASK-LEASE-2", "http")
def test_a_heartbeat_keeps_a_task(world: World) -> None:
    http = world.http("owner")
    made = http.call("POST", "/v1/tasks", {"lease_s": 1}, status=201).json
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        http.call("POST", f"/v1/tasks/{made['pid']}/heartbeat", {})
        time.sleep(0.1)
    assert http.get(f"/v1/tasks/{made['pid']}")["pid"] == made["pid"]
    http.call("DELETE", f"/v1/tasks/{made['pid']}")


@row("TASK-LEASE-3", "sdk")
def test_the_sdk_keeps_its_tasks(world: World) -> None:
    with world.site.clients["owner"].spawn(lease=1) as task:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            time.sleep(0.1)
        assert task.active_vas() == 0


@row("TASK-LAYOUT-1")
def test_a_new_task_has_text_data_heap_and_stack(world: World) -> None:
    lines = [line.split() for line in world.owner.maps().splitlines()]
    rights = [fields[1] for fields in lines]
    assert "r-xp" in rights
    assert "rw-p" in rights
    assert lines[-1][-1] == "[stack]" or any(fields[-1] == "[stack]" for fields in lines)
    for fields in lines:
        start, end = (int(part, 16) for part in fields[0].split("-"))
        assert end <= 0x1000_0000_0000 or start >= 0x7000_0000_0000
    start = world.owner.brk()
    assert start < 0x1000_0000_0000
    assert "[heap]" not in world.owner.maps()


@row("TASK-THREAD-1")
def test_a_thread_starts_in_the_original_space(world: World) -> None:
    """Also when its maker is inside a space; it shares memory and attachments."""
    vid, _ = world.inside()
    thread = world.owner.thread()
    assert thread.tid != world.owner.tid
    assert thread.active_vas() == 0
    world.fails("EFAULT", thread.read, BASE, 1)
    thread.vas_switch(vid)
    world.owner.write(BASE, b"one memory")
    assert thread.read(BASE, 10) == b"one memory"
    assert world.owner.vas_getattr(vid).attach_count == 1


@row("TASK-THREAD-2")
def test_a_thread_ends_alone(world: World) -> None:
    vid, _ = world.inside()
    thread = world.owner.thread()
    thread.vas_switch(vid)
    thread.exit()
    tids = [item["tid"] for item in world.http("owner").get(f"/v1/tasks/{world.owner.pid}")["threads"]]
    assert tids == [world.owner.tid]
    assert world.owner.active_vas() == vid
    path = f"/v1/tasks/{world.owner.pid}/memory?addr={BASE:#x}&len=1&tid={thread.tid}"
    world.fails("ESRCH", world.http("owner").call, "GET", path)


@row("TASK-THREAD-ESRCH-1", "http")
def test_no_thread_has_the_id_0(world: World) -> None:
    http, pid = world.http("owner"), world.owner.pid
    for method, path, body in (
        ("GET", f"/v1/tasks/{pid}/threads/0/active", None),
        ("PUT", f"/v1/tasks/{pid}/threads/0/active", {"vid": 0}),
        ("DELETE", f"/v1/tasks/{pid}/threads/0", None),
        ("GET", f"/v1/tasks/{pid}/memory?addr={BASE:#x}&len=0&tid=0", None),
        ("GET", f"/v1/proc/{pid}/maps?tid=0", None),
        ("POST", f"/v1/tasks/{pid}/brk", {"tid": 0}),
        ("POST", f"/v1/tasks/{pid}/batch?tid=0", {"calls": []}),
    ):
        world.fails("ESRCH", http.call, method, path, body)
    assert http.get(f"/v1/tasks/{pid}")["threads"] == [{"tid": pid, "active": 0}]


@row("TASK-FORK-1")
def test_a_child_has_a_copy_of_the_original_space_alone(world: World) -> None:
    own = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(own, b"before")
    vid, _ = world.inside()
    world.owner.write(BASE, b"space")
    child = world.adopt(world.owner.fork())
    assert child.pid != world.owner.pid
    assert child.read(own, 6) == b"before"
    child.write(own, b"child ")
    assert world.owner.read(own, 6) == b"before"
    world.owner.write(own, b"parent")
    assert child.read(own, 6) == b"child "
    world.fails("EFAULT", child.read, BASE, 1)
    assert world.owner.read(BASE, 5) == b"space"
    assert world.owner.vas_getattr(vid).attach_count == 1


@row("TASK-FORK-2")
def test_a_child_has_no_attachment_and_is_in_no_space(world: World) -> None:
    vid, _ = world.inside()
    child = world.adopt(world.owner.fork())
    assert child.active_vas() == 0
    assert world.http("owner").get(f"/v1/tasks/{child.pid}")["attachments"] == []
    world.fails("EINVAL", child.vas_switch, vid)
    world.fails("EBUSY", child.vas_attach, 0, vid, O_RDWR)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    child.vas_attach(0, vid, O_RDWR)


@row("TASK-FORK-3")
def test_a_child_has_one_thread_and_its_heap(world: World) -> None:
    start = world.owner.brk()
    world.owner.brk(start + PAGE)
    world.owner.write(start, b"heap")
    world.owner.thread()
    child = world.adopt(world.owner.fork())
    assert len(world.http("owner").get(f"/v1/tasks/{child.pid}")["threads"]) == 1
    assert child.brk() == start + PAGE
    assert child.read(start, 4) == b"heap"
    child.brk(start + 2 * PAGE)
    assert world.owner.brk() == start + PAGE


@row("TASK-FORK-4", "http")
def test_a_child_keeps_its_parents_account_whoever_asks(world: World) -> None:
    pid = world.member.pid
    made = world.http("root").call("POST", f"/v1/tasks/{pid}/fork", {}, status=201).json
    uid, gids = ACCOUNTS["member"]
    assert (made["uid"], tuple(made["gids"])) == (uid, gids)
    world.http("member").call("DELETE", f"/v1/tasks/{made['pid']}")


@row("TASK-EXIT-1")
def test_exit_gives_everything_back(world: World) -> None:
    vids = [world.space() for _ in range(3)]
    task = world.task("owner")
    for vid in vids:
        task.vas_attach(0, vid, O_RDWR)
    task.vas_switch(vids[0])
    task.thread().vas_switch(vids[1])
    task.exit()
    for vid in vids:
        assert world.owner.vas_getattr(vid).attach_count == 0
        world.owner.vas_delete(vid)
    world.fails("ESRCH", world.http("owner").get, f"/v1/tasks/{task.pid}")


@row("TASK-EXIT-2")
def test_a_parent_outlives_its_child_and_the_reverse(world: World) -> None:
    own = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(own, b"bytes")
    child = world.adopt(world.owner.fork())
    grandchild = world.adopt(child.fork())
    child.exit()
    assert grandchild.read(own, 5) == b"bytes"
    grandchild.write(own, b"later")
    assert world.owner.read(own, 5) == b"bytes"


@row("TASK-ESRCH-1")
def test_a_task_that_ended_is_esrch(world: World) -> None:
    task = world.task("owner")
    http = world.http("owner")
    task.exit()
    routes: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
        ("GET", "", None), ("DELETE", "", None), ("POST", "/fork", {}), ("POST", "/threads", {}),
        ("POST", "/heartbeat", {}), ("GET", "/memory?addr=0x10000&len=1", None), ("POST", "/batch", {"calls": []}),
        ("POST", "/mmap", {"addr": 0, "length": PAGE, "prot": 3, "flags": 34}), ("POST", "/brk", {"addr": 0}),
        ("POST", "/munmap", {"addr": 65536, "length": PAGE}), ("POST", "/msync", {}), ("GET", "/vas/1", None),
        ("GET", f"/threads/{task.pid}/active", None), ("POST", "/exec", {}), ("GET", "/limits", None),
        ("PUT", "/limits", {}), ("POST", "/prlimit", {"resource": "stack"}), ("GET", "/core", None),
        *(("POST", f"/{call}", body) for call, body in MORE_CALLS),
    )  # fmt: skip
    for method, path, body in routes:
        for pid in (task.pid, NO_PID, 2**40):
            world.fails("ESRCH", http.call, method, f"/v1/tasks/{pid}{path}", body)
    if world.way == "sdk":
        world.fails("ESRCH", task.active_vas)
        world.fails("ESRCH", task.read, BASE, 1)


@row("TASK-TID-1", "http")
def test_every_call_of_memory_may_name_its_thread(world: World) -> None:
    """The thread decides which space is meant; one that is not there is ESRCH, one of another task, too."""
    world.inside()
    http, pid = world.http("owner"), world.owner.pid
    inside, outside, foreign = world.owner.tid, world.owner.thread().tid, world.task("owner").tid
    range_ = {"addr": hex(BASE + PAGE), "length": PAGE}
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("mprotect", range_ | {"prot": 1}), ("msync", range_), ("madvise", range_ | {"advice": 3}), ("mincore", range_),
        ("mlock", range_), ("munlock", range_), ("munmap", {"addr": hex(BASE + 64 * PAGE), "length": PAGE}),
        ("mmap", {"addr": hex(BASE + 64 * PAGE), "length": PAGE, "prot": 3, "flags": 0x100022}), ("brk", {"addr": 0}),
        ("threads", {}), ("batch", {"calls": []}), ("fork", {}), ("mremap", MORE_CALLS[0][1]),
    )  # fmt: skip
    for call, body in calls:
        for tid, errno in ((NO_PID, "ESRCH"), (foreign, "ESRCH"), ("x", "EINVAL")):
            named = (f"{call}?tid={tid}", body) if call == "batch" else (call, body | {"tid": tid})
            failure = world.refused(http.call, "POST", f"/v1/tasks/{pid}/{named[0]}", named[1])
            assert failure.errno == errno, (call, tid, failure)
    for call, body in calls[:6]:
        world.fails("ENOMEM", http.call, "POST", f"/v1/tasks/{pid}/{call}", body | {"tid": outside})
        http.call("POST", f"/v1/tasks/{pid}/{call}", body | {"tid": inside})
    (mapping,) = (body for call, body in calls if call == "mmap")
    http.call("POST", f"/v1/tasks/{pid}/mmap", mapping | {"tid": inside})
    load = f"/v1/tasks/{pid}/memory?addr={BASE + 64 * PAGE}&len=1&tid="
    assert http.call("GET", f"{load}{inside}").body == b"\0"
    world.fails("EFAULT", http.call, "GET", f"{load}{outside}")


@row("TASK-PID-1", "http")
def test_a_pid_that_is_no_number_is_an_argument_error(world: World) -> None:
    http = world.http("owner")
    for pid in ("-1", "x", "1.5", "0x10", "%20", "1e3", "%C2%B2", "%D9%A1"):
        before = world.state()
        failure = world.refused(http.get, f"/v1/tasks/{pid}")
        assert failure.errno in ("EINVAL", "ESRCH"), failure
        assert world.state() == before


@row("TASK-EPERM-1", "http")
def test_a_task_of_another_uid_is_not_acted_on(world: World) -> None:
    vid, _ = world.inside()
    pid, tid = world.owner.pid, world.owner.tid
    range_ = {"addr": hex(BASE), "length": PAGE}
    forbidden: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
        ("DELETE", f"/tasks/{pid}", None), ("POST", f"/tasks/{pid}/fork", {}), ("POST", f"/tasks/{pid}/threads", {}),
        ("POST", f"/tasks/{pid}/heartbeat", {}), ("DELETE", f"/tasks/{pid}/threads/{tid}", None),
        ("GET", f"/tasks/{pid}/threads/{tid}/active", None), ("GET", f"/tasks/{pid}/vas/{vid}", None),
        ("PUT", f"/tasks/{pid}/threads/{tid}/active", {"vid": 0}), ("DELETE", f"/tasks/{pid}/vas/{vid}", None),
        ("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"}), ("GET", f"/tasks/{pid}/memory?addr={BASE}&len=4", None),
        ("POST", f"/tasks/{pid}/mmap", range_ | {"prot": 3, "flags": 34}), ("POST", f"/tasks/{pid}/munmap", range_),
        ("POST", f"/tasks/{pid}/mprotect", range_ | {"prot": 1}), ("POST", f"/tasks/{pid}/brk", {"addr": 0}),
        ("POST", f"/tasks/{pid}/msync", {}), ("POST", f"/tasks/{pid}/batch", {"calls": []}),
        ("GET", f"/proc/{pid}/maps", None), ("GET", f"/proc/{pid}/vas", None),
        ("GET", f"/proc/{pid}/vas/{vid}/maps", None), ("GET", f"/proc/{pid}/smaps", None),
        ("GET", f"/tasks/{pid}/core", None), ("POST", f"/tasks/{pid}/exec", {}), ("GET", f"/tasks/{pid}/limits", None),
        ("PUT", f"/tasks/{pid}/limits", {"data": 1}), ("POST", f"/tasks/{pid}/prlimit", {"resource": "data"}),
        *(("POST", f"/tasks/{pid}/{call}", body) for call, body in MORE_CALLS),
    )  # fmt: skip
    for account in ("other", "member"):
        for method, path, body in forbidden:
            world.fails("EPERM", world.http(account).call, method, f"/v1{path}", body)
        world.fails(
            "EPERM", world.http(account).call, "PUT", f"/v1/tasks/{pid}/memory?addr={BASE}", raw=b"xx"
        )
    assert world.owner.read(BASE, 2) == bytes(2)


@row("TASK-OPEN-1", "http")
def test_what_every_account_may_see_of_a_task(world: World) -> None:
    vid, _ = world.inside()
    http = world.http("other")
    assert http.get(f"/v1/tasks/{world.owner.pid}")["attachments"] == [
        {"vid": vid, "type": "rw", "lazy": True}
    ]
    assert http.call("GET", f"/v1/proc/{world.owner.pid}/status").text.endswith("\n")
    assert http.call("GET", f"/v1/proc/{world.owner.pid}/vas/{vid}/status").text.endswith("\n")


@row("TASK-ROOT-1", "http")
def test_root_acts_on_every_task(world: World) -> None:
    vid, _ = world.inside()
    root, pid = world.http("root"), world.owner.pid
    root.call("PUT", f"/v1/tasks/{pid}/memory?addr={BASE}", raw=b"root")
    assert root.call("GET", f"/v1/tasks/{pid}/memory?addr={BASE}&len=4").body == b"root"
    root.call("PUT", f"/v1/tasks/{pid}/threads/{pid}/active", {"vid": 0})
    root.call("DELETE", f"/v1/tasks/{pid}/vas/{vid}")
    root.call("DELETE", f"/v1/tasks/{pid}")


@row("TASK-ENOENT-1", "http")
def test_the_state_of_an_attachment_that_is_not_there(world: World) -> None:
    http = world.http("owner")
    vid = world.space()
    world.fails("ENOENT", http.get, f"/v1/tasks/{world.owner.pid}/vas/{vid}")
    world.owner.vas_attach(0, vid, O_RDWR)
    status = http.get(f"/v1/tasks/{world.owner.pid}/vas/{vid}")
    assert {key: status[key] for key in ("vid", "type", "lazy")} == {"vid": vid, "type": "rw", "lazy": True}
