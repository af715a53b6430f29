"""Streams of events where room is short: how many may be open, and how far back one can go."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.support.calls import HttpTask
from tests.conformance.support.events import first_id
from tests.conformance.support.http import Problem
from tests.conformance.support.service import Service, until

KEPT = 4


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Service]:
    """A service that keeps few events and serves one stream."""
    settings = {"EVERSPACE_EVENTS": str(KEPT), "EVERSPACE_EVENT_STREAMS": "1"}
    with Service(tmp_path / "data", settings) as service:
        yield service
        assert "Traceback" not in service.said()


def opened(service: Service, headers: dict[str, str]) -> http.client.HTTPResponse:
    """A stream, as soon as there is a place: the service needs a moment to see that another was left."""
    found: list[http.client.HTTPResponse] = []

    def is_open() -> bool:
        response = service.http().open("/v1/events", headers)
        if response.status == 200:
            found.append(response)
        return bool(found)

    until("there is a place", is_open)
    return found[0]


def test_there_are_so_many_streams_and_no_more(small: Service) -> None:
    first = small.http()
    assert first.open("/v1/events", {}).status == 200
    with pytest.raises(Problem) as raised:
        small.http().call("GET", "/v1/events")
    assert raised.value.errno == "EAGAIN"
    first.close()
    opened(small, {})


def test_events_that_fell_out_are_told_as_lost_and_the_rest_follows(small: Service) -> None:
    start = first_id(small.http())
    task = HttpTask.spawn(small.http())
    vids = [task.vas_create(f"space {number}", 0o600) for number in range(KEPT + 6)]
    response = opened(small, {"Last-Event-ID": start})
    kinds: list[str] = []
    data: list[str] = []
    while len(kinds) < KEPT + 1:
        line = response.readline().decode("ascii")
        assert line
        if line.startswith("event: "):
            kinds.append(line.removeprefix("event: ").strip())
        elif line.startswith("data: "):
            data.append(line)
    assert kinds == ["lost", *["space.created"] * KEPT]
    assert f'"since": "{start}"' in data[0]
    assert f'"vid": {vids[-KEPT]}' in data[1]
