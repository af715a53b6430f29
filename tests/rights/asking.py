"""One request over ASGI in anybody's name; of a stream without an end the client takes what is there and leaves."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from starlette.types import Message

from tests.app.support import Answer, Site


async def ask(
    site: Site,
    token: str | None,
    method: str,
    target: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    scheme: str = "http",
) -> Answer:
    """The whole answer. `body` is sent as JSON, bytes as they are."""
    fields, payload = dict(headers or {}), b""
    if isinstance(body, bytes):
        payload = body
        fields.setdefault("content-type", "application/octet-stream")
    elif body is not None:
        payload = json.dumps(body).encode()
        fields.setdefault("content-type", "application/json")
    if token is not None:
        fields["authorization"] = f"Bearer {token}"
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    waiting: list[Message] = [{"type": "http.request", "body": payload, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not waiting and path != "/v1/events":
            await asyncio.Event().wait()  # a client that waits for its answer
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await site.app(scope, receive, send)
    if not sent:
        return Answer(0, {}, b"")
    names = [name.decode() for name, _ in sent[0]["headers"]]
    assert len(set(names)) == len(names), f"a header is said twice: {names}"
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))
