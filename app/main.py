"""The composition root: the one place that puts store, engine, accounts and routes together."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import openapi
from app.accounts.opening import open_accounts
from app.api import (
    account,
    attachments,
    clones,
    diff,
    docs,
    health,
    heaps,
    inactive,
    limits,
    mappings,
    personalities,
    proc,
    roots,
    segments,
    sys,
    tasks,
    vas,
)
from app.errors import E2BIG, EIO, HttpProblem, answer_of, bug_answer
from app.gate import HOT_ROUTES, Gate
from app.http.exchange import SCOPE_EXCHANGE, Exchange
from app.routes.naming import Naming
from app.routes.routing import refusal_of
from app.service import Parts, Service
from app.serving.logs import log_request
from app.serving.metrics import Metrics
from app.serving.telemetry import tracing_of
from app.settings import Settings
from engine.errors import EngineError
from engine.geometry import GEOMETRIES
from everspace.wire import API_PREFIX
from storage import open_store
from storage.directory import unusable
from storage.errors import StoreError, StoreUnusable
from storage.sql.accounts import AccountStore
from storage.swap_area import open_swap
from storage.writer import Writer

ROOT_TOKEN_FILE = "root.token"  # noqa: S105 - a file's name
NOUNS = (
    vas, inactive, roots, segments, clones, diff, heaps, tasks, attachments, mappings, personalities, limits, proc, sys,
    account,
)  # fmt: skip
ROUTERS = (*((API_PREFIX, noun.router) for noun in NOUNS), ("", health.router), ("", docs.router))
"""The control routes, each under its prefix."""


def nothing() -> None:
    """Between the steps of opening, where nobody wants to stop it."""


def create_app(
    settings: Settings,
    parts: Parts | None = None,
    clock: Callable[[], float] = time.monotonic,
    *,
    metrics: Metrics | None = None,
    go_on: Callable[[], None] = nothing,
) -> Gate:
    """The service as an ASGI application. Raises StoreError if the data directory cannot be used.

    Tests hand in `parts` of their own and a `clock` (seconds) for leases. `go_on` is called between the steps of
    opening, and may raise what ends it; nothing is left open then.
    """
    metrics = metrics or Metrics()
    tracing = tracing_of(settings)
    told = (metrics,) if tracing is None else (metrics, tracing)
    parts = parts or open_parts(settings, [each.committed for each in told], go_on)
    try:
        go_on()
        service = Service(settings, parts, clock)
    except BaseException:
        parts.close()
        raise
    if tracing is not None:
        service.at_end.append(tracing.close)
    gate = metrics.gate = Gate(service, control_app(service, metrics), Naming(ROUTERS, HOT_ROUTES))
    gate.observers += [*(each.observe for each in told), log_request]
    return gate


def open_parts(
    settings: Settings,
    on_commit: Sequence[Callable[[int, float], None]] = (),
    go_on: Callable[[], None] = nothing,
) -> Parts:
    """Open everything in the data directory; on a first start make it, with root's account and token.

    Each of `on_commit` is told of each commit: transactions, and seconds.
    """

    def committed(transactions: int, seconds: float) -> None:
        for tell in on_commit:
            tell(transactions, seconds)

    geometry = GEOMETRIES[settings.arch]
    root_token = settings.data_dir / ROOT_TOKEN_FILE
    try:
        begun = root_token.exists()
    except OSError as error:
        raise unusable(settings.data_dir, error) from error
    store = open_store(settings.data_dir, geometry, make=not begun)
    accounts, swap = None, None
    try:
        go_on()
        swap = open_swap(settings.data_dir, geometry.page_size, settings.swap_bytes)
        accounts = open_accounts(settings)
        _ensure_root(accounts, root_token)
    except BaseException:
        if accounts is not None:
            accounts.close()
        if swap is not None:
            swap.close()
        store.close()
        raise
    return Parts(store, Writer(store, on_commit=committed), accounts, swap)


def _ensure_root(accounts: AccountStore, file: Path) -> None:
    """Root's account and, unless the file is there, a token of it in `file`, readable by its owner only."""
    if file.exists():
        return
    known = any(account.uid == 0 for account in accounts.list_accounts())
    token = accounts.create_token(0) if known else accounts.create_account(0, [0], "root")
    temporary = file.with_suffix(".new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(token + "\n")
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError as error:
        raise StoreUnusable(f"{file} cannot be written: {error.strerror}") from error


class Control(FastAPI):
    """The control routes, which describe the hot routes too."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.document(self.title, self.routes, list(HOT_ROUTES.values()))
        return self.openapi_schema


def control_app(service: Service | None, metrics: Metrics | None = None) -> FastAPI:
    """The control routes. Without a service they only describe themselves."""
    control = Control(
        title="Everspace",
        version=openapi.API_VERSION,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        strict_content_type=False,
        telemetry=openapi.NO_TELEMETRY,
    )
    control.state.service = service
    control.state.metrics = metrics
    for prefix, router in ROUTERS:
        control.include_router(router, prefix=prefix)
    for kind, handler in (
        (EngineError, _on_refusal),
        (HttpProblem, _on_refusal),
        (StoreError, _on_store_error),
        (RequestValidationError, _on_invalid),
        (HTTPException, _on_http),
        (Exception, _on_bug),
    ):
        control.add_exception_handler(kind, handler)
    return control


async def _on_refusal(request: Request, refused: Exception) -> Response:
    return _refusal(request, refused)


async def _on_store_error(request: Request, failure: Exception) -> Response:
    return _refusal(request, EngineError(getattr(failure, "errno", EIO), str(failure)))


async def _on_invalid(request: Request, invalid: Exception) -> Response:
    return _refusal(request, refusal_of(invalid) if isinstance(invalid, RequestValidationError) else invalid)


async def _on_http(request: Request, refused: Exception) -> Response:
    if not isinstance(refused, HTTPException):
        return _refusal(request, refused)
    status = refused.status_code
    if status == 413:
        return _refusal(request, EngineError(E2BIG, refused.detail))
    if status == 400:
        return _refusal(request, EngineError("EINVAL", refused.detail))
    details = {404: f"no route {request.url.path:.200}", 405: f"{request.method:.20} is not for this route"}
    headers = [(name.lower().encode(), value.encode()) for name, value in (refused.headers or {}).items()]
    return _refusal(request, HttpProblem(status, details.get(status, refused.detail), *headers))


async def _on_bug(request: Request, bug: Exception) -> Response:
    return _refusal(request, bug)


def _refusal(request: Request, refused: Exception) -> Response:
    """The answer to a refusal, of which the exchange is told; what is none is a defect of the service."""
    exchange: Exchange | None = request.scope.get(SCOPE_EXCHANGE)
    if not isinstance(refused, EngineError | HttpProblem):
        status, body, headers = bug_answer()
        errno: str | None = EIO
    else:
        status, body, headers = answer_of(refused)
        errno = refused.errno if isinstance(refused, EngineError) else None
    if exchange is not None:
        exchange.errno = errno
    texts = {name.decode("ascii"): value.decode("ascii") for name, value in headers}
    return Response(body, status, texts)
