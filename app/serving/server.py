"""Listening: sockets that are bound before anything starts, and uvicorn behind them."""

import asyncio
import ipaddress
import logging
import resource
import signal
import socket
import stat
import sys
from collections.abc import Awaitable
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

from app.errors import CannotListenError
from app.serving.connections import Connection, Connections
from app.serving.handshakes import Handshakes
from app.serving.tls import Tls
from app.settings import Settings

SWITCH_INTERVAL_S: Final = 0.0005
"""Python's thread switch interval: the writer thread must not keep the event loop waiting for 5 ms."""
BACKLOG: Final = 2048
TICK_S: Final = 0.1
"""How often uvicorn looks whether it is to stop."""
TICKS_A_LOOK: Final = 5
"""Ticks from one look at the connections to the next."""
PAUSE_S: Final = 0.01
"""Between looks at whether all connections have ended, while stopping."""
END_S: Final = 30.0
"""How long calls that are under way may take to end when their clients have been cut off: a commit, at most."""
KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""Seconds of silence until the kernel asks whether the peer lives, between its questions, and how many it asks."""
FILES_SPARE: Final = 256
"""Open files beside connections: stores, databases, libraries."""

log = logging.getLogger("everspace.server")


class Application(Protocol):
    """What is served. `failure` is why it could not start."""

    failure: BaseException | None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...

    def drain(self) -> None: ...


class Server(uvicorn.Server):
    """uvicorn with bounded connections, TLS on TCP alone, and an end that loses no answer.

    `app` is told at once when a signal asks to stop; uvicorn itself looks ten times a second.
    """

    def __init__(
        self, config: uvicorn.Config, app: Application, connections: Connections, tls: Tls | None
    ) -> None:
        super().__init__(config)
        self._app = app
        self._connections = connections
        self._tls = tls
        self._due = 0.0
        self._listening: list[asyncio.Server | Handshakes] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""
        self._app.drain()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._read_anew)
        for opened in sockets or []:
            if self._tls is None or opened.family == socket.AF_UNIX:
                plain = await loop.create_server(self._connection, sock=opened, backlog=BACKLOG)
                self._listening.append(plain)
            else:
                self._listening.append(Handshakes(opened, self._tls, self._connections, self._connection))
        self.started = True

    def _read_anew(self) -> None:
        """SIGHUP: what may be read anew is read; where nothing is, it does no harm."""
        if self._tls is None:
            log.info("SIGHUP: there are no certificates to be read anew")
        else:
            self._tls.read_anew()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: look at the connections, and whether it is over."""
        now = asyncio.get_running_loop().time()
        if counter:
            self._connections.late_seconds += max(0.0, now - self._due)
        if counter % TICKS_A_LOOK == 0:
            self._connections.look(now)
        self._due = now + TICK_S
        return await super().on_tick(counter) or self._app.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, give what is under way its time, cut off the rest, and stop the application."""
        for listening in self._listening:
            listening.close()
        state, loop = self.server_state, asyncio.get_running_loop()
        for connection in list(state.connections):
            connection.shutdown()
        deadline = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        while state.connections and loop.time() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)
        if self._connections.open:
            log.warning("%d connections are cut off: their time is over", len(self._connections.open))
        for left in list(self._connections.open):
            left.abort()
        if state.tasks:  # they learn that their client is gone, and end
            await asyncio.wait(state.tasks, timeout=END_S)
        for task in list(state.tasks):
            task.cancel()
        await self.lifespan.shutdown()

    def _connection(self) -> Connection:
        return Connection(self._connections, self.config, self.server_state, self.lifespan.state)


def bind(settings: Settings) -> list[socket.socket]:
    """The listening sockets. Raises CannotListenError: in use, not ours, or wide without consent."""
    sockets = []
    try:
        if settings.listens_on_tcp:
            sockets.append(_bind_tcp(settings))
        if settings.uds is not None:
            sockets.append(_bind_unix(settings.uds))
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _bind_tcp(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise CannotListenError(f"host {host!r} is not known: {error}") from error
    consent = settings.allow_remote or settings.tls_cert is not None
    if not consent and not ipaddress.ip_address(address[0]).is_loopback:
        raise CannotListenError(
            f"{host} can be reached from other machines: give it TLS (--tls-cert), or put TLS in front and say "
            "--allow-remote"
        )
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _notice_the_dead(opened)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise CannotListenError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return opened


def _notice_the_dead(listener: socket.socket) -> None:
    """Connections whose peer is gone without a word are closed after about two minutes; Linux hands this on to them."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _bind_unix(path: Path) -> socket.socket:
    """A Unix socket; one that a dead process left behind is replaced, any other file is not."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
            path.unlink()
        opened.bind(str(path))
        path.chmod(0o666)  # a token decides who may do what, as it does over TCP
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise CannotListenError(f"cannot listen on {path}: {error.strerror or error}") from error
    return opened


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def run(
    app: Application,
    settings: Settings,
    sockets: list[socket.socket],
    connections: Connections,
    tls: Tls | None,
) -> None:
    """Serve until SIGTERM or SIGINT; returns when everything is durable and closed.

    Raises what kept the application from starting.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _allow_files(connections.bounds.connections)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.shutdown_grace,  # type: ignore[arg-type]
    )
    # uvicorn raises the signal again when it is done: by then it has been obeyed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        Server(config, app, connections, tls).run(sockets)
    finally:
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)
    if app.failure is not None:
        raise app.failure


def _allow_files(connections: int) -> None:
    """Raise the soft limit of open files to the hard one: each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + FILES_SPARE:
        log.warning("%d connections are allowed, but only %d open files (ulimit -Hn)", connections, hard)
