"""Stores that were answered at once, and taken back with a commit of others that failed: they are made again.

They are made in the order in which they were answered, and nobody sees the state between: where pages have to be
fetched for one of them, every other call waits. Only a crash may lose what was written relaxed.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.outcomes import ManyPagesNeeded, Outcome
from engine.errors import ENOMEM, EngineError, PagesNeeded
from engine.journal import Transaction
from engine.machine import Machine

Call = Callable[[], object]
TRIES: Final = 50
"""Times that pages of one store are asked for in vain: about five seconds of a disk that cannot be read."""
PAUSE_S: Final = 0.1

log = logging.getLogger("everspace.redoing")


class Redoing:
    """The stores that have to be made again. `track`, `fetch` and `write_back` are the executor's."""

    def __init__(
        self,
        machine: Machine,
        track: Callable[[Transaction, object, EngineError | None], Outcome],
        fetch: Callable[[Sequence[PagesNeeded], contextlib.ExitStack], Awaitable[None]],
        write_back: Callable[[], Awaitable[bool]],
    ) -> None:
        self._machine = machine
        self._track = track
        self._fetch = fetch
        self._write_back = write_back
        self._calls: deque[Call] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether all other calls have to wait."""
        return self._task is not None

    async def over(self) -> None:
        """Wait until everything is as it was answered."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def begin(self, calls: Sequence[Call]) -> None:
        """Make `calls` again, which come before those that are still to be made; at once, as far as pages are there."""
        self._calls.extendleft(reversed(calls))
        if self._task is None and not self._advance():
            self._task = asyncio.get_running_loop().create_task(self._finish())

    def _advance(self) -> bool:
        """Make stores until one of them lacks something; whether all are made."""
        while self._calls:
            try:
                self._make(self._calls[0])
            except (PagesNeeded, ManyPagesNeeded):
                return False
            except EngineError as refused:
                if refused.errno == ENOMEM:
                    return False
                log.warning("a relaxed store stood on what was taken back: %s", refused)
            self._calls.popleft()
        return True

    def _make(self, call: Call) -> None:
        """Quotas were judged when it was answered."""
        refused: EngineError | None = None
        try:
            with self._machine.transaction() as txn:
                call()
        except EngineError as error:
            if not error.partial:
                raise
            refused = error
        outcome = self._track(txn, None, refused)
        if outcome.entry is not None and outcome.owns:
            outcome.entry.redo = call

    async def _finish(self) -> None:
        """Get what the first store lacks, and go on; a commit may fail meanwhile and put others before it."""
        try:
            while not self._advance():
                call = self._calls[0]
                for number in range(1, TRIES + 1):
                    with contextlib.ExitStack() as kept:
                        if await self._supplied(call, kept):
                            break
                    if number == TRIES and self._calls[0] is call:
                        log.error("a relaxed store that was taken back cannot be made again")
                        self._calls.popleft()
        finally:
            self._task = None

    async def _supplied(self, call: Call, kept: contextlib.ExitStack) -> bool:
        """Whether `call` is made, or no longer the first. What it needs stays in memory until `kept` is closed."""
        while self._calls[0] is call:
            try:
                self._make(call)
            except PagesNeeded as need:
                needs = [need.with_traceback(None)]
            except ManyPagesNeeded as many:
                needs = many.needs
            except EngineError as refused:
                if refused.errno != ENOMEM:
                    return True  # `_advance` says so
                needs = []
            else:
                self._calls.popleft()
                return True
            try:
                if needs:
                    await self._fetch(needs, kept)
                elif not await self._write_back():
                    await asyncio.sleep(PAUSE_S)
                    return False
            except EngineError as failure:
                log.warning("a relaxed store that was taken back waits: %s", failure)
                await asyncio.sleep(PAUSE_S)
                return False
        return True
