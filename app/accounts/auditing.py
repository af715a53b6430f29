"""Who did or was refused what: every request that may change something, and every refusal, goes into the audit journal.

Nobody waits for it. Equal records (who, call, target, result) within a second become one with a count. Those that are
over are written in groups by a thread; the journal is asked for only after everything was written. What cannot be
written is kept and tried again, up to a bound; what is lost beyond that is counted and logged.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, Protocol

from app.accounts.auth import answering
from app.accounts.threads import Threads
from app.errors import status_of
from app.http.exchange import Exchange
from app.http.secrecy import struck
from engine.errors import EngineError
from everspace.wire import API_PREFIX
from storage.errors import AccountsUnreachable
from storage.sql.audit import AuditEntry, AuditRecord

MERGED_S: Final = 1.0
"""How long equal records are one."""
WRITE_S: Final = 0.5
"""How often records are written."""
PENDING_MAX: Final = 20_000
"""Records that wait to be written; more are lost."""
GROUP_MAX: Final = 1_000
"""Records of one transaction."""
STRANGERS_MAX: Final = 64
"""Different records of callers without a good token that may be open at once; the others' targets are not told apart."""
THREADS: Final = 2
"""Those that the journal has; a database that says nothing keeps these, and no others."""
CLOSE_S: Final = 5.0
"""How long the end of the service waits for what is still to be written."""
SAFE: Final = ("GET", "HEAD")
MAKES: Final = {
    **dict.fromkeys(("vas_create", "vas_clone", "vas_snapshot", "vas_fork"), "vas"),
    **dict.fromkeys(("vas_seg_create", "vas_seg_clone", "vas_seg_snapshot"), "segments"),
}
"""Calls of a batch whose value is the id of what they made."""

log = logging.getLogger("everspace.auditing")


class JournalPort(Protocol):
    """What is needed of `storage.sql.audit.AuditJournal`; any thread may call it."""

    def append(self, records: Sequence[AuditRecord]) -> None: ...

    def query(
        self,
        *,
        uid: int | None,
        call: str | None,
        errno: str | None,
        since: datetime | None,
        until: datetime | None,
        after: int | None,
        limit: int,
    ) -> list[AuditEntry]: ...


class Deed(NamedTuple):
    """What equal records have in common: who, what, and the result."""

    uid: int | None
    token_id: int | None
    call: str
    target: str
    status: int
    errno: str | None


@dataclass(slots=True)
class Open:
    """A deed that was done `count` times from `first` to `last`, seconds since 1970."""

    deed: Deed
    request_id: str
    first: float
    last: float
    count: int = 1

    def record(self) -> AuditRecord:
        """As the journal has it."""
        deed = self.deed
        begun, until = (datetime.fromtimestamp(when, UTC) for when in (self.first, self.last))
        return AuditRecord(
            time=begun,
            uid=deed.uid,
            token_id=deed.token_id,
            request_id=self.request_id,
            call=deed.call,
            target=deed.target,
            status=deed.status,
            errno=deed.errno,
            count=self.count,
            until=until if self.count > 1 else None,
        )


@dataclass(slots=True)
class AuditCounts:
    """Totals since the start, for /metrics."""

    records: int = 0
    """Deeds, each time one was done."""
    rows: int = 0
    """Written, after equal ones became one."""
    lost: int = 0
    """Deeds that were not kept, since too many waited to be written."""
    failures: int = 0
    """Times that the database refused to take some."""


