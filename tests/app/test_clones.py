"""Clones, snapshots, images, roots and heaps through the service: what they answer, what they store, what a restart leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.main import open_parts
from app.settings import Settings
from engine.check import check
from storage.errors import StoreFull
from storage.writer import Writer
from tests.app.support import BASE, BYTES, PAGE, HeldStore, Site, held, running

SEGMENT_AT = BASE + 0x1000_0000


async def fill(site: Site, sid: int, offset: int, data: bytes) -> None:
    headers = BYTES | {"content-range": f"bytes {offset}-{offset + len(data) - 1}/*"}
    assert (await site.send("PATCH", f"/v1/segments/{sid}/data", [data], headers)).status == 204


async def content(site: Site, sid: int, offset: int, length: int) -> bytes:
    headers = {"range": f"bytes={offset}-{offset + length - 1}"}
    return (await site.send("GET", f"/v1/segments/{sid}/data", headers=headers)).body


async def usage(site: Site, path: str) -> tuple[int, int, int]:
    """In pages: logical, shared, private."""
    found = await site.ok("GET", f"{path}/usage")
    return found["logical"] // PAGE, found["shared"] // PAGE, found["private"] // PAGE


async def test_a_clone_is_its_own_and_its_parent_may_go(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        pid, vid = await site.inside()
        sid = await site.segment("segment", 4, SEGMENT_AT)
        await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
        await site.write(pid, BASE, b"own")
        await site.write(pid, SEGMENT_AT, b"segment")
        await site.ok("PUT", f"/vas/{vid}/roots/first", {"addr": hex(SEGMENT_AT)})
        copy = await site.ok("POST", f"/vas/{vid}/clone", {"name": "copy"})
        assert (copy["origin"], copy["name"], copy["snapshot"], copy["attach_count"]) == (
            vid,
            "copy",
            False,
            0,
        )
        (other_sid,) = copy["segments"]
        assert await site.ok("GET", f"/vas/{copy['id']}/roots/first") == {"addr": hex(SEGMENT_AT)}
        await site.write(pid, BASE, b"OWN")
        await site.write(pid, SEGMENT_AT, b"SEGMENT")
        assert await content(site, other_sid, 0, 7) == b"segment"
        assert await site.ok("GET", f"/vas/{vid}/lineage") == {"origins": [], "clones": [copy["id"]]}
        await site.ok("DELETE", f"/tasks/{pid}")
        await site.ok("DELETE", f"/vas/{vid}")
        await site.ok("DELETE", f"/segments/{sid}")
    async with running(tmp_path) as site:
        reader = await site.task()
        await site.ok("PUT", f"/tasks/{reader}/vas/{copy['id']}", {"type": "rw"})
        await site.ok("PUT", f"/tasks/{reader}/threads/{reader}/active", {"vid": copy["id"]})
        assert (await site.read(reader, BASE, 3)).body == b"own"
        assert (await site.read(reader, SEGMENT_AT, 7)).body == b"segment"
        assert await site.ok("GET", f"/tasks/{reader}/roots/first") == {"addr": hex(SEGMENT_AT)}
        assert await site.ok("GET", f"/vas/{copy['id']}/lineage") == {"origins": [vid], "clones": []}
        await site.write(reader, BASE, b"new")
        await site.ok("PUT", f"/tasks/{reader}/threads/{reader}/active", {"vid": 0})
        back = await site.ok("POST", f"/vas/{copy['id']}/reset")
        assert back["id"] == copy["id"]
        await site.ok("PUT", f"/tasks/{reader}/threads/{reader}/active", {"vid": copy["id"]})
        assert (await site.read(reader, BASE, 3)).body == b"own"
        check(site.service.machine)


async def test_usage_tells_what_is_shared_and_what_is_not(site: Site) -> None:
    sid = await site.segment("segment", 8)
    path = f"/segments/{sid}"
    assert await usage(site, path) == (0, 0, 0)
    await fill(site, sid, 0, bytes(PAGE) + b"x" * 3 * PAGE)
    logical, shared, private = await usage(site, path)
    assert (shared, private) == (0, logical)
    copy = f"/segments/{(await site.ok('POST', f'{path}/clone', {'name': 'copy'}))['id']}"
    assert await usage(site, path) == (logical, logical, 0)
    assert await usage(site, copy) == (logical, logical, 0)
    await fill(site, int(copy.rpartition("/")[2]), PAGE, b"y")
    assert await usage(site, copy) == (logical, logical - 1, 1)
    await site.ok("DELETE", path)
    assert await usage(site, copy) == (logical, 0, logical)


async def test_what_was_written_relaxed_counts(site: Site) -> None:
    pid, vid = await site.inside()
    assert (await site.write(pid, BASE, b"x" * 2 * PAGE, durability="relaxed")).status == 204
    assert await usage(site, f"/vas/{vid}") == (2, 0, 2)


async def test_a_clone_whose_commit_fails_never_was(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        pid, vid = await site.inside()
        await site.write(pid, BASE, b"before")
        store.failure = StoreFull("full")
        answer = await site.call("POST", f"/vas/{vid}/clone", {"name": "copy"})
        assert (answer.status, answer.errno) == (507, "ENOSPC")
        store.failure = None
        assert (await site.ok("GET", "/vas?name=copy"))["items"] == []
        assert (await site.ok("POST", f"/vas/{vid}/clone", {"name": "copy"}))["origin"] == vid
        assert (await site.read(pid, BASE, 6)).body == b"before"
        check(site.service.machine)


async def test_nobody_changes_a_snapshot(site: Site) -> None:
    pid, vid = await site.inside()
    await site.write(pid, BASE, b"kept")
    sid = await site.segment("segment", 1, SEGMENT_AT)
    taken = await site.ok("POST", f"/vas/{vid}/snapshot", {"name": "taken"})
    frozen = await site.ok("POST", f"/segments/{sid}/snapshot", {"name": "frozen"})
    assert (taken["snapshot"], frozen["snapshot"]) == (True, True)
    path = f"/vas/{taken['id']}"
    wanted = {"addr": hex(BASE), "length": PAGE}
    for method, target, body in (
        ("PUT", f"/tasks/{pid}{path}", {"type": "rw"}),
        ("POST", f"{path}/mmap", {**wanted, "prot": 3, "flags": 0x32}),
        ("POST", f"{path}/munmap", wanted),
        ("POST", f"{path}/mprotect", {**wanted, "prot": 0}),
        ("POST", f"{path}/reset", None),
        ("POST", f"/segments/{frozen['id']}/reset", None),
        ("PUT", f"{path}/roots/a", {"addr": hex(BASE)}),
        ("PUT", f"{path}/segments/{sid}", {"type": "ro"}),
    ):
        answer = await site.call(method, target, body)
        assert (answer.status, answer.errno) == (403, "EPERM"), (target, answer)
    headers = BYTES | {"content-range": "bytes 0-0/*"}
    answer = await site.send("PATCH", f"/v1/segments/{frozen['id']}/data", [b"x"], headers)
    assert (answer.status, answer.errno) == (403, "EPERM")
    assert await site.ok("PUT", f"/tasks/{pid}{path}", {"type": "ro"})


async def test_names_and_lifetimes_change(site: Site) -> None:
    vid, sid = await site.space(), await site.segment()
    await site.space("taken")
    assert (await site.ok("PATCH", f"/vas/{vid}", {"name": "new", "lifetime": "transient"}))["name"] == "new"
    assert (await site.ok("PATCH", f"/segments/{sid}", {"name": "taken"}))["name"] == "taken"
    assert (await site.call("PATCH", f"/vas/{vid}", {"name": "taken"})).errno == "EEXIST"
    for body in ({"name": ""}, {"name": 5}, {"lifetime": "forever"}, {"lifetime": 1}, {"origin": 1}):
        for path in (f"/vas/{vid}", f"/segments/{sid}"):
            assert (await site.call("PATCH", path, body)).errno == "EINVAL", (path, body)
    stranger = site.account(1001)
    assert (await site.call("PATCH", f"/vas/{vid}", {"name": "mine"}, token=stranger)).errno == "EPERM"
    assert (await site.ok("GET", "/vas?name=space"))["items"] == []
    assert (await site.call("POST", "/vas", {"name": "n", "mode": 0, "lifetime": ""})).errno == "EINVAL"


async def test_what_is_transient_goes_with_its_last_detach_or_the_service(tmp_path: Path) -> None:
    made: dict[str, Any] = {"mode": 0o600, "lifetime": "transient"}
    async with running(tmp_path) as site:
        pid = await site.task()
        kept = await site.ok("POST", "/vas", {"name": "kept", **made})
        gone = await site.ok("POST", "/vas", {"name": "gone", **made})
        place = {"start": hex(BASE), "end": hex(BASE + PAGE)}
        await site.ok("POST", "/segments", {"name": "segment", **made, **place})
        await site.ok("PUT", f"/tasks/{pid}/vas/{gone['id']}", {"type": "rw"})
        await site.ok("DELETE", f"/tasks/{pid}/vas/{gone['id']}")
        names = [item["name"] for item in (await site.ok("GET", "/vas"))["items"]]
        assert (names, kept["lifetime"]) == (["kept"], "transient")
    async with running(tmp_path) as site:
        assert (await site.ok("GET", "/vas"))["items"] == []
        assert (await site.ok("GET", "/segments"))["items"] == []
        check(site.service.machine)


async def test_a_start_that_cannot_let_go_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = {"name": "transient", "mode": 0o600, "lifetime": "transient"}
    async with running(tmp_path) as site:
        vid = (await site.ok("POST", "/vas", made))["id"]
    parts = open_parts(Settings(data_dir=tmp_path))
    parts.writer.close()
    store = HeldStore(parts.store)
    store.failure = StoreFull("full")
    async with running(tmp_path, replace(parts, store=store, writer=Writer(store))) as site:
        assert "what the last start left behind stays" in caplog.text
        assert (await site.ok("GET", f"/vas/{vid}"))["lifetime"] == "transient"
        check(site.service.machine)
        store.failure = None
        await site.space()
    async with running(tmp_path) as site:
        assert [item["name"] for item in (await site.ok("GET", "/vas"))["items"]] == ["space"]


async def test_an_image_outlives_the_service_and_runs_in_another_task(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        pid = await site.task()
        await site.mmap(pid, 2)
        await site.write(pid, BASE, b"state")
        image = await site.ok("POST", f"/tasks/{pid}/vas_fork", {"name": "saved"})
        assert (image["image"], image["mode"], image["name"]) == (True, 0o600, "saved")
        named = await site.ok("POST", f"/tasks/{pid}/vas_fork")
        assert named["name"] == f"CP-{pid}-{named['id']}"
        await site.write(pid, BASE, b"later")
    async with running(tmp_path) as site:
        pid = await site.task()
        status = await site.ok("POST", f"/tasks/{pid}/vas_exec", {"vid": image["id"]})
        assert (status["pid"], status["attachments"]) == (pid, [])
        assert (await site.read(pid, BASE, 5)).body == b"state"
        answer = await site.call("POST", f"/tasks/{pid}/vas_exec", {"vid": await site.space()})
        assert (answer.status, answer.errno) == (400, "EINVAL")
        assert (await site.read(pid, BASE, 5)).body == b"state"
        check(site.service.machine)
        await site.ok("DELETE", f"/vas/{image['id']}")
        assert (await site.read(pid, BASE + PAGE, 1)).body == b"\0"
    async with running(tmp_path) as site:
        check(site.service.machine)


async def test_pages_of_several_memories_are_fetched_for_one_atomic_batch(tmp_path: Path) -> None:
    """Clone and parent have one object in the store for what they share: each is supplied its own."""
    async with running(tmp_path) as site:
        pid, vid = await site.inside()
        await site.write(pid, BASE, b"a" * PAGE + b"b" * PAGE)
        copy = (await site.ok("POST", f"/vas/{vid}/clone", {"name": "copy"}))["id"]
    async with running(tmp_path) as site:
        pid = await site.task()
        tid = (await site.ok("POST", f"/tasks/{pid}/threads"))["tid"]
        calls = [("vas_attach", {"vid": vid, "type": "ro"}), ("vas_attach", {"vid": copy, "type": "ro"})]
        calls += [("vas_switch", {"vid": vid}), ("vas_switch", {"vid": copy, "tid": tid})]
        calls += [
            ("read", {"addr": BASE + n * PAGE, "length": 1, "tid": who}) for n in (0, 1) for who in (pid, tid)
        ]
        before = site.service.executor.counts.transactions
        answer = await site.batch(pid, *calls, query="?atomic=1")
        assert [result["value"] for result in answer.json["results"][4:]] == ["YQ==", "YQ==", "Yg==", "Yg=="]
        assert (
            site.service.executor.counts.transactions - before == 2
        )  # once to learn what lacks, once to do it


async def test_roots_have_names_of_any_kind_and_lists_in_parts(site: Site) -> None:
    vid = await site.space()
    names = ["a", "a/b", "..", ".", "/", "%41", "ü", "x" * 255, "a b", "?", "#"]
    quoted = ["a", "a%2Fb", "..", ".", "%2F", "%2541", "%C3%BC", "x" * 255, "a%20b", "%3F", "%23"]
    for number, name in enumerate(quoted):
        answer = await site.ok("PUT", f"/vas/{vid}/roots/{name}", {"addr": hex(BASE + number)})
        assert answer == {"addr": hex(BASE + number)}
        assert await site.ok("GET", f"/vas/{vid}/roots/{name}") == answer
    assert (await site.ok("GET", f"/vas/{vid}/roots/a/b"))["addr"] == hex(BASE + 1)  # as a path, too
    found: list[tuple[str, str]] = []
    cursor = ""
    while True:
        page = await site.ok("GET", f"/vas/{vid}/roots?limit=3{cursor}")
        assert len(page["items"]) <= 3
        found += [(item["name"], item["addr"]) for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == sorted((name, hex(BASE + number)) for number, name in enumerate(names))
    for bad in ("x", "YWZ0ZXI6NQ==", "bmFtZTr_", ""):  # the second is of another list
        assert (await site.call("GET", f"/vas/{vid}/roots?cursor={bad}")).errno == "EINVAL", bad
    await site.ok("DELETE", f"/vas/{vid}/roots/..")
    answer = await site.call("GET", f"/vas/{vid}/roots/..")
    assert (answer.status, answer.errno) == (404, "ENOENT")
    assert (await site.call("DELETE", f"/vas/{vid}/roots/..")).errno == "ENOENT"


async def test_a_heap_is_there_for_every_task(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        pid, vid = await site.inside()
        assert (await site.call("POST", f"/tasks/{pid}/heap", {"size": 8})).errno == "EINVAL"  # no segment
        sid = await site.segment("segment", 4, SEGMENT_AT)
        await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
        assert (await site.ok("GET", f"/segments/{sid}/heap"))["allocated"] == 0  # zeros are an empty heap
        await fill(site, sid, 0, b"something else")
        for method, path, body in (
            ("GET", f"/segments/{sid}/heap", None),
            ("POST", f"/tasks/{pid}/heap", {"size": 8}),
        ):
            answer = await site.call(method, path, body)
            assert (answer.status, answer.errno) == (422, "EFAULT"), path
            assert answer.json["address"] == hex(SEGMENT_AT)
        await fill(site, sid, 0, bytes(14))
        addr = (await site.ok("POST", f"/tasks/{pid}/heap", {"size": 100, "sid": sid}))["addr"]
        await site.write(pid, int(addr, 16), b"shared")
        await site.ok("PUT", f"/tasks/{pid}/roots/list", {"addr": addr})
        assert (await site.ok("GET", f"/segments/{sid}/heap"))["blocks"] == 1
    async with running(tmp_path) as site:
        pid = await site.task()
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        assert (await site.call("GET", f"/tasks/{pid}/roots/list")).errno == "EINVAL"  # outside
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        assert (await site.ok("GET", f"/tasks/{pid}/roots/list"))["addr"] == addr
        assert (await site.read(pid, int(addr, 16), 6)).body == b"shared"
        answer = await site.call("POST", f"/tasks/{pid}/heap", {"size": 1 << 30})
        assert (answer.status, answer.errno) == (507, "ENOMEM")
        for _ in range(2):
            answer = await site.call("DELETE", f"/tasks/{pid}/heap/{addr}")
        assert (answer.status, answer.errno) == (400, "EINVAL")
        assert (await site.ok("GET", f"/segments/{sid}/heap"))["blocks"] == 0


async def test_a_space_is_mapped_from_outside_while_others_are_inside(site: Site) -> None:
    pid, vid = await site.inside(1)
    wanted = {"addr": hex(BASE + PAGE), "length": PAGE}
    assert await site.ok("POST", f"/vas/{vid}/mmap", {**wanted, "prot": 3, "flags": 0x32}) == {
        "addr": hex(BASE + PAGE)
    }
    assert (await site.write(pid, BASE + PAGE, b"x")).status == 204
    await site.ok("POST", f"/vas/{vid}/mprotect", {**wanted, "prot": 1})
    assert (await site.write(pid, BASE + PAGE, b"x")).errno == "EFAULT"
    assert await site.ok("POST", f"/vas/{vid}/munmap", wanted) == {"value": 0}
    assert (await site.read(pid, BASE + PAGE, 1)).errno == "EFAULT"


async def test_views_and_slots_through_their_routes(site: Site) -> None:
    pid = await site.task()
    data = 0x401000
    assert await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 4, "addr": data, "len": 1}) == {"value": 0}
    assert await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 0}) == {"value": 1}
    assert await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 3, "id": 1}) == {"value": 0}
    await site.write(pid, data, b"view 1")
    assert await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 2}) == {"value": 1}
    assert await site.ok("POST", f"/tasks/{pid}/mmview_migrate", {"id": 0}) == {"value": 1}
    assert (await site.read(pid, data, 6)).body == bytes(6)
    for body, status, errno in (
        ({"op": 1, "id": 0}, 403, "EPERM"),
        ({"op": 1, "id": 9}, 400, "EINVAL"),
        ({"op": 3, "id": 9}, 400, "EINVAL"),
        ({"op": 5, "addr": data, "len": 1}, 403, "EPERM"),
    ):
        answer = await site.call("POST", f"/tasks/{pid}/mmview", body)
        assert (answer.status, answer.errno) == (status, errno), body
    answer = await site.call("POST", f"/tasks/{pid}/new_as")
    assert (answer.status, answer.errno) == (409, "EBUSY")
    assert (await site.call("POST", f"/tasks/{pid}/mmview_delete", {"id": 0})).errno == "EINVAL"
    assert await site.ok("POST", f"/tasks/{pid}/mmview_delete", {"id": 1}) == {"value": 0}
    other = await site.task()
    assert await site.ok("POST", f"/tasks/{other}/new_as") == {"value": 1}
    assert await site.ok("POST", f"/tasks/{other}/switch_as", {"n": 1}) == {"value": 0}
    for n in (-1, 2, 16, 2**70):
        answer = await site.call("POST", f"/tasks/{other}/switch_as", {"n": n})
        assert (answer.status, answer.errno) == (404, "ENOENT"), n
    answer = await site.call("POST", f"/tasks/{other}/mmview_create")
    assert (answer.status, answer.errno) == (409, "EBUSY")
    check(site.service.machine)


async def test_each_new_call_in_a_batch_answers_as_the_sdk_reads_it(site: Site) -> None:
    pid, vid = await site.inside()
    sid = await site.segment("segment", 4, SEGMENT_AT)
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
    answer = await site.batch(
        pid,
        ("vas_malloc", {"size": 8}),
        ("vas_set_root", {"name": "r", "addr": hex(BASE)}),
        ("vas_get_root", {"name": "r"}),
        ("vas_roots", {"vid": vid}),
        ("vas_delete_root", {"vid": vid, "name": "r"}),
        ("vas_get_root", {"name": "r"}),
        ("vas_mmap", {"vid": vid, "addr": hex(BASE + 8 * PAGE), "length": PAGE, "prot": 3, "flags": 0x32}),
        ("vas_munmap", {"vid": vid, "addr": BASE + 8 * PAGE, "length": PAGE}),
        ("vas_clone", {"vid": vid, "name": "copy"}),
        ("vas_seg_snapshot", {"sid": sid, "name": "taken"}),
        ("vas_lineage", {"vid": vid}),
        ("vas_setattr", {"vid": vid, "name": "renamed"}),
        ("vas_fork", {"name": "image"}),
        ("new_as", {}),
        ("mmview", {"op": 0}),
        ("smaps", {}),
    )
    values = [result.get("value", result.get("errno")) for result in answer.json["results"]]
    assert int(values[0], 16) in range(SEGMENT_AT, SEGMENT_AT + 4 * PAGE)
    assert values[1:10] == [
        0, hex(BASE), {"r": hex(BASE)}, 0, "ENOENT", hex(BASE + 8 * PAGE), 0, vid + 1, sid + 2,
    ]  # fmt: skip
    assert values[10:15] == [{"origins": [], "clones": [vid + 1]}, 0, vid + 2, 1, "EBUSY"]
    assert "Rss:" in values[15]
    answer = await site.batch(
        pid, ("vas_clone", {"vid": vid, "name": "both"}), ("vas_reset", {"vid": vid}), query="?atomic=1"
    )
    assert (answer.errno, answer.json["index"]) == ("EINVAL", 1)
    assert (await site.ok("GET", "/vas?name=both"))["items"] == []
