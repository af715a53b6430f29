"""Clients that do not behave, all at once, while others work: silent, slow, half open, gone in the middle."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

PAUSE: Final = 0.2
"""Seconds between the bytes of a slow client."""


class BadClients:
    """Connections to one service; each kind is begun anew whenever the service ends it."""

    def __init__(self, port: int, token: str, target: str) -> None:
        self._port = port
        self._head = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
        self._target = target
        self.begun = 0

    async def run(self, each: int) -> None:
        """`each` of every kind, until cancelled."""
        kinds: tuple[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], ...] = (
            self.silent, self.slow_head, self.slow_body, self.reads_nothing, self.half_closed, self.gone,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for kind in itertools.chain(*[kinds] * each):
                group.create_task(self._again_and_again(kind))

    async def _again_and_again(
        self, kind: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1024)
                self.begun += 1
                try:
                    await kind(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(PAUSE)

    async def silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says nothing."""
        await reader.read()

    async def slow_head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A byte of a head now and then."""
        await self._slowly(
            writer, f"GET {self._target} HTTP/1.1\r\n{self._head}X-Filler: {'x' * 2000}\r\n\r\n"
        )

    async def slow_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A byte of a body now and then."""
        writer.write(f"PUT {self._target} HTTP/1.1\r\n{self._head}Content-Length: 4096\r\n\r\n".encode())
        await self._slowly(writer, "x" * 4096)

    async def reads_nothing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Asks for mebibytes again and again, and takes none."""
        writer.write(f"GET {self._target} HTTP/1.1\r\n{self._head}\r\n".encode() * 64)
        await writer.drain()
        await asyncio.sleep(30 * PAUSE)

    async def half_closed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ends its side after a head that has no end, and waits."""
        writer.write(f"GET {self._target} HTTP/1.1\r\n{self._head}".encode())
        writer.write_eof()
        await reader.read()

    async def gone(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Leaves in the middle of a body."""
        writer.write(f"PUT {self._target} HTTP/1.1\r\n{self._head}Content-Length: 4096\r\n\r\nhalf".encode())
        await writer.drain()

    async def _slowly(self, writer: asyncio.StreamWriter, text: str) -> None:
        for character in text:
            writer.write(character.encode())
            await writer.drain()
            await asyncio.sleep(PAUSE)
