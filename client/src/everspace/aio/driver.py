"""The async half that does I/O above the transport: send, try again, bring tasks back, renew leases."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from everspace._calls.call import Call, TaskState, ThreadState
from everspace._calls.tasks import exit_task, heartbeat, respawn
from everspace._driver import ROUNDS_MAX, heartbeat_patience
from everspace._lease import LeaseBook
from everspace._session import Session
from everspace.errors import NoSuchProcessError, TransportError, VasError
from everspace.transport import AsyncStream, AsyncTransport, Request, Response

T = TypeVar("T")


class AsyncDriver:
    """Performs calls for one client on one event loop."""

    def __init__(
        self,
        transport: AsyncTransport,
        session: Session,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.session = session
        self.book = LeaseBook(session.clock)
        self._transport = transport
        self._sleep = sleep
        self._reviving = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopped = False
        self._pid = os.getpid()

    async def perform(
        self, call: Call[T], task: TaskState | None = None, thread: ThreadState | None = None
    ) -> T:
        """The call's result, or its error raised."""
        key = self.session.key(call)
        for _ in range(ROUNDS_MAX):
            asked = "" if task is None else task.instance
            try:
                return await self._once(call, task, thread, key)
            except NoSuchProcessError as error:
                if task is None or not self.session.lost_its_task(error, call, task, asked):
                    raise
                await self._revive(task, error.instance)
        return await self._once(call, task, thread, key)

    def keep(self, task: TaskState) -> None:
        """Renew its lease in the background from now on."""
        self.book.add(task)
        if not self._stopped and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.get_running_loop().create_task(
                self._renew_all(), name="everspace-leases"
            )
        self._wake.set()

    @property
    def stopped(self) -> bool:
        """Whether the client was closed."""
        return self._stopped

    async def stream(self, request: Request) -> AsyncStream:
        """An answer without an end. TypeError: not with this transport."""
        stream = getattr(self._transport, "stream", None)
        if stream is None:
            raise TypeError(f"{type(self._transport).__name__} has no stream()")
        opened: AsyncStream = await stream(request)
        return opened

    async def stop(self) -> None:
        """End the renewals and the connections; tasks are left to their leases."""
        self._stopped = True
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait([renewing])
        await self._transport.close()

    async def exit_tasks(self) -> None:
        """End every task that is still kept alive; one that cannot be reached is left to its lease."""
        if self._pid != os.getpid():  # a child of os.fork: they are the parent's
            return
        for task in self.book.tasks():
            self.book.remove(task)
            if not task.ended:
                try:
                    await self._once(exit_task(), task, task.threads[0])
                except TransportError:
                    return
                except VasError:
                    continue  # ended already

    async def renew(self) -> float:
        """Renew what is due; the seconds until something is due again."""
        for task in self.book.due():
            call = heartbeat()
            try:
                await self.perform(call, task, task.threads[0])
            except NoSuchProcessError:
                self.book.remove(task)  # the next call of the task will tell its owner
            except VasError:
                self.book.failed(task)
        return self.book.pause()

    async def _renew_all(self) -> None:
        while not self._stopped:
            pause = await self.renew()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _once(
        self, call: Call[T], task: TaskState | None, thread: ThreadState | None, key: str = ""
    ) -> T:
        request = heartbeat_patience(self.session.request(call, task, thread, key), call, task)
        return self.session.result(call, await self._exchange(request), task, thread)

    async def _exchange(self, request: Request) -> Response:
        tries = self.session.tries(request)
        while True:
            try:
                response = await self._transport.send(request)
                pause = tries.after_response(response)
                if pause is None:
                    return response
            except TransportError as error:
                pause = tries.after_failure(error)
                if pause is None:
                    failure = tries.told(error)
                    raise failure from failure.__cause__
            await self._sleep(pause)

    async def _revive(self, task: TaskState, instance: str) -> None:
        """Bring the task back under the service's new start, unless somebody else has done so meanwhile."""
        async with self._reviving:
            if task.instance == instance:
                return
            steps = respawn(task)
            result: Any = None
            error: VasError | None = None
            while True:
                try:
                    call, thread = steps.send(result) if error is None else steps.throw(error)
                except StopIteration:
                    return
                result, error = None, None
                try:
                    again = replace(call, repeatable=True)
                    result = await self._once(again, task, thread, self.session.key(call))
                except VasError as failed:
                    error = failed
