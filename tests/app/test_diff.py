"""Differences over HTTP: runs, parts, rights, what it costs, and that others go on meanwhile."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app import diffing
from app.main import open_parts
from app.settings import Settings
from storage.errors import StoreFailed
from storage.store import Store
from storage.writer import Writer
from tests.app.support import BASE, PAGE, HeldStore, Site, held, running
from tests.conformance.support.service import Service

GIB_PAGES = (1 << 30) // PAGE


async def runs(site: Site, path: str, limit: int = 100) -> list[tuple[int, int, str]]:
    """All parts, in pages from BASE; what was cut between two parts is joined."""
    found: list[tuple[int, int, str]] = []
    more: str | None = ""
    while more is not None:
        answer = await site.ok("GET", f"{path}&limit={limit}{more}")
        assert len(answer["items"]) <= limit
        for item in answer["items"]:
            assert item.keys() == {"start", "end", "kind"}
            low, high = ((int(item[edge], 16) - BASE) // PAGE for edge in ("start", "end"))
            if found and found[-1][1:] == (low, item["kind"]):
                low = found.pop()[0]
            found.append((low, high, item["kind"]))
        more = answer["next"] and f"&cursor={answer['next']}"
    return found


async def two(site: Site, pages: int = 8) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two tasks, each inside a space of its own."""
    return await site.inside(pages, "left"), await site.inside(pages, "right")


async def write_each(site: Site, pid: int, numbers: Sequence[int], **query: Any) -> None:
    for number in numbers:
        assert (await site.write(pid, BASE + number * PAGE, b"written", **query)).status == 204


async def test_runs_by_address_and_by_parts(site: Site) -> None:
    (pid, vid), (other, second) = await two(site)
    await site.mmap(pid, 2, BASE + 20 * PAGE)
    await site.mmap(other, 3, BASE + 30 * PAGE)
    await write_each(site, pid, (0, 2, 3))
    await write_each(site, other, (5,), durability="relaxed")
    path = f"/vas/{vid}/diff?other={second}"
    wanted = [(0, 1, "changed"), (2, 4, "changed"), (5, 6, "changed"), (20, 22, "left"), (30, 33, "right")]
    for limit in (1, 2, 3, 100):
        assert await runs(site, path, limit) == wanted
    answer = await site.ok("GET", path)
    assert answer["next"] is None
    assert answer["items"][0] == {"start": hex(BASE), "end": hex(BASE + PAGE), "kind": "changed"}
    assert await runs(site, f"/vas/{vid}/diff?other={vid}") == []
    await write_each(site, other, (0, 2, 3, 5))
    await write_each(site, pid, (5,))
    assert await runs(site, path) == wanted[3:]


async def test_segments_of_one_range(site: Site) -> None:
    first = await site.segment("first", pages=4)
    second = await site.segment("second", pages=4)
    bounds = {"content-range": "bytes 4096-4098/*", "content-type": "application/octet-stream"}
    await site.send("PATCH", f"/v1/segments/{first}/data", [b"abc"], bounds)
    path = f"/segments/{first}/diff?other={second}"
    assert await runs(site, path) == [(1, 2, "changed")]
    await site.send("PATCH", f"/v1/segments/{second}/data?durability=relaxed", [b"abc"], bounds)
    assert await runs(site, path) == []


