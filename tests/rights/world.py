"""A service without a disk, its accounts, and things of the owner's that others try to get at."""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from app.main import open_parts
from app.settings import Settings
from engine.credentials import ROOT
from engine.geometry import GEOMETRIES
from everspace.wire import RESOURCE_NAMES
from storage.memory import MemoryStore
from storage.writer import Writer
from tests.app.support import ANON_FIXED, BASE, PAGE, PROT_RW, Answer, Site, running
from tests.rights.asking import ask
from tests.rights.needs import ACCOUNTS, KNOWN, Caller
from tests.rights.tokens import expired_token, read_only_token, revoked_token

SECRET = b"the owner's own bytes"
HEAP = BASE + 0x1000_0000
FREE = BASE + 0x1800_0000
TEXT = 0x401000
"""A page of a task's own program."""
EVERYTHING = 0o666
TASKS = ("pid", "plain", "viewer", "slotted", "holder")


@dataclass
class Callers:
    """A running service and a token for each caller; `mine` is a task of each who may have one."""

    site: Site
    tokens: Mapping[Caller, str | None]
    mine: Mapping[Caller, int]
    numbers: "count[int]"

    async def send(self, caller: Caller, method: str, target: str, body: Any = None, **more: Any) -> Answer:
        """One request in the caller's name."""
        return await ask(self.site, self.tokens[caller], method, target, body, **more)


@asynccontextmanager
async def callers_of(data_dir: Path, **options: Any) -> AsyncIterator[Callers]:
    """A service over memory, with every kind of caller."""
    parts = open_parts(Settings(data_dir=data_dir, **options))
    parts.writer.close()
    parts.store.close()
    store = MemoryStore(GEOMETRIES["x86_64"])
    async with running(data_dir, replace(parts, store=store, writer=Writer(store)), **options) as site:
        tokens: dict[Caller, str | None] = {Caller.ROOT: site.token, Caller.NOBODY: None}
        for caller, (uid, gids) in ACCOUNTS.items():
            tokens[caller] = site.account(uid, *gids)
        owner = ACCOUNTS[Caller.OWNER][0]
        tokens[Caller.UNKNOWN] = "evs_" + "x" * 43
        tokens[Caller.REVOKED] = revoked_token(site, owner)
        tokens[Caller.EXPIRED] = expired_token(site, owner)
        tokens[Caller.READER] = read_only_token(site, owner)
        mine = {}
        for caller in KNOWN:
            mine[caller] = (await site.ok("POST", "/tasks", {"lease_s": 86400}, token=tokens[caller] or ""))[
                "pid"
            ]
        yield Callers(site, tokens, mine, count(1))


