"""Calls at random inside two spaces, with commits that fail; after each restart regions and bytes are as they were."""

import random
from pathlib import Path
from typing import Any

import pytest

from engine.check import check
from storage.errors import StoreFull
from storage.upkeep.fsck import check_dir
from tests.app.support import BASE, PAGE, Site, held

PAGES = 64
REQUESTS = 120
STARTS = 3
ADVICE = (0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24)
OPTIONS: dict[str, Any] = {"memory": 2 << 20, "swap_bytes": 2 << 20}

Call = tuple[str, dict[str, Any]]


def any_call(rng: random.Random) -> Call:
    """A call on the window, with arguments that often mean something."""

    def place() -> int:
        return BASE + rng.randrange(PAGES) * PAGE

    length = rng.randrange(1, 16) * PAGE
    where = {"addr": place(), "length": length}
    calls: list[Call] = [
        ("mmap", {**where, "prot": rng.choice([3, 3, 1, 0]), "flags": rng.choice([0x32, 0x32, 0x31, 0x100022])}),
        ("munmap", where),
        ("mprotect", {**where, "prot": rng.choice([0, 1, 3])}),
        ("mremap", {"old_addr": place(), "old_size": length, "new_size": rng.randrange(1, 16) * PAGE,
                    "flags": rng.choice([0, 1, 3, 5, 7]), "new_addr": place()}),
        ("madvise", {**where, "advice": rng.choice(ADVICE)}),
        (rng.choice(["mlock", "munlock"]), where),
        ("write", {"addr": place() + rng.choice([0, 5, PAGE - 3]), "data": rng.choice(["aGVsbG8h", "d29ybGQh"]) * rng.choice([1, 900]),
                   "durability": rng.choice(["commit", "relaxed"])}),
    ]  # fmt: skip
    (chosen,) = rng.choices(calls, [20, 10, 10, 12, 12, 4, 32])
    return chosen


async def enter(site: Site, vid: int) -> int:
    """A task inside a space."""
    pid = await site.task()
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
    return pid


async def contents(site: Site) -> list[Any]:
    """Each space's regions, neighbours that are alike as one, and what they show."""
    found: list[Any] = []
    for vid in (1, 2):
        regions: list[dict[str, Any]] = []
        for region in (await site.ok("GET", f"/vas/{vid}/regions?limit=1000"))["items"]:
            last = regions[-1] if regions else None
            if (
                last
                and last["end"] == region["start"]
                and {**last, **{k: region[k] for k in ("start", "end")}} == region
            ):
                last["end"] = region["end"]
            else:
                regions.append(region)
        pid = await enter(site, vid)
        for region in regions:
            start, end = (int(region[edge], 16) for edge in ("start", "end"))
            answer = await site.read(pid, start, end - start)
            found.append((vid, region, answer.body if answer.status == 200 else answer.errno))
        await site.ok("DELETE", f"/tasks/{pid}")
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_a_restart_changes_no_region_and_no_byte(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    before: list[Any] = []
    for start in range(STARTS):
        async with held(tmp_path, **OPTIONS) as (site, store):
            if start == 0:
                for name in ("first", "second"):
                    vid = await site.space(name)
                    await site.ok("PATCH", f"/vas/{vid}", {"sharing": "shared"})
                sid = await site.segment(pages=8, start=BASE + 20 * PAGE)
                await site.ok("PUT", f"/vas/1/segments/{sid}", {"type": "rw"})
            else:
                assert await contents(site) == before
            pids = [await enter(site, vid) for vid in (1, 2, 1)]
            for _ in range(REQUESTS):
                store.failure = StoreFull("no space left on the disk") if rng.random() < 0.04 else None
                calls = [any_call(rng) for _ in range(rng.randrange(1, 6))]
                answer = await site.batch(rng.choice(pids), *calls, query=rng.choice(["", "?atomic=1"]))
                assert answer.status < 500 or answer.errno in ("ENOMEM", "ENOSPC"), answer
            store.failure = None
            await site.service.executor.settled()
            assert list(check(site.service.machine)) == []
            for pid in pids:
                await site.ok("DELETE", f"/tasks/{pid}")
            before = await contents(site)
        assert list(check_dir(tmp_path)) == []
