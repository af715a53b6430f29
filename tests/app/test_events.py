"""The stream of events: what is told, when, to whom, in which order; resuming, falling behind, ending."""

import asyncio
import http.client
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from app import events
from app.accounts import open_accounts
from app.api import events as route
from engine.notes import KINDS
from storage.errors import StoreFailed
from tests.app.support import BASE, PAGE, Site, held, running, until
from tests.conformance.support.service import Service

RW_FILE = {"type": "rw"}


@pytest.fixture(autouse=True)
def _quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats tell where a reader stands who is told of nothing."""
    monkeypatch.setattr(route, "HEARTBEAT_S", 0.02)


@dataclass
class Event:
    """One event as it was sent."""

    id: str
    kind: str
    data: dict[str, Any]


@dataclass
class Follower:
    """A client of the stream. While `reads` is not set it takes nothing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    ended: bool = False
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> list[Event]:
        found = []
        for block in self.text.split("\n\n")[:-1]:
            lines = [line.partition(": ") for line in block.split("\n")]
            parts = {name: value for name, _, value in lines}
            if "data" in parts:
                found.append(Event(parts["id"], parts["event"], json.loads(parts["data"])))
                assert found[-1].data["kind"] == found[-1].kind
        return found

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def position(self) -> str:
        """The id that it would name to go on."""
        found = [line[4:] for line in self.text.split("\n") if line.startswith("id: ")]
        return found[-1] if found else ""

    async def run(self, site: Site, query: str, headers: dict[str, str], token: str, method: str) -> None:
        """Until the stream ends, or `gone` is set."""
        begun = False

        async def receive() -> Message:
            nonlocal begun
            if not begun:
                begun = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await self.reads.wait()
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            self.text += message["body"].decode("ascii")
            self.ended = not message.get("more_body", False)

        fields = {"authorization": f"Bearer {token or site.token}", **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": "/v1/events",
            "raw_path": b"/v1/events",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
        await site.app(scope, receive, send)


@asynccontextmanager
async def following(
    site: Site, query: str = "", *, since: str = "", token: str = "", method: str = "GET", wait: bool = True
) -> AsyncIterator[Follower]:
    """A stream that is open, and left at the end."""
    client = Follower()
    client.reads.set()
    headers = {"last-event-id": since} if since else {}
    running_ = asyncio.create_task(client.run(site, query, headers, token, method))
    try:
        if wait:
            await until(lambda: bool(client.position) or running_.done())
        yield client
    finally:
        client.gone.set()
        client.reads.set()
        await running_


async def told(site: Site, since: str, query: str = "", token: str = "") -> list[Event]:
    """Everything from `since` on until now."""
    last = site.service.events.id_of(site.service.events.last)
    async with following(site, query, since=since, token=token) as client:
        await until(lambda: client.position == last or (bool(client.events) and client.events[-1].id == last))
        return client.events


def now(site: Site) -> str:
    return site.service.events.id_of(site.service.events.last)


# -- what is told --------------------------------------------------------------------------------------------------


async def everything(site: Site) -> None:
    """At least one event of each kind."""
    pid, vid = await site.inside(pages=4)
    sid = await site.segment(start=BASE + 64 * PAGE)
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", RW_FILE)
    await site.write(pid, BASE + PAGE - 1, b"two pages")
    await site.write(pid, BASE + 64 * PAGE, b"segment")
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o640})
    await site.ok("PATCH", f"/segments/{sid}", {"mode": 0o640})
    await site.ok("PUT", f"/vas/{vid}/roots/top", {"addr": hex(BASE)})
    tid = (await site.ok("POST", f"/tasks/{pid}/threads"))["tid"]
    await site.ok("DELETE", f"/tasks/{pid}/threads/{tid}")
    child = (await site.ok("POST", f"/tasks/{pid}/fork"))["pid"]
    await site.ok("POST", f"/tasks/{child}/exec")
    await site.ok("DELETE", f"/tasks/{child}")
    copy = (await site.ok("POST", f"/vas/{vid}/clone", {"name": "copy"}))["id"]
    await site.ok("POST", f"/vas/{vid}/snapshot", {"name": "kept"})
    await site.ok("POST", f"/vas/{copy}/reset")
    await site.ok("DELETE", f"/vas/{copy}")
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 0})
    own = (await site.ok("POST", f"/tasks/{pid}/mmap", {"addr": 0x7000_0000_0000, "length": PAGE, "prot": 3, "flags": 0x32}))["addr"]  # fmt: skip
    for op in (4, 5):
        await site.ok("POST", f"/tasks/{pid}/mmview", {"op": op, "addr": own, "len": PAGE})
    view = (await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 0}))["value"]
    await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 3, "id": view})
    await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 6})
    await site.ok("POST", f"/tasks/{pid}/mmview", {"op": 1, "id": 0})
    second = await site.task(lease_s=5)
    slot = (await site.ok("POST", f"/tasks/{second}/new_as"))["value"]
    await site.ok("POST", f"/tasks/{second}/switch_as", {"n": slot})
    site.clock.now += 6
    await site.service.expire_leases()
    await site.ok("DELETE", f"/tasks/{pid}")
    await site.ok("DELETE", f"/vas/{vid}/segments/{sid}")
    await site.ok("DELETE", f"/segments/{sid}")
    await site.ok("DELETE", f"/vas/{vid}")


