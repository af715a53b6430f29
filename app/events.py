"""What happened in the machine, numbered, the last of it kept for those who follow: `Events`, one for each start.

An event is published when the transaction that made it is settled, so nobody is told of what a crash may still take
back. Publishing is a store into a ring; JSON is made for readers only, once for all of them.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import bad_input, render
from app.http import number
from engine.address import VirtRange
from engine.chronicle import Chronicle
from engine.credentials import Credentials
from engine.journal import Transaction
from engine.notes import Note
from everspace.wire import TYPE_NAMES

FRAMES_BYTES_MAX: Final = 64 * 1024
"""From so many bytes on a piece of a stream is sent."""
SCANNED_MAX: Final = 512
"""Events that one reader looks at before others get their turn."""
ID_BYTES_MAX: Final = 64
LOST: Final = "lost"
"""Told when events that were asked for are not there any more. It is no event of the machine and not in the ring."""

log = logging.getLogger("everspace.events")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a reader asked for: kinds that begin with one of `kinds`, and each of `ids` as it is named there."""

    kinds: tuple[str, ...] = ()
    ids: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, query: dict[str, str]) -> "Wanted":
        """Out of a query. EINVAL: an id that is no number."""
        kinds = tuple(kind for kind in query.get("kind", "").split(",") if kind)
        return cls(
            kinds, tuple((name, number(query, name)) for name in ("vid", "sid", "pid") if name in query)
        )

    def has(self, note: Note) -> bool:
        """Whether it is among them."""
        kind, members = note
        if self.kinds and not kind.startswith(self.kinds):
            return False
        return all(members.get(name) == wanted for name, wanted in self.ids)


@dataclass(slots=True)
class Reader:
    """Is done with all events up to `position`, and knows the id of `told`, the last that was for it.

    `asked` is the id that could not be served, until that was told.
    """

    wanted: Wanted
    position: int
    asked: str | None = None
    told: int = -1


class Events:
    """The last `size` events of this start. All but `close` runs on the event loop's thread."""

    def __init__(self, chronicle: Chronicle, instance: str, size: int) -> None:
        self._chronicle = chronicle
        self._instance = instance
        self._size = size
        self._ring: list[Note | None] = [None] * size
        self._frames: list[bytes | None] = [None] * size
        self._news: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.last = 0
        """The number of the last event: how many there were."""
        self.streams = 0
        """Streams that are open."""
        self.closed = False

    def settled(self, txn: Transaction) -> None:
        """Publish what a transaction came to. A defect here must not keep the others from being settled."""
        try:
            notes = self._chronicle.notes_of(txn)
        except Exception:
            log.exception("a transaction was settled that cannot be told")
            return
        self._publish(notes)

    def _publish(self, notes: Sequence[Note]) -> None:
        for note in notes:
            self.last += 1
            slot = self.last % self._size
            self._ring[slot] = note
            self._frames[slot] = None
        if self._news is not None:
            self._wake()

    def start(self) -> None:
        """Streams may be opened, on the event loop that runs."""
        self._loop = asyncio.get_running_loop()

    def news(self) -> "asyncio.Future[None]":
        """Done as soon as there is an event more, or streams are to end."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def close(self) -> None:
        """Streams are to end: who asks for news has to look at `closed` first. From any thread and from signal handlers."""
        self.closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is still there."""
        return max(1, self.last - self._size + 1)

    def id_of(self, position: int) -> str:
        """What a reader names to go on behind event `position`."""
        return f"{self._instance}-{position}"

    def reader(self, wanted: Wanted, since: str | None) -> Reader:
        """Goes on behind the event with id `since`; from now on without one. EINVAL: that is no id of an event."""
        if since is None:
            return Reader(wanted, self.last)
        instance, dash, digits = since.rpartition("-")
        if not dash or not instance or not _is_number(digits) or len(since) > ID_BYTES_MAX:
            raise bad_input("Last-Event-ID, or since, is no id of an event")
        position = int(digits)
        if instance != self._instance or position > self.last:
            return Reader(wanted, self.oldest - 1, since)
        return Reader(wanted, position)

    def read(self, reader: Reader, cred: Credentials) -> bytes:
        """What is next for a reader who may see what `cred` may, as frames; empty when that is nothing yet.

        `reader.position` goes on. What fell out of the ring is told as lost.
        """
        parts: list[bytes] = []
        size = 0
        if reader.position + 1 < self.oldest:
            reader.asked = reader.asked or self.id_of(reader.position)
            reader.position = self.oldest - 1
        if reader.asked is not None:
            parts.append(frame(self.id_of(reader.position), LOST, {"since": reader.asked}))
            reader.asked, reader.told = None, reader.position
        stop = min(self.last, reader.position + SCANNED_MAX)
        while reader.position < stop and size < FRAMES_BYTES_MAX:
            reader.position += 1
            note = self._ring[reader.position % self._size]
            if note is not None and reader.wanted.has(note) and self._chronicle.may_see(cred, note):
                parts.append(self._frame(reader.position, note))
                size += len(parts[-1])
                reader.told = reader.position
        return b"".join(parts)

    def place(self, reader: Reader) -> bytes:
        """The id to go on from, without an event; nothing if the reader knows it."""
        if reader.told == reader.position:
            return b""
        reader.told = reader.position
        return f"id: {self.id_of(reader.position)}\n\n".encode("ascii")

    def _frame(self, position: int, note: Note) -> bytes:
        slot = position % self._size
        made = self._frames[slot]
        if made is None:
            kind, members = note
            made = self._frames[slot] = frame(self.id_of(position), kind, members)
        return made


def frame(id: str, kind: str, members: dict[str, Any]) -> bytes:
    """An event as text/event-stream has it."""
    data = {"kind": kind} | {name: _json(name, value) for name, value in members.items()}
    return f"id: {id}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def _json(name: str, value: object) -> object:
    if name == "ranges" and isinstance(value, list):
        return [render("range", each) for each in value if isinstance(each, VirtRange)]
    if name == "type" and isinstance(value, int):
        return TYPE_NAMES[value]
    return render(name, value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19