async def test_who_may_and_what_can_be_compared(site: Site) -> None:
    ada = site.account(1001)
    mine = await site.space("root's", 0o600)
    hers = (await site.ok("POST", "/vas", {"name": "hers", "mode": 0o600}, token=ada))["id"]
    sid, longer = await site.segment("short", pages=1), await site.segment("long", pages=2)
    for path, status, errno in (
        (f"/vas/{hers}/diff?other={mine}", 403, "EACCES"),
        (f"/vas/{mine}/diff?other={hers}", 403, "EACCES"),
        (f"/segments/{sid}/diff?other={sid}", 403, "EACCES"),
        (f"/vas/{hers}/diff?other=99", 400, "EINVAL"),
        (f"/vas/99/diff?other={hers}", 400, "EINVAL"),
        (f"/vas/{hers}/diff?other=x", 400, "EINVAL"),
        (f"/vas/{hers}/diff", 400, "EINVAL"),
        (f"/vas/{hers}/diff?other={hers}&cursor=x", 400, "EINVAL"),
        (f"/vas/{hers}/diff?other={hers}&limit=0", 400, "EINVAL"),
        (f"/segments/99/diff?other={sid}", 400, "EINVAL"),
    ):
        answer = await site.call("GET", path, token=ada)
        assert (answer.status, answer.errno) == (status, errno), path
    assert (await site.call("GET", f"/segments/{sid}/diff?other={longer}")).errno == "EINVAL"
    assert await runs(site, f"/vas/{hers}/diff?other={mine}") == []