async def test_every_kind_is_told(site: Site) -> None:
    start = now(site)
    await everything(site)
    found = await told(site, start)
    assert KINDS.keys() - {event.kind for event in found} == set()
    numbers = [int(event.id.rpartition("-")[2]) for event in found]
    assert numbers == list(range(1, len(numbers) + 1)), "root sees them all"


async def test_what_an_event_says(site: Site) -> None:
    pid, vid = await site.inside(pages=4)
    start = now(site)
    await site.write(pid, BASE + PAGE - 1, b"two pages")
    await site.batch(
        pid,
        ("write", {"addr": hex(BASE), "data": "AAAA"}),
        ("write", {"addr": hex(BASE + 3 * PAGE), "data": "AAAA"}),
        query="?atomic=true",
    )
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o640})
    await site.ok("DELETE", f"/tasks/{pid}")
    await site.ok("DELETE", f"/vas/{vid}")
    found = [event.data for event in await told(site, start)]
    assert found == [
        {"kind": "space.written", "vid": vid, "ranges": [{"start": hex(BASE), "end": hex(BASE + 2 * PAGE)}]},
        {
            "kind": "space.written",
            "vid": vid,
            "ranges": [
                {"start": hex(BASE), "end": hex(BASE + PAGE)},
                {"start": hex(BASE + 3 * PAGE), "end": hex(BASE + 4 * PAGE)},
            ],
        },
        {"kind": "space.changed", "vid": vid, "name": "space", "mode": 0o640},
        {"kind": "space.detached", "vid": vid, "pid": pid},
        {"kind": "task.exited", "pid": pid, "uid": 0, "name": f"task-{pid}"},
        {"kind": "space.deleted", "vid": vid, "name": "space"},
    ]


