"""What survives a restart and what does not, and how a task comes back."""

from typing import Any

import pytest

import everspace
from tests.conformance.support.calls import PAGE, HttpTask, b64
from tests.conformance.support.http import Problem
from tests.conformance.support.service import EVERSPACED, Service, run

BASE = 0x1000_0000_0000
ANON = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
RW = everspace.PROT_READ | everspace.PROT_WRITE


def kept(service: Service) -> dict[str, Any]:
    """All that must survive: every list and every byte, without what belongs to tasks."""
    http = service.http()
    found: dict[str, Any] = {
        "vas": http.get("/v1/vas?limit=1000"),
        "segments": http.get("/v1/segments?limit=1000"),
    }
    for space in found["vas"]["items"]:
        space["attach_count"] = 0
        for part in ("regions", "segments"):
            found[f"{part} of {space['id']}"] = http.get(f"/v1/vas/{space['id']}/{part}?limit=1000")
        for file in ("name", "mode", "user", "group"):
            found[f"{file} of {space['id']}"] = http.call("GET", f"/v1/sys/vas/{space['id']}/{file}").text
    for segment in found["segments"]["items"]:
        data = http.call("GET", f"/v1/segments/{segment['id']}/data").body
        found[f"data of {segment['id']}"] = data
    return found


def stocked(service: Service) -> tuple[HttpTask, int, int, int]:
    """A space with a segment, regions of its own and bytes everywhere; a task that is inside."""
    task = HttpTask.spawn(service.http())
    vid = task.vas_create("kept/é", 0o640, "shared")
    sid = task.vas_seg_create("kept", BASE, BASE + 8 * PAGE, 0o604)
    task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    reading = task.vas_seg_create("reading", BASE + 64 * PAGE, BASE + 66 * PAGE, 0o600)
    task.vas_seg_attach(vid, reading, everspace.O_RDONLY)
    task.vas_setattr(vid, uid=7, gid=8)
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    own = task.mmap(0, 6 * PAGE, RW, ANON)
    task.munmap(own + 2 * PAGE, PAGE)
    task.mprotect(own + 4 * PAGE, PAGE, everspace.PROT_READ)
    task.write(own, b"the space's own")
    task.write(BASE + PAGE - 3, bytes(range(256)) * 20)
    return task, vid, sid, own


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_everything_that_was_acknowledged_is_there_again(service: Service, how: str) -> None:
    _, vid, sid, own = stocked(service)
    before = kept(service)
    if how == "kill":
        service.kill()
    else:
        assert service.stop() == 0
    service.start()
    assert kept(service) == before
    task = HttpTask.spawn(service.http())
    assert task.vas_find("kept/é") == vid
    assert task.vas_seg_find("kept") == sid
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    assert task.read(own, 15) == b"the space's own"
    assert task.read(BASE + PAGE - 3, 5120) == bytes(range(256)) * 20
    for address in (own + 2 * PAGE, own + 4 * PAGE, BASE + 64 * PAGE):
        with pytest.raises(Problem) as raised:
            task.write(address, b"x")
        assert raised.value.errno == "EFAULT"


def test_tasks_are_gone_after_a_restart(service: Service) -> None:
    task, vid, _, _ = stocked(service)
    token = service.root_token
    service.kill()
    service.start()
    assert service.root_token == token
    http = service.http()
    for method, path, body in (
        ("GET", "", None), ("DELETE", "", None), ("POST", "/fork", {}), ("GET", f"/memory?addr={BASE}&len=1", None),
        ("PUT", f"/vas/{vid}", {"type": "rw"}), ("POST", "/batch", {"calls": []}), ("POST", "/heartbeat", {}),
    ):  # fmt: skip
        with pytest.raises(Problem) as raised:
            http.call(method, f"/v1/tasks/{task.pid}{path}", body)
        assert raised.value.errno == "ESRCH"
    assert http.get(f"/v1/vas/{vid}")["attach_count"] == 0
    http.call("DELETE", f"/v1/vas/{vid}")


def test_ids_are_not_used_again_after_a_restart(service: Service) -> None:
    task = HttpTask.spawn(service.http())
    vids = [task.vas_create(f"space {number}", 0o600) for number in range(3)]
    sids = [task.vas_seg_create(f"segment {n}", BASE, BASE + PAGE, 0o600) for n in range(3)]
    for vid, sid in zip(vids, sids, strict=True):
        task.vas_delete(vid)
        task.vas_seg_delete(sid)
    for end in (service.kill, service.stop):
        end()
        service.start()
        task = HttpTask.spawn(service.http())
        vids.append(task.vas_create(f"again {len(vids)}", 0o600))
        sids.append(task.vas_seg_create(f"again {len(vids)}", BASE, BASE + PAGE, 0o600))
        task.vas_delete(vids[-1])
        task.vas_seg_delete(sids[-1])
    assert vids == sorted(set(vids))
    assert sids == sorted(set(sids))


