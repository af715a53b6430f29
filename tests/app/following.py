"""A client of the stream of events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message

from tests.app.support import Site, until


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
