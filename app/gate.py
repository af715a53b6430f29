"""What every request passes: its id, the limits on its head, its token; then a hot route or the control routes."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.accounts.auth import insufficient, scope_of
from app.accounts.rates import RateRefusedError, Rates
from app.api.batch import BATCH
from app.api.cores import TASK_CORE, VAS_CORE
from app.api.events import EVENTS
from app.api.memory import MEMORY
from app.api.segment_data import SEGMENT_DATA
from app.errors import CLOSE, EIO, HttpProblem, answer_of, bug_answer
from app.http.exchange import SCOPE_EXCHANGE, ClientGoneError, Exchange
from app.http.headers import security_headers, with_common
from app.room import Room
from app.routes.context import SCOPE_CRED
from app.routes.hot import HotRoute
from app.routes.naming import Naming
from app.service import Service
from engine.errors import EPERM, ESRCH, EngineError
from everspace.wire import API_PREFIX, HEADER_INSTANCE, HEADER_REQUEST_ID

URL_BYTES_MAX: Final = 8 * 1024
HEADER_BYTES_MAX: Final = 32 * 1024
HEADERS_MAX: Final = 100
CONTROL_BODY_MAX: Final = 1024 * 1024
"""Bytes of a JSON body of the control routes; their arguments are few and short."""
REQUEST_ID_MAX: Final = 128

INSTANCE = HEADER_INSTANCE.lower().encode("ascii")
REQUEST_ID = HEADER_REQUEST_ID.lower().encode("ascii")

HOT_ROUTES: Final[dict[tuple[str, ...], HotRoute]] = {
    ("tasks", "memory"): MEMORY,
    ("tasks", "batch"): BATCH,
    ("tasks", "core"): TASK_CORE,
    ("vas", "core"): VAS_CORE,
    ("segments", "data"): SEGMENT_DATA,
    ("events",): EVENTS,
}
"""Byte routes /v1/NOUN/ID/WHAT, and of /v1/NOUN, served before FastAPI's router."""

Observer = Callable[[Exchange, float], None]
"""Told of an exchange that is over, and the seconds that it took."""

log = logging.getLogger("everspace.gate")