def test_a_deleted_segments_bytes_do_not_come_back_after_a_restart(service: Service) -> None:
    _, vid, sid, _ = stocked(service)
    service.kill()
    service.start()
    task = HttpTask.spawn(service.http())
    task.vas_delete(vid)
    task.vas_seg_delete(sid)
    service.kill()
    service.start()
    task = HttpTask.spawn(service.http())
    fresh = task.vas_seg_create("kept", BASE, BASE + 8 * PAGE, 0o600)
    assert task.http.call("GET", f"/v1/segments/{fresh}/data").body == bytes(8 * PAGE)
    assert [item["name"] for item in task.http.get("/v1/vas")["items"]] == []


def test_relaxed_writes_are_kept_by_sigterm(service: Service) -> None:
    task, vid, _, own = stocked(service)
    task.write(BASE, b"relaxed", durability="relaxed")
    task.write(own, b"RELAXED", durability="relaxed")
    assert service.stop() == 0
    service.start()
    task = HttpTask.spawn(service.http())
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    assert (task.read(BASE, 7), task.read(own, 7)) == (b"relaxed", b"RELAXED")


def test_msync_makes_relaxed_writes_durable(service: Service) -> None:
    task, vid, _, own = stocked(service)
    for number in range(5):
        task.write(BASE + number * PAGE, b"synced%d" % number, durability="relaxed")
    task.write(own, b"synced", durability="relaxed")
    task.msync()
    service.kill()
    service.start()
    task = HttpTask.spawn(service.http())
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    assert [task.read(BASE + number * PAGE, 7) for number in range(5)] == [b"synced%d" % n for n in range(5)]
    assert task.read(own, 6) == b"synced"


def test_an_atomic_batch_is_durable_as_one(service: Service) -> None:
    task, _, sid, own = stocked(service)
    task.batch(
        {"call": "write", "args": {"addr": hex(BASE), "data": b64(b"one")}},
        {"call": "write", "args": {"addr": hex(own), "data": b64(b"two")}},
        {"call": "vas_create", "args": {"name": "three", "mode": 0o600}},
        atomic=True,
    )
    service.kill()
    service.start()
    http = service.http()
    assert http.call("GET", f"/v1/segments/{sid}/data").body[:3] == b"one"
    assert len(http.get("/v1/vas?name=three")["items"]) == 1


def test_the_sdk_brings_a_task_back_when_asked(service: Service) -> None:
    with everspace.connect(service.url, service.root_token, respawn=True) as client:
        task = client.spawn(name="phoenix")
        vid = task.vas_create("space", 0o600)
        sid = task.vas_seg_create("segment", BASE, BASE + PAGE, 0o600)
        task.vas_seg_attach(vid, sid, everspace.O_RDWR)
        task.vas_attach(0, vid, everspace.O_RDWR)
        thread = task.thread()
        thread.vas_switch(vid)
        thread.write(BASE, b"before")
        old = task.pid
        port = service.port
        service.kill()
        service.start(port)
        assert thread.read(BASE, 6) == b"before"
        assert thread.active_vas() == vid
        assert task.active_vas() == 0
        assert task.pid != old
        thread.write(BASE, b"after!")
        assert task.vas_getattr(vid).attach_count == 1
        thread.vas_switch(0)
        task.vas_detach(0, vid)
        task.exit()


def test_the_sdk_says_esrch_when_not_asked(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client:
        task = client.spawn()
        port = service.port
        service.kill()
        service.start(port)
        with pytest.raises(ProcessLookupError):
            task.active_vas()
        with client.spawn() as fresh:
            assert fresh.active_vas() == 0


def test_the_sdk_never_acts_on_a_strangers_task(service: Service) -> None:
    """After a restart another task may have the pid; the old handle does nothing to it."""
    with everspace.connect(service.url, service.root_token) as client:
        old = client.spawn()
        port = service.port
        service.kill()
        service.start(port)
        http = service.http()
        pids = [http.call("POST", "/v1/tasks", {}, status=201).json["pid"] for _ in range(5)]
        with pytest.raises(ProcessLookupError):
            old.exit()
        assert [http.get(f"/v1/tasks/{pid}")["pid"] for pid in pids] == pids


def test_fsck_finds_nothing_after_a_clean_stop_and_after_a_kill(service: Service) -> None:
    stocked(service)
    for end in (service.kill, service.stop):
        end()
        done = run([EVERSPACED, "fsck", str(service.data_dir)])
        assert done.returncode == 0, done
        assert done.stderr == ""
        service.start()


def test_fsck_finds_a_byte_that_changed(service: Service) -> None:
    """And the service gives nobody the changed byte: it refuses to start, or the load is EIO."""
    _, _, sid, own = stocked(service)
    assert service.stop() == 0
    store = service.data_dir / "store.lmdb"
    content = store.read_bytes()
    place = content.index(b"the space's own")
    store.write_bytes(content[:place] + b"T" + content[place + 1 :])
    done = run([EVERSPACED, "fsck", str(service.data_dir)])
    assert done.returncode == 1, done
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    service.start()
    task = HttpTask.spawn(service.http())
    assert len(task.http.call("GET", f"/v1/segments/{sid}/data").body) == 8 * PAGE
    vid = task.vas_find("kept/é")
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    with pytest.raises(Problem) as raised:
        task.read(own, 15)
    assert raised.value.errno == "EIO"


def test_root_token_is_private(service: Service) -> None:
    path = service.data_dir / "root.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(service.root_token) >= 32
