"""What of clones, snapshots, heaps, roots and images survives a restart; what of views, slots, locks and lifetimes does not."""

from typing import Any

import pytest

import everspace
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.events import first_id
from tests.conformance.support.http import Problem
from tests.conformance.support.service import EVERSPACED, Service, run

BASE = 0x1000_0000_0000
ANON = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
RW = everspace.PROT_READ | everspace.PROT_WRITE
SIZE = 16 * PAGE


def spawn(service: Service) -> HttpTask:
    return HttpTask.spawn(service.http())


def into(service: Service, vid: int, type: int = everspace.O_RDWR) -> HttpTask:
    """A new task inside a space."""
    task = spawn(service)
    task.vas_attach(0, vid, type)
    task.vas_switch(vid)
    return task


def filled(service: Service, sharing: str = "shared") -> tuple[HttpTask, int, int]:
    """A space with a segment, and a task inside."""
    task = spawn(service)
    vid = task.vas_create("space", 0o600, sharing)
    sid = task.vas_seg_create("segment", BASE, BASE + SIZE, 0o600, sharing)
    task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    return task, vid, sid


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(Problem) as raised:
        call(*args)
    return raised.value.errno


def again(service: Service, how: str) -> None:
    if how == "kill":
        service.kill()
    else:
        assert service.stop() == 0
    service.start()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_clones_and_their_lineage_survive(service: Service, how: str) -> None:
    task, vid, sid = filled(service)
    task.write(BASE, b"inherited")
    clone = task.vas_clone(vid, "clone")
    grandchild = task.vas_clone(clone, "grandchild")
    snapshot = task.vas_snapshot(vid, "snapshot")
    task.write(BASE, b"origin's.")
    into(service, clone).write(BASE + PAGE, b"clone's")
    told = [service.http().get(f"/v1/vas/{each}/lineage") for each in (vid, clone, grandchild, snapshot)]
    again(service, how)
    http = service.http()
    assert [http.get(f"/v1/vas/{each}/lineage") for each in (vid, clone, grandchild, snapshot)] == told
    expected = {vid: b"origin's.", clone: b"inherited", grandchild: b"inherited"}
    for each, text in expected.items():
        assert into(service, each).read(BASE, 9) == text
    assert into(service, snapshot, everspace.O_RDONLY).read(BASE, 9) == b"inherited"
    assert refusal(spawn(service).vas_attach, 0, snapshot, everspace.O_RDWR) == "EPERM"
    assert spawn(service).vas_seg_getattr(sid).origin == 0
    assert service.http().get(f"/v1/vas/{clone}")["origin"] == vid


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_clone_can_be_reset_after_its_origin_and_the_service_are_gone(service: Service, how: str) -> None:
    task, vid, sid = filled(service)
    task.write(BASE, b"birth")
    task.vas_set_root("r", BASE)
    clone = task.vas_clone(vid, "clone")
    second = into(service, clone)
    second.write(BASE, b"later")
    second.vas_set_root("r", BASE + 8)
    for each in (task, second):
        each.exit()
    spawn(service).vas_delete(vid)
    spawn(service).vas_seg_delete(sid)
    again(service, how)
    assert into(service, clone).read(BASE, 5) == b"later"
    again(service, how)
    spawn(service).vas_reset(clone)
    again(service, how)
    task = into(service, clone)
    assert (task.read(BASE, 5), task.vas_get_root("r")) == (b"birth", BASE)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_heaps_and_roots_survive(service: Service, how: str) -> None:
    task, vid, sid = filled(service)
    blocks = [task.vas_malloc(100) for _ in range(3)]
    task.write(blocks[1], b"in the heap")
    task.vas_free(blocks[0])
    task.vas_set_root("head/é", blocks[1])
    told = service.http().get(f"/v1/segments/{sid}/heap")
    again(service, how)
    assert service.http().get(f"/v1/segments/{sid}/heap") == told
    task = into(service, vid)
    assert task.read(task.vas_get_root("head/é"), 11) == b"in the heap"
    task.vas_free(blocks[1])
    assert refusal(task.vas_free, blocks[0]) == "EINVAL"
    assert task.vas_malloc(100) not in (blocks[2],)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_an_image_survives_and_is_run_again(service: Service, how: str) -> None:
    task = spawn(service)
    own = task.mmap(BASE, 4 * PAGE, RW, ANON)
    task.write(own + PAGE, b"checkpoint" * 500)
    heap = task.brk()
    task.brk(heap + PAGE)
    task.write(heap, b"heap")
    image = task.vas_fork("image")
    maps = task.maps()
    again(service, how)
    task = spawn(service)
    task.vas_exec(image)
    assert task.maps() == maps
    assert task.read(own + PAGE, 5000) == b"checkpoint" * 500
    assert (task.read(heap, 4), task.brk()) == (b"heap", heap + PAGE)
    task.write(own + PAGE, b"run on")
    second = spawn(service)
    second.vas_exec(image)
    assert second.read(own + PAGE, 6) == b"checkp"
    assert service.http().get(f"/v1/vas/{image}")["image"] is True


