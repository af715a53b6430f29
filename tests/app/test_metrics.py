"""What Prometheus is told, after traffic that is known."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.serving.metrics import Tally
from storage.errors import StoreFull
from tests.app.metered import metric, samples
from tests.app.support import BASE, PAGE, Site, held, running, until

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


async def text(site: Site) -> str:
    answer = await site.send("GET", "/metrics", token=None)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode("utf-8")


async def test_requests_are_counted_by_call_and_status(site: Site) -> None:
    for number in range(3):
        await site.space(f"space {number}")
    assert (await site.call("POST", "/vas", {"name": "space 0", "mode": 0o600})).errno == "EEXIST"
    pid, _ = await site.inside(name="inside")
    for _ in range(5):
        await site.read(pid, BASE, 8)
    assert (await site.read(pid, 0, 8)).errno == "EFAULT"
    assert (await site.send("GET", "/v1/vas", token="unknown")).status == 401
    assert (await site.send("GET", "/nowhere")).status == 404
    for name, labels, expected in (
        ("requests_total", {"call": "vas_create", "status": "201"}, 4),
        ("requests_total", {"call": "vas_create", "status": "409"}, 1),
        ("requests_total", {"call": "read", "status": "200"}, 5),
        ("requests_total", {"call": "read", "status": "422"}, 1),
        ("requests_total", {"call": "vas_find", "status": "401"}, 1),
        ("requests_total", {"call": "unrouted", "status": "404"}, 1),
        ("request_seconds_count", {"call": "vas_create"}, 5),
        ("request_seconds_count", {"call": "read"}, 6),
        ("refusals_total", {"errno": "EEXIST"}, 1),
        ("refusals_total", {"errno": "EFAULT"}, 1),
    ):
        assert await metric(site, name, **labels) == expected, (name, labels)


async def test_a_client_that_leaves_is_counted_as_such(site: Site) -> None:
    pid, _ = await site.inside()
    target = f"/v1/tasks/{pid}/memory?addr={BASE:#x}"
    await site.send("PUT", target, [b"half"], {"content-length": "8"}, hang_up=True)
    assert await metric(site, "requests_total", call="write", status="left") == 1


async def test_commits_are_measured(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        pid, _ = await site.inside()
        before = await metric(site, "commits_total")
        await site.write(pid, BASE, b"x")
        assert await metric(site, "commits_total") == before + 1
        store.failure = StoreFull("the disk is full")
        assert (await site.write(pid, BASE, b"y")).errno == "ENOSPC"
        store.failure = None
        assert await metric(site, "commits_failed_total") == 1
        assert await metric(site, "refusals_total", errno="ENOSPC") == 1


async def test_groups_are_measured(site: Site) -> None:
    commits, transactions = (
        await metric(site, "commit_seconds_count"),
        await metric(site, "commit_transactions_sum"),
    )
    for number in range(4):
        await site.space(str(number))
    assert await metric(site, "commit_seconds_count") == commits + 4
    assert await metric(site, "commit_transactions_sum") == transactions + 4
    assert await metric(site, "commit_transactions_bucket", le="1") == commits + 4


async def test_faults_are_counted_by_kind_and_stay_when_their_task_exits(site: Site) -> None:
    pid, _ = await site.inside()
    before = await metric(site, "faults_total", kind="minor")
    for page in range(4):
        await site.write(pid, BASE + page * PAGE, b"x")
    assert await metric(site, "faults_total", kind="minor") == before + 4
    await site.ok("DELETE", f"/tasks/{pid}")
    assert await metric(site, "faults_total", kind="minor") == before + 4
    assert await metric(site, "tasks") == 0


async def test_major_faults_are_those_that_need_the_store(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as site:
        pid, vid = await site.inside()
        await site.write(pid, BASE, b"kept")
    async with running(tmp_path / "data") as site:
        pid = await site.task()
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        assert (await site.read(pid, BASE, 4)).body == b"kept"
        assert await metric(site, "faults_total", kind="major") == 1
        assert await metric(site, "fetches_total") == 1
        assert await metric(site, "store_spaces") == 1
        assert await metric(site, "store_live_pages") >= 1


async def test_leases_that_run_out_are_counted(site: Site) -> None:
    await site.task(lease_s=10)
    await site.task()
    site.clock.now += 11
    await site.service.expire_leases()
    assert await metric(site, "leases_expired_total") == 1
    assert await metric(site, "tasks") == 1


async def test_frames_add_up(site: Site) -> None:
    pid, _ = await site.inside(pages=64)
    free = await metric(site, "frames_free")
    await site.write(pid, BASE, b"x" * 64 * PAGE)
    assert await metric(site, "frames_free") == free - 64
    assert await metric(site, "frames") == site.service.machine.pool.capacity


async def test_background_work_that_fails_is_counted(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> list[int]:
        raise RuntimeError("a defect")

    site.service.leases.expired = fails  # type: ignore[method-assign]
    await until(lambda: site.service.background_failures > 0)
    assert await metric(site, "background_failures_total") >= 1
    assert "background work failed" in caplog.text


async def test_histograms_are_histograms(site: Site) -> None:
    for number in range(3):
        await site.space(str(number))
    families = [f for f in text_string_to_metric_families(await text(site)) if f.type == "histogram"]
    assert {family.name for family in families} == {
        "everspace_request_seconds", "everspace_commit_seconds", "everspace_commit_transactions",
    }  # fmt: skip
    for family in families:
        rows: dict[str, list[float]] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                rows.setdefault(sample.labels.get("call", ""), []).append(sample.value)
        counts = {s.labels.get("call", ""): s.value for s in family.samples if s.name.endswith("_count")}
        assert rows
        for call, buckets in rows.items():
            assert all(low <= high for low, high in pairwise(buckets))
            assert buckets[-1] == counts[call]


async def test_nothing_that_identifies_anybody_is_told(site: Site) -> None:
    await site.space("a name of somebody's")
    told = await text(site)
    assert site.token not in told
    assert "somebody" not in told


async def test_every_metric_is_documented_and_nothing_else(site: Site) -> None:
    await site.space()
    await site.call("GET", "/vas/77")
    families = {
        f.name for f in text_string_to_metric_families(await text(site)) if f.name.startswith("everspace_")
    }
    only_served = {"everspace_connections", "everspace_connections_refused", "everspace_connections_cut"}
    families |= only_served | {"everspace_loop_late_seconds"}
    told = DOCUMENT.read_text(encoding="utf-8")
    suffix = re.compile("_(total|count|sum|bucket)$")
    documented = {suffix.sub("", name) for name in re.findall(r"`(everspace_[a-z_]+)[`{]", told)}
    assert documented == families
    alerted = {suffix.sub("", name) for name in re.findall(r"\b(everspace_[a-z_]+)\b", told)}
    assert alerted == families


async def test_figures_are_of_now(site: Site) -> None:
    assert samples(await text(site))["everspace_spaces", frozenset()] == 0
    await site.space()
    assert samples(await text(site))["everspace_spaces", frozenset()] == 1


def test_a_bound_belongs_to_its_bucket() -> None:
    tally = Tally((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 5):
        tally.add(value)
    assert tally.counts == [2, 1, 1, 1]
    assert tally.total == 12
