"""Waiting for the locks of a space: who calls vas_switch with a timeout stands in the engine's queue until it is his turn.

Nobody asks again and again: the engine tells when a turn may have come, which is when a thread has left a space for good,
a waiter has given up or ended, or something was taken back. Then those whose turn it is are woken, in their order.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from app.errors import HttpProblem
from app.executor import Executor
from app.http.exchange import ClientGoneError
from app.http.streaming import Listener, leaves
from engine.credentials import Credentials
from engine.errors import EngineError
from engine.machine import Machine
from engine.spaces.locks import Ticket

ETIMEDOUT: Final = "ETIMEDOUT"


class Switching:
    """The waiters of one service. All but `close` runs on the event loop's thread."""

    _executor: Executor
    _loop: asyncio.AbstractEventLoop

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._turns: dict[Ticket, asyncio.Future[None]] = {}
        self._called = False
        self._closed = False
        self._started = False

    def start(self, executor: Executor) -> None:
        """Waiting is possible from now on, on the event loop that runs."""
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._started = True
        self._machine.locks.on_change.append(self._look)

    async def switch(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        vid: int,
        patience: float | None,
        client: Listener,
    ) -> None:
        """vas_switch that waits up to `patience` seconds, without end for None. ESRCH, EPERM, EINVAL: not attached.

        EAGAIN: a lock is not free, and `patience` is 0; ETIMEDOUT; EBUSY: the wait would close a ring; ESRCH: the thread has
        ended meanwhile. Raises ClientGoneError when the client leaves, HttpProblem 503 when the service stops.
        """
        machine = self._machine
        if patience == 0 or not vid or not machine.locks.needed:
            await self._executor.run(lambda: machine.vas_switch(cred, pid, tid, vid))
            return
        ticket = Ticket()
        try:
            if not await self._executor.run(lambda: machine.vas_switch_or_queue(cred, pid, tid, vid, ticket)):
                await self._wait(ticket, patience, client)
        finally:
            machine.locks.leave(ticket)

    def close(self) -> None:
        """Let all waiters end. From any thread and from signal handlers."""
        self._closed = True
        if self._started and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, lambda: list(self._turns))

    async def _wait(self, ticket: Ticket, patience: float | None, client: Listener) -> None:
        deadline = None if patience is None else self._loop.time() + patience
        leaving = asyncio.create_task(leaves(client))
        try:
            while not self._stopping():
                turn = self._turns[ticket] = self._loop.create_future()
                self._look()
                left = None if deadline is None else max(0.0, deadline - self._loop.time())
                done, _ = await asyncio.wait(
                    {turn, leaving}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if leaving in done:
                    raise leaving.result() or ClientGoneError
                if self._stopping():
                    break
                if await self._executor.run(lambda: self._machine.vas_switch_in_turn(ticket)):
                    return
                if not done:
                    raise EngineError(
                        ETIMEDOUT,
                        f"a lock of space {ticket.vid} was not free within {patience} s",
                        holder=self._machine.locks.holder(ticket),
                    )
            raise HttpProblem(503, "the service is shutting down", (b"retry-after", b"1"))
        finally:
            self._turns.pop(ticket, None)
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving

    def _stopping(self) -> bool:
        return self._closed

    def _look(self) -> None:
        """Soon, and once for everything that happens until then, see whose turn it is."""
        if not self._called:
            self._called = True
            self._loop.call_soon(self._wake, self._machine.locks.ready)

    def _wake(self, whom: Callable[[], list[Ticket]]) -> None:
        self._called = False
        for ticket in whom():
            turn = self._turns.pop(ticket, None)
            if turn is not None and not turn.done():
                turn.set_result(None)
