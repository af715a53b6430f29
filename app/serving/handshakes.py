"""Accepting behind TLS: a client counts as a connection from the moment that it is there, before its handshake.

uvloop's servers tell of a client when its handshake is over, so that clients that never begin one would count for
nothing, and each would hold a file.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from app.serving.connections import Connection, Connections
from app.serving.tls import Tls

AT_ONCE: Final = 64
"""Clients that are accepted before others have their turn again."""
PAUSE_S: Final = 0.1
"""Until the next try, when there is no file for a client that waits."""

log = logging.getLogger("everspace.handshakes")


class Handshakes:
    """A listening socket whose clients speak TLS. `make` makes the connection of one."""

    def __init__(
        self, listener: socket.socket, tls: Tls, connections: Connections, make: Callable[[], Connection]
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._connections = connections
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take nobody new, and end the handshakes that are under way. Idempotent."""
        if self._again is not None:
            self._again.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for handshake in self._under_way:
            handshake.cancel()

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                client, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("clients have to wait: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._again = self._loop.call_later(PAUSE_S, self._listen)
                return
            connection = self._make()
            connection.peer = address[0]
            if self._connections.admit(connection) is None:
                handshake = self._loop.create_task(self._shake(client, connection))
                self._under_way.add(handshake)
                handshake.add_done_callback(self._under_way.discard)
            else:
                client.close()  # it would not understand an answer

    async def _shake(self, client: socket.socket, connection: Connection) -> None:
        timeout = self._connections.bounds.head_timeout
        try:
            client.setblocking(False)
            await self._loop.connect_accepted_socket(
                lambda: connection,
                client,
                ssl=self._tls.context,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=timeout,
            )
        except OSError as error:
            log.info("no TLS with %s: %s", connection.peer, error)
        finally:
            if not connection.made:
                self._connections.leave(connection)
