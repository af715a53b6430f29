"""A commit that fails takes back every call that waits for it, and none that was answered."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from app.redoing import Redoing
from engine.check import check
from storage.errors import StoreFull
from tests.app.support import BASE, PAGE, Site, held, running, until

CREATE = {"name": "second", "mode": 0o600}
FULL = StoreFull("no space left on the disk")


@pytest.mark.parametrize("evicted", [False, True])
async def test_a_relaxed_store_that_was_answered_outlives_the_commit_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evicted: bool
) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        await site.write(pid, BASE, b"." * 3000)
        store.hold()
        creating = asyncio.create_task(site.call("POST", "/vas", CREATE))
        await until(lambda: site.service.executor.unsettled == 1)
        for addr, data in ((BASE, b"relaxed"), (BASE + 3, b"again")):
            assert (await site.write(pid, addr, data, durability="relaxed")).status == 204
        begin = Redoing.begin

        def evicting(redoing: Redoing, calls: Sequence[Callable[[], object]]) -> None:
            site.service.machine.objects.evict(100)  # then it has to be fetched first
            begin(redoing, calls)

        if evicted:
            monkeypatch.setattr(Redoing, "begin", evicting)
        store.failure = FULL
        store.release()
        assert (await creating).status == 507
        store.failure = None
        wanted = b"relagain.."
        assert (await site.read(pid, BASE, len(wanted))).body == wanted
        span = {"addr": BASE, "length": PAGE}
        assert (await site.call("POST", f"/tasks/{pid}/msync", span)).status < 300
        assert list(check(site.service.machine)) == []
    async with running(tmp_path) as site:
        pid = await site.task()
        await site.ok("PUT", f"/tasks/{pid}/vas/1", {"type": "ro"})
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 1})
        assert (await site.read(pid, BASE, len(wanted))).body == wanted


async def test_a_relaxed_store_on_what_was_taken_back_goes_with_it(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside(pages=1)
        store.hold()
        window = {"addr": BASE + 8 * PAGE, "length": PAGE, "prot": 3, "flags": 0x32}
        mapping = asyncio.create_task(site.call("POST", f"/tasks/{pid}/mmap", window))
        await until(lambda: site.service.executor.unsettled == 1)
        assert (await site.write(pid, BASE + 8 * PAGE, b"relaxed", durability="relaxed")).status == 204
        store.failure = FULL
        store.release()
        assert (await mapping).status == 507
        store.failure = None
        assert (await site.read(pid, BASE + 8 * PAGE, 7)).errno == "EFAULT"
        assert list(check(site.service.machine)) == []


async def attached(site: Site, vid: int) -> int:
    pid = await site.task()
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
    return pid


async def test_calls_that_were_under_way_wait_until_all_is_as_it_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load and a durable store that wait for pages come after the relaxed stores that were answered before them."""
    async with running(tmp_path) as site:
        pid, vid = await site.inside(pages=1024)
        await site.write(pid, BASE, b"0" * PAGE * 1024)
    async with held(tmp_path) as (site, store):  # after a restart nothing is resident
        pid = await attached(site, vid)
        first, fetch = BASE // PAGE, store.fetch
        slow = {first: threading.Event(), first + 601: threading.Event()}
        fetched: set[int] = set()

        def fetch_slowly(object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
            for page in slow.keys() & set(pages):
                assert slow[page].wait(60)
            found = fetch(object_id, pages)
            fetched.update(pages)
            return found

        monkeypatch.setattr(store, "fetch", fetch_slowly)
        border = BASE + 2 * PAGE - 4
        await site.read(pid, BASE + PAGE, 4)
        store.hold()
        failing = asyncio.create_task(site.write(pid, BASE, b"L" * PAGE))
        await until(lambda: site.service.executor.unsettled == 1)
        for addr in (BASE, border):
            assert (await site.write(pid, addr, b"soft", durability="relaxed")).status == 204
        load = asyncio.create_task(site.read(pid, border, 4))
        hard = asyncio.create_task(site.write(pid, border, b"HARD" + b"h" * (PAGE * 599 + 4)))
        await until(lambda: site.service.executor.counts.transactions > 0 and not hard.done())
        store.failure = FULL
        store.release()
        assert (await failing).errno == "ENOSPC"
        store.failure = None
        slow[first + 601].set()
        await until(lambda: first + 601 in fetched)
        for _ in range(50):
            await asyncio.sleep(0)
        slow[first].set()
        assert (await load).body == b"soft"
        assert (await hard).status == 204
        assert (await site.read(pid, border, 8)).body == b"HARDhhhh"
        assert (await site.read(pid, BASE, 5)).body == b"soft0"
        assert list(check(site.service.machine)) == []
    async with running(tmp_path) as site:
        pid = await attached(site, vid)
        assert (await site.read(pid, border, 8)).body == b"HARDhhhh"


async def test_a_disk_that_cannot_be_read_for_a_moment_loses_no_relaxed_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as site:
        pid, vid = await site.inside(pages=2)
        await site.write(pid, BASE, b"0" * PAGE * 2)
    async with held(tmp_path) as (site, store):
        pid = await attached(site, vid)
        store.hold()
        failing = asyncio.create_task(site.write(pid, BASE, b"L" * PAGE))
        await until(lambda: site.service.executor.unsettled == 1)
        assert (await site.write(pid, BASE, b"soft", durability="relaxed")).status == 204
        fetch, refusals = store.fetch, iter([FULL, FULL, None])

        def fetch_sometimes(object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
            refused = next(refusals, None)
            if refused is not None:
                raise refused
            return fetch(object_id, pages)

        monkeypatch.setattr(store, "fetch", fetch_sometimes)
        store.failure = FULL
        store.release()
        assert (await failing).errno == "ENOSPC"
        store.failure = None
        assert (await site.read(pid, BASE, 5)).body == b"soft0"
        assert next(refusals, "all were met") == "all were met"


async def test_a_service_that_stops_meanwhile_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as site:
        pid, vid = await site.inside(pages=8)
        await site.write(pid, BASE, b"0" * PAGE * 8)
    async with held(tmp_path) as (site, store):
        pid = await attached(site, vid)
        fetch, fetching = store.fetch, threading.Event()

        def fetch_later(object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
            assert fetching.wait(60)
            return fetch(object_id, pages)

        monkeypatch.setattr(store, "fetch", fetch_later)
        store.hold()
        failing = asyncio.create_task(site.write(pid, BASE, b"L" * PAGE))
        await until(lambda: site.service.executor.unsettled == 1)
        assert (await site.write(pid, BASE, b"soft", durability="relaxed")).status == 204
        store.failure = FULL
        store.release()
        assert (await failing).errno == "ENOSPC"
        store.failure = None
        asyncio.get_running_loop().call_later(0.1, fetching.set)  # while the service is stopping
    async with running(tmp_path) as site:
        pid = await attached(site, vid)
        assert (await site.read(pid, BASE, 5)).body == b"soft0"


async def test_a_relaxed_store_under_a_condition_is_made_again_whatever_has_become_of_the_tag(
    tmp_path: Path,
) -> None:
    async with held(tmp_path) as (site, store):
        sid = await site.segment()
        tag = (await site.send("GET", f"/v1/segments/{sid}/data", headers={"range": "bytes=0-3"})).headers[
            "etag"
        ]
        store.hold()
        creating = asyncio.create_task(site.call("POST", "/vas", CREATE))
        await until(lambda: site.service.executor.unsettled == 1)
        head = {
            "content-type": "application/octet-stream",
            "content-range": "bytes 0-3/*",
            "if-match": tag,
        }
        path = f"/v1/segments/{sid}/data?durability=relaxed"
        stored = await site.send("PATCH", path, [b"soft"], head)
        assert stored.status == 204
        store.failure = FULL
        store.release()
        assert (await creating).status == 507
        store.failure = None
        found = await site.send("GET", f"/v1/segments/{sid}/data", headers={"range": "bytes=0-3"})
        assert found.body == b"soft"
        assert found.headers["etag"] not in (
            tag,
            stored.headers["etag"],
        )  # a state in which others' stores are gone
