"""The sync half that does I/O above the transport: send, try again, bring tasks back, renew leases."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from everspace._calls.call import Call, TaskState, ThreadState
from everspace._calls.tasks import exit_task, heartbeat, respawn
from everspace._lease import SHARE, LeaseBook
from everspace._session import Session
from everspace.errors import NoSuchProcessError, TransportError, VasError
from everspace.transport import Request, Response, Stream, Transport

T = TypeVar("T")
JOIN_SECONDS: Final = 2.0
ROUNDS_MAX: Final = 3
"""How many restarts of the service one call outlives."""


class Driver:
    """Performs calls for one client, from any thread. Lock order: `_reviving` before the transport's own."""

    def __init__(
        self, transport: Transport, session: Session, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.session = session
        self.book = LeaseBook(session.clock)
        self._transport = transport
        self._sleep = sleep
        self._reviving = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._pid = os.getpid()

    def perform(self, call: Call[T], task: TaskState | None = None, thread: ThreadState | None = None) -> T:
        """The call's result, or its error raised."""
        key = self.session.key(call)
        for _ in range(ROUNDS_MAX):
            asked = "" if task is None else task.instance
            try:
                return self._once(call, task, thread, key)
            except NoSuchProcessError as error:
                if task is None or not self.session.lost_its_task(error, call, task, asked):
                    raise
                self._revive(task, error.instance)
        return self._once(call, task, thread, key)

    def keep(self, task: TaskState) -> None:
        """Renew its lease in the background from now on."""
        self.book.add(task)
        with self._starting:
            if not self._stopped and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._renew_all, name="everspace-leases", daemon=True)
                self._thread.start()
        self._wake.set()

    @property
    def stopped(self) -> bool:
        """Whether the client was closed."""
        return self._stopped

    def stream(self, request: Request) -> Stream:
        """An answer without an end. TypeError: not with this transport."""
        stream = getattr(self._transport, "stream", None)
        if stream is None:
            raise TypeError(f"{type(self._transport).__name__} has no stream()")
        opened: Stream = stream(request)
        return opened

    def stop(self) -> None:
        """End the renewals and the connections; tasks are left to their leases."""
        self._stopped = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
        self._transport.close()

    def exit_tasks(self) -> None:
        """End every task that is still kept alive; one that cannot be reached is left to its lease."""
        if self._pid != os.getpid():  # a child of os.fork: they are the parent's
            return
        for task in self.book.tasks():
            self.book.remove(task)
            if not task.ended:
                try:
                    self._once(exit_task(), task, task.threads[0])
                except TransportError:
                    return
                except VasError:
                    continue  # ended already

    def renew(self) -> float:
        """Renew what is due; the seconds until something is due again."""
        for task in self.book.due():
            call = heartbeat()
            try:
                self.perform(call, task, task.threads[0])
            except NoSuchProcessError:
                self.book.remove(task)  # the next call of the task will tell its owner
            except VasError:
                self.book.failed(task)
        return self.book.pause()

    def _renew_all(self) -> None:
        while not self._stopped:
            self._wake.wait(self.renew())
            self._wake.clear()

    def _once(self, call: Call[T], task: TaskState | None, thread: ThreadState | None, key: str = "") -> T:
        request = heartbeat_patience(self.session.request(call, task, thread, key), call, task)
        return self.session.result(call, self._exchange(request), task, thread)

    def _exchange(self, request: Request) -> Response:
        tries = self.session.tries(request)
        while True:
            try:
                response = self._transport.send(request)
                pause = tries.after_response(response)
                if pause is None:
                    return response
            except TransportError as error:
                pause = tries.after_failure(error)
                if pause is None:
                    failure = tries.told(error)
                    raise failure from failure.__cause__
            self._sleep(pause)

    def _revive(self, task: TaskState, instance: str) -> None:
        """Bring the task back under the service's new start, unless another thread has done so meanwhile."""
        with self._reviving:
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
                    result = self._once(again, task, thread, self.session.key(call))
                except VasError as failed:
                    error = failed


def heartbeat_patience(request: Request, call: Call[Any], task: TaskState | None) -> Request:
    """A heartbeat that is not answered in time for the next one is given up."""
    if task is None or call.name != "heartbeat":
        return request
    limit = task.lease_s / SHARE
    return replace(request, timeout=limit if request.timeout is None else min(request.timeout, limit))
