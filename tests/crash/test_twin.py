"""The service above a store whose n-th operation fails, n = 1, 2, … until nothing does: the call that meets it is
refused and changes nothing, the next attempt succeeds, and in the end everything is there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.main import open_parts
from app.settings import Settings
from engine.check import check
from engine.credentials import ROOT
from storage.errors import StoreError, StoreFailed, StoreFull
from storage.failpoints import fail_at
from storage.faulty import FaultyStore
from storage.upkeep.fsck import check_dir
from storage.writer import Writer
from tests.app.support import BASE, PAGE, Answer, Site, running

OPTIONS: dict[str, Any] = {"memory": 1 << 20}
AREA = BASE + 64 * PAGE
REFUSALS = {"ENOSPC": 507, "EIO": 500}


class Story:
    """Calls of every kind that changes something durable; each is made again once when the store refuses it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.refusals = 0

    async def made(self, call: Callable[[], Awaitable[Answer]]) -> Any:
        """The answer of a call that succeeds, at the second attempt if not at the first."""
        before = self.seen()
        answer = await call()
        if answer.status >= 500:
            assert REFUSALS[str(answer.errno)] == answer.status, answer
            await self.site.service.executor.settled()
            assert self.seen() == before, "a refused call has changed something"
            assert list(check(self.site.service.machine)) == []
            self.refusals += 1
            answer = await call()
        assert answer.status < 300, answer
        self.site.service.machine.objects.evict(100)
        return answer.json if answer.headers.get("content-type") == "application/json" else answer.body

    def seen(self) -> object:
        """What the machine knows of spaces, segments and tasks."""
        machine = self.site.service.machine
        spaces = machine.vas_list(ROOT)
        return (
            spaces,
            machine.vas_seg_list(ROOT),
            [(told.pid, told.attachments, told.threads) for told in machine.tasks(ROOT)],
            [machine.vas_roots(ROOT, space.vid) for space in spaces],
        )

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        return await self.made(lambda: self.site.call(method, path, body))

    async def write(self, pid: int, addr: int, data: bytes, **query: Any) -> None:
        await self.made(lambda: self.site.write(pid, addr, data, **query))

    async def read(self, pid: int, addr: int, length: int) -> bytes:
        found: bytes = await self.made(lambda: self.site.read(pid, addr, length))
        return found

    async def tell(self) -> object:
        """The story; what is there in the end."""
        vid = (await self.call("POST", "/vas", {"name": "first", "mode": 0o600, "sharing": "shared"}))["id"]
        area = {"name": "area", "start": hex(AREA), "end": hex(AREA + 8 * PAGE), "mode": 0o600}
        sid = (await self.call("POST", "/segments", area))["id"]
        await self.call("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
        pid = (await self.call("POST", "/tasks", {}))["pid"]
        await self.call("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        await self.call("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        window = {"addr": BASE, "length": 8 * PAGE, "prot": 3, "flags": 0x32}
        await self.call("POST", f"/tasks/{pid}/mmap", window)
        await self.write(pid, BASE, b"one" * 3000)
        await self.write(pid, AREA, b"two" * 3000, durability="relaxed")
        await self.call("POST", f"/tasks/{pid}/msync", {"addr": AREA, "length": 8 * PAGE})
        copy = (await self.call("POST", f"/vas/{vid}/clone", {"name": "copy"}))["id"]
        await self.write(pid, BASE + PAGE, b"three")
        await self.call("PUT", f"/vas/{vid}/roots/head", {"addr": hex(BASE)})
        calls = [
            {"call": "write", "args": {"addr": hex(BASE + 2 * PAGE), "data": "Zm91cg=="}},
            {"call": "write", "args": {"addr": hex(AREA + 2 * PAGE), "data": "Zml2ZQ=="}},
        ]
        await self.call("POST", f"/tasks/{pid}/batch?atomic=1", {"calls": calls})
        await self.call("POST", f"/tasks/{pid}/munmap", {"addr": BASE + 5 * PAGE, "length": PAGE})
        assert (await self.read(pid, BASE, 3)) == b"one"
        gone = (await self.call("POST", f"/vas/{copy}/clone", {"name": "gone"}))["id"]
        await self.call("DELETE", f"/vas/{gone}")
        await self.call("PATCH", f"/vas/{copy}", {"mode": 0o640})
        await self.call("DELETE", f"/tasks/{pid}")
        return await contents(self)


async def contents(story: Story) -> object:
    """All that can be read."""
    found: list[object] = []
    for item in (await story.call("GET", "/vas"))["items"]:
        pid = (await story.call("POST", "/tasks", {}))["pid"]
        await story.call("PUT", f"/tasks/{pid}/vas/{item['id']}", {"type": "ro"})
        await story.call("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": item["id"]})
        pages = [await story.read(pid, addr + n * PAGE, PAGE) for addr in (BASE, AREA) for n in range(5)]
        roots = await story.call("GET", f"/vas/{item['id']}/roots")
        found.append((item["name"], item["mode"], pages, roots))
        await story.call("DELETE", f"/tasks/{pid}")
    return found


async def told(data_dir: Path, *, failing: int, error: type[StoreError]) -> tuple[object, int, int]:
    """(what is there in the end, refusals, operations) of a story whose store fails at one operation."""
    parts = open_parts(Settings(data_dir=data_dir, **OPTIONS))
    parts.writer.close()
    store = FaultyStore(parts.store, [failing], error)
    try:
        async with running(data_dir, replace(parts, store=store, writer=Writer(store)), **OPTIONS) as site:
            story = Story(site)
            found = await story.tell()
            refusals = story.refusals
    except StoreError:
        assert failing == 1, "only the first operation, load, keeps a service from starting"
        return None, 1, store.operations
    assert list(check_dir(data_dir)) == []
    async with running(data_dir, **OPTIONS) as site:
        assert await contents(Story(site)) == found, "after a restart"
    return found, refusals, store.operations


@pytest.mark.slow
async def test_the_nth_operation_of_the_store_fails(tmp_path: Path) -> None:
    """Full disks and errors by turns."""
    wanted, refusals, operations = await told(tmp_path / "0", failing=0, error=StoreFailed)
    assert refusals == 0
    met = 0
    for n in range(1, operations + 1):
        found, refusals, _ = await told(tmp_path / str(n), failing=n, error=(StoreFailed, StoreFull)[n % 2])
        assert found in (wanted, None)
        met += refusals
    assert met > 20
    print(f"{operations} operations, {met} refusals")


@pytest.mark.slow
async def test_the_nth_seam_fails(tmp_path: Path) -> None:
    """In the midst of the store's own commits."""
    async with running(tmp_path / "0", **OPTIONS) as site:
        wanted = await Story(site).tell()
    met = 0
    for n in count(1, 3):
        async with running(tmp_path / str(n), **OPTIONS) as site:
            story = Story(site)
            with fail_at(n, StoreFailed("made to fail")) as armed:
                found = await story.tell()
            assert found == wanted
            met += story.refusals
        assert list(check_dir(tmp_path / str(n))) == []
        if armed.reached < n:
            break
    assert met > 10