class World:
    """Things of OWNER's, all of one mode; `names` are their ids."""

    def __init__(self, callers: Callers, mode: int) -> None:
        self.callers = callers
        self.site = callers.site
        self.mode = mode
        self.tag = f"w{next(callers.numbers)}"
        self.names: dict[str, Any] = {
            "asset": "swagger-ui.css",
            "mode_file": "mode",
            "region_file": "region",
            "root": "first",
        }
        self._token = callers.tokens[Caller.OWNER] or ""

    async def make(self) -> "World":
        """Make them; the mode that is to be judged comes last."""
        names = self.names
        for task in TASKS:
            names[task] = (await self.ok("POST", "/tasks", {"lease_s": 86400}))["pid"]
        names["space_name"], names["segment_name"] = f"{self.tag}-space", f"{self.tag}-segment"
        names["vid"], names["loose"], names["sid"], names["free"], names["within"] = await self.batch(
            "pid",
            ("vas_create", {"name": names["space_name"], "mode": EVERYTHING, "sharing": "shared"}),
            ("vas_create", {"name": f"{self.tag}-loose", "mode": EVERYTHING, "sharing": "shared"}),
            self._segment(names["segment_name"], HEAP),
            self._segment(f"{self.tag}-free", FREE),
            self._segment(f"{self.tag}-within", FREE + 0x100_0000),
        )
        await self.batch(
            "pid",
            ("vas_seg_attach", {"vid": names["vid"], "sid": names["sid"], "type": "rw"}),
            ("vas_seg_attach", {"vid": names["loose"], "sid": names["within"], "type": "rw"}),
            ("vas_attach", {"vid": names["vid"], "type": "rw"}),
            ("vas_attach", {"vid": names["vid"], "type": "rw", "pid": names["holder"]}),
            ("vas_switch", {"vid": names["vid"]}),
            ("mmap", {"addr": hex(BASE), "length": 4 * PAGE, "prot": PROT_RW, "flags": ANON_FIXED}),
            ("vas_set_root", {"name": "first", "addr": hex(BASE)}),
        )
        (names["addr"],) = await self.batch("pid", ("vas_malloc", {"size": 32, "sid": names["sid"]}))
        secret = b64encode(SECRET).decode()
        _, _, thread, names["twin"], names["double"] = await self.batch(
            "pid",
            ("write", {"addr": hex(BASE), "data": secret}),
            ("write", {"addr": names["addr"], "data": secret}),
            ("thread", {}),
            ("vas_clone", {"vid": names["vid"], "name": f"{self.tag}-twin"}),
            ("vas_seg_clone", {"sid": names["sid"], "name": f"{self.tag}-double"}),
        )
        names["tid"] = thread["tid"]
        await self.batch("pid", ("vas_switch", {"vid": names["vid"], "tid": names["tid"]}))
        await self.batch("viewer", ("mmview_create", {}))
        await self.batch("slotted", ("new_as", {}))
        program = ("write", {"addr": hex(TEXT), "data": secret})
        _, names["image"] = await self.batch("plain", program, ("vas_fork", {"name": f"{self.tag}-image"}))
        await self.batch(
            "plain",
            *(
                ("vas_setattr", {"vid": names[name], "mode": self.mode})
                for name in ("vid", "loose", "twin", "image")
            ),
            *(
                ("vas_seg_setattr", {"sid": names[name], "mode": self.mode})
                for name in ("sid", "free", "within", "double")
            ),
        )
        return self

    def _segment(self, name: str, start: int) -> tuple[str, dict[str, Any]]:
        members = {
            "name": name,
            "start": hex(start),
            "end": hex(start + 4 * PAGE),
            "mode": EVERYTHING,
            "sharing": "shared",
        }
        return "vas_seg_create", members

    def path(self, text: str, caller: Caller = Caller.OWNER) -> str:
        """A path or a query with the names filled in."""
        own = {
            "mine": self.callers.mine.get(caller),
            "own_uid": ACCOUNTS.get(caller, (0,))[0],
            "new": self.new(),
        }
        return text.format_map({**self.names, **own})

    def new(self) -> str:
        """A name that nothing has."""
        return f"{self.tag}-{next(self.callers.numbers)}"

    def body(self, value: Any) -> Any:
        """A body with the names filled in; an id alone becomes a number."""
        if isinstance(value, dict):
            return {key: self.body(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.body(each) for each in value]
        if isinstance(value, str) and value.startswith("{"):
            return self.new() if value == "{new}" else self.names[value.strip("{}")]
        return value

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The owner's call that succeeds."""
        return await self.site.ok(method, path, body, token=self._token)

    async def batch(self, task: str, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """The owner's calls, which succeed."""
        listed = [{"call": name, "args": args} for name, args in calls]
        results = (await self.ok("POST", f"/tasks/{self.names[task]}/batch", {"calls": listed}))["results"]
        assert all("value" in result for result in results), results
        return [result["value"] for result in results]

    async def state(self) -> list[Any]:
        """All that there is of these things, and how much ever happened in the service."""
        names, service = self.names, self.site.service
        machine = service.machine
        found: list[Any] = [machine.read(ROOT, names["pid"], None, BASE, 4 * PAGE)]
        for name in ("vid", "loose", "twin", "image"):
            vid = names[name]
            found += [
                look(ROOT, vid) for look in (machine.vas_getattr, machine.vas_regions, machine.vas_segments)
            ]
            found += [
                look(ROOT, vid) for look in (machine.vas_roots, machine.vas_lineage, machine.lock_status)
            ]
            found.append(machine.spaces.registry.get(vid).memory.memory.version)
        for name in ("sid", "free", "within", "double"):
            sid = names[name]
            found += [machine.vas_seg_getattr(ROOT, sid), machine.vas_seg_lineage(ROOT, sid)]
            found += [machine.seg_version(ROOT, sid), machine.seg_read(ROOT, sid, 0, 4 * PAGE)]
        for name in TASKS:
            pid = names[name]
            found += [replace(machine.task_status(ROOT, pid), counters={}), machine.maps_text(ROOT, pid)]
            found += [machine.prlimit(ROOT, pid, resource) for resource in RESOURCE_NAMES]
        return [*found, service.events.last, service.executor.counts.commits, len(machine.tasks_table)]

    async def end(self) -> None:
        """Its tasks exit."""
        for name in TASKS:
            await self.site.call("DELETE", f"/tasks/{self.names[name]}")