async def test_nothing_is_told_before_it_is_durable_and_nothing_that_is_lost(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store), following(site) as client:
        pid, vid = await site.inside(pages=1)
        await until(lambda: client.kinds[-1:] == ["space.regions"])
        before = len(client.events)
        store.hold()
        first = asyncio.create_task(site.write(pid, BASE, b"durable"))
        second = asyncio.create_task(site.call("POST", "/tasks", {}))
        third = asyncio.create_task(site.call("POST", "/vas", {"name": "later", "mode": 0o600}))
        await until(lambda: site.service.executor.unsettled == 3)
        await asyncio.sleep(0.02)
        assert len(client.events) == before
        store.release()
        await asyncio.gather(first, second, third)
        await until(lambda: len(client.events) == before + 3)
        assert client.kinds[before:] == ["space.written", "task.spawned", "space.created"]
        store.failure = StoreFailed("no disk")
        for call in (site.write(pid, BASE, b"lost"), site.call("DELETE", f"/tasks/{pid}")):
            await call
        store.failure = None
        assert (await site.call("POST", "/vas", {"name": "later", "mode": 0o600})).errno == "EEXIST"
        await site.ok("GET", f"/vas/{vid}")
        await site.space("last")
        await until(lambda: client.kinds[-1] == "space.created" and client.events[-1].data["name"] == "last")
        kinds = client.kinds[before + 3 :]
        assert "space.written" not in kinds


async def test_what_is_written_relaxed_is_told_when_it_is_durable(site: Site) -> None:
    pid, _ = await site.inside(pages=2)
    start = now(site)
    await site.write(pid, BASE, b"relaxed", durability="relaxed")
    assert await told(site, start) == []
    await site.ok("POST", f"/tasks/{pid}/msync", {})
    assert [event.kind for event in await told(site, start)] == ["space.written"]


async def test_a_write_is_told_once_and_before_what_was_made_of_it(site: Site) -> None:
    """Also when the call behind it asks for everything to be durable, and the write is on its way to that."""
    pid, vid = await site.inside(pages=2)
    start = now(site)
    data = {"addr": BASE, "data": "YWJj"}
    await site.batch(
        pid, ("write", data), ("msync", {}), ("write", data), ("vas_clone", {"vid": vid, "name": "c"})
    )
    kinds = [event.kind for event in await told(site, start)]
    assert kinds[:3] == ["space.written", "space.written", "space.cloned"]
    assert kinds.count("space.written") == 2


async def test_a_call_that_fails_and_a_batch_that_is_undone_are_not_told(site: Site) -> None:
    pid = await site.task()
    start = now(site)
    make = ("vas_create", {"name": "twice", "mode": 0o600})
    assert (await site.batch(pid, make, make, query="?atomic=true")).errno == "EEXIST"
    assert (await site.call("DELETE", "/vas/77")).errno == "EINVAL"
    await site.batch(pid, make, make)
    assert [event.kind for event in await told(site, start)] == ["space.created"]


# -- which and to whom -----------------------------------------------------------------------------------------------


async def test_filters_name_kinds_and_ids(site: Site) -> None:
    start = now(site)
    pid, vid = await site.inside(pages=1)
    sid = await site.segment(start=BASE + 64 * PAGE)
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", RW_FILE)
    await site.space("other")

    async def kinds(query: str) -> list[str]:
        return [event.kind for event in await told(site, start, query)]

    assert await kinds("kind=space.created,task.") == ["space.created", "task.spawned", "space.created"]
    assert await kinds(f"pid={pid}") == ["task.spawned", "space.attached", "thread.switched"]
    assert await kinds(f"sid={sid}") == ["segment.created", "segment.attached"]
    assert await kinds(f"vid={vid}&kind=segment") == ["segment.attached"]
    assert await kinds(f"vid={vid}&pid={pid}&kind=space.") == ["space.attached"]
    assert await kinds("vid=12345") == []
    for bad in ("vid=x", "pid=", "since=7", "since=", "since=a-b", "vid=1&vid=2"):
        answer = await site.call("GET", f"/events?{bad}")
        assert (answer.status, answer.errno) == (400, "EINVAL"), bad


