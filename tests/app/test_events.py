"""The stream of events: what is told, when, to whom, in which order."""

import asyncio
from pathlib import Path

import pytest

from app.accounts.opening import open_accounts
from app.api import events as route
from engine.notes import KINDS
from storage.errors import StoreFailed
from tests.app.following import following, now, told
from tests.app.support import BASE, PAGE, Site, held, until

RW_FILE = {"type": "rw"}


@pytest.fixture(autouse=True)
def _quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats tell where a reader stands who is told of nothing."""
    monkeypatch.setattr(route, "HEARTBEAT_S", 0.02)


# -- what is told --------------------------------------------------------------------------------------------------


async def everything(site: Site) -> None:
    """At least one event of each kind."""
    pid, vid = await site.inside(pages=4)
    sid = await site.segment(start=BASE + 64 * PAGE)
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", RW_FILE)
    await site.write(pid, BASE + PAGE - 1, b"two pages")
    await site.write(pid, BASE + 64 * PAGE, b"segment")
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o640})
    await site.ok("PATCH", f"/segments/{sid}", {"mode": 0o640})
    await site.ok("PUT", f"/vas/{vid}/roots/top", {"addr": hex(BASE)})
    tid = (await site.ok("POST", f"/tasks/{pid}/threads"))["tid"]
    await site.ok("DELETE", f"/tasks/{pid}/threads/{tid}")
    child = (await site.ok("POST", f"/tasks/{pid}/fork"))["pid"]
    await site.ok("POST", f"/tasks/{child}/exec")
    await site.ok("DELETE", f"/tasks/{child}")
    copy = (await site.ok("POST", f"/vas/{vid}/clone", {"name": "copy"}))["id"]
    await site.ok("POST", f"/vas/{vid}/snapshot", {"name": "kept"})
    await site.ok("POST", f"/vas/{copy}/reset")
    await site.ok("DELETE", f"/vas/{copy}")
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 0})
    own = (await site.ok("POST", f"/tasks/{pid}/mmap", {"addr": 0x7000_0000_0000, "length": PAGE, "prot": 3, "flags": 0x32}))["addr"]  # fmt: skip
    for op in (4, 5):
        await site.ok("POST", f"/tasks/{pid}/mmview", {"op": op, "addr": own, "len": PAGE})
    view = (await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 0}))["value"]
    await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 3, "id": view})
    await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 6})
    await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 1, "id": 0})
    second = await site.task(lease_s=5)
    slot = (await site.ok("POST", f"/tasks/{second}/new_as"))["value"]
    await site.ok("POST", f"/tasks/{second}/switch_as", {"n": slot})
    site.clock.now += 6
    await site.service.expire_leases()
    await site.ok("DELETE", f"/tasks/{pid}")
    await site.ok("DELETE", f"/vas/{vid}/segments/{sid}")
    await site.ok("DELETE", f"/segments/{sid}")
    await site.ok("DELETE", f"/vas/{vid}")


async def test_every_kind_is_told(site: Site) -> None:
    start = now(site)
    await everything(site)
    found = await told(site, start)
    assert KINDS.keys() - {event.kind for event in found} == set()
    numbers = [int(event.id.rpartition("-")[2]) for event in found]
    assert numbers == list(range(1, len(numbers) + 1)), "root sees them all"


async def test_what_an_event_says(site: Site) -> None:
    pid, vid = await site.inside(pages=4)
    start = now(site)
    await site.write(pid, BASE + PAGE - 1, b"two pages")
    await site.batch(
        pid,
        ("write", {"addr": hex(BASE), "data": "AAAA"}),
        ("write", {"addr": hex(BASE + 3 * PAGE), "data": "AAAA"}),
        query="?atomic=true",
    )
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o640})
    await site.ok("DELETE", f"/tasks/{pid}")
    await site.ok("DELETE", f"/vas/{vid}")
    found = [event.data for event in await told(site, start)]
    assert found == [
        {"kind": "space.written", "vid": vid, "ranges": [{"start": hex(BASE), "end": hex(BASE + 2 * PAGE)}]},
        {
            "kind": "space.written",
            "vid": vid,
            "ranges": [
                {"start": hex(BASE), "end": hex(BASE + PAGE)},
                {"start": hex(BASE + 3 * PAGE), "end": hex(BASE + 4 * PAGE)},
            ],
        },
        {"kind": "space.changed", "vid": vid, "name": "space", "mode": 0o640},
        {"kind": "space.detached", "vid": vid, "pid": pid},
        {"kind": "task.exited", "pid": pid, "uid": 0, "name": f"task-{pid}"},
        {"kind": "space.deleted", "vid": vid, "name": "space"},
    ]


async def test_nothing_is_told_before_it_is_durable_and_nothing_that_is_lost(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store), following(site) as client:
        pid, vid = await site.inside(pages=1)
        await until(lambda: client.kinds[-1:] == ["space.regions"])
        before = len(client.events)
        store.hold()
        first = asyncio.create_task(site.write(pid, BASE, b"durable"))
        second = asyncio.create_task(site.call("POST", "/tasks", {}))
        third = asyncio.create_task(site.call("POST", "/vas", {"name": "later", "mode": 0o600}))
        await until(lambda: site.service.executor.unsettled == 3)
        await asyncio.sleep(0.02)
        assert len(client.events) == before
        store.release()
        await asyncio.gather(first, second, third)
        await until(lambda: len(client.events) == before + 3)
        assert client.kinds[before:] == ["space.written", "task.spawned", "space.created"]
        store.failure = StoreFailed("no disk")
        for call in (site.write(pid, BASE, b"lost"), site.call("DELETE", f"/tasks/{pid}")):
            await call
        store.failure = None
        assert (await site.call("POST", "/vas", {"name": "later", "mode": 0o600})).errno == "EEXIST"
        await site.ok("GET", f"/vas/{vid}")
        await site.space("last")
        await until(lambda: client.kinds[-1] == "space.created" and client.events[-1].data["name"] == "last")
        kinds = client.kinds[before + 3 :]
        assert "space.written" not in kinds


async def test_what_is_written_relaxed_is_told_when_it_is_durable(site: Site) -> None:
    pid, _ = await site.inside(pages=2)
    start = now(site)
    await site.write(pid, BASE, b"relaxed", durability="relaxed")
    assert await told(site, start) == []
    await site.ok("POST", f"/tasks/{pid}/msync", {})
    assert [event.kind for event in await told(site, start)] == ["space.written"]


async def test_a_write_is_told_once_and_before_what_was_made_of_it(site: Site) -> None:
    """Also when the call behind it asks for everything to be durable, and the write is on its way to that."""
    pid, vid = await site.inside(pages=2)
    start = now(site)
    data = {"addr": BASE, "data": "YWJj"}
    await site.batch(
        pid, ("write", data), ("msync", {}), ("write", data), ("vas_clone", {"vid": vid, "name": "c"})
    )
    kinds = [event.kind for event in await told(site, start)]
    assert kinds[:3] == ["space.written", "space.written", "space.cloned"]
    assert kinds.count("space.written") == 2


async def test_a_call_that_fails_and_a_batch_that_is_undone_are_not_told(site: Site) -> None:
    pid = await site.task()
    start = now(site)
    make = ("vas_create", {"name": "twice", "mode": 0o600})
    assert (await site.batch(pid, make, make, query="?atomic=true")).errno == "EEXIST"
    assert (await site.call("DELETE", "/vas/77")).errno == "EINVAL"
    await site.batch(pid, make, make)
    assert [event.kind for event in await told(site, start)] == ["space.created"]


# -- which and to whom -----------------------------------------------------------------------------------------------


async def test_filters_name_kinds_and_ids(site: Site) -> None:
    start = now(site)
    pid, vid = await site.inside(pages=1)
    sid = await site.segment(start=BASE + 64 * PAGE)
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", RW_FILE)
    await site.space("other")

    async def kinds(query: str) -> list[str]:
        return [event.kind for event in await told(site, start, query)]

    assert await kinds("kind=space.created,task.") == ["space.created", "task.spawned", "space.created"]
    assert await kinds(f"pid={pid}") == ["task.spawned", "space.attached", "thread.switched"]
    assert await kinds(f"sid={sid}") == ["segment.created", "segment.attached"]
    assert await kinds(f"vid={vid}&kind=segment") == ["segment.attached"]
    assert await kinds(f"vid={vid}&pid={pid}&kind=space.") == ["space.attached"]
    assert await kinds("vid=12345") == []
    for bad in ("vid=x", "pid=", "since=7", "since=", "since=a-b", "vid=1&vid=2"):
        answer = await site.call("GET", f"/events?{bad}")
        assert (answer.status, answer.errno) == (400, "EINVAL"), bad


async def test_who_may_not_read_is_not_told_of_bytes_regions_and_roots(site: Site) -> None:
    ada, bob, start = site.account(1001, 500), site.account(1002, 500), now(site)
    vid = (await site.ok("POST", "/vas", {"name": "ada's", "mode": 0o640}, token=ada))["id"]
    pid = (await site.ok("POST", "/tasks", {}, token=ada))["pid"]
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", RW_FILE, token=ada)
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid}, token=ada)
    await site.mmap(pid, 1)
    await site.write(pid, BASE, b"hers")
    await site.ok("PUT", f"/vas/{vid}/roots/top", {"addr": hex(BASE)}, token=ada)

    async def seen(token: str) -> set[str]:
        return {event.kind for event in await told(site, start, token=token)}

    public = {"space.created", "space.attached"}
    bytes_ = {"space.regions", "space.written", "space.root"}
    hers = {"task.spawned", "thread.switched"}
    assert await seen(ada) == await seen(site.token) == public | bytes_ | hers
    assert await seen(bob) == public | bytes_
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o600}, token=ada)
    assert await seen(bob) == public | {"space.changed"}, "the mode that is settled when it is sent"
    await site.ok("DELETE", f"/tasks/{pid}", token=ada)
    await site.ok("DELETE", f"/vas/{vid}", token=ada)
    gone = {"space.changed", "space.detached", "space.deleted"}
    assert await seen(bob) == public | gone
    assert await seen(ada) == public | bytes_ | hers | gone | {"task.exited"}


async def test_a_revoked_token_ends_the_stream(site: Site) -> None:
    token = site.account(1001)
    async with following(site, token=token) as client:
        await site.space("first")
        await until(lambda: client.kinds == ["space.created"])
        accounts = open_accounts(site.service.settings)
        for known in accounts.list_tokens():
            if known.uid == 1001:
                accounts.revoke_token(known.id)
        accounts.close()
        await site.space("second")
        await until(lambda: client.ended)
        assert client.kinds == ["space.created"]
    assert (await site.call("GET", "/events", token=token)).status == 401