class Watched(HeldStore):
    """Remembers what was asked, and runs `meanwhile` before it answers what differs."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked: list[tuple[int, int, int, int]] = []

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        self.asked.append((a, b, first, count))
        if self.failure is not None:
            raise self.failure
        return super().differing(a, b, first, count)


@pytest.fixture
def watched(tmp_path: Path) -> Any:
    """A service over a store that is watched."""

    def start(**options: Any) -> Any:
        settings = Settings(data_dir=tmp_path / "data", **options)
        parts = open_parts(settings)
        parts.writer.close()
        store = Watched(parts.store)
        return running(tmp_path / "data", replace(parts, store=store, writer=Writer(store)), **options), store

    return start


async def clones(site: Site) -> tuple[int, int, int]:
    """A space of 1 GiB with pages here and there, its clone, and a task inside the first."""
    pid, vid = await site.inside(GIB_PAGES, "left")
    calls = [("write", {"addr": hex(BASE + n * 1000 * PAGE), "data": "AQID"}) for n in range(262)]
    assert (await site.batch(pid, *calls)).status == 200
    clone = (await site.ok("POST", f"/vas/{vid}/clone", {"name": "clone"}))["id"]
    return pid, vid, clone


async def test_two_clones_of_a_gibibyte_cost_the_pages_that_differ(watched: Any) -> None:
    running_, store = watched()
    async with running_ as site:
        pid, vid, clone = await clones(site)
        path = f"/vas/{vid}/diff?other={clone}"
        assert await runs(site, path) == []
        await write_each(site, pid, (7, 5000, GIB_PAGES - 1))
        store.asked.clear()
        store.fetches.clear()
        found = await runs(site, path)
        assert found == [(n, n + 1, "changed") for n in (7, 5000, GIB_PAGES - 1)]
        assert len(store.asked) <= 4
        assert sum(map(len, store.fetches)) <= 6


async def test_after_a_restart_only_candidates_are_fetched(watched: Any) -> None:
    running_, _ = watched()
    async with running_ as site:
        pid, vid, clone = await clones(site)
        await write_each(site, pid, (7, 5000))
    running_, store = watched()
    async with running_ as site:
        assert await runs(site, f"/vas/{clone}/diff?other={vid}") == [
            (7, 8, "changed"),
            (5000, 5001, "changed"),
        ]
        assert sum(map(len, store.fetches)) == 4


async def test_much_that_differs_comes_in_parts_of_bounded_work(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffing, "COMPARED_MAX", 16)
    monkeypatch.setattr(diffing, "BLOCK_PAGES", 8)
    (pid, vid), (other, second) = await two(site, 100)
    await site.write(pid, BASE, b"x" * (100 * PAGE))
    await site.write(other, BASE + 40 * PAGE, b"x" * (60 * PAGE))
    path = f"/vas/{vid}/diff?other={second}"
    answer = await site.ok("GET", path)
    assert answer["items"] == [{"start": hex(BASE), "end": hex(BASE + 16 * PAGE), "kind": "changed"}]
    assert await runs(site, path) == [(0, 40, "changed")]
    last = await site.ok("GET", f"{path}&cursor={(await site.ok('GET', path))['next']}")
    assert last["items"][0]["start"] == hex(BASE + 16 * PAGE)


async def test_windows_follow_what_there_is_to_compare(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("WINDOW_PAGES", 16),
        ("WINDOW_PAGES_MIN", 2),
        ("FEW", 2),
        ("MANY", 6),
        ("BLOCK_PAGES", 3),
    ):
        monkeypatch.setattr(diffing, name, value)
    (pid, vid), (other, second) = await two(site, 300)
    await site.mmap(other, 4, BASE + 300 * PAGE)
    await site.write(pid, BASE + 10 * PAGE, b"x" * (33 * PAGE))
    await write_each(site, other, (20, 200, 299))
    wanted = [(10, 43, "changed"), (200, 201, "changed"), (299, 300, "changed"), (300, 304, "right")]
    assert await runs(site, f"/vas/{vid}/diff?other={second}", limit=1) == wanted
    monkeypatch.setattr(diffing, "SURVEYS_MAX", 1)
    assert await runs(site, f"/vas/{vid}/diff?other={second}") == wanted


async def test_with_little_memory_it_is_slow_and_right(tmp_path: Path) -> None:
    async with running(tmp_path / "data", memory=1 << 20) as site:
        (pid, vid), (other, second) = await two(site, 600)
        for start in range(0, 600, 100):
            for task in (pid, other):
                await site.write(task, BASE + start * PAGE, bytes([1 + start // 100]) * (100 * PAGE))
        await write_each(site, pid, (0, 1, 599))
        found = await runs(site, f"/vas/{vid}/diff?other={second}")
        assert found == [(0, 2, "changed"), (599, 600, "changed")]


async def test_other_requests_go_on_and_rights_that_go_are_noticed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffing, "BLOCK_PAGES", 1)
    (pid, vid), (other, second) = await two(site, 400)
    ada = site.account(1001)
    for number in (vid, second):
        await site.ok("PATCH", f"/vas/{number}", {"mode": 0o604})
    for task, byte in ((pid, b"x"), (other, b"y")):
        await site.write(task, BASE, byte * (400 * PAGE))
    answer = asyncio.create_task(site.call("GET", f"/vas/{vid}/diff?other={second}", token=ada))
    turns = 0
    while not answer.done():
        await site.ok("GET", f"/vas/{vid}")
        await asyncio.sleep(0)
        turns += 1
        if turns == 3:
            await site.ok("PATCH", f"/vas/{second}", {"mode": 0o600})
    assert turns > 3
    assert (await answer).errno == "EACCES"


async def test_a_store_that_cannot_answer_is_eio(watched: Any) -> None:
    running_, store = watched()
    async with running_ as site:
        (pid, vid), (_, second) = await two(site)
        await write_each(site, pid, (1,))
        store.failure = StoreFailed("no disk")
        answer = await site.call("GET", f"/vas/{vid}/diff?other={second}")
        assert (answer.status, answer.errno) == (500, "EIO")
        store.failure = None
        assert await runs(site, f"/vas/{vid}/diff?other={second}") == [(1, 2, "changed")]


async def test_what_is_not_durable_yet_is_waited_for(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        (pid, vid), (_, second) = await two(site)
        store.hold()
        writing = asyncio.create_task(site.write(pid, BASE, b"pending"))
        asking = asyncio.create_task(runs(site, f"/vas/{vid}/diff?other={second}"))
        await asyncio.sleep(0.05)
        assert not asking.done()
        store.release()
        await writing
        assert await asking == [(0, 1, "changed")]


def test_over_a_real_connection(tmp_path: Path) -> None:
    with Service(tmp_path / "data") as service:
        http = service.http()
        vids = [
            http.call("POST", "/v1/vas", {"name": name, "mode": 0o600}, status=201).json["id"]
            for name in "ab"
        ]
        answer = http.call("GET", f"/v1/vas/{vids[0]}/diff?other={vids[1]}", status=200)
        assert answer.json == {"items": [], "next": None}
