"""Following /v1/events: all that was told between two moments, or what comes next on an open stream."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any, Self

from tests.conformance.support.http import Http
from tests.conformance.support.world import World

TIMEOUT_S = 30.0


@dataclass
class Event:
    """One event of a stream."""

    id: str = ""
    kind: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def about(self, **members: Any) -> bool:
        """Whether the event has these members with these values."""
        return all(self.data.get(name) == value for name, value in members.items())


class Stream:
    """GET /v1/events over a connection of its own. `position` is the id to go on from."""

    def __init__(self, world: World, account: str, query: str = "", since: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", world.site.service.port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {world.site.tokens[account]}", "Accept": "text/event-stream"}
        if since is not None:
            headers["Last-Event-ID"] = since
        self._connection.request("GET", f"/v1/events{query}", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self.position = ""
        while not self.position:
            self._block()

    def _block(self) -> Event | None:
        """One block of lines, up to the empty one."""
        event = Event(self.position)
        data: list[str] = []
        while line := self._response.readline().decode("utf-8").rstrip("\n"):
            name, _, value = line.partition(": ")
            if name == "id":
                self.position = event.id = value
            elif name == "event":
                event.kind = value
            elif name == "data":
                data.append(value)
        if not data:
            return None
        event.data = json.loads("\n".join(data))
        assert event.data["kind"] == event.kind
        return event

    def next(self) -> Event:
        """The next event; heartbeats are passed over."""
        while (event := self._block()) is None:
            pass
        return event

    def until(self, kind: str, **members: Any) -> list[Event]:
        """All events up to and with the first of this kind and these members."""
        found = [self.next()]
        while found[-1].kind != kind or not found[-1].about(**members):
            found.append(self.next())
        return found

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def told(world: World, account: str, since: str, query: str = "") -> list[Event]:
    """All that an account is told from `since` on until now, which a new space marks."""
    mark = world.root.vas_create(world.name(), 0o600)
    with Stream(world, account, query, since) as stream:
        found = stream.until("space.created", vid=mark)
    return found[:-1]


def now(world: World) -> str:
    """The id to name for what comes from now on."""
    with Stream(world, "root") as stream:
        return stream.position


def first_id(http: Http) -> str:
    """The id that a new stream begins with; closes the connection."""
    response = http.open("/v1/events", {})
    while not (line := response.readline().decode("ascii")).startswith("id: "):
        assert line, "the stream has no id"
    http.close()
    return line.removeprefix("id: ").strip()
