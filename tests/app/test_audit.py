"""The audit journal: every change and every refusal is in it, and who may read what."""

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.accounts.auditing import MERGED_S, PENDING_MAX, STRANGERS_MAX
from app.accounts.opening import open_accounts
from storage.errors import AccountsUnreachable
from storage.sql.audit import AuditJournal, AuditRecord
from tests.app.support import Answer, Site, running, until


async def entries(site: Site, query: str = "", token: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await site.ok("GET", f"/audit{query}", token=token))["items"]
    return found


def told(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["uid"], entry["call"], entry["target"], entry["status"], entry["errno"]


async def test_every_change_and_every_refusal_is_told_newest_first(site: Site) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    pid, vid = await site.inside()
    await site.write(pid, 0x1000_0000_0000, b"bytes")
    await site.read(pid, 0x1000_0000_0000, 5)
    await site.read(pid, 0, 5)
    await site.call("GET", "/nowhere")
    answer = await site.call("DELETE", f"/vas/{vid}")
    found = [entry for entry in await entries(site) if entry["token_id"] is not None]
    assert [told(entry) for entry in found] == [
        (0, "vas_delete", f"/v1/vas/{vid}", 409, "EBUSY"),
        (0, "GET", "/v1/nowhere", 404, None),
        (0, "read", f"/v1/tasks/{pid}/memory", 422, "EFAULT"),
        (0, "write", f"/v1/tasks/{pid}/memory", 204, None),
        (0, "mmap", f"/v1/tasks/{pid}/mmap", 200, None),
        (0, "vas_switch", f"/v1/tasks/{pid}/threads/{pid}/active", 200, None),
        (0, "vas_attach", f"/v1/tasks/{pid}/vas/{vid}", 200, None),
        (0, "spawn", f"/v1/tasks/{pid}", 201, None),
        (0, "vas_create", f"/v1/vas/{vid}", 201, None),
    ]
    assert found[0]["request_id"] == answer.headers["x-request-id"]
    assert all(before < datetime.fromisoformat(entry["time"]) for entry in found)
    ids = [entry["id"] for entry in found]
    assert ids == sorted(ids, reverse=True)


async def test_equal_records_of_a_moment_are_one_with_a_count(site: Site) -> None:
    clock = Moment(site)
    for _ in range(5):
        await site.call("GET", "/vas/99")
        clock.now += MERGED_S / 10
    clock.now += MERGED_S
    await site.call("GET", "/vas/99")
    later, earlier = await entries(site, "?errno=EINVAL")
    assert (earlier["count"], later["count"], later["until"]) == (5, 1, None)
    lasted = datetime.fromisoformat(earlier["until"]) - datetime.fromisoformat(earlier["time"])
    assert lasted == timedelta(seconds=4 * MERGED_S / 10)


class Moment:
    """What the auditing takes for now."""

    def __init__(self, site: Site) -> None:
        self.now = 1_800_000_000.0
        site.service.auditing._clock = lambda: self.now


async def test_who_has_no_good_token_is_nobody(site: Site) -> None:
    await site.send("GET", "/v1/vas", token=None)
    await site.send("DELETE", "/v1/vas/1", token="evs_wrong")
    wrong, none = await entries(site, "?limit=2")
    assert told(none) == (None, "vas_find", "/v1/vas", 401, None)
    assert told(wrong) == (None, "vas_delete", "/v1/vas/1", 401, None)
    assert wrong["token_id"] is none["token_id"] is None


async def test_what_was_refused_before_it_came_to_its_route_is_found_by_its_operation(site: Site) -> None:
    accounts = open_accounts(site.service.settings)
    accounts.create_account(1001, [1001])
    token = accounts.create_token(1001, scopes=["audit"])
    accounts.close()
    pid = await site.task()
    asked = [
        ("POST", "/vas", "vas_create"), ("GET", "/account", "account"), ("HEAD", "/vas/1", "vas_getattr"),
        ("PUT", f"/tasks/{pid}/memory", "write"), ("POST", f"/tasks/{pid}/batch", "batch"), ("GET", "/events", "events"),
        ("PUT", "/vas/1/roots/some%2Froot/name", "vas_set_root"), ("GET", "/nowhere", "GET"), ("PATCH", "/vas", "PATCH"),
    ]  # fmt: skip
    for method, path, call in asked:
        assert (await site.call(method, path, token=token)).status == 403, path
        (entry,) = [each for each in await entries(site, f"?uid=1001&call={call}") if each["status"] == 403]
        assert entry["errno"] == "EPERM"


async def test_a_method_that_a_path_has_not_is_no_operation(site: Site) -> None:
    for path in ("/tasks/1", "/vas/1/clone"):
        assert (await site.call("PUT", path)).status == 405
        assert told((await entries(site, "?limit=1"))[0]) == (0, "PUT", f"/v1{path}", 405, None)


async def test_strangers_do_not_fill_the_journal(site: Site) -> None:
    Moment(site)
    for number in range(STRANGERS_MAX + 30):
        await site.send("GET", f"/v1/vas/{number}", token=None)
    strangers = [entry for entry in await entries(site, "?limit=1000") if entry["status"] == 401]
    assert len(strangers) == STRANGERS_MAX + 1
    assert max(entry["count"] for entry in strangers) == 30
    await site.send("GET", "/v1/vas/other", token=None)
    assert (await entries(site, "?limit=1"))[0]["target"] == "/v1/vas/other"


async def test_each_sees_his_own_and_root_sees_all(site: Site) -> None:
    alice, bob = site.account(1001), site.account(1002)
    await site.call("GET", "/vas/99", token=alice)
    await site.call("GET", "/vas/98", token=bob)
    assert [entry["target"] for entry in await entries(site, token=alice)] == ["/v1/vas/99"]
    assert [entry["target"] for entry in await entries(site, "?uid=1001", token=alice)] == ["/v1/vas/99"]
    assert (await site.call("GET", "/audit?uid=1002", token=alice)).errno == "EPERM"
    assert (await site.call("GET", "/audit?uid=0", token=bob)).errno == "EPERM"
    assert {entry["uid"] for entry in await entries(site)} == {None, 1001, 1002}
    assert [entry["target"] for entry in await entries(site, "?uid=1002")] == ["/v1/audit", "/v1/vas/98"]
    assert "account create" in {entry["call"] for entry in await entries(site)}


async def test_filters(site: Site) -> None:
    clock = Moment(site)
    for number in range(4):
        await site.call("GET", f"/vas/{90 + number}")
        clock.now += 10
    vid = await site.space()
    assert [entry["target"] for entry in await entries(site, "?call=vas_create")] == [f"/v1/vas/{vid}"]
    assert len(await entries(site, "?errno=EINVAL&call=vas_getattr")) == 4

    def at(seconds: int) -> str:
        return quote(datetime.fromtimestamp(1_800_000_000 + seconds, UTC).isoformat())

    found = await entries(site, f"?since={at(10)}&until={at(30)}")
    assert [entry["target"] for entry in found] == ["/v1/vas/92", "/v1/vas/91"]


async def test_parts_are_stable_while_the_journal_grows(site: Site) -> None:
    for number in range(7):
        await site.call("GET", f"/vas/{number + 50}")
    seen: list[str] = []
    target = "/audit?limit=3&errno=EINVAL"
    while True:
        answer = await site.call("GET", target)
        part = answer.json
        seen += [entry["target"] for entry in part["items"]]
        await site.call("GET", "/vas/1000")
        if part["next"] is None:
            break
        assert 'rel="next"' in answer.headers["link"]
        target = f"/audit?limit=3&errno=EINVAL&cursor={part['next']}"
    assert seen == [f"/v1/vas/{number + 50}" for number in reversed(range(7))]


@pytest.mark.parametrize(
    "query",
    [
        "uid=x", "uid=-1", "uid=99999999999999999", "since=yesterday", "until=2026-13-01", "since=0001-01-01T00:00:00%2b14:00",
        "cursor=x", "limit=0", "limit=1001", "call=%00", "errno=%0a", "call=" + "x" * 65, "uid=1&uid=2",
        "errno=EFOO", "errno=eperm", "errno=", "nonsense=1", "uids=1", "Call=mmap", "=",
    ],
)  # fmt: skip
async def test_bad_questions(site: Site, query: str) -> None:
    assert (await site.call("GET", f"/audit?{query}")).errno == "EINVAL"


async def test_what_waits_is_written_when_the_service_ends(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as site:
        await site.call("GET", "/vas/99")
    async with running(tmp_path / "data") as site:
        assert [entry["target"] for entry in await entries(site, "?errno=EINVAL")] == ["/v1/vas/99"]


async def test_it_is_written_without_being_asked(site: Site) -> None:
    await site.call("GET", "/vas/99")
    await until(lambda: site.service.auditing.counts.rows == 1)
    assert site.service.auditing.pending == 0


class Broken:
    """A journal that takes nothing while `broken`."""

    def __init__(self, inner: AuditJournal) -> None:
        self.inner = inner
        self.broken = True

    def append(self, records: Sequence[AuditRecord]) -> None:
        if self.broken:
            raise AccountsUnreachable("gone")
        self.inner.append(records)

    def query(self, **wanted: Any) -> list[Any]:
        if self.broken:
            raise AccountsUnreachable("gone")
        return self.inner.query(**wanted)


@pytest.fixture
async def broken(site: Site) -> AsyncIterator[Broken]:
    auditing = site.service.auditing
    journal = auditing._journal
    assert isinstance(journal, AuditJournal)
    auditing._journal = stand_in = Broken(journal)
    yield stand_in
    stand_in.broken = False


async def test_what_cannot_be_written_waits(
    site: Site, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "everspace.auditing"):
        await site.call("GET", "/vas/99")
        for _ in range(2):
            assert not await site.service.auditing.flush()
        answer: Answer = await site.call("GET", "/audit")
        assert (answer.status, answer.errno, answer.headers["retry-after"]) == (503, None, "1")
        assert site.service.auditing.counts.failures >= 3  # it may have been tried in the background, too
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        broken.broken = False
        assert "/v1/vas/99" in {entry["target"] for entry in await entries(site)}
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert site.service.auditing.pending == 0
    assert site.service.auditing.lag_s == 0


async def test_what_waits_is_bounded_and_what_is_lost_is_counted(
    site: Site, broken: Broken, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.accounts.auditing.PENDING_MAX", 10)
    assert PENDING_MAX > 10
    for number in range(30):
        await site.call("GET", f"/vas/{number + 50}")
    counts = site.service.auditing.counts
    assert (site.service.auditing.pending, counts.records, counts.lost) == (10, 30, 20)
    assert any("lost" in record.message for record in caplog.records)
    broken.broken = False
    assert len(await entries(site, "?errno=EINVAL")) == 10


async def made(site: Site) -> list[tuple[str, str]]:
    """Calls and targets of what root did, oldest first."""
    found = await entries(site, "?uid=0&limit=1000")
    return [(entry["call"], entry["target"]) for entry in reversed(found) if entry["status"] < 400]


async def test_what_was_made_is_told(site: Site) -> None:
    vid, sid, pid = await site.space(), await site.segment(), await site.task()
    clone = (await site.ok("POST", f"/vas/{vid}/clone", {"name": "clone"}))["id"]
    copy = (await site.ok("POST", f"/segments/{sid}/snapshot", {"name": "copy"}))["id"]
    child = (await site.ok("POST", f"/tasks/{pid}/fork", {}))["pid"]
    tid = (await site.ok("POST", f"/tasks/{pid}/threads", {}))["tid"]
    image = (await site.ok("POST", f"/tasks/{pid}/vas_fork", {"name": "image"}))["id"]
    assert await made(site) == [
        ("vas_create", f"/v1/vas/{vid}"),
        ("vas_seg_create", f"/v1/segments/{sid}"),
        ("spawn", f"/v1/tasks/{pid}"),
        ("vas_clone", f"/v1/vas/{vid}/clone -> /v1/vas/{clone}"),
        ("vas_seg_snapshot", f"/v1/segments/{sid}/snapshot -> /v1/segments/{copy}"),
        ("fork", f"/v1/tasks/{pid}/fork -> /v1/tasks/{child}"),
        ("thread", f"/v1/tasks/{pid}/threads/{tid}"),
        ("vas_fork", f"/v1/tasks/{pid}/vas_fork -> /v1/vas/{image}"),
    ]


async def test_what_is_asked_for_again_is_told_as_that(site: Site) -> None:
    body = b'{"name": "space", "mode": 384}'
    headers = {"content-type": "application/json", "idempotency-key": '"once"'}
    answers = [await site.send("POST", "/v1/vas", [body], headers) for _ in range(2)]
    target = f"/v1/vas/{answers[0].json['id']}"
    assert await made(site) == [("vas_create", target), ("vas_create (replayed)", target)]


@pytest.mark.parametrize("query", ["", "?atomic=true"])
async def test_calls_of_a_batch_are_told_but_for_those_that_look(site: Site, query: str) -> None:
    pid = await site.task()
    calls = [("vas_create", {"name": f"space-{n}", "mode": 0o600}) for n in range(2)]
    looks = [("vas_find", {"name": "space-0"}), ("active_vas", {})]
    answer = await site.batch(pid, *calls, *looks, ("brk", {}), ("brk", {}), query=query)
    vids = [result["value"] for result in answer.json["results"][:2]]
    path = f"/v1/tasks/{pid}/batch"
    told_of = [deed for deed in await made(site) if deed[1].startswith(path)]
    assert sorted(told_of) == sorted(
        [("batch", path), ("brk", path), *(("vas_create", f"{path} -> /v1/vas/{vid}") for vid in vids)]
    )


async def test_refused_calls_of_a_batch_are_told(site: Site) -> None:
    pid = await site.task()
    await site.batch(
        pid, ("vas_delete", {"vid": 99}), ("read", {"addr": 0, "length": 1}), ("vas_delete", {"vid": 98})
    )
    refused = {
        (entry["call"], entry["errno"], entry["count"]) for entry in await entries(site) if entry["errno"]
    }
    assert refused == {("vas_delete", "EINVAL", 1), ("read", "EFAULT", 1)}


async def test_a_clock_that_is_set_back_keeps_nothing_from_being_written(site: Site) -> None:
    clock = Moment(site)
    await site.call("GET", "/vas/98")
    clock.now -= 3600
    await site.call("GET", "/vas/99")
    assert await site.service.auditing.flush(everything=False)
    assert site.service.auditing.pending == 1  # that of now
    assert {"/v1/vas/98", "/v1/vas/99"} <= {entry["target"] for entry in await entries(site)}
    assert site.service.auditing.pending <= 1  # the question itself
