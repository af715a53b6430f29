"""`everspaced serve`: the service itself."""

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final

from app.commands.options import ENVIRONMENT, Commands, add_data_dir, settings_of
from engine.geometry import GEOMETRIES
from storage.errors import StoreUnusable

if TYPE_CHECKING:
    from app.serving.opening import Opener
    from app.settings import Settings

OPTIONS: Final = (
    ("--host", "ADDRESS", "address to listen on; by default 127.0.0.1"),
    ("--port", "PORT", "TCP port, 0 for a free one; by default 8765"),
    ("--tls-cert", "FILE", "certificate and its chain, PEM: serve TLS; read anew at SIGHUP"),
    ("--tls-key", "FILE", "its private key, PEM, unless that is in the same file"),
    ("--tls-client-ca", "FILE", "authorities, PEM: clients must have a certificate of one of them"),
    ("--uds", "PATH", "Unix socket; then TCP only if --host or --port is given too"),
    ("--arch", "NAME", "geometry of the address spaces; by default x86_64"),
    ("--body-limit", "BYTES", "greatest request body, and greatest read"),
    ("--bodies", "BYTES", "of large bodies that are held at a time, all connections together"),
    ("--batch-limit", "CALLS", "most calls in one batch"),
    ("--memory", "BYTES", "page frames kept resident"),
    ("--swap-bytes", "BYTES", "of tasks' memory that may be put aside on disk, 0 for none"),
    ("--limit-address-space", "BYTES", "of regions that a task may have"),
    ("--limit-data", "BYTES", "of private writable memory that a task may have"),
    ("--limit-stack", "BYTES", "to which a stack grows; by default 8 MiB"),
    ("--limit-locked", "BYTES", "that a task may lock; by default 8 MiB"),
    ("--limit-map-count", "REGIONS", "that a task may have; by default 65530"),
    ("--events", "EVENTS", "that are kept for followers who were away"),
    ("--event-streams", "STREAMS", "of events that may be open at once"),
    ("--connections", "NUMBER", "that may be open at once; by default 4096"),
    ("--connections-per-peer", "NUMBER", "that may be open at once from one address; by default 1024"),
    ("--keep-alive", "SECONDS", "after which an idle connection is closed"),
    ("--head-timeout", "SECONDS", "within which the head of a request has to come; by default 10"),
    ("--body-rate", "BYTES", "a second that bodies and answers have to move at least; by default 1024"),
    ("--stall-timeout", "SECONDS", "that bodies and answers may stand still; by default 30"),
    ("--shutdown-grace", "SECONDS", "that requests in flight may take after SIGTERM"),
    ("--log-level", "LEVEL", "debug, info, warning or error"),
    ("--log-format", "FORMAT", "json, console, or auto: console on a terminal"),
    ("--otlp-endpoint", "URL", "OpenTelemetry collector for traces, by OTLP over HTTP; by default none"),
)


def add_to(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("serve", help="run the service on a data directory")
    add_data_dir(parser)
    for option, value, text in OPTIONS:
        variable = option.removeprefix("--").replace("-", "_").upper()
        parser.add_argument(option, metavar=value, help=f"{text} ({ENVIRONMENT}{variable})")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        default=None,
        help=f"consent to listen beyond loopback ({ENVIRONMENT}ALLOW_REMOTE)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM. Raises CannotListenError; StoreError if the data directory cannot be used."""
    from app.main import create_app

    settings = settings_of(arguments)
    if settings.arch not in GEOMETRIES:
        raise StoreUnusable(f"--arch (EVERSPACE_ARCH): {settings.arch!r} is none of {', '.join(GEOMETRIES)}")
    serve(settings, lambda metrics, go_on: create_app(settings, metrics=metrics, go_on=go_on))
    return 0


def serve(settings: "Settings", opener: "Opener") -> None:
    """Listen, open the service with `opener` while its sockets answer already, and serve until SIGTERM."""
    from app.serving import logs, server
    from app.serving.connections import Bounds, Connections
    from app.serving.metrics import Metrics
    from app.serving.opening import Opening
    from app.serving.tls import tls_of

    tls = tls_of(settings)
    sockets = server.bind(settings)
    try:
        places = [_place(opened.getsockname(), settings.host, tls=tls is not None) for opened in sockets]

        def say() -> None:
            for place in places:
                sys.stdout.write(f"everspaced: {settings.data_dir} is served on {place}\n")
            sys.stdout.flush()

        logs.configure(settings)
        connections = Connections(Bounds.of(settings))
        opening = Opening(opener, Metrics(connections), settings.shutdown_grace, say)
        server.run(opening, settings, sockets, connections, tls)
    finally:
        for opened in sockets:
            opened.close()


def _place(name: Any, host: str, *, tls: bool) -> str:
    return name if isinstance(name, str) else f"{'https' if tls else 'http'}://{host}:{name[1]}"
