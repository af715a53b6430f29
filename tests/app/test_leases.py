"""Leases: a task of which nothing is heard exits, and everything about it counts as hearing of it."""

from app.leases import Leases
from tests.app.support import BASE, Clock, Site


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
