"""Quotas: each limit at its edge, by every way that leads there; and that nothing half done stays."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.accounts.opening import open_accounts
from storage.errors import StoreFailed, StoreFull
from storage.sql.accounts import Quota
from tests.app.support import ANON_FIXED, BASE, BYTES, PAGE, PROT_RW, Answer, Site, held, running, until

UID = 1001
MADE = 0x2000_0000_0000


class Limited:
    """An account with a quota, and who asks in its name."""

    def __init__(self, site: Site, token: str) -> None:
        self.site = site
        self.token = token

    def limit(self, **quota: int | None) -> None:
        """This is its quota from now on, as the command line sets it."""
        accounts = open_accounts(self.site.service.settings)
        accounts.set_quota(UID, Quota(**quota))
        accounts.close()

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        return await self.site.call(method, path, body, token=self.token)

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        return await self.site.ok(method, path, body, token=self.token)

    async def space(self, name: str, **more: Any) -> int:
        vid: int = (await self.ok("POST", "/vas", {"name": name, "mode": 0o600, **more}))["id"]
        return vid

    async def segment(self, name: str, pages: int = 16, start: int = MADE) -> int:
        body = {"name": name, "start": hex(start), "end": hex(start + pages * PAGE), "mode": 0o600}
        sid: int = (await self.ok("POST", "/segments", body))["id"]
        return sid

    async def write(self, sid: int, page: int, count: int = 1, *, durability: str = "commit") -> Answer:
        """Store whole pages of a segment."""
        first, end = page * PAGE, (page + count) * PAGE
        headers = {**BYTES, "content-range": f"bytes {first}-{end - 1}/*"}
        target = f"/v1/segments/{sid}/data?durability={durability}"
        return await self.site.send("PATCH", target, [bytes([7]) * (end - first)], headers, self.token)

    async def usage(self) -> dict[str, int]:
        found: dict[str, int] = (await self.ok("GET", "/account"))["usage"]
        return found

    async def pages(self) -> int:
        return (await self.usage())["bytes"] // PAGE


def limited(site: Site, **quota: int | None) -> Limited:
    found = Limited(site, site.account(UID))
    found.limit(**quota)
    return found


def refused(answer: Answer, resource: str, quota: int, used: int, wanted: int) -> None:
    """It says which limit it was."""
    assert answer.errno == "EDQUOT", answer
    assert answer.status == 429
    problem = answer.json
    told = tuple(problem[name] for name in ("resource", "quota", "used", "wanted"))
    assert told == (resource, quota, used, wanted)
    assert answer.headers["ratelimit-policy"] == f'"{resource}";q={quota}'
    assert answer.headers["ratelimit"] == f'"{resource}";r={max(0, quota - used)}'
    assert answer.headers["retry-after"] == "60"


async def test_the_account_tells_its_quota_and_what_it_uses(site: Site) -> None:
    alice = limited(site, spaces=5, bytes=10 * PAGE, rate=1000)
    await alice.space("space")
    sid = await alice.segment("segment")
    await alice.write(sid, 0, 3)
    await alice.ok("POST", "/tasks", {})
    told = await alice.ok("GET", "/account")
    assert told == {
        "uid": UID,
        "gids": [UID],
        "name": f"uid-{UID}",
        "scopes": ["read", "write", "audit"],
        "expires": None,
        "quota": {"spaces": 5, "segments": None, "bytes": 10 * PAGE, "tasks": None, "rate": 1000},
        "usage": {"spaces": 1, "segments": 1, "bytes": 3 * PAGE, "tasks": 1},
    }
    root = await site.ok("GET", "/account")
    assert root["usage"] == {"spaces": 0, "segments": 0, "bytes": 0, "tasks": 0}


async def test_spaces_by_every_way(site: Site) -> None:
    alice = limited(site, spaces=2)
    first = await alice.space("first")
    await alice.space("second")
    refused(await alice.call("POST", "/vas", {"name": "third", "mode": 0o600}), "spaces", 2, 2, 1)
    for path in (f"/vas/{first}/clone", f"/vas/{first}/snapshot"):
        refused(await alice.call("POST", path, {"name": "third"}), "spaces", 2, 2, 1)
    pid = (await alice.ok("POST", "/tasks", {}))["pid"]
    refused(await alice.call("POST", f"/tasks/{pid}/vas_fork", {"name": "third"}), "spaces", 2, 2, 1)
    given = await site.space("given")
    refused(await site.call("PATCH", f"/vas/{given}", {"uid": UID}), "spaces", 2, 2, 1)
    assert (await site.ok("GET", f"/vas/{given}"))["uid"] == 0
    assert len((await alice.ok("GET", "/vas"))["items"]) == 3
    await alice.ok("DELETE", f"/vas/{first}")
    await alice.space("third")
    assert (await alice.usage())["spaces"] == 2


async def test_segments_those_cloned_with_a_space_among_them(site: Site) -> None:
    alice = limited(site, segments=3)
    vid, sids = await alice.space("space"), [await alice.segment(f"s{n}", 1, MADE + n * PAGE) for n in (0, 1)]
    for sid in sids:
        await alice.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
    refused(await alice.call("POST", f"/vas/{vid}/clone", {"name": "clone"}), "segments", 3, 2, 2)
    assert (await alice.usage())["spaces"] == 1
    await alice.ok("POST", f"/segments/{sids[0]}/clone", {"name": "one"})
    refused(await alice.call("POST", f"/segments/{sids[0]}/clone", {"name": "two"}), "segments", 3, 3, 1)
    assert [s["name"] for s in (await alice.ok("GET", "/segments"))["items"]] == ["s0", "s1", "one"]


async def test_tasks_and_their_children(site: Site) -> None:
    alice = limited(site, tasks=2)
    pid = (await alice.ok("POST", "/tasks", {}))["pid"]
    child = (await alice.ok("POST", f"/tasks/{pid}/fork", {}))["pid"]
    refused(await alice.call("POST", "/tasks", {}), "tasks", 2, 2, 1)
    refused(await alice.call("POST", f"/tasks/{pid}/fork", {}), "tasks", 2, 2, 1)
    refused(await site.call("POST", f"/tasks/{pid}/fork", {}), "tasks", 2, 2, 1)  # the child would be alice's
    await alice.ok("DELETE", f"/tasks/{child}")
    await alice.ok("POST", f"/tasks/{pid}/fork", {})
    assert (await alice.usage())["tasks"] == 2


async def test_a_batch_is_judged_as_it_is_made(site: Site) -> None:
    alice = limited(site, spaces=2)
    pid = (await alice.ok("POST", "/tasks", {}))["pid"]
    calls = [{"call": "vas_create", "args": {"name": f"space-{n}", "mode": 0o600}} for n in range(3)]
    whole = await alice.call("POST", f"/tasks/{pid}/batch?atomic=true", {"calls": calls})
    refused(whole, "spaces", 2, 0, 3)
    assert (await alice.usage())["spaces"] == 0
    results = (await alice.ok("POST", f"/tasks/{pid}/batch", {"calls": calls}))["results"]
    assert [result.get("errno") for result in results] == [None, None, "EDQUOT"]
    assert results[2]["quota"] == 2
    vid = results[0]["value"]
    swap = [{"call": "vas_delete", "args": {"vid": vid}}, calls[2]]
    await alice.ok("POST", f"/tasks/{pid}/batch?atomic=true", {"calls": swap})
    assert (await alice.usage())["spaces"] == 2


async def test_bytes_are_refused_at_the_first_page_too_many(site: Site) -> None:
    alice = limited(site, bytes=4 * PAGE)
    sid = await alice.segment("segment")
    assert (await alice.write(sid, 0, 3)).status == 204
    refused(await alice.write(sid, 3, 2), "bytes", 4 * PAGE, 3 * PAGE, 2 * PAGE)
    for _ in range(5):
        assert (await alice.write(sid, 1, 3)).status == 204  # what is there already counts once
    refused(await alice.write(sid, 9), "bytes", 4 * PAGE, 4 * PAGE, PAGE)
    assert await alice.pages() == 4
    await alice.ok("DELETE", f"/segments/{sid}")
    assert await alice.pages() == 0


async def test_a_clone_is_free_until_it_is_written(site: Site) -> None:
    alice = limited(site, bytes=6 * PAGE)
    sid = await alice.segment("segment")
    await alice.write(sid, 0, 4)
    clone = (await alice.ok("POST", f"/segments/{sid}/clone", {"name": "clone"}))["id"]
    assert await alice.pages() == 4
    assert (await alice.write(clone, 0, 2)).status == 204
    refused(await alice.write(clone, 2), "bytes", 6 * PAGE, 6 * PAGE, PAGE)
    refused(await alice.write(sid, 0), "bytes", 6 * PAGE, 6 * PAGE, PAGE)
    assert (await alice.write(clone, 0, 2)).status == 204


async def test_writes_in_a_space_and_in_another_s_space(site: Site) -> None:
    alice = limited(site, bytes=2 * PAGE)
    vid = await alice.space("space")
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o666})
    pid = await site.task()
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
    await site.ok(
        "POST", f"/tasks/{pid}/mmap", {"addr": BASE, "length": 8 * PAGE, "prot": PROT_RW, "flags": ANON_FIXED}
    )
    assert (await site.write(pid, BASE, b"x" * 2 * PAGE)).status == 204
    refused(await site.write(pid, BASE + 2 * PAGE, b"x"), "bytes", 2 * PAGE, 2 * PAGE, PAGE)
    await site.ok("POST", f"/tasks/{pid}/munmap", {"addr": BASE, "length": PAGE})
    assert (await site.write(pid, BASE + 2 * PAGE, b"x")).status == 204
    own = await site.segment()
    answer = await site.send(
        "PATCH",
        f"/v1/segments/{own}/data",
        [b"x" * PAGE],
        {**BYTES, "content-range": f"bytes 0-{PAGE - 1}/*"},
    )
    assert answer.status == 204  # root pays nothing


async def test_what_is_written_relaxed_counts_at_once_and_is_never_lost(site: Site) -> None:
    alice = limited(site, bytes=3 * PAGE)
    sid = await alice.segment("segment")
    assert (await alice.write(sid, 0, 2, durability="relaxed")).status == 204
    assert await alice.pages() == 2
    refused(await alice.write(sid, 2, 2, durability="relaxed"), "bytes", 3 * PAGE, 2 * PAGE, 2 * PAGE)
    refused(await alice.write(sid, 2, 2), "bytes", 3 * PAGE, 2 * PAGE, 2 * PAGE)
    alice.limit(bytes=PAGE)
    await alice.ok("GET", "/vas")
    assert await site.service.executor.write_back()
    assert await alice.pages() == 2
    refused(await alice.write(sid, 4), "bytes", PAGE, 2 * PAGE, PAGE)


async def test_an_image_of_a_task_is_paid_by_its_owner(site: Site) -> None:
    alice = limited(site, bytes=8 * PAGE)
    pid = (await alice.ok("POST", "/tasks", {}))["pid"]
    body = {"addr": BASE, "length": 16 * PAGE, "prot": PROT_RW, "flags": ANON_FIXED}
    await alice.ok("POST", f"/tasks/{pid}/mmap", body)
    target = f"/v1/tasks/{pid}/memory?addr={BASE:#x}"
    await site.send("PUT", target, [b"x" * 9 * PAGE], BYTES, alice.token)
    answer = await alice.call("POST", f"/tasks/{pid}/vas_fork", {"name": "image"})
    refused(answer, "bytes", 8 * PAGE, 0, answer.json["wanted"])
    assert answer.json["wanted"] >= 9 * PAGE
    assert (await alice.usage())["spaces"] == 0
    alice.limit(bytes=64 * PAGE)
    vid = (await alice.ok("POST", f"/tasks/{pid}/vas_fork", {"name": "image"}))["id"]
    pages = await alice.pages()
    assert pages >= 9
    await alice.ok("POST", f"/tasks/{pid}/vas_exec", {"vid": vid})
    assert await alice.pages() == pages
    await alice.ok("DELETE", f"/vas/{vid}")
    assert await alice.pages() == pages  # the task still stands on them
    await alice.ok("DELETE", f"/tasks/{pid}")
    await site.service.executor.write_back()
    await site.service.executor.settled()
    assert await alice.pages() == 0


async def test_what_is_given_is_paid_by_the_one_who_gets_it(site: Site) -> None:
    alice = limited(site, bytes=2 * PAGE)
    sid = await site.segment("given")
    for pages in (2, 3):
        span = {**BYTES, "content-range": f"bytes 0-{pages * PAGE - 1}/*"}
        await site.send("PATCH", f"/v1/segments/{sid}/data", [b"x" * pages * PAGE], span)
        answer = await site.call("PATCH", f"/segments/{sid}", {"uid": UID})
        if pages == 3:
            refused(answer, "bytes", 2 * PAGE, 0, 3 * PAGE)
            assert await alice.pages() == 0
        else:
            assert answer.status == 200
            assert await alice.pages() == 2
            await site.ok("PATCH", f"/segments/{sid}", {"uid": 0})
            assert await alice.pages() == 0


async def test_who_is_over_a_lowered_quota_may_overwrite_and_delete(site: Site) -> None:
    alice = limited(site)
    vid, sid = await alice.space("space"), await alice.segment("segment")
    await alice.write(sid, 0, 4)
    alice.limit(spaces=0, segments=0, bytes=0, tasks=0)
    assert (await alice.write(sid, 0, 4)).status == 204
    refused(await alice.write(sid, 4), "bytes", 0, 4 * PAGE, PAGE)
    await alice.ok("PATCH", f"/vas/{vid}", {"mode": 0o640})
    refused(await alice.call("POST", "/vas", {"name": "more", "mode": 0o600}), "spaces", 0, 1, 1)
    await alice.ok("DELETE", f"/segments/{sid}")
    await alice.ok("DELETE", f"/vas/{vid}")


async def test_it_holds_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as site:
        alice = limited(site, spaces=1, bytes=2 * PAGE)
        await alice.space("space")
        sid = await alice.segment("segment")
        await alice.write(sid, 0, 2)
        token = alice.token
    async with running(tmp_path / "data") as site:
        alice = Limited(site, token)
        refused(await alice.call("POST", "/vas", {"name": "more", "mode": 0o600}), "spaces", 1, 1, 1)
        refused(await alice.write(sid, 2), "bytes", 2 * PAGE, 2 * PAGE, PAGE)
        assert (await alice.write(sid, 1)).status == 204


async def test_at_once_none_gets_through_too_many(site: Site) -> None:
    alice = limited(site, spaces=3, bytes=5 * PAGE)
    sid = await alice.segment("segment")
    bodies = [{"name": f"space-{n}", "mode": 0o600} for n in range(8)]
    answers = await asyncio.gather(
        *(alice.call("POST", "/vas", body) for body in bodies),
        *(alice.write(sid, page) for page in range(16)),
    )
    assert [answer.status for answer in answers[:8]].count(201) == 3
    assert [answer.status for answer in answers[8:]].count(204) == 5
    assert {answer.errno for answer in answers if answer.status > 204} == {"EDQUOT"}
    assert await alice.pages() == 5


async def test_at_the_edge_it_is_waited_for_what_is_not_decided(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        alice = limited(site, bytes=3 * PAGE)
        sid = await alice.segment("segment")
        await alice.write(sid, 0, 2)
        store.hold()
        first = asyncio.create_task(alice.write(sid, 0, 2))
        await until(lambda: site.service.executor.unsettled == 1)
        second = asyncio.create_task(alice.write(sid, 1, 2))
        await asyncio.sleep(0.05)
        assert not second.done()
        store.release()
        assert [(await answer).status for answer in (first, second)] == [204, 204]
        assert await alice.pages() == 3


async def test_a_commit_that_fails_takes_back_what_it_counted(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        alice = limited(site, spaces=1, bytes=2 * PAGE)
        sid = await alice.segment("segment")
        store.failure = StoreFull("full")
        assert (await alice.call("POST", "/vas", {"name": "space", "mode": 0o600})).errno == "ENOSPC"
        assert (await alice.write(sid, 0, 2)).errno == "ENOSPC"
        store.failure = None
        await alice.space("space")
        assert (await alice.write(sid, 2, 2)).status == 204
        assert await alice.pages() == 2


async def test_a_store_that_cannot_count_refuses(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        alice = limited(site, bytes=PAGE)
        sid = await alice.segment("segment")

        def broken(object_id: int, pages: Sequence[int]) -> int:
            raise StoreFailed("unreadable")

        store.pages_new = broken  # type: ignore[method-assign]
        assert (await alice.write(sid, 0)).errno == "EIO"
        assert (await alice.usage())["bytes"] == 0


async def test_quotas_hold_where_nobody_tells_when_they_change(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.service.authenticator._accounts, "data_version", lambda: None)
    alice = limited(site, spaces=1)
    await alice.space("space")
    refused(await alice.call("POST", "/vas", {"name": "more", "mode": 0o600}), "spaces", 1, 1, 1)
    alice.limit(spaces=2)
    await alice.space("more")
    alice.limit(spaces=1)
    given = await site.space("given")
    await site.service.authenticator.look()
    refused(await site.call("PATCH", f"/vas/{given}", {"uid": UID}), "spaces", 1, 2, 1)