def test_transient_spaces_and_segments_are_gone_with_the_service(service: Service) -> None:
    task = spawn(service)
    kept = task.vas_create("kept", 0o600)
    vids = [task.vas_create(f"transient {n}", 0o600, "shared", "transient") for n in range(3)]
    sid = task.vas_seg_create("transient", BASE, BASE + SIZE, 0o600, "exclusive", "transient")
    inside = task.vas_seg_create("inside", BASE + SIZE, BASE + 2 * SIZE, 0o600, "exclusive", "transient")
    task.vas_seg_attach(kept, inside, everspace.O_RDWR)
    task.vas_attach(0, vids[1], everspace.O_RDWR)
    again(service, "kill")
    task = spawn(service)
    for vid in vids:
        assert refusal(task.vas_getattr, vid) == "EINVAL"
    assert refusal(task.vas_seg_getattr, sid) == "EINVAL"
    assert task.vas_getattr(kept).name == "kept"
    again(service, "stop")
    names = [item["name"] for item in service.http().get("/v1/vas")["items"]]
    assert names == ["kept"]


def test_views_and_slots_are_gone_with_their_tasks(service: Service) -> None:
    tasks = [spawn(service), spawn(service)]
    tasks[0].mmview(0)
    tasks[1].new_as()
    again(service, "kill")
    for task in tasks:
        left = HttpTask(service.http(), task.pid, task.tid)
        assert refusal(left.mmview, 2) == "ESRCH"
        assert refusal(left.switch_as, 0) == "ESRCH"
    assert spawn(service).mmview(2) == 0


def test_no_lock_outlives_the_service(service: Service) -> None:
    _, vid, _ = filled(service, "lockable")
    again(service, "kill")
    task = spawn(service)
    task.vas_attach(0, vid, everspace.O_RDWR)
    assert task.vas_switch(vid, timeout=0) == 0


def test_fsck_finds_nothing_after_clones_resets_and_images(service: Service) -> None:
    task, vid, sid = filled(service)
    task.write(BASE, b"x" * SIZE)
    clones = [task.vas_seg_clone(sid, f"clone {n}") for n in range(5)]
    spaces = [task.vas_clone(vid, f"space {n}") for n in range(3)]
    task.vas_snapshot(vid, "snapshot")
    into(service, spaces[0]).write(BASE, b"y" * PAGE)
    task.vas_fork("image")
    for each in clones[::2]:
        task.vas_seg_delete(each)
    task.vas_reset(spaces[1])
    task.vas_delete(spaces[2])
    service.kill()
    done = run([EVERSPACED, "fsck", str(service.data_dir)])
    assert (done.returncode, done.stderr) == (0, ""), done
    service.start()
    assert into(service, spaces[0]).read(BASE, PAGE) == b"y" * PAGE
    assert into(service, spaces[1]).read(BASE, SIZE) == b"x" * SIZE


def test_events_of_before_a_restart_are_told_as_lost(service: Service) -> None:
    spawn(service).vas_create("before", 0o600)
    stream = service.http()
    position = first_id(stream)
    again(service, "kill")
    response = service.http().open("/v1/events", {"Last-Event-ID": position})
    lines = [response.readline()]
    while lines[-1] and not lines[-1].startswith(b"event: "):
        lines.append(response.readline())
    response.close()
    assert lines[-1] == b"event: lost\n"
