"""vas_switch into lockable spaces over HTTP: who waits, for how long, what wakes him and what ends the wait."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from engine.credentials import ROOT
from tests.app.support import BASE, Site, running
from tests.app.waiting import Client, inside, lockable, started, switch, tasks, waiting

# -- how long ----------------------------------------------------------------------------------------------------


async def test_not_at_all(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    assert (await switch(site, one, vid, timeout_s=0)).status == 200
    answer = await switch(site, two, vid, timeout_s=0)
    assert (answer.status, answer.errno, answer.json["holder"]) == (429, "EAGAIN", f"task {one}")
    assert await inside(site, two) == 0
    assert (await switch(site, one, 0, timeout_s=0)).status == 200
    assert (await switch(site, two, vid, timeout_s=0)).status == 200


async def test_up_to_a_time(site: Site) -> None:
    vid, other = await lockable(site), await lockable(site, "other")
    one, two = await tasks(site, vid, other)
    await switch(site, one, vid)
    await switch(site, two, other)
    answer = await switch(site, two, vid, timeout_s=0.05)
    assert (answer.status, answer.errno, answer.json["holder"]) == (408, "ETIMEDOUT", f"task {one}")
    assert await inside(site, two) == other
    assert waiting(site) == 0
    await switch(site, one, 0)
    assert (await switch(site, two, vid, timeout_s=0.05)).status == 200


@pytest.mark.parametrize("wait", [{}, {"timeout_s": None}, {"timeout_s": 1e9}])
async def test_without_end(site: Site, wait: dict[str, Any]) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid, **wait)) as (waits,):
        await switch(site, one, 0)
        assert (await waits).json == {"tid": two, "vid": vid}
    assert await inside(site, two) == vid


@pytest.mark.parametrize("wrong", [-1, "1", True, float("nan"), float("inf")])
async def test_a_time_that_is_none_is_refused(site: Site, wrong: Any) -> None:
    vid = await lockable(site)
    (pid,) = await tasks(site, vid, count=1)
    body = json.dumps({"vid": vid, "timeout_s": wrong}).encode()
    answer = await site.send(
        "PUT", f"/v1/tasks/{pid}/threads/{pid}/active", [body], {"content-type": "application/json"}
    )
    assert answer.errno == "EINVAL"


async def test_errors_are_not_waited_for(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    stranger = await site.task()
    await switch(site, one, vid)
    eve = site.account(7)
    assert (await switch(site, stranger, vid)).errno == "EINVAL"
    assert (await switch(site, two, 99)).errno == "EINVAL"
    assert (await switch(site, two, vid, tid=99)).errno == "ESRCH"
    assert (await switch(site, 99, vid)).errno == "ESRCH"
    answer = await site.call("PUT", f"/tasks/{two}/threads/{two}/active", {"vid": vid}, token=eve)
    assert answer.errno == "EPERM"


# -- what wakes --------------------------------------------------------------------------------------------------


async def test_turns_come_in_the_order_of_arrival(site: Site) -> None:
    vid = await lockable(site)
    first, *others = await tasks(site, vid, count=6)
    await switch(site, first, vid)
    order: list[int] = []

    async def visit(pid: int) -> None:
        assert (await switch(site, pid, vid)).status == 200
        assert await inside(site, pid) == vid
        order.append(pid)
        await switch(site, pid, 0)

    async with started(site, *(visit(pid) for pid in others)) as visits:
        assert (await switch(site, first, 0)).status == 200
        await asyncio.gather(*visits)
    assert order == others


async def test_readers_come_together_and_the_writer_in_his_turn(site: Site) -> None:
    vid = await lockable(site)
    (holder,) = await tasks(site, vid, count=1)
    readers = await tasks(site, vid, count=3, type="ro")
    (writer,) = await tasks(site, vid, count=1)
    await switch(site, holder, vid)
    calls = [switch(site, pid, vid) for pid in (*readers[:2], writer, readers[2])]
    async with started(site, *calls) as waits:
        await switch(site, holder, 0)
        await asyncio.gather(*waits[:2])
        assert waiting(site) == 2
        await switch(site, readers[0], 0)
        assert not waits[2].done()
        await switch(site, readers[1], 0)
        assert (await waits[2]).status == 200
        assert not waits[3].done()
        await site.ok("DELETE", f"/tasks/{writer}")
        assert (await waits[3]).status == 200


async def release_by_exit(site: Site, pid: int, tid: int) -> None:
    await site.ok("DELETE", f"/tasks/{pid}")


async def release_by_exec(site: Site, pid: int, tid: int) -> None:
    await site.ok("POST", f"/tasks/{pid}/exec")


async def release_by_end_of_thread(site: Site, pid: int, tid: int) -> None:
    await site.ok("DELETE", f"/tasks/{pid}/threads/{tid}")


async def release_by_lease(site: Site, pid: int, tid: int) -> None:
    site.clock.now += 30
    await site.service.expire_leases()


@pytest.mark.parametrize(
    "release", [release_by_exit, release_by_exec, release_by_end_of_thread, release_by_lease]
)
async def test_whatever_releases_wakes(site: Site, release: Any) -> None:
    vid = await lockable(site)
    (one,) = await tasks(site, vid, count=1, lease_s=20)
    (two,) = await tasks(site, vid, count=1, lease_s=1000)
    tid = (await site.ok("POST", f"/tasks/{one}/threads"))["tid"]
    await switch(site, one, vid, tid=tid)
    async with started(site, switch(site, two, vid)) as (waits,):
        await release(site, one, tid)
        assert (await waits).status == 200


async def test_a_segment_s_lock_is_waited_for_too(site: Site) -> None:
    body = {"name": "s", "start": hex(BASE), "end": hex(BASE + 4096), "mode": 0o600, "sharing": "lockable"}
    sid = (await site.ok("POST", "/segments", body))["id"]
    spaces = [await site.space(name) for name in ("a", "b")]
    for vid in spaces:
        await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
    (one,), (two,) = await tasks(site, spaces[0], count=1), await tasks(site, spaces[1], count=1)
    await switch(site, one, spaces[0])
    async with started(site, switch(site, two, spaces[1])) as (waits,):
        await switch(site, one, 0)
        assert (await waits).status == 200


async def test_nobody_asks_again_and_again(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid)) as (waits,):
        counts = site.service.executor.counts
        before = counts.transactions
        for _ in range(50):
            await asyncio.sleep(0)
        assert counts.transactions == before
        await switch(site, one, 0)
        await waits
        assert counts.transactions == before + 2


async def test_many_waiters(site: Site) -> None:
    vid = await lockable(site)
    first, *others = await tasks(site, vid, count=60)
    await switch(site, first, vid)
    order: list[int] = []

    async def visit(pid: int) -> None:
        await switch(site, pid, vid)
        order.append(pid)
        await switch(site, pid, 0)

    async with started(site, *(visit(pid) for pid in others)) as visits:
        await switch(site, first, 0)
        await asyncio.gather(*visits)
    assert order == others


# -- what ends a wait --------------------------------------------------------------------------------------------


async def test_a_ring_is_refused(site: Site) -> None:
    one, two = await lockable(site, "one"), await lockable(site, "two")
    first, second = await tasks(site, one, two)
    await switch(site, first, one)
    await switch(site, second, two)
    async with started(site, switch(site, first, two)) as (waits,):
        answer = await switch(site, second, one)
        assert (answer.status, answer.errno, answer.json["holder"]) == (409, "EBUSY", f"task {first}")
        await switch(site, second, 0)
        assert (await waits).status == 200


async def test_who_waits_and_exits_is_told_so(site: Site) -> None:
    vid = await lockable(site)
    one, two, three = await tasks(site, vid, count=3)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid), switch(site, three, vid)) as (second, third):
        await site.ok("DELETE", f"/tasks/{two}")
        answer = await second
        assert (answer.status, answer.errno) == (404, "ESRCH")
        await switch(site, one, 0)
        assert (await third).status == 200


async def test_waiting_alone_renews_no_lease(site: Site) -> None:
    vid = await lockable(site)
    (one,) = await tasks(site, vid, count=1, lease_s=1000)
    (two,) = await tasks(site, vid, count=1, lease_s=20)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid)) as (waits,):
        site.clock.now += 15
        await site.service.expire_leases()
        assert not waits.done()
        site.clock.now += 5
        await site.service.expire_leases()
        assert (await waits).errno == "ESRCH"


async def test_a_heartbeat_keeps_a_waiter(site: Site) -> None:
    vid = await lockable(site)
    (one,) = await tasks(site, vid, count=1, lease_s=1000)
    (two,) = await tasks(site, vid, count=1, lease_s=20)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid)) as (waits,):
        for _ in range(3):
            site.clock.now += 15
            await site.ok("POST", f"/tasks/{two}/heartbeat")
            await site.service.expire_leases()
        await switch(site, one, 0)
        assert (await waits).status == 200


async def test_detaching_ends_the_wait(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid)) as (waits,):
        await site.ok("DELETE", f"/tasks/{two}/vas/{vid}")
        assert (await waits).errno == "EINVAL"


async def test_who_leaves_gives_his_place_up(site: Site) -> None:
    vid = await lockable(site)
    one, two, three = await tasks(site, vid, count=3)
    await switch(site, one, vid)
    client = Client(site)
    leaving = client.send("PUT", f"/tasks/{two}/threads/{two}/active", {"vid": vid})
    async with started(site, leaving, switch(site, three, vid)) as (second, third):
        client.gone.set()
        assert await second == []
        assert waiting(site) == 1
        await switch(site, one, 0)
        assert (await third).status == 200
    assert await inside(site, two) == 0


async def test_who_leaves_as_his_turn_comes_does_not_get_in(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    client = Client(site)
    async with started(site, client.send("PUT", f"/tasks/{two}/threads/{two}/active", {"vid": vid})) as (
        waits,
    ):
        client.gone.set()
        site.service.machine.vas_switch(ROOT, one, None, 0)
        await waits
    assert await inside(site, two) == 0


async def test_a_thread_waits_once(site: Site) -> None:
    vid = await lockable(site)
    one, two = await tasks(site, vid)
    await switch(site, one, vid)
    async with started(site, switch(site, two, vid)) as (waits,):
        assert (await switch(site, two, vid)).errno == "EBUSY"
        await switch(site, one, 0)
        assert (await waits).status == 200


async def test_a_stop_ends_all_waits(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as site:
        vid = await lockable(site)
        one, two, three = await tasks(site, vid, count=3)
        await switch(site, one, vid)
        calls = switch(site, two, vid), switch(site, three, vid, timeout_s=1000)
        async with started(site, *calls) as waits:
            site.service.drain()
            for answer in await asyncio.gather(*waits):
                assert answer.status == 503
                assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("seed", range(4))
async def test_clients_at_random_exclude_each_other_and_none_is_stuck(site: Site, seed: int) -> None:
    """Some wait without end, inside one space for another: that all of them come to their end is the point."""
    rng = random.Random(seed)
    spaces = [await lockable(site, f"space-{number}") for number in range(3)]
    owner: dict[int, int] = {}
    refused: set[str | None] = set()

    async def visit(pid: int) -> None:
        for _ in range(25):
            there = rng.choice([0, *spaces])
            answer = await switch(site, pid, there, timeout_s=rng.choice([0, 0.001, None, None, None]))
            if answer.status != 200:
                refused.add(answer.errno)
                there = 0
                await switch(site, pid, 0)
            if there:
                assert owner.setdefault(there, pid) == pid, "two are inside"
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                del owner[there]
        await switch(site, pid, 0)

    pids = await tasks(site, *spaces, count=8)
    await asyncio.gather(*(visit(pid) for pid in pids))
    assert waiting(site) == 0
    assert "EBUSY" in refused