async def test_who_may_not_read_is_not_told_of_bytes_regions_and_roots(site: Site) -> None:
    ada, bob, start = site.account(1001, 500), site.account(1002, 500), now(site)
    vid = (await site.ok("POST", "/vas", {"name": "ada's", "mode": 0o640}, token=ada))["id"]
    pid = (await site.ok("POST", "/tasks", {}, token=ada))["pid"]
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", RW_FILE, token=ada)
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid}, token=ada)
    await site.mmap(pid, 1)
    await site.write(pid, BASE, b"hers")
    await site.ok("PUT", f"/vas/{vid}/roots/top", {"addr": hex(BASE)}, token=ada)

    async def seen(token: str) -> set[str]:
        return {event.kind for event in await told(site, start, token=token)}

    public = {"space.created", "space.attached"}
    bytes_ = {"space.regions", "space.written", "space.root"}
    hers = {"task.spawned", "thread.switched"}
    assert await seen(ada) == await seen(site.token) == public | bytes_ | hers
    assert await seen(bob) == public | bytes_
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o600}, token=ada)
    assert await seen(bob) == public | {"space.changed"}, "the mode that is settled when it is sent"
    await site.ok("DELETE", f"/tasks/{pid}", token=ada)
    await site.ok("DELETE", f"/vas/{vid}", token=ada)
    gone = {"space.changed", "space.detached", "space.deleted"}
    assert await seen(bob) == public | gone
    assert await seen(ada) == public | bytes_ | hers | gone | {"task.exited"}


async def test_a_revoked_token_ends_the_stream(site: Site) -> None:
    token = site.account(1001)
    async with following(site, token=token) as client:
        await site.space("first")
        await until(lambda: client.kinds == ["space.created"])
        accounts = open_accounts(site.service.settings)
        for known in accounts.list_tokens():
            if known.uid == 1001:
                accounts.revoke_token(known.id)
        accounts.close()
        await site.space("second")
        await until(lambda: client.ended)
        assert client.kinds == ["space.created"]
    assert (await site.call("GET", "/events", token=token)).status == 401


# -- going on ------------------------------------------------------------------------------------------------------


async def test_a_stream_begins_now_or_behind_an_id(site: Site) -> None:
    await site.space("before")
    async with following(site) as client:
        assert client.position == now(site)
        assert client.headers["content-type"] == "text/event-stream"
        await site.space("during")
        await until(lambda: client.kinds == ["space.created"])
        assert client.events[0].data["name"] == "during"
        position = client.events[0].id
    await site.space("after")
    assert [event.data["name"] for event in await told(site, position)] == ["after"]
    first = site.service.events.id_of(0)
    async with following(site, f"since={first}") as client:
        await until(lambda: len(client.events) == 3)
    async with following(site, f"since={first}", since=position) as client:
        await until(lambda: len(client.events) == 1)
        assert client.events[0].data["name"] == "after", "the header goes first"
    async with following(site, method="HEAD", wait=False) as client:
        await until(lambda: client.ended)
        assert (client.status, client.text) == (200, "")


async def test_what_is_not_there_any_more_is_told_as_lost(tmp_path: Path) -> None:
    async with running(tmp_path / "data", events=4) as site:
        for number in range(9):
            await site.space(f"space-{number}")
        instance = site.service.instance
        async with following(site, since=f"{instance}-3") as client:
            await until(lambda: len(client.events) == 5)
            lost, *rest = client.events
            assert (lost.kind, lost.id, lost.data) == (
                "lost",
                f"{instance}-5",
                {"kind": "lost", "since": f"{instance}-3"},
            )
            assert [event.id for event in rest] == [f"{instance}-{number}" for number in range(6, 10)]
        for elsewhere in ("feed-3", f"{instance}-10"):
            async with following(site, "kind=none", since=elsewhere) as client:
                await until(lambda: client.kinds == ["lost"])
        async with following(site, since=f"{instance}-5") as client:
            await until(lambda: len(client.events) == 4)
            assert "lost" not in client.kinds


