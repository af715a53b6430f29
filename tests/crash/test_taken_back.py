"""A commit that fails takes back every call that waits for it, and none that was answered."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from app.executor import Executor
from engine.check import check
from storage.errors import StoreFull
from tests.app.support import BASE, PAGE, held, running, until

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
        make_again = Executor._make_again

        def evicting(executor: Executor, calls: Sequence[Callable[[], object]]) -> None:
            site.service.machine.objects.evict(100)  # then it has to be fetched first
            make_again(executor, calls)

        if evicted:
            monkeypatch.setattr(Executor, "_make_again", evicting)
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
