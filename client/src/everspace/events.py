"""Events as they happen."""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from everspace._following import Following
from everspace.errors import ConnectionLostError, VasError
from everspace.models import Event
from everspace.transport import Stream

if TYPE_CHECKING:
    from everspace._driver import Driver


class Events:
    """Made by `Client.events`: an iterator that ends when it, or the client, is closed; a context manager that closes it.

    When the connection is lost, or the service starts anew, it goes on by itself where it was, for as long as the client's
    timeout; then it raises the TransportError. What the service no longer has is told by an event of kind "lost".
    """

    def __init__(self, driver: "Driver", following: Following) -> None:
        self._driver = driver
        self._following = following
        self._ready: deque[Event] = deque()
        self._seen: str | None = None
        self._ended = threading.Event()
        self._stream: Stream | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._open()
        while self.position is None and not self._ready and not self._ended.is_set():
            self._hear()

    @property
    def position(self) -> str | None:
        """The id that `Client.events(since=)` takes to go on from here, in another process for instance."""
        if not self._ready:
            return self._following.position
        return self._following.start if self._seen is None else self._seen

    def close(self) -> None:
        """End it, from any thread."""
        self._ended.set()
        if self._stream is not None:
            self._stream.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._ready:
            if self._ended.is_set():
                raise StopIteration
            self._hear()
        event = self._ready.popleft()
        self._seen = event.id
        return event

    def _hear(self) -> None:
        """The next piece, or the next connection."""
        try:
            piece = next(self._pieces, None)
            if piece is not None:
                self._ready.extend(self._following.feed(piece))
                return
            error: VasError = ConnectionLostError("the service has ended the stream")
        except VasError as failure:
            error = failure
        self._drop()
        if not self._ended.is_set():
            self._wait(error)
            self._open()

    def _open(self) -> None:
        while not self._ended.is_set():
            try:
                self._stream = self._driver.stream(self._following.request())
                self._finalizer = weakref.finalize(self, self._stream.close)
                self._following.opened(self._stream.head)
            except VasError as error:
                self._drop()
                self._wait(error)
            else:
                self._pieces = iter(self._stream)
                return

    def _wait(self, error: VasError) -> None:
        """Before the next attempt. Raises `error` if there is to be none."""
        if self._driver.stopped:
            self._ended.set()
            return
        pause = self._following.pause(error)
        if pause is None:
            self._ended.set()
            raise error
        self._ended.wait(pause)

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._finalizer.detach()
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
