"""What happened in the machine, numbered, the last of it kept for those who follow: `Events`, one for each start.

An event is published when the transaction that made it is settled, so nobody is told of what a crash may still take
back. Publishing is a store into a ring; JSON is made for readers only, once for all of them.
"""

import asyncio
import json
import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final

from app.errors import bad_input, render
from app.http.exchange import number
from engine.address import VirtRange
from engine.changes import PutPages
from engine.chronicle import Chronicle, Memory
from engine.credentials import Credentials
from engine.journal import Noted, Transaction
from engine.notes import Note, Span, spans_of
from everspace.wire import TYPE_NAMES

FRAMES_BYTES_MAX: Final = 64 * 1024
"""From so many bytes on a piece of a stream is sent."""
SCANNED_MAX: Final = 512
"""Events that one reader looks at before others get their turn."""
ID_BYTES_MAX: Final = 64
PACE_S: Final = 0.0005
"""How long one stream that was told something leaves all of them alone: they take a part of the time, however many."""
PACE_MAX_S: Final = 0.25
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


@dataclass(slots=True)
class Told:
    """An event that a reader has come to: its note, and how it is sent, once somebody may see it."""

    note: Note
    frame: bytes | None = None


Written = tuple[Memory, tuple[int, ...] | list[Span]]
"""A store. As most events are never asked for, it becomes a note when somebody does."""


class Events:
    """The last `size` events of this start. All but `close` runs on the event loop's thread."""

    def __init__(self, chronicle: Chronicle, instance: str, size: int) -> None:
        self._chronicle = chronicle
        self._memories = chronicle.memories
        self._instance = instance
        self._ring: deque[Written | Noted | Told] = deque(maxlen=size)
        self._news: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken = float("-inf")
        self.last = 0
        """The number of the last event: how many there were."""
        self.streams = 0
        """Streams that are open."""
        self.streams_of: Counter[int] = Counter()
        """The same by uid: one account, but for root's, has at most half of what there may be."""
        self.closed = False

    def settled(self, txn: Transaction) -> None:
        """Publish what a transaction came to. Most are one store, or one note: that must cost next to nothing."""
        changes, notes = txn.changes, txn.notes
        if not changes:
            self.last += len(notes)
            self._ring.extend(notes)
            if self._news is not None:
                self._wake()
            return
        if len(changes) == 1 and not notes:
            put = changes[0]
            if type(put) is PutPages:
                memory = self._memories.get(put.object_id)
                if memory is not None:
                    pages = put.pages
                    self.last += 1
                    self._ring.append((memory, pages if len(pages) == 1 else spans_of(pages)))
                    if self._news is not None:
                        self._wake()
                return
        self._publish(txn)

    def _publish(self, txn: Transaction) -> None:
        try:
            notes = self._chronicle.notes_of(txn)
        except Exception:  # a defect here must not keep the others from being settled
            log.exception("a transaction was settled that cannot be told")
            return
        self.last += len(notes)
        self._ring.extend(map(Told, notes))
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
            self._loop.call_soon_threadsafe(self._tell)

    def _wake(self) -> None:
        """There is news: those who wait are woken, but not so often that they take the time of everybody else."""
        if self._timer is None and self._loop is not None:
            rest = self._woken + min(self.streams * PACE_S, PACE_MAX_S) - self._loop.time()
            self._timer = self._loop.call_later(max(rest, 0.0), self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._woken = self._loop.time()
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is still there."""
        return self.last - len(self._ring) + 1

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
            told = self._told(reader.position)
            if reader.wanted.has(told.note) and self._chronicle.may_see(cred, told.note):
                if told.frame is None:
                    told.frame = frame(self.id_of(reader.position), *told.note)
                parts.append(told.frame)
                size += len(parts[-1])
                reader.told = reader.position
        return b"".join(parts)

    def place(self, reader: Reader) -> bytes:
        """The id to go on from, without an event; nothing if the reader knows it."""
        if reader.told == reader.position:
            return b""
        reader.told = reader.position
        return f"id: {self.id_of(reader.position)}\n\n".encode("ascii")

    def _told(self, position: int) -> Told:
        index = position - self.oldest
        found = self._ring[index]
        if not isinstance(found, Told):
            note = found[1:] if len(found) == 3 else self._chronicle.note_of(*found)
            found = self._ring[index] = Told(note)
        return found


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