class BodyTooLargeError(HTTPException):
    """Raised out of `receive`; FastAPI lets its own HTTPException through where it wraps others."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"a body of more than {limit} bytes")


class Gate:
    """The ASGI application: `service` behind its routes. `control` is the FastAPI application with most of them.

    `naming` knows what a request is for that was refused before it came to its route.

    `observers` are told of each exchange when it is over, once, in their order. They must not wait; one that fails is
    logged, and the others are told all the same.
    """

    def __init__(self, service: Service, control: ASGIApp, naming: Naming) -> None:
        self.service = service
        self.control = control
        self._naming = naming
        self._numbers = itertools.count(1)
        self._instance = service.instance.encode("ascii")
        self.answers: Counter[int] = Counter()
        self.observers: list[Observer] = [service.auditing.observe]
        self.rates = Rates()
        self.room = Room(service.settings.bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan. WebSockets are refused."""
        if scope["type"] == "lifespan":
            await self.control(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        exchange = Exchange(scope, receive, send, [])
        exchange.room = self.room
        began = perf_counter()
        try:
            await self._answered(exchange)
        finally:
            exchange.over()
            if not exchange.operation:
                exchange.operation = self._naming.operation_of(exchange.method, scope["path"])
            self.answers[exchange.status] += 1
            self._tell(exchange, perf_counter() - began)

    async def _answered(self, exchange: Exchange) -> None:
        """Serve the exchange; whatever is refused or fails becomes its answer."""
        scope = exchange.scope
        try:
            await self._serve(exchange)
        except (EngineError, HttpProblem) as refused:
            exchange.errno = refused.errno if isinstance(refused, EngineError) else None
            status, body, headers = answer_of(refused)
            await exchange.reply(status, body, *headers)
        except ClientGoneError:
            log.debug("%s: the client left before its request was complete", scope["path"])
        except Exception:
            log.exception("%s %s failed, request %s", scope["method"], scope["path"], exchange.common)
            exchange.errno = EIO
            if not exchange.status:
                status, body, headers = bug_answer()
                await exchange.reply(status, body, *headers)

    def _tell(self, exchange: Exchange, seconds: float) -> None:
        for observer in self.observers:
            try:
                observer(exchange, seconds)
            except Exception:
                log.exception("an observer failed at request %s", exchange.common)

    async def _serve(self, exchange: Exchange) -> None:
        authorization, claimed = self._examine(exchange)
        scope = exchange.scope
        path: str = scope["path"]
        if not path.startswith(API_PREFIX + "/"):
            await self._pass_on(exchange)
            return
        service = self.service
        if not service.ready:
            raise HttpProblem(503, "the service is starting or shutting down", (b"retry-after", b"1"))
        await self._admit(exchange, authorization)
        parts = path.split("/")
        if (
            claimed is not None
            and claimed != self._instance
            and parts[2] in ("tasks", "proc")
            and len(parts) > 3
        ):
            raise EngineError(ESRCH, f"task {parts[3]:.20} belonged to an earlier start of the service")
        route = HOT_ROUTES.get(tuple(parts[2::2])) if len(parts) in (3, 5) else None
        if route is not None:
            await route.serve(exchange, service, "".join(parts[3:4]))
            return
        scope[SCOPE_CRED] = exchange.cred
        await self._pass_on(exchange)

    async def _admit(self, exchange: Exchange, authorization: bytes | None) -> None:
        """Who calls, and whether his token and his rate let him. Raises HttpProblem 401; EPERM; EAGAIN."""
        authenticator, quotas = self.service.authenticator, self.service.executor.quotas
        client = exchange.scope.get("client")
        bearer = await authenticator.bearer(authorization, client[0] if client else "")
        grant = exchange.grant = bearer.grant
        exchange.cred = bearer.cred
        exchange.watching = authenticator.watching
        quota = quotas.limits.get(bearer.cred.uid) if quotas.limits else None
        if quota is not None and quota.rate is not None:
            try:
                exchange.common += self.rates.admit(bearer.cred.uid, quota.rate)
            except RateRefusedError as refused:
                exchange.common += refused.headers
                raise
        needed = scope_of(exchange.method, exchange.scope["path"])
        if needed not in grant.scopes:
            exchange.common.append(insufficient(needed))
            raise EngineError(EPERM, f"the token has not the scope {needed!r}")

    def _examine(self, exchange: Exchange) -> tuple[bytes | None, bytes | None]:
        """Give the exchange its id and check the sizes of its head; the Authorization and instance headers."""
        scope = exchange.scope
        authorization = claimed = wanted_id = None
        size = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"authorization":
                authorization = value if authorization is None else b""
            elif name == INSTANCE:
                claimed = value
            elif name == REQUEST_ID:
                wanted_id = value
        if wanted_id is None or not _is_request_id(wanted_id):
            wanted_id = b"%s-%d" % (self._instance, next(self._numbers))
        exchange.common = [(INSTANCE, self._instance), (REQUEST_ID, wanted_id), *security_headers(scope)]
        if size > HEADER_BYTES_MAX or len(scope["headers"]) > HEADERS_MAX:
            raise HttpProblem(
                431, f"more than {HEADER_BYTES_MAX} bytes or {HEADERS_MAX} lines of headers", CLOSE
            )
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > URL_BYTES_MAX:
            raise HttpProblem(414, f"a target of more than {URL_BYTES_MAX} bytes", CLOSE)
        return authorization, claimed

    async def _pass_on(self, exchange: Exchange) -> None:
        """To the control routes, with a limit on the body and our headers on the answer. HEAD is GET without the body."""
        length = exchange.header(b"content-length")
        if length is not None and (not length.isdigit() or int(length[:19]) > CONTROL_BODY_MAX):
            raise EngineError("E2BIG", f"a JSON body of more than {CONTROL_BODY_MAX} bytes")
        head = exchange.method == "HEAD"
        taken = 0

        async def receive() -> Message:
            nonlocal taken
            message = await exchange.receive()
            taken += len(message.get("body", b""))
            if taken > CONTROL_BODY_MAX:
                raise BodyTooLargeError(CONTROL_BODY_MAX)
            return message

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = with_common(message.get("headers", ()), exchange.common)
                if message["status"] == 405:  # the router names the methods of one route, and HEAD never
                    allow = (b"allow", self._naming.allowed(scope["path"]).encode("ascii"))
                    message["headers"] = with_common([allow], message["headers"])
            elif head:
                message["body"] = b""
            await exchange.send(message)

        scope = {**exchange.scope, "method": "GET"} if head else exchange.scope
        scope[SCOPE_EXCHANGE] = exchange
        try:
            await self.control(scope, receive, send)
        finally:
            if exchange.status != 405:  # then the route is one of the path's for another method
                exchange.operation = getattr(scope.get("route"), "operation_id", None) or ""


def _is_request_id(text: bytes) -> bool:
    return 0 < len(text) <= REQUEST_ID_MAX and text.isascii() and text.decode("ascii").isprintable()
