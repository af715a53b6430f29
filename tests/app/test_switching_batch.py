"""Waiting for locks inside batches, and when a commit fails under those who wait."""

import asyncio
from pathlib import Path
from typing import Any

from storage.errors import StoreFull
from tests.app.support import BASE, Site, held, until
from tests.app.waiting import Client, inside, lockable, started, switch, tasks, waiting

# -- batches -----------------------------------------------------------------------------------------------------


async def test_a_batch_waits_and_goes_on_behind(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    await site.mmap(one, 1)
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("vas_create", {"name": "before", "mode": 0o600}),
        ("vas_switch", {"vid": vid}),
        ("read", {"addr": BASE, "length": 4}),
        ("vas_switch", {"vid": 0}),
        ("active_vas", {}),
    )
    async with started(site, site.batch(two, *calls)) as (waits,):
        assert (await site.ok("GET", "/vas?name=before"))["items"], "what comes before is done"
        await site.write(one, BASE, b"done")
        await switch(site, one, 0)
        results = (await waits).json["results"]
    assert results[1:] == [{"value": 0}, {"value": "ZG9uZQ=="}, {"value": 0}, {"value": 0}]


async def test_a_wait_in_a_batch_can_fail_alone(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    answer = await site.batch(
        two,
        ("vas_switch", {"vid": vid, "timeout": 0}),
        ("vas_switch", {"vid": vid, "timeout": 0.05}),
        ("active_vas", {}),
        ("vas_switch", {"vid": 99}),
        ("vas_switch", {"vid": vid, "timeout": -1}),
        ("vas_switch", {"vid": vid, "wrong": 1}),
    )
    errnos = [result.get("errno") for result in answer.json["results"]]
    assert errnos == ["EAGAIN", "ETIMEDOUT", None, "EINVAL", "EINVAL", "EINVAL"]
    assert waiting(site) == 0


async def test_threads_of_one_batch(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    tid = (await site.ok("POST", f"/tasks/{two}/threads"))["tid"]
    await switch(site, one, vid)
    async with started(site, site.batch(two, ("vas_switch", {"vid": vid, "tid": tid}))) as (waits,):
        await switch(site, one, 0)
        assert (await waits).json == {"results": [{"value": 0}]}
    assert (await inside(site, two), await inside(site, two, tid)) == (0, vid)


async def test_an_atomic_batch_does_not_wait(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    create: dict[str, Any] = {"name": "gone", "mode": 0o600}
    calls = ("vas_create", create), ("vas_switch", {"vid": vid})
    answer = await site.batch(two, *calls, query="?atomic=true")
    assert (answer.status, answer.errno, answer.json["index"]) == (429, "EAGAIN", 1)
    assert not (await site.ok("GET", "/vas?name=gone"))["items"]
    await switch(site, one, 0)
    assert (await site.batch(two, *calls, query="?atomic=true")).status == 200
    assert await inside(site, two) == vid


async def test_a_batch_whose_client_leaves_stops_where_it_waits(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    client = Client(site)
    calls = [
        {"call": "vas_create", "args": {"name": "before", "mode": 0o600}},
        {"call": "vas_switch", "args": {"vid": vid}},
        {"call": "vas_create", "args": {"name": "behind", "mode": 0o600}},
    ]
    async with started(site, client.send("POST", f"/tasks/{two}/batch", {"calls": calls})) as (waits,):
        client.gone.set()
        assert await waits == []
    names = [item["name"] for item in (await site.ok("GET", "/vas"))["items"]]
    assert names == ["space", "before"]


# -- when a commit fails -----------------------------------------------------------------------------------------


async def test_a_release_that_is_lost_is_none(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        vid = await lockable(site)
        one, two = await tasks(site, vid)
        await switch(site, one, vid)
        await site.mmap(one, 1)
        async with started(site, switch(site, two, vid)) as (waits,):
            store.hold()
            lost = asyncio.create_task(site.write(one, BASE, b"lost"))
            await until(lambda: site.service.executor.unsettled == 1)
            out = asyncio.create_task(switch(site, one, 0))
            await until(lambda: site.service.executor.unsettled == 2)
            assert not waits.done(), "who waits is told of what can no longer be undone"
            store.failure = StoreFull("no space left")
            store.release()
            assert (await lost).errno == "ENOSPC"
            assert (await out).status == 200
            assert (await waits).status == 200
        assert await inside(site, one) == 0
        assert await inside(site, two) == vid


async def test_who_came_in_behind_a_lost_release_comes_in_again(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        vid = await lockable(site)
        one, two, three = await tasks(site, vid, count=3)
        await switch(site, one, vid)
        await site.mmap(one, 1)
        store.hold()
        lost = asyncio.create_task(site.write(one, BASE, b"lost"))
        await until(lambda: site.service.executor.unsettled == 1)
        out = asyncio.create_task(switch(site, one, 0))
        await until(lambda: site.service.executor.unsettled == 2)
        into = asyncio.create_task(switch(site, two, vid))
        await until(lambda: site.service.executor.unsettled == 3)
        late = asyncio.create_task(switch(site, three, vid))
        await until(lambda: waiting(site) == 1)
        store.failure = StoreFull("no space left")
        store.release()
        assert (await lost).errno == "ENOSPC"
        assert [(await out).status, (await into).status] == [200, 200]
        assert await inside(site, two) == vid
        assert not late.done()
        await switch(site, two, 0)
        assert (await late).status == 200
        assert waiting(site) == 0
