"""The stream of events: GET /v1/events as text/event-stream, resumable.

Rights are looked at when an event is sent: the token is resolved anew for each piece, and a stream whose token is
revoked or expires ends within moments.
"""

import asyncio
from typing import Any, Final

from app.errors import Header, HttpProblem
from app.events import Reader, Wanted
from app.http.exchange import Exchange
from app.http.streaming import leaves, send_piece
from app.routes import hot
from app.routes.hot import HotRoute
from app.service import Service
from engine.errors import EAGAIN, EngineError

HEARTBEAT_S = 15.0
"""How long a stream may be silent: then a comment is sent, so that connections that are dead are noticed."""
RETRY_MS: Final = 1000
"""How long a browser is to wait before it connects anew."""
HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),
)


async def follow(exchange: Exchange, service: Service, _: str) -> None:
    """200 with events until somebody ends it. EINVAL: no id of an event, no number; EAGAIN: too many streams."""
    events, query = service.events, exchange.query()
    given = (exchange.header(b"last-event-id") or b"").decode("latin-1")
    reader = events.reader(Wanted.of(query), given or query.get("since"))
    limit, cred, own = service.settings.event_streams, exchange.cred, events.streams_of[exchange.cred.uid]
    if events.streams >= limit or (own >= max(1, limit // 2) and not cred.is_root):
        raise EngineError(
            EAGAIN, f"{events.streams} streams of events are open already, {own} of uid {cred.uid}"
        )
    events.streams += 1
    events.streams_of[cred.uid] += 1
    leaving = asyncio.create_task(leaves(exchange))
    try:
        exchange.status = 200
        fields = [*HEADERS, *exchange.common]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": fields})
        if exchange.method != "HEAD":
            await _send_all(exchange, service, reader, leaving)
        await send_piece(exchange, b"", more=False)
    finally:
        leaving.cancel()
        events.streams -= 1
        events.streams_of[cred.uid] -= 1


async def _send_all(
    exchange: Exchange, service: Service, reader: Reader, leaving: "asyncio.Task[HttpProblem | None]"
) -> None:
    """Events as they come, until the client leaves, its token is revoked, or the service stops."""
    events, authorization = service.events, exchange.header(b"authorization")
    await send_piece(exchange, b"retry: %d\n%s" % (RETRY_MS, events.place(reader)), more=True)
    while not leaving.done():
        try:
            cred = await service.authenticator.credentials(authorization)
        except HttpProblem:
            return
        frames = events.read(reader, cred)
        if frames:
            await send_piece(exchange, frames, more=True)
        elif reader.position < events.last:
            await asyncio.sleep(0)
        elif events.closed:
            return
        else:
            news: set[asyncio.Future[Any]] = {events.news(), leaving}
            done, _ = await asyncio.wait(news, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await send_piece(exchange, b": heartbeat\n" + (events.place(reader) or b"\n"), more=True)


EVENTS = HotRoute(
    "/v1/events",
    {"GET": follow, "HEAD": follow},
    {
        "get": {
            "operationId": "events",
            "tags": ["events"],
            "summary": "Follow what changes",
            "description": "Server-sent events; docs/events.md names the kinds and their members.",
            "parameters": [
                hot.query(
                    "kind", {"type": "string"}, "Only kinds that begin so; several are parted by commas."
                ),
                hot.query("vid", hot.INTEGER, "Only events about this space."),
                hot.query("sid", hot.INTEGER, "Only events about this segment."),
                hot.query("pid", hot.INTEGER, "Only events about this task."),
                hot.query("since", {"type": "string"}, "As Last-Event-ID, which goes before it."),
                hot.header("Last-Event-ID", "Go on behind the event with this id."),
            ],
            "responses": {
                "200": {
                    "description": "Events, one after the other, each with `id`, `event` and `data`.",
                    "content": {
                        "text/event-stream": {
                            "schema": {"type": "string"},
                            "example": 'id: 5f0c-7\nevent: space.created\ndata: {"kind": "space.created", "vid": 1}\n\n',
                        }
                    },
                }
            },
        }
    },
)