async def test_a_reader_who_is_too_slow_loses_events_and_the_service_no_memory(tmp_path: Path) -> None:
    async with running(tmp_path / "data", events=64) as site, following(site) as client:
        pid, _ = await site.inside(pages=1)
        await until(lambda: client.kinds[-1:] == ["space.regions"])
        client.reads.clear()

        async def store(count: int) -> None:
            calls = [("write", {"addr": hex(BASE), "data": "AAAAAAAA"})] * count
            assert (await site.batch(pid, *calls)).status == 200

        tracemalloc.start()
        try:
            await store(2000)
            await store(1)  # the writer lets go of the group before
            before = tracemalloc.get_traced_memory()[0]
            await store(2000)
            await store(1)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 300_000  # the events would be several times that
        client.reads.set()
        await until(lambda: client.position == now(site))
        assert client.kinds.count("lost") == 1
        ids = [int(event.id.rpartition("-")[2]) for event in client.events]
        assert ids == sorted(ids)
        assert ids[-64:] == list(range(ids[-1] - 63, ids[-1] + 1))
        await store(1)
        await until(lambda: client.position == now(site))
        assert client.kinds.count("lost") == 1


async def test_a_quiet_stream_beats_and_tells_where_to_go_on(site: Site) -> None:
    async with following(site, "kind=segment.") as client:
        begin = client.position
        await until(lambda: client.text.count(": heartbeat\n\n") >= 2)
        assert client.position == begin
        await site.space("not for this reader")
        await until(lambda: client.position == now(site))
        assert client.events == []


async def test_streams_rest_between_events_so_that_many_do_not_take_all_the_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "HEARTBEAT_S", 3600.0)
    for name in ("PACE_S", "PACE_MAX_S"):
        monkeypatch.setattr(events, name, 3600.0)
    async with following(site) as client:
        await site.space("first")
        await until(lambda: client.kinds == ["space.created"])
        for number in range(3):
            await site.space(f"later-{number}")
        assert client.kinds == ["space.created"]
        site.service.drain()
        await until(lambda: client.ended)
        assert len(client.events) == 4, "the end of the service waits for nobody's rest"


# -- ending ----------------------------------------------------------------------------------------------------------


async def test_streams_are_limited_and_given_back(tmp_path: Path) -> None:
    async with running(tmp_path / "data", event_streams=2) as site:
        async with following(site), following(site):
            answer = await site.call("GET", "/events")
            assert (answer.status, answer.errno) == (429, "EAGAIN")
            assert "everspace_event_streams 2" in site.service.metrics_text()
        assert site.service.events.streams == 0
        async with following(site) as client:
            assert client.status == 200
    async with running(tmp_path / "data", event_streams=0) as site:
        assert (await site.call("GET", "/events")).errno == "EAGAIN"


async def test_a_service_that_stops_ends_its_streams(site: Site) -> None:
    async with following(site) as client:
        await site.space("last")
        site.service.drain()
        await until(lambda: client.ended)
        assert client.kinds == ["space.created"], "what was published is told first"
    assert (await site.call("GET", "/events")).status == 503


async def test_a_defect_in_telling_hurts_no_call(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> list[Any]:
        raise KeyError("a defect")

    site.service.events._chronicle.notes_of = broken  # type: ignore[method-assign,assignment]
    vid = await site.space("untold")
    assert (await site.ok("GET", f"/vas/{vid}"))["name"] == "untold"
    assert "cannot be told" in caplog.text


# -- over a real connection ------------------------------------------------------------------------------------------


def test_a_real_stream_from_its_head_to_the_end_of_the_service(tmp_path: Path) -> None:
    service = Service(tmp_path / "data").start()
    try:
        token = service.root_token
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("GET", "/v1/events?kind=space.", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["transfer-encoding"] == "chunked"
        http_ = service.http()
        http_.call("POST", "/v1/vas", {"name": "real", "mode": 0o600}, status=201)
        lines: list[str] = []
        while not lines or not lines[-1].startswith("data: "):
            lines.append(answer.readline().decode("ascii").rstrip("\n"))
        assert json.loads(lines[-1][6:])["name"] == "real"
        service.stop()
        assert answer.read() == b"\n", "the end of the event, and of the stream"
        connection.close()
    finally:
        service.close()
