"""Logs: one line each on standard error, as JSON or for people, whoever writes it; and a line for each request.

Everything goes through `configure`'s one handler. Tokens are struck out of whatever is written: no line should have
any, and this is for the one that nobody thought of.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.http.exchange import NOBODY, Exchange
from app.http.secrecy import struck
from app.settings import Settings
from everspace.wire import HEADER_REQUEST_ID

AUTO: Final = "auto"
JSON: Final = "json"
REQUEST: Final = "request"
"""The message of a request's line, and the attribute of its record that has the rest."""
PATH_MAX: Final = 256
"""Characters of a request's path that are logged; queries never are."""
REQUEST_ID: Final = HEADER_REQUEST_ID.lower().encode("ascii")
TALKATIVE: Final = ("alembic", "asyncio", "opentelemetry", "urllib3", "uvicorn")
"""Libraries whose information is of use to those who look for defects only."""

log = logging.getLogger("everspace.request")


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send everything that is logged to `stream`, by default standard error, as it is set."""
    stream = stream or sys.stderr
    for_people = settings.log_format == "console" or (settings.log_format == AUTO and stream.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        flatten,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    ends: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if for_people
        else [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    )
    formatter = (structlog.stdlib.ProcessorFormatter if for_people else JsonLines)(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends, strike_out],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    level = logging.getLevelName(settings.log_level.upper())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING if level > logging.DEBUG else level)
    logging.captureWarnings(True)


class JsonLines(structlog.stdlib.ProcessorFormatter):
    """Records as JSON. Those of requests, which are many, go a short way: a quarter of the time."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = record.__dict__.get(REQUEST)
        if told is None:
            return super().format(record)
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line = {"level": record.levelname.lower(), "logger": record.name, **told}
        line |= {"time": time.replace("+00:00", "Z"), "message": record.msg}
        return without_tokens(json.dumps(line))


def flatten(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: what belongs to a request stands in the line as everything else does."""
    event.update(event.pop(REQUEST, {}))
    return event


def strike_out(_: WrappedLogger, __: str, line: str | EventDict) -> str:
    """The last processor: the line without tokens."""
    return without_tokens(str(line))


def without_tokens(line: str) -> str:
    """The line, tokens struck out. Hardly any has one, which takes less time to see than to search for where."""
    if "evs_" in line or "bearer" in line.lower():
        return struck(line)
    return line


def log_request(exchange: Exchange, seconds: float) -> None:
    """An observer of the gate: a request is over. Those that failed are warnings, all others information."""
    level = logging.WARNING if exchange.status == 500 else logging.INFO
    if not log.isEnabledFor(level):
        return
    scope = exchange.scope
    fields = {
        "request_id": exchange_id(exchange),
        "method": scope["method"],
        "path": scope["path"][:PATH_MAX],
        "call": exchange.operation or None,
        "status": exchange.status or None,
        "errno": exchange.errno,
        "ms": round(seconds * 1000, 3),
        "uid": None if exchange.cred is NOBODY else exchange.cred.uid,
        "peer": (scope.get("client") or (None,))[0],
    }
    record = logging.LogRecord(log.name, level, __file__, 0, REQUEST, (), None)
    record.__dict__[REQUEST] = {name: value for name, value in fields.items() if value is not None}
    log.handle(record)


def exchange_id(exchange: Exchange) -> str:
    """The id that the answer carries, empty if there is none yet."""
    return next((value.decode("ascii") for name, value in exchange.common if name == REQUEST_ID), "")
