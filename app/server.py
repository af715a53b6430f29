"""Listening: sockets that are bound before anything starts, and uvicorn behind them."""

import ipaddress
import logging
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import CannotListenError, http_problem, problem_body
from app.settings import Settings
from everspace.wire import MEDIA_PROBLEM

HEAD_BYTES_MAX = 64 * 1024
"""Bytes of a request's line and headers that are buffered; whoever sends more is cut off with 431."""
SWITCH_INTERVAL_S = 0.0005
"""Python's thread switch interval: the writer thread must not keep the event loop waiting for 5 ms."""
BACKLOG = 2048


class HeadLimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bound on the head of a request, which it buffers without one."""

    _head: int | None = None
    """Bytes of the unfinished head, None outside one."""

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of the head."""
        self._head = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        super().data_received(data)
        if self._head is None or self.transport.is_closing():
            return
        self._head += len(data)
        if self._head > HEAD_BYTES_MAX:
            self._refuse()

    def _refuse(self) -> None:
        body = problem_body(http_problem(431, f"more than {HEAD_BYTES_MAX} bytes of head"))
        head = (
            f"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: {MEDIA_PROBLEM}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Tells the service at once when a signal asks it to stop; uvicorn itself looks ten times a second."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""
        self._on_stop()
        super().handle_exit(sig, frame)


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
    if not settings.allow_remote and not ipaddress.ip_address(address[0]).is_loopback:
        raise CannotListenError(
            f"{host} can be reached from other machines: --allow-remote says that this is meant (put TLS in front)"
        )
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise CannotListenError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return opened


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


def run(app: ASGIApp, settings: Settings, sockets: list[socket.socket], on_stop: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; returns when everything is durable and closed."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=HeadLimitedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.shutdown_grace,  # type: ignore[arg-type]
    )
    # uvicorn raises the signal again when it is done: by then it has been obeyed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        Server(config, on_stop).run(sockets)
    finally:
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)