class Auditing:
    """Keeps the journal of one service. On the event loop's thread; `clock` gives seconds since 1970."""

    def __init__(self, journal: JournalPort, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock
        self._open: dict[Deed, Open] = {}
        self._over: deque[Open] = deque()
        self._strangers = 0
        self._writing = asyncio.Lock()
        self._failing = False
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._group: asyncio.Task[bool] | None = None
        self._threads = Threads(THREADS, "everspace-audit")
        self.counts = AuditCounts()

    @property
    def pending(self) -> int:
        """Records that wait to be written."""
        return len(self._open) + len(self._over)

    @property
    def lag_s(self) -> float:
        """How long the oldest of them has been waiting."""
        oldest = next(iter(self._over), None) or next(iter(self._open.values()), None)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest.first)

    def observe(self, exchange: Exchange, _: float) -> None:
        """An observer of the gate. A request that was left before its end did nothing, and is not told."""
        status = exchange.status
        if status >= 400 or (status and exchange.method not in SAFE):
            call = exchange.operation or exchange.method
            self._note(exchange, f"{call} (replayed)" if exchange.replayed else call, status, exchange.errno)

    def called(self, exchange: Exchange, call: str, errno: str | None = None, value: object = None) -> None:
        """One call of a batch that changed something and gave `value`, or was refused with `errno`."""
        status = 200 if errno is None else status_of(EngineError(errno, call))
        noun = MAKES.get(call)
        made = f"{API_PREFIX}/{noun}/{value}" if noun is not None and isinstance(value, int) else ""
        self._note(exchange, call, status, errno, made)

    async def query(
        self,
        *,
        uid: int | None,
        call: str | None,
        errno: str | None,
        since: datetime | None,
        until: datetime | None,
        after: int | None,
        limit: int,
    ) -> list[AuditEntry]:
        """Entries, newest first, those of everything that was done before the question. Raises AccountsUnreachable."""
        asked = partial(
            self._journal.query,
            uid=uid,
            call=call,
            errno=errno,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )
        async with answering():
            await self.flush()
            return await self._threads.run(asked)

    async def flush(self, *, everything: bool = True) -> bool:
        """Write what is over, or everything; whether nothing is left. One that fails is tried again with the next call."""
        await self._writing.acquire()
        self._group = asyncio.create_task(self._flush(everything=everything))
        return await asyncio.shield(self._group)

    async def _flush(self, *, everything: bool) -> bool:
        """Whoever stops waiting does not stop this: what is being written would be written twice."""
        try:
            self._end(None if everything else self._clock())
            while self._over:
                group = list(islice(self._over, GROUP_MAX))
                await self._threads.run(partial(self._write, group))
                for _ in group:
                    self._over.popleft()
                self.counts.rows += len(group)
                if self._failing:
                    log.warning("the audit journal is written again, %d records wait", self.pending)
                self._failing = False
        except Exception as failure:
            self.counts.failures += 1
            if not self._failing:
                unforeseen = None if isinstance(failure, AccountsUnreachable) else failure
                said = "the audit journal takes nothing, %d records wait: %s"
                log.error(said, self.pending, failure, exc_info=unforeseen)
            self._failing = True
            return False
        finally:
            self._writing.release()
        return True

    def start(self) -> None:
        """Write from now on, on the event loop that runs."""
        self._task = asyncio.create_task(self._write_on())

    async def close(self) -> None:
        """The last chance of everything that waits, for `CLOSE_S`: a database that says nothing keeps no service from its end."""
        self._closed.set()
        written = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                if self._task is not None:
                    await self._task
                written = await self.flush()
        if not written:
            log.error("%d records of the audit journal are lost: it cannot be written", self.pending)
        if self._group is not None:
            self._group.cancel()

    async def _write_on(self) -> None:
        """Until it is closed."""
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), WRITE_S)
            if self.pending:
                await self.flush(everything=False)

    def _write(self, group: Sequence[Open]) -> None:
        self._journal.append([each.record() for each in group])

    def _note(
        self, exchange: Exchange, call: str, status: int, errno: str | None, made: str | None = None
    ) -> None:
        self.counts.records += 1
        target = target_of(exchange.scope["path"], exchange.made if made is None else made)
        grant = exchange.grant
        if grant is None:
            deed = Deed(None, None, call, target, status, errno)
        else:
            deed = Deed(exchange.cred.uid, grant.token_id, call, target, status, errno)
        now = self._clock()
        held = self._open.get(deed)
        if held is None and grant is None and self._strangers >= STRANGERS_MAX:
            deed = deed._replace(call="", target="*")
            held = self._open.get(deed)
        if held is not None:
            if 0 <= now - held.first < MERGED_S:
                held.last = now
                held.count += 1
                return
            self._end_one(held)
        if self.pending >= PENDING_MAX:
            if not self.counts.lost:
                log.error("records of the audit journal are lost: %d wait to be written", self.pending)
            self.counts.lost += 1
            return
        self._open[deed] = Open(deed, _request_id(exchange), now, now)
        self._strangers += grant is None

    def _end(self, now: float | None) -> None:
        """What began more than `MERGED_S` before `now` is over, or everything: it began before whatever stands behind it.

        So is what began after `now`: the clock has been set back since.
        """
        while self._open:
            oldest = next(iter(self._open.values()))
            if now is not None and 0 <= now - oldest.first < MERGED_S:
                break
            self._end_one(oldest)

    def _end_one(self, held: Open) -> None:
        del self._open[held.deed]
        self._strangers -= held.deed.token_id is None
        self._over.append(held)


def target_of(path: str, made: str) -> str:
    """What it was about: the path, and what was made there. Tokens that somebody put into a path are struck out."""
    path = struck(path)
    if not made:
        return path
    return made if made.startswith(path) else f"{path} -> {made}"


def _request_id(exchange: Exchange) -> str:
    common = exchange.common
    return struck(common[1][1].decode("ascii")) if len(common) > 1 else ""
