"""The way of a call: what waits for which commit, what a failed commit takes back, what is fetched and how often."""

import asyncio
from pathlib import Path

from storage.errors import StoreFailed, StoreFull
from tests.app.support import BASE, PAGE, Answer, Site, held, running, until

CREATE = {"name": "second", "mode": 0o600}


async def test_an_answer_waits_for_its_commit(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        store.hold()
        creating = asyncio.create_task(site.call("POST", "/vas", CREATE))
        await until(lambda: site.service.executor.unsettled == 1)
        assert not creating.done()
        store.release()
        assert (await creating).status == 201


async def test_nobody_sees_what_a_crash_could_take_back(tmp_path: Path) -> None:
    """Neither its success, nor its failure, nor the thing itself; what is not concerned answers at once."""
    async with held(tmp_path) as (site, store):
        vid = await site.space("first")
        store.hold()
        creating = asyncio.create_task(site.call("POST", "/vas", CREATE))
        await until(lambda: site.service.executor.unsettled == 1)
        looks = [
            asyncio.create_task(site.call("GET", "/vas?name=second")),
            asyncio.create_task(site.call("GET", f"/vas/{vid + 1}")),
            asyncio.create_task(site.call("POST", "/vas", CREATE)),
        ]
        assert (await site.call("GET", f"/vas/{vid}")).status == 200
        assert (await site.call("GET", "/tasks/99")).status == 404
        assert [task.done() for task in (creating, *looks)] == [False] * 4
        store.release()
        assert [(await task).status for task in (creating, *looks)] == [201, 200, 200, 409]


async def test_what_gathers_meanwhile_is_one_commit(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        store.hold()
        first = asyncio.create_task(site.call("POST", "/vas", {"name": "0", "mode": 0}))
        await until(lambda: site.service.executor.unsettled == 1)
        others = [
            asyncio.create_task(site.call("POST", "/vas", {"name": str(n), "mode": 0})) for n in range(1, 21)
        ]
        await until(lambda: site.service.executor.unsettled == 21)
        store.release()
        assert [(await task).status for task in (first, *others)] == [201] * 21
        assert len(store.commits) <= 3


async def test_a_full_disk_takes_back_everything_unanswered(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, vid = await site.inside()
        await site.write(pid, BASE, b"kept")
        store.hold()
        writes = [asyncio.create_task(site.write(pid, BASE, b"lost"))]
        await until(lambda: site.service.executor.unsettled == 1)
        writes += [asyncio.create_task(site.write(pid, BASE + 4 * n, b"more")) for n in range(1, 4)]
        creating = asyncio.create_task(site.call("POST", "/vas", CREATE))
        attaching = asyncio.create_task(site.call("PUT", f"/tasks/{pid}/vas/{vid + 1}", {"type": "rw"}))
        looking = asyncio.create_task(site.read(pid, BASE, 4))
        await until(lambda: site.service.executor.unsettled == 6)
        assert not looking.done()
        store.failure = StoreFull("no space left")
        store.release()
        for refused in (*writes, creating):
            answer = await refused
            assert (answer.status, answer.errno) == (507, "ENOSPC")
        assert (await looking).body == b"kept"
        assert (await attaching).errno == "EINVAL", "run again, when its space was gone"
        assert (await site.read(pid, BASE, 16)).body == b"kept" + bytes(12)
        assert (await site.ok("GET", "/vas?name=second"))["items"] == []


async def test_the_service_reads_on_and_recovers_by_itself(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        failures: tuple[StoreFull | StoreFailed, ...] = (
            StoreFull("no space left"),
            StoreFailed("disk error"),
        )
        for number, failure in enumerate(failures):
            store.failure = failure
            assert (await site.write(pid, BASE, b"lost")).errno == failure.errno
            assert (await site.call("POST", "/vas", CREATE)).errno == failure.errno
            assert (await site.read(pid, BASE, 4)).status == 200
            store.failure = None
            assert (await site.write(pid, BASE, b"kept%d" % number)).status == 204
            assert (await site.read(pid, BASE, 5)).body == b"kept%d" % number
    async with running(tmp_path) as site:
        pid, vid = await site.task(), 1
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "ro"})
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        assert (await site.read(pid, BASE, 5)).body == b"kept1"


async def test_a_store_that_breaks_in_an_unforeseen_way_is_eio(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        store.failure = ZeroDivisionError("a defect")  # type: ignore[assignment]
        assert (await site.call("POST", "/vas", CREATE)).errno == "EIO"
        store.failure = None
        assert (await site.call("POST", "/vas", CREATE)).status == 201


async def test_relaxed_answers_at_once_and_msync_makes_it_durable(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        tries = len(store.commits)
        store.hold()
        assert (await site.write(pid, BASE, b"soft", durability="relaxed")).status == 204
        assert (await site.read(pid, BASE, 4)).body == b"soft"
        assert len(store.commits) == tries
        syncing = asyncio.create_task(site.call("POST", f"/tasks/{pid}/msync"))
        await until(lambda: site.service.executor.unsettled > 0)
        store.release()
        assert (await syncing).status == 200
        assert len(store.commits) == tries + 1


async def test_pages_written_relaxed_are_handed_over_in_the_background(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        await site.write(pid, BASE, b"soft", durability="relaxed")
        tries = len(store.commits)
        await until(lambda: len(store.commits) > tries)


async def test_a_write_back_that_fails_loses_nothing(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid, _ = await site.inside()
        await site.write(pid, BASE, b"soft", durability="relaxed")
        store.failure = StoreFull("no space left")
        tries = len(store.commits)
        await until(lambda: len(store.commits) > tries)
        assert (await site.read(pid, BASE, 4)).body == b"soft"
        assert (await site.call("POST", f"/tasks/{pid}/msync")).errno == "ENOSPC"
        assert (await site.read(pid, BASE, 4)).body == b"soft"
        store.failure = None
        assert (await site.call("POST", f"/tasks/{pid}/msync")).status == 200


async def attach(site: Site, vid: int) -> int:
    """A new task inside a space that exists."""
    pid = await site.task()
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
    return pid


async def filled(data_dir: Path, pages: int) -> bytes:
    """A data directory with space 1 of so many pages; their bytes."""
    data = b"".join(bytes([number % 251]) * PAGE for number in range(1, pages + 1))
    async with running(data_dir) as site:
        pid, _ = await site.inside(pages)
        assert (await site.write(pid, BASE, data)).status == 204
    return data


async def test_pages_are_fetched_once(tmp_path: Path) -> None:
    data = await filled(tmp_path, 16)
    async with held(tmp_path) as (site, store):
        pid = await attach(site, 1)
        assert (await site.read(pid, BASE, len(data))).body == data
        assert [len(pages) for pages in store.fetches] == [16]
        assert (await site.read(pid, BASE, len(data))).body == data
        assert len(store.fetches) == 1


async def test_a_cold_atomic_batch_asks_for_all_its_pages_together(tmp_path: Path) -> None:
    data = await filled(tmp_path, 16)
    async with held(tmp_path) as (site, store):
        pid = await attach(site, 1)
        calls = [("write", {"addr": BASE + n * PAGE + 8, "data": "b25jZQ=="}) for n in range(16)]
        calls += [("read", {"addr": BASE + n * PAGE, "length": 1}) for n in range(16)]
        answer = await site.batch(pid, *calls, query="?atomic=true")
        assert answer.status == 200
        assert [len(pages) for pages in store.fetches] == [16]
        assert (await site.read(pid, BASE, 16)).body == data[:8] + b"once" + data[12:16]


async def test_a_cold_batch_runs_each_call_once(tmp_path: Path) -> None:
    """Threads would be more if a call ran twice. The two loads are too far apart for one fetch that reads ahead."""
    await filled(tmp_path, 64)
    async with held(tmp_path) as (site, store):
        pid = await attach(site, 1)
        answer = await site.batch(
            pid,
            ("thread", {}),
            ("read", {"addr": BASE, "length": 1}),
            ("thread", {}),
            ("read", {"addr": BASE + 40 * PAGE, "length": 1}),
        )
        assert [list(result) for result in answer.json["results"]] == [["value"]] * 4
        assert len(store.fetches) == 2
        assert len((await site.ok("GET", f"/tasks/{pid}"))["threads"]) == 3


async def test_memory_that_does_not_fit_is_written_back_and_evicted(tmp_path: Path) -> None:
    """256 frames and 600 dirty pages: only by making some durable can the others come."""
    async with running(tmp_path, memory=256 * PAGE) as site:
        pid, _ = await site.inside(600)
        for number in range(600):
            answer = await site.write(pid, BASE + number * PAGE, b"%04d" % number, durability="relaxed")
            assert answer.status == 204, answer
        for number in range(600):
            assert (await site.read(pid, BASE + number * PAGE, 4)).body == b"%04d" % number
        answer = await site.read(pid, BASE, 600 * PAGE)
        assert (answer.status, answer.errno) == (507, "ENOMEM")


async def test_unreadable_pages_are_eio_and_nothing_else_is_lost(tmp_path: Path) -> None:
    await filled(tmp_path, 4)
    async with held(tmp_path) as (site, store):
        pid = await attach(site, 1)

        def broken(object_id: int, pages: object) -> dict[int, bytes]:
            raise StoreFailed(f"object {object_id}: a checksum does not match")

        good, store.fetch = store.fetch, broken  # type: ignore[method-assign]
        refused: Answer = await site.read(pid, BASE, 1)
        assert (refused.status, refused.errno) == (500, "EIO")
        results = (await site.batch(pid, ("read", {"addr": BASE, "length": 1}), ("active_vas", {}))).json[
            "results"
        ]
        assert (results[0]["errno"], results[1]) == ("EIO", {"value": 1})
        store.fetch = good  # type: ignore[method-assign]
        assert (await site.read(pid, BASE, 1)).status == 200
