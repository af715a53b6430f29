"""Calls that wait for a lock: who makes them, and clients that leave meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Message

from tests.app.support import Answer, Site, until


async def lockable(site: Site, name: str = "space") -> int:
    """A new lockable space."""
    body = {"name": name, "mode": 0o600, "sharing": "lockable"}
    vid: int = (await site.ok("POST", "/vas", body))["id"]
    return vid


async def tasks(site: Site, *spaces: int, count: int = 2, type: str = "rw", **spawn: Any) -> list[int]:
    """Tasks that have the spaces attached."""
    pids = [await site.task(**spawn) for _ in range(count)]
    for pid in pids:
        for vid in spaces:
            await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": type})
    return pids


async def switch(site: Site, pid: int, vid: int, *, tid: int = 0, **wait: Any) -> Answer:
    return await site.call("PUT", f"/tasks/{pid}/threads/{tid or pid}/active", {"vid": vid, **wait})


async def inside(site: Site, pid: int, tid: int = 0) -> int:
    vid: int = (await site.ok("GET", f"/tasks/{pid}/threads/{tid or pid}/active"))["vid"]
    return vid


def waiting(site: Site) -> int:
    return len(site.service.machine.locks)


class Client:
    """A client that may leave while it waits for its answer."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.gone = asyncio.Event()

    async def send(self, method: str, path: str, body: Any) -> list[Message]:
        """What was answered, nothing if the client had left."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": f"/v1{path}",
            "raw_path": f"/v1{path}".encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"authorization", f"Bearer {self.site.token}".encode()),
                (b"content-type", b"application/json"),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        messages: list[Message] = [
            {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if not self.gone.is_set():
                sent.append(message)

        await self.site.app(scope, receive, send)
        return sent


@asynccontextmanager
async def started(site: Site, *calls: Coroutine[Any, Any, Any]) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """Calls that wait for a lock, each in the queue before the next one is made. None may be left over."""
    made = []
    for call in calls:
        before = waiting(site)
        made.append(asyncio.create_task(call))
        await until(lambda before=before: waiting(site) == before + 1)  # type: ignore[misc]
    try:
        yield made
    finally:
        for task in made:
            task.cancel()
        await asyncio.gather(*made, return_exceptions=True)
    assert waiting(site) == 0
