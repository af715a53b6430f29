"""Leases: a task of which nothing is heard exits, and everything about it counts as hearing of it."""

from pathlib import Path

import pytest

from app.leases import Leases
from app.service import Service
from engine.changes import PutReceipt
from storage.errors import StoreFull
from tests.app.support import BASE, Clock, Site, held


def test_a_lease_runs_out_once() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.watch(1, 10)
    leases.watch(2, 5)
    assert leases.expired() == []
    clock.now += 5
    assert leases.expired() == [2]
    assert leases.expired() == []
    clock.now += 5
    assert leases.expired() == [1]
    assert len(leases) == 0


def test_renewing_starts_it_anew() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.watch(1, 10)
    for _ in range(5):
        clock.now += 9
        leases.renew(1)
        assert leases.expired() == []
    clock.now += 10
    assert leases.expired() == [1]


def test_a_forgotten_or_unknown_task_never_runs_out() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.watch(1, 1)
    leases.forget(1)
    leases.renew(7)
    clock.now += 100
    assert leases.expired() == []


async def expire(site: Site, seconds: float) -> None:
    site.clock.now += seconds
    await site.service.expire_leases()


async def test_expiry_is_exit(site: Site) -> None:
    pid, vid = await site.inside()
    await expire(site, 59)
    assert (await site.ok("GET", f"/vas/{vid}"))["attach_count"] == 1
    await expire(site, 1)
    assert (await site.call("GET", f"/tasks/{pid}")).errno == "ESRCH"
    assert (await site.ok("GET", f"/vas/{vid}"))["attach_count"] == 0
    await site.ok("DELETE", f"/vas/{vid}")


async def test_every_call_about_a_task_renews_it(site: Site) -> None:
    pid, vid = await site.inside()
    calls = (
        ("GET", f"/v1/tasks/{pid}"),
        ("POST", f"/v1/tasks/{pid}/heartbeat"),
        ("GET", f"/v1/tasks/{pid}/memory?addr={BASE:#x}&len=1"),
        ("GET", f"/v1/proc/{pid}/maps"),
        ("GET", f"/v1/tasks/{pid}/vas/{vid}"),
        ("GET", f"/v1/tasks/{pid}/threads/{pid}/active"),
        ("POST", f"/v1/tasks/{pid}/brk"),
        ("POST", f"/v1/tasks/{pid}/threads"),
        ("POST", f"/v1/tasks/{pid}/fork"),
        ("GET", f"/v1/tasks/{pid}/memory?addr=0x10&len=1"),  # also one that fails
    )
    for method, path in calls:
        await expire(site, 40)
        await site.send(method, path)
    await expire(site, 40)
    assert (await site.write(pid, BASE, b"x")).status == 204
    await expire(site, 40)
    assert (await site.batch(pid)).status == 200
    await expire(site, 40)
    assert (await site.call("GET", f"/tasks/{pid}")).status == 200


async def test_only_who_may_act_on_a_task_renews_it(site: Site) -> None:
    pid = await site.task()
    stranger = site.account(1001)
    await expire(site, 40)
    assert (await site.call("GET", f"/tasks/{pid}", token=stranger)).status == 200
    await expire(site, 40)
    assert (await site.call("GET", f"/tasks/{pid}")).errno == "ESRCH"


async def test_a_child_has_a_lease_of_its_own(site: Site) -> None:
    pid = await site.task(lease_s=10)
    child = (await site.ok("POST", f"/tasks/{pid}/fork"))["pid"]
    (forked,) = (await site.batch(pid, ("fork", {}))).json["results"]
    await expire(site, 9)
    await site.ok("POST", f"/tasks/{child}/heartbeat")
    await expire(site, 1)
    assert (await site.call("GET", f"/tasks/{pid}")).errno == "ESRCH"
    assert (await site.call("GET", f"/tasks/{forked['value']['pid']}")).errno == "ESRCH"
    assert (await site.call("GET", f"/tasks/{child}")).status == 200


async def test_an_exited_task_leaves_no_lease(site: Site) -> None:
    pid = await site.task()
    assert len(site.service.leases) == 1
    await site.ok("DELETE", f"/tasks/{pid}")
    assert len(site.service.leases) == 0


async def test_a_task_whose_end_cannot_be_stored_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those whose leases ran out with it end all the same."""
    async with held(tmp_path) as (site, store):
        pids = [await site.task(lease_s=10) for _ in range(3)]
        expire = Service._expire

        def expire_storing(service: Service, pid: int) -> None:
            expire(service, pid)
            if pid == pids[0]:  # as that of a task does that ran an image which is gone
                service.machine.journal.change(PutReceipt(b"key", b"value"))

        monkeypatch.setattr(Service, "_expire", expire_storing)
        store.failure = StoreFull("no space left on the disk")
        site.clock.now += 11
        await site.service.expire_leases()
        assert [task.pid for task in site.service.machine.tasks_table] == pids[:1]
        store.failure = None
        site.clock.now += 1
        await site.service.expire_leases()
        assert list(site.service.machine.tasks_table) == []
