"""Traces by OpenTelemetry, for those who ask for them: a span for each request and each commit, sent by OTLP over HTTP.

On by `--otlp-endpoint` or OpenTelemetry's own variables; otherwise its libraries are not even loaded. A span is made when
what it is about is over, so that nothing has to be carried along; whoever sends `traceparent` finds it in his own trace.
"""

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from app.errors import CannotListenError
from app.http.exchange import NOBODY, Exchange
from app.http.secrecy import struck
from app.serving.logs import exchange_id
from app.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACES_PATH: Final = "/v1/traces"
SERVICE_NAME: Final = "everspaced"
PARENT: Final = (b"traceparent", b"tracestate")
FLUSH_S: Final = 2.0
"""How long the end of the service waits for a collector."""
NANOSECONDS: Final = 1_000_000_000


class Tracing:
    """Makes spans of what is over. `observe` is for the event loop's thread, `committed` for the writer's."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("everspace")
        self._extract = TraceContextTextMapPropagator().extract
        self._server = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def observe(self, exchange: Exchange, seconds: float) -> None:
        """A request is over."""
        end = time.time_ns()
        scope, status = exchange.scope, exchange.status
        carrier = {
            name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PARENT
        }
        attributes: dict[str, str | int] = {
            "http.request.method": scope["method"],
            "url.scheme": scope["scheme"],
            "url.path": struck(scope["path"])[:256],
            "http.response.status_code": status,
            "everspace.request_id": struck(exchange_id(exchange)),
        }
        if exchange.cred is not NOBODY:
            attributes["enduser.id"] = str(exchange.cred.uid)
        if exchange.errno is not None:
            attributes["error.type"] = exchange.errno
        span = self._tracer.start_span(
            exchange.operation or scope["method"],
            context=self._extract(carrier) if carrier else None,
            kind=self._server,
            attributes=attributes,
            start_time=end - int(seconds * NANOSECONDS),
        )
        if status >= 500:
            span.set_status(self._failed)
        span.end(end)

    def committed(self, transactions: int, seconds: float) -> None:
        """A commit was tried."""
        end = time.time_ns()
        span = self._tracer.start_span(
            "commit",
            attributes={"everspace.transactions": transactions},
            start_time=end - int(seconds * NANOSECONDS),
        )
        span.end(end)

    def close(self) -> None:
        """Send what is left, if somebody takes it soon."""
        sending = threading.Thread(target=self._provider.shutdown, name="everspace-traces", daemon=True)
        sending.start()
        sending.join(FLUSH_S)


def tracing_of(settings: Settings) -> Tracing | None:
    """As it is set, None for none. Raises CannotListenError where OpenTelemetry is not installed."""
    endpoint = settings.otlp_endpoint
    if endpoint is None and not any(os.environ.get(name) for name in VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise CannotListenError(
            f"traces need OpenTelemetry, the extra `telemetry` of everspace-server: {error}"
        ) from error
    resource = Resource.create({"service.name": SERVICE_NAME, "service.version": _version()})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    # Without an endpoint of ours the exporter takes OpenTelemetry's own variables, as it does for everything else.
    exporter = OTLPSpanExporter(None if endpoint is None else endpoint.rstrip("/") + TRACES_PATH)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _version() -> str:
    from importlib.metadata import version

    return version("everspace-server")
