"""From the first moment on somebody answers: that the service is opening, until its store is recovered; then the gate.

Recovery runs in a thread. What it has opened is closed again when SIGTERM comes meanwhile; a step that takes longer than
the grace of a shutdown is left as a crash would leave it, which loses nothing.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.types import Receive, Scope, Send

from app.errors import Header, HttpProblem, answer_of
from app.gate import Gate
from app.http.headers import security_headers, with_common
from app.serving.metrics import MEDIA_METRICS, Metrics

T = TypeVar("T")
Opener = Callable[[Metrics, Callable[[], None]], Gate]
"""Makes the gate, in a thread; calls what it is given between its steps, which raises LeavingError when there is no use
in going on."""

TEXT: Final[Header] = (b"content-type", b"text/plain; charset=utf-8")
METRICS: Final[Header] = (b"content-type", MEDIA_METRICS.encode("ascii"))
RETRY: Final[Header] = (b"retry-after", b"1")

log = logging.getLogger("everspace.opening")


class LeavingError(Exception):
    """The service is to stop before it has started."""


class Opening:
    """The ASGI application. `failure` is what kept the service from starting. `on_ready` is called on the event loop's thread."""

    def __init__(
        self,
        opener: Opener,
        metrics: Metrics,
        grace: float,
        on_ready: Callable[[], None],
    ) -> None:
        self.failure: BaseException | None = None
        self._opener = opener
        self._metrics = metrics
        self._grace = grace
        self._on_ready = on_ready
        self._gate: Gate | None = None
        self._leaving = False
        self._answer: Callable[[Scope, Receive, Send], Awaitable[None]] = self._not_yet

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request, or the lifespan."""
        return self._answer(scope, receive, send)

    def drain(self) -> None:
        """Take no further calls: the service is about to stop. From signal handlers, too."""
        self._leaving = True
        if self._gate is not None:
            self._gate.service.drain()

    async def _not_yet(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._say(scope, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open and close with the server."""
        await receive()
        opening = asyncio.create_task(self._open())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.drain()
        await asyncio.wait({opening}, timeout=self._grace)
        if not opening.done():
            log.warning("left while the store was being opened")
            opening.cancel()
            await asyncio.wait({opening})
        if self._gate is not None:
            await self._gate.service.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        try:
            gate = await in_thread(lambda: self._opener(self._metrics, self._go_on))
            self._gate = gate
            await gate.service.start()
        except LeavingError:
            return
        except Exception as failure:  # noqa: BLE001 - whoever runs the server is to raise it
            self.failure, self._gate = failure, None
            return
        if self._leaving:
            gate.service.drain()
            return
        self._answer = gate
        self._on_ready()

    def _go_on(self) -> None:
        if self._leaving:
            raise LeavingError

    async def _say(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        if path == "/healthz":
            status, body, headers = 200, b"ok\n", [TEXT]
        elif path == "/metrics":
            status, body, headers = 200, self._metrics.text(), [METRICS]
        else:
            word = "shutting down" if self._leaving else "recovering"
            status, body, headers = answer_of(HttpProblem(503, f"the service is {word}", RETRY))
        headers.append((b"content-length", b"%d" % len(body)))
        fields = with_common(headers, security_headers(scope))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def in_thread(call: Callable[[], T]) -> T:
    """The result of `call`, run in a thread that the process does not wait for when it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(value: T | None, failure: BaseException | None) -> None:
        if done.cancelled():
            return
        if failure is not None:
            done.set_exception(failure)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, value, failure)

    threading.Thread(target=run, name="everspace-opening", daemon=True).start()
    return await done
