"""The options of the service: each by command line and, as EVERSPACE_<NAME>, by environment."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.sizes import size_of
from everspace.wire import BATCH_CALLS_MAX, BODY_BYTES_MAX, DEFAULT_HOST, DEFAULT_PORT

LIMIT_PREFIX: Final = "limit_"


def _bytes(given: object) -> object:
    """A size with its unit, too; what is none is left for the type to refuse."""
    size = size_of(given) if isinstance(given, str) else None
    return given if size is None else size


Bytes = Annotated[int, BeforeValidator(_bytes)]
LimitBytes = Annotated[int, Field(ge=0, le=2**64 - 1), BeforeValidator(_bytes)] | None
Limit = Annotated[int | None, Field(ge=0, le=2**64 - 1)]


class Settings(BaseSettings):
    """What one service is started with. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="EVERSPACE_", extra="ignore", frozen=True)

    data_dir: Path
    """Where everything is kept. One service at a time owns it; it is made if absent."""
    host: str = DEFAULT_HOST
    """Address to listen on. Anything but loopback needs `allow_remote`."""
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """TCP port; 0 takes a free one, which the service prints."""
    uds: Path | None = None
    """Unix socket to listen on; then TCP only if host or port is given too."""
    allow_remote: bool = False
    """Consent to listen beyond loopback without TLS: tokens then travel in the clear unless a proxy with TLS is in front."""
    tls_cert: Path | None = None
    """PEM file of the certificate and its chain: TCP is then served by TLS. Read anew at SIGHUP."""
    tls_key: Path | None = None
    """PEM file of its private key, without a passphrase; by default it is in the file of the certificate."""
    tls_client_ca: Path | None = None
    """PEM file of authorities: only clients with a certificate of one of them are let in."""
    arch: str = "x86_64"
    """Geometry of the address spaces; a data directory keeps the one it was made with."""
    accounts_url: str | None = Field(default=None, repr=False)
    """SQLAlchemy URL of the accounts; by default `accounts.sqlite` in the data directory."""
    body_limit: Bytes = Field(default=BODY_BYTES_MAX, ge=1, le=2**40)
    """Bytes of one request body, and of one memory or segment read."""
    bodies: Bytes = Field(default=1 << 30, ge=1 << 20, le=2**46)
    """Bytes of large bodies, of requests and of answers, that are held at a time; one more is EAGAIN."""
    batch_limit: int = Field(default=BATCH_CALLS_MAX, ge=1, le=10_000_000)
    """Calls in one batch."""
    memory: Bytes = Field(default=1 << 30, ge=1 << 20, le=2**46)
    """Bytes of page frames kept resident."""
    swap_bytes: Bytes = Field(default=1 << 30, ge=0, le=2**44)
    """Bytes of tasks' own memory that may be put aside on disk when `memory` is used up; 0 for none."""
    limit_address_space: LimitBytes = None
    """Bytes of regions that a task may have; by default without a limit."""
    limit_data: LimitBytes = None
    """Bytes of private writable memory, heap included; by default without a limit."""
    limit_stack: LimitBytes = None
    """Bytes to which a stack grows; by default 8 MiB."""
    limit_locked: LimitBytes = None
    """Bytes that a task other than root's may keep in memory by mlock; by default 8 MiB."""
    limit_map_count: Limit = None
    """Regions of one task; by default 65530."""
    events: int = Field(default=10_000, ge=1, le=10_000_000)
    """Events that are kept for those who follow and were away."""
    event_streams: int = Field(default=256, ge=0, le=65_536)
    """Streams of events that may be open at once."""
    connections: int = Field(default=4096, ge=1, le=1_000_000)
    """Connections that may be open at once; one more is answered 503 and closed."""
    connections_per_peer: int = Field(default=1024, ge=1, le=1_000_000)
    """The same for those of one address. Connections to the Unix socket count for `connections` only."""
    keep_alive: float = Field(default=75.0, gt=0, le=86_400)
    """An idle connection is closed after this time."""
    head_timeout: float = Field(default=10.0, gt=0, le=3600)
    """How long TLS may take to begin, and then the head of a request to come."""
    body_rate: Bytes = Field(default=1024, ge=0, le=2**40)
    """Bytes a second that a body or an answer has to move at least, over any `stall_timeout`; 0 for any number."""
    stall_timeout: float = Field(default=30.0, gt=0, le=3600)
    """How long a body or an answer may stand still, or move more slowly than `body_rate`."""
    shutdown_grace: float = Field(default=10.0, ge=0, le=3600)
    """How long requests in flight may take after SIGTERM."""
    log_level: str = Field(default="warning", pattern="^(debug|info|warning|error)$")
    """What is written to standard error: debug, info (each request), warning or error."""
    log_format: str = Field(default="auto", pattern="^(auto|json|console)$")
    """json: an object a line; console: for people; auto: console on a terminal, else json."""
    otlp_endpoint: str | None = Field(default=None, pattern="^https?://[^/]+")
    """URL of an OpenTelemetry collector that takes traces by OTLP over HTTP; none are made without one."""

    @property
    def limits(self) -> dict[str, int]:
        """The limits of new tasks that were given, by the names that prlimit has for them."""
        values = {
            name.removeprefix(LIMIT_PREFIX): getattr(self, name)
            for name in type(self).model_fields
            if name.startswith(LIMIT_PREFIX)
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def listens_on_tcp(self) -> bool:
        """Whether a TCP socket is opened: always, unless only a Unix socket was asked for."""
        return self.uds is None or bool({"host", "port"} & self.model_fields_set)
