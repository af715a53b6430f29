"""An answer that is sent piece by piece as it is made, and never held as a whole."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol

from starlette.types import Receive

from app.accounts.auth import CHALLENGE_INVALID
from app.errors import Header, HttpProblem
from app.http.exchange import SCOPE_EXCHANGE, ClientGoneError, Exchange
from engine.errors import EngineError

STALL_S: Final = 60.0
"""A client that takes nothing for so long is given up, and with it what the answer holds in memory."""


class Listener(Protocol):
    """A request, of which the body was read."""

    @property
    def receive(self) -> Receive:
        """What comes from the client next."""

    @property
    def scope(self) -> Any:
        """What came first."""


log = logging.getLogger("everspace.streaming")


async def stream(
    exchange: Exchange, size: int, pieces: AsyncGenerator[bytes, None], *headers: Header
) -> None:
    """200 with `size` bytes out of `pieces`, asked for one after the other; HEAD without them.

    What fails on the way cannot be told any more: the answer is cut off, so that the client sees fewer bytes than
    Content-Length promises. Raises ClientGoneError when the client leaves or takes nothing for `STALL_S`.
    """
    exchange.status = 200
    fields = [*headers, (b"content-length", b"%d" % size), *exchange.common]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": fields})
    if exchange.method == "HEAD":
        await exchange.send({"type": "http.response.body", "body": b""})
        return
    leaving = asyncio.create_task(leaves(exchange))
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if leaving.done():
                    raise ClientGoneError
                await send_piece(exchange, piece, more=True)
        await send_piece(exchange, b"", more=False)
    except EngineError as failure:
        log.error("%s: cut off: %s", exchange.scope["path"], failure)
    finally:
        leaving.cancel()


async def send_piece(exchange: Exchange, piece: bytes, *, more: bool) -> None:
    """One piece of a body. Raises ClientGoneError when the client takes nothing for `STALL_S`."""
    try:
        async with asyncio.timeout(STALL_S):
            await exchange.send({"type": "http.response.body", "body": piece, "more_body": more})
            await asyncio.sleep(0)  # a fast client must not keep the others waiting
    except TimeoutError:
        raise ClientGoneError from None


async def leaves(client: Listener) -> HttpProblem | None:
    """Returns when the client has closed the connection; or, with 401, when its token is good no longer."""
    exchange = client if isinstance(client, Exchange) else client.scope.get(SCOPE_EXCHANGE)
    if exchange is None or exchange.watching is None:
        await _disconnected(client)
        return None
    with exchange.watching(exchange.header(b"authorization")) as ended:
        gone = asyncio.create_task(_disconnected(client))
        try:
            await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not ended.done():
            return None
    return HttpProblem(401, "the token is revoked or has expired", CHALLENGE_INVALID)


async def _disconnected(client: Listener) -> None:
    while (await client.receive())["type"] != "http.disconnect":
        continue
