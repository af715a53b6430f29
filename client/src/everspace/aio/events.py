"""The async twin of `everspace.events`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from everspace._following import Following
from everspace.errors import ConnectionLostError, VasError
from everspace.models import Event
from everspace.transport import AsyncStream

if TYPE_CHECKING:
    from everspace.aio.driver import AsyncDriver


class AsyncEvents:
    """Made by `AsyncClient.events`: an iterator that ends when it, or the client, is closed; a context manager that closes it.

    When the connection is lost, or the service starts anew, it goes on by itself where it was, for as long as the client's
    timeout; then it raises the TransportError. What the service no longer has is told by an event of kind "lost".
    """

    def __init__(self, driver: "AsyncDriver", following: Following) -> None:
        self._driver = driver
        self._following = following
        self._ready: deque[Event] = deque()
        self._seen: str | None = None
        self._ended = asyncio.Event()
        self._stream: AsyncStream | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    @property
    def position(self) -> str | None:
        """The id that `AsyncClient.events(since=)` takes to go on from here, in another process for instance."""
        if not self._ready:
            return self._following.position
        return self._following.start if self._seen is None else self._seen

    async def close(self) -> None:
        """End it."""
        self._ended.set()
        if self._stream is not None:
            await self._stream.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._pieces is None:
            await self._open()
        while not self._ready:
            if self._ended.is_set():
                raise StopAsyncIteration
            await self._hear()
        event = self._ready.popleft()
        self._seen = event.id
        return event

    async def _hear(self) -> None:
        """The next piece, or the next connection."""
        try:
            piece = None if self._pieces is None else await anext(self._pieces, None)
            if piece is not None:
                self._ready.extend(self._following.feed(piece))
                return
            error: VasError = ConnectionLostError("the service has ended the stream")
        except VasError as failure:
            error = failure
        await self._drop()
        if not self._ended.is_set():
            await self._wait(error)
            await self._open()

    async def _open(self) -> None:
        while not self._ended.is_set():
            try:
                self._stream = await self._driver.stream(self._following.request())
                self._following.opened(self._stream.head)
            except VasError as error:
                await self._drop()
                await self._wait(error)
            else:
                self._pieces = aiter(self._stream)
                return

    async def _wait(self, error: VasError) -> None:
        """Before the next attempt. Raises `error` if there is to be none."""
        if self._driver.stopped:
            self._ended.set()
            return
        pause = self._following.pause(error)
        if pause is None:
            self._ended.set()
            raise error
        try:
            async with asyncio.timeout(pause):
                await self._ended.wait()
        except TimeoutError:
            return

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def __aenter__(self) -> Self:
        await self._open()
        while self.position is None and not self._ready and not self._ended.is_set():
            await self._hear()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
