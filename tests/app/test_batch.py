"""Batches: order, results of their own, one transaction when atomic, and what a failed commit does to them."""

import asyncio
from pathlib import Path
from typing import Any

from storage.errors import StoreFull
from tests.app.support import BASE, Site, held, until


def write(addr: int, data: str = "aGVsbG8=") -> tuple[str, dict[str, object]]:
    return "write", {"addr": hex(addr), "data": data}


def read(addr: int, length: int = 5) -> tuple[str, dict[str, object]]:
    return "read", {"addr": hex(addr), "length": length}


async def test_results_come_in_order(site: Site) -> None:
    pid, vid = await site.inside()
    answer = await site.batch(
        pid, write(BASE), read(BASE), ("nope", {}), read(0x10), ("vas_find", {"name": "space"})
    )
    results = answer.json["results"]
    assert results[:2] == [{"value": 5}, {"value": "aGVsbG8="}]
    assert [result.get("errno") for result in results] == [None, None, "EINVAL", "EFAULT", None]
    assert results[3]["address"] == "0x10"
    assert results[4] == {"value": vid}


async def test_an_atomic_batch_that_fails_did_nothing(site: Site) -> None:
    pid, _ = await site.inside(2)
    mprotect = (
        "mprotect",
        {"addr": BASE, "length": 64 * 4096, "prot": 1},
    )  # keeps what it did, were it alone
    before = (await site.send("GET", f"/v1/proc/{pid}/maps")).body
    for failing, errno in (
        (read(0x10), "EFAULT"),
        (("nope", {}), "EINVAL"),
        (mprotect, "ENOMEM"),
        (5, "EINVAL"),
    ):
        calls: tuple[Any, ...] = (
            write(BASE),
            ("vas_create", {"name": "new", "mode": 0}),
            ("thread", {}),
            failing,
            write(BASE + 8),
        )
        answer = await site.batch(pid, *calls, query="?atomic=true")
        assert (answer.errno, answer.json["index"]) == (errno, 3)
        assert (await site.read(pid, BASE, 5)).body == bytes(5)
        assert (await site.ok("GET", "/vas?name=new"))["items"] == []
        assert len((await site.ok("GET", f"/tasks/{pid}"))["threads"]) == 1
        assert (await site.send("GET", f"/v1/proc/{pid}/maps")).body == before


async def test_a_thousand_stores_are_one_or_two_commits(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        tries = len(store.commits)
        results = (await site.batch(pid, *[write(BASE + 8 * n) for n in range(1000)])).json["results"]
        assert results == [{"value": 5}] * 1000
        assert len(store.commits) - tries <= 2


async def test_a_full_disk_refuses_what_was_to_be_durable(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        store.failure = StoreFull("no space left")
        store.hold()
        single = asyncio.create_task(
            site.batch(pid, read(BASE), write(BASE), ("vas_create", {"name": "a", "mode": 0}))
        )
        await until(lambda: site.service.executor.unsettled == 2)
        store.release()
        results = (await single).json["results"]
        assert [result.get("errno") for result in results] == [None, "ENOSPC", "ENOSPC"]
        answer = await site.batch(pid, write(BASE), read(BASE), query="?atomic=1")
        assert answer.errno == "ENOSPC"
        store.failure = None
        assert (await site.read(pid, BASE, 5)).body == bytes(5)
        assert (await site.batch(pid, write(BASE), read(BASE), query="?atomic=1")).json["results"][1] == {
            "value": "aGVsbG8="
        }
