"""Streams of events: resuming, falling behind, ending, limits; a real connection."""

import http.client
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from app import events
from app.api import events as route
from tests.app.following import following, now, told
from tests.app.metered import metric
from tests.app.support import BASE, Site, running, until
from tests.conformance.support.service import Service

RW_FILE = {"type": "rw"}


@pytest.fixture(autouse=True)
def _quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats tell where a reader stands who is told of nothing."""
    monkeypatch.setattr(route, "HEARTBEAT_S", 0.02)


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
            assert await metric(site, "event_streams") == 2
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
