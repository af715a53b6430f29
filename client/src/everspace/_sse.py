"""text/event-stream without I/O: pieces of a body become events."""

import json
from typing import Final

from everspace.errors import ProtocolError
from everspace.models import Event

LINE_BYTES_MAX: Final = 1 << 20


class EventReader:
    """Takes the body of one stream. `position` is the id to go on from; it moves without events, too."""

    def __init__(self, position: str | None = None) -> None:
        self.position = position
        self.start = position
        """Where the first stream began."""
        self._rest = b""
        self._id = position
        self._kind = ""
        self._data: list[str] = []

    def begin_anew(self) -> None:
        """Another stream begins: what was half there will come again."""
        self._rest, self._id, self._kind, self._data = b"", self.position, "", []

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are complete now. ProtocolError: what came is no stream of events."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            raise ProtocolError("the stream of events has a line without end")
        try:
            return [event for line in lines if (event := self._take(line.decode("utf-8"))) is not None]
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise ProtocolError(f"the stream has something else than events: {cause!r}") from cause

    def _take(self, line: str) -> Event | None:
        line = line.removesuffix("\r")
        if not line:
            return self._finish()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        return None

    def _finish(self) -> Event | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        self.position = self._id  # only now: what is cut off in its middle has to come again
        if not data:
            self.start = self.start or self.position
            return None
        members = json.loads("\n".join(data))
        return Event(self.position or "", kind or members["kind"], members)
