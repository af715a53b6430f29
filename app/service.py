"""One running service: the machine, what remembers it, who may call it, and the work in the background."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Protocol

from app.accounts.auditing import Auditing, JournalPort
from app.accounts.auth import WATCH_S, AccountsPort, Authenticator
from app.events import Events
from app.executor import Executor, WriterPort
from app.leases import Leases
from app.receipts import SWEEP_SECONDS, Receipts
from app.settings import Settings
from app.switching import Switching
from engine.chronicle import Chronicle
from engine.credentials import ROOT, Credentials
from engine.errors import ESRCH, EngineError
from engine.geometry import GEOMETRIES
from engine.machine import Machine
from engine.ports import SwapArea
from engine.regions.limits import default_limits
from storage.errors import StoreError
from storage.statistics import Statistics
from storage.store import Store

FIRST_PID_MAX = 1 << 20
"""Pids start at a random number up to this: one from before a restart then hardly ever names another's task."""
LEASE_CHECK_S = 0.25
"""How often leases are looked at: well below the second within which expiry must act."""
WRITE_BACK_S = 1.0
"""How often pages that were written relaxed are handed to the store."""

log = logging.getLogger("everspace.service")


class DrainingWriter(WriterPort, Protocol):
    """A writer that commits what is queued when it is closed."""

    def close(self) -> None: ...


class ClosableSwap(SwapArea, Protocol):
    """A swap area that is removed when it is closed."""

    def close(self) -> None: ...


class ClosableAccounts(AccountsPort, Protocol):
    """Accounts that hold connections, and the audit journal."""

    @property
    def journal(self) -> JournalPort: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is made of; the composition root puts it together."""

    store: Store
    writer: DrainingWriter
    accounts: ClosableAccounts
    swap: ClosableSwap | None = None

    def close(self) -> None:
        """Commit what is queued, and release everything."""
        self.writer.close()
        self.store.close()
        self.accounts.close()
        if self.swap is not None:
            self.swap.close()


class Service:
    """Owns the machine. Everything but the constructor runs on the event loop's thread.

    `instance` is a random id of this start; `ready` turns true when calls are taken and false when draining begins.
    """

    executor: Executor

    def __init__(self, settings: Settings, parts: Parts, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.instance = secrets.token_hex(8)
        self.version = version("everspace-server")
        geometry = GEOMETRIES[settings.arch]
        frames = max(1, settings.memory // geometry.page_size)
        self.machine = Machine(
            geometry,
            frames=frames,
            first_pid=1 + secrets.randbelow(FIRST_PID_MAX),
            limits=replace(default_limits(geometry), **settings.limits),
            swap=parts.swap,
        )
        image = parts.store.load()
        self.machine.restore(image)
        chronicle = Chronicle(geometry, settings.events)
        chronicle.restore(image)
        self.events = Events(chronicle, self.instance, settings.events)
        self.machine.journal.listener = self.events.settled
        self.authenticator = Authenticator(parts.accounts, lambda: self.executor.quotas)
        self.auditing = Auditing(parts.accounts.journal)
        self.leases = Leases(clock)
        self.receipts = Receipts(self.machine.journal)
        self.receipts.restore(image.receipts)
        self.switching = Switching(self.machine)
        self.ready = False
        self.cores = 0
        """Core files being sent."""
        self.cores_of: Counter[int] = Counter()
        """The same by uid."""
        self.at_end: list[Callable[[], object]] = []
        """Called in a thread when all is over."""
        self.leases_expired = 0
        self.background_failures = 0
        """Times that work in the background ended with a defect."""
        self._parts = parts
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take calls from now on."""
        self.executor = Executor(self.machine, self._parts.store, self._parts.writer)
        self.switching.start(self.executor)
        await self._let_go()
        self.events.start()
        self.auditing.start()
        self._background = [
            asyncio.create_task(self._every(LEASE_CHECK_S, self.expire_leases)),
            asyncio.create_task(self._every(WRITE_BACK_S, self._write_back)),
            asyncio.create_task(self._every(WATCH_S, self.authenticator.look)),
            asyncio.create_task(self._every(SWEEP_SECONDS, self._sweep_receipts)),
        ]
        self.ready = True

    async def stop(self) -> None:
        """Write back what was written relaxed, wait for every commit, and release everything."""
        self.drain()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        try:
            await self._write_all()
        finally:
            await asyncio.to_thread(self._parts.writer.close)
            await self.auditing.close()
            self._parts.close()
            for end in self.at_end:
                await asyncio.to_thread(end)

    async def _write_all(self) -> None:
        """Make everything durable that was answered; once more if a commit fails, which takes back what then is made again."""
        for _ in range(2):
            try:
                await self.executor.settled()
                await self.executor.write_back()
                await self.executor.settled()
            except EngineError as failure:
                log.error("at shutdown: %s", failure)
            else:
                return

    def drain(self) -> None:
        """Refuse new calls with 503 and end the streams of events: the service is about to stop."""
        self.ready = False
        self.events.close()
        self.switching.close()

    def renew(self, cred: Credentials, pid: int) -> None:
        """A call about a task renews its lease, if the caller may act on the task."""
        with contextlib.suppress(EngineError):
            self.machine.require_task(cred, pid)
            self.leases.renew(pid)

    async def expire_leases(self) -> None:
        """Exit every task whose lease has run out; one that the store does not let go yet is tried again."""
        for pid in self.leases.expired():
            try:
                await self.executor.run(partial(self._expire, pid))
                self.leases_expired += 1
            except EngineError as refused:
                if refused.errno != ESRCH:
                    log.warning("task %d, whose lease has run out, stays for now: %s", pid, refused)
                    lease_s = self.machine.require_task(ROOT, pid).lease_s
                    self.leases.watch(pid, lease_s, LEASE_CHECK_S)

    def _expire(self, pid: int) -> None:
        uid = self.machine.require_task(ROOT, pid).cred.uid
        self.machine.journal.note("task.expired", pid=pid, uid=uid)
        self.machine.exit(ROOT, pid)

    @property
    def store_failing(self) -> StoreError | None:
        """Why nothing can be written at the moment, None if all is well."""
        return self._parts.store.failing

    def store_statistics(self) -> Statistics:
        """How much is stored. Raises StoreError."""
        return self._parts.store.statistics()

    async def _let_go(self) -> None:
        """What does not outlive a service goes in the first commit of the next one."""
        try:
            await self.executor.run(self.machine.start)
        except EngineError as failure:
            log.error("what the last start left behind stays: %s", failure)

    async def _sweep_receipts(self) -> None:
        await self.executor.run(self.receipts.sweep)

    async def _write_back(self) -> None:
        try:
            await self.executor.write_back()
        except EngineError as failure:
            log.warning("pages written relaxed stay in memory: %s", failure)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                self.background_failures += 1
                log.exception("background work failed; it will be tried again")
