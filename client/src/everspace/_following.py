"""Following events without I/O: what is asked, what a failure means, and where to go on."""

from dataclasses import replace
from typing import Final

from everspace._calls.call import Call, given, integer
from everspace._session import RECONNECT_SECONDS, RETRY_SECONDS_MAX, Session, refusal
from everspace._sse import EventReader
from everspace.errors import (
    CannotConnectError,
    ConnectionLostError,
    ProtocolError,
    ServiceUnavailable,
    TransportTimeoutError,
    TryAgainError,
    VasError,
)
from everspace.models import Event
from everspace.transport import Request, Response

SILENCE_SECONDS_MIN: Final = 45.0
"""Three heartbeats of the service: a stream that is silent for longer is lost."""
PAUSES_MAX: Final = 10
MEDIA_EVENTS: Final = "text/event-stream"


class Following:
    """One stream of events, over any number of connections."""

    def __init__(
        self,
        session: Session,
        kinds: tuple[str, ...],
        vid: int | None,
        sid: int | None,
        pid: int | None,
        since: str | None,
    ) -> None:
        self._session = session
        self._reader = EventReader(since)
        ids = given(vid=vid, sid=sid, pid=pid)
        query = [f"{name}={integer(value)}" for name, value in ids.items()]
        self._query = "&".join([*(["kind=" + _listed(kinds)] if kinds else []), *query])
        self._begun = False
        self._lost_at: float | None = None
        self._failures = 0

    @property
    def position(self) -> str | None:
        """The id to go on from; None before anything was heard."""
        return self._reader.position

    @property
    def start(self) -> str | None:
        """The id that it began behind; None before anything was heard."""
        return self._reader.start

    def request(self) -> Request:
        """What to send to go on."""
        headers: tuple[tuple[str, str], ...] = (("Accept", MEDIA_EVENTS),)
        if self.position is not None:
            headers = (*headers, ("Last-Event-ID", self.position))
        call = Call("events", "GET", "/events", str, query=self._query, headers=headers, repeatable=True)
        request = self._session.request(call, None, None)
        silence = None if request.timeout is None else max(request.timeout, SILENCE_SECONDS_MIN)
        return replace(request, timeout=silence, waits=True)

    def opened(self, head: Response) -> None:
        """An answer begins. Raises what it refuses."""
        if head.status != 200:
            raise refusal(head)
        if not head.headers.get("content-type", "").startswith(MEDIA_EVENTS):
            raise ProtocolError("the answer is no stream of events")
        self._begun, self._lost_at = True, None
        self._reader.begin_anew()

    def feed(self, piece: bytes) -> list[Event]:
        """The events in a piece of the answer."""
        events = self._reader.feed(piece)
        if events:
            self._failures = 0
        return events

    def pause(self, error: VasError) -> float | None:
        """Seconds until the next attempt; None: the error stands.

        The first connection is tried once, unless the service says that it starts or stops. Later ones are tried for
        the client's timeout.
        """
        limit, now = self._session.settings.timeout, self._session.clock()
        if self._lost_at is None:
            self._lost_at = now
        passing: tuple[type[VasError], ...] = (ServiceUnavailable,)
        if self._begun:
            passing = (
                *passing,
                CannotConnectError,
                ConnectionLostError,
                TransportTimeoutError,
                TryAgainError,
            )
        if not isinstance(error, passing) or (limit is not None and now - self._lost_at >= limit):
            return None
        self._failures = min(self._failures + 1, PAUSES_MAX)
        wanted = getattr(error, "retry_after", None)
        pause = min(1.0, RECONNECT_SECONDS * 2.0 ** (self._failures - 1))
        return pause if wanted is None else max(pause, min(float(wanted), RETRY_SECONDS_MAX))


def _listed(kinds: tuple[str, ...]) -> str:
    for kind in kinds:
        if not (kind.isascii() and kind.replace(".", "").replace("_", "").isalpha()):
            raise ValueError(f"not a kind of event: {kind!r:.60}")
    return ",".join(kinds)
