"""Between calls and the transport, still without I/O: a call becomes a request, a response its result or error,
and an outcome the decision whether to try again. The sync and the async client share all of it.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from everspace._calls.call import Call, TaskState, ThreadState
from everspace.errors import (
    CannotConnectError,
    ConnectionLostError,
    NoSuchProcessError,
    ProtocolError,
    TransportError,
    VasError,
    problem_error,
)
from everspace.transport import Request, Response
from everspace.wire import API_PREFIX, HEADER_INSTANCE, HEADER_KEY, HEADER_REQUEST_ID, MEDIA_JSON

T = TypeVar("T")
SDK_VERSION: Final = "0.1.0"
RETRIES_MAX: Final = 4
"""How often a repeatable call is tried again after a 503 that names a time."""
LOST_RETRIES_MAX: Final = 5
"""How often it is tried again after a connection was lost: in all for about two seconds."""
RETRY_SECONDS_MAX: Final = 10.0
"""A service that asks for a longer pause is not waited for."""
PATIENCE_SECONDS_MAX: Final = 1e8
"""More than three years; sockets cannot be told much more."""
RECONNECT_SECONDS: Final = 0.05
"""First pause between attempts to reach a service that restarts (respawn); it doubles up to a second."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client was told. `timeout` is the longest silence, in seconds; None waits without end."""

    token: str | None = field(default=None, repr=False)
    timeout: float | None = 30.0
    prefix: str = ""
    respawn: bool = False

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"a timeout is a number of seconds above 0, or None: {self.timeout!r}")


class Session:
    """Makes requests and reads responses. Safe to use from any thread: it only counts."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._jitter = jitter or _fraction
        self._numbers = itertools.count(1)
        self._name = os.urandom(6).hex()
        self._always: tuple[tuple[str, str], ...] = (("User-Agent", f"everspace/{SDK_VERSION}"),)
        if settings.token is not None:
            self._always = (("Authorization", f"Bearer {settings.token}"), *self._always)

    def key(self, call: Call[Any]) -> str:
        """What the service knows the call by whenever it is asked; "" for one that needs no key."""
        return os.urandom(16).hex() if call.keyed else ""

    def request(
        self, call: Call[Any], task: TaskState | None, thread: ThreadState | None, key: str = ""
    ) -> Request:
        """The call as a request of this moment: pids and tids change when a service restarts, the key does not."""
        headers = (*self._always, *call.headers, (HEADER_REQUEST_ID, f"{self._name}-{next(self._numbers):x}"))
        if key:
            headers = (*headers, (HEADER_KEY, f'"{key}"'))
        path, query, members = call.path, call.query, call.body
        if task is not None and thread is not None and call.of_task:
            path = path.replace("{pid}", str(task.pid)).replace("{tid}", str(thread.tid))
            if task.instance:
                headers = (*headers, (HEADER_INSTANCE, task.instance))
            if call.tid_in and thread is not task.threads[0]:
                if call.tid_in == "query":
                    query = f"{query}&tid={thread.tid}" if query else f"tid={thread.tid}"
                else:
                    members = {**(members or {}), "tid": thread.tid}
        if call.payload is not None:
            body = call.payload
        elif members is not None:
            body = json.dumps(members).encode()
            headers = (*headers, ("Content-Type", MEDIA_JSON))
        else:
            body = b""
        root = path[1:] if path.startswith("//") else API_PREFIX + path
        return Request(
            call.method,
            f"{self.settings.prefix}{root}?{query}" if query else f"{self.settings.prefix}{root}",
            headers,
            body,
            self._patience(call.wait),
            call.repeatable or bool(key),
            call.into,
            call.wait != 0.0,
            call.sink,
        )

    def result(
        self,
        call: Call[T],
        response: Response,
        task: TaskState | None = None,
        thread: ThreadState | None = None,
    ) -> T:
        """The call's result, or its error raised; what it means for the task is noted."""
        if not 200 <= response.status < 300:
            raise refusal(response)
        try:
            value = call.parse(response.json()) if call.answer is None else call.answer(response)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as cause:
            raise ProtocolError(
                f"the answer to {call.name} has another shape than expected: {cause!r}"
            ) from cause
        self.note(call, value, response.instance, task, thread)
        return value

    def note(
        self, call: Call[T], value: T, instance: str, task: TaskState | None, thread: ThreadState | None
    ) -> None:
        """Remember what a success means: attachments, switches, and that the lease was renewed."""
        if isinstance(value, TaskState):
            value.instance, value.renewed_at = instance, self.clock()
        if task is not None and thread is not None:
            if call.of_task:
                task.renewed_at = self.clock()
            if call.effect is not None:
                call.effect(task, thread, value)

    def tries(self, request: Request) -> "Tries":
        """The record of attempts of one request."""
        return Tries(self.settings, request, self.clock, self._jitter)

    def lost_its_task(self, error: NoSuchProcessError, call: Call[Any], task: TaskState, asked: str) -> bool:
        """Whether a call failed because the service restarted, and the task is to be brought back.

        `asked` is the instance that the call went out with: meanwhile another thread may have brought the task back.
        """
        return (
            self.settings.respawn
            and call.of_task
            and call.name != "exit"
            and task.ours
            and not task.ended
            and bool(error.instance)
            and error.instance != asked
        )

    def _patience(self, wait: float | None) -> float | None:
        timeout = self.settings.timeout
        return None if wait is None or timeout is None else min(timeout + wait, PATIENCE_SECONDS_MAX)


class Tries:
    """Decides after each outcome of one request whether it is sent again, and when."""

    def __init__(
        self,
        settings: Settings,
        request: Request,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._request = request
        self._clock = clock
        self._jitter = jitter
        self._begun = clock()
        self._made = 0
        self._lost: ConnectionLostError | None = None

    def after_response(self, response: Response) -> float | None:
        """Seconds to wait before sending it again, or None: the response stands.

        Only a 503 with Retry-After, with a jitter of up to a half on top; and a 409 that says that the service still does
        what it was asked under the same key. Either says that nothing was done. A client that outlives restarts
        (respawn) waits until its timeout, whatever the call; any other one a few times, for a repeatable call.
        """
        pause = retry_after(response.headers)
        again = response.status == 503 or (response.status == 409 and self._is_keyed)
        if not again or pause is None or pause > RETRY_SECONDS_MAX:
            return None
        if self._settings.respawn:
            if self._is_late:
                return None
        elif not self._request.repeatable or self._made >= RETRIES_MAX:
            return None
        self._made += 1
        return max(pause, RECONNECT_SECONDS) * (1.0 + self._jitter() / 2)

    def after_failure(self, error: TransportError) -> float | None:
        """The same when no answer came.

        Where nobody listened nothing was sent, so any call may be sent again; where the connection was lost in the middle,
        only a repeatable one. A client that outlives restarts (respawn) goes on until its timeout, any other one tries a
        few times, and only after the connection was lost: where nobody listens from the beginning it says so at once.
        """
        if isinstance(error, ConnectionLostError) and self._request.repeatable:
            self._lost = self._lost or error
        elif not isinstance(error, CannotConnectError):
            return None
        if self._is_late:
            return None
        if not self._settings.respawn and (self._lost is None or self._made >= LOST_RETRIES_MAX):
            return None
        self._made += 1
        return min(1.0, RECONNECT_SECONDS * 2.0 ** min(self._made - 1, 10)) * (1.0 + self._jitter() / 2)

    def told(self, error: TransportError) -> TransportError:
        """The failure that the caller is told: once a connection was lost, it is not known whether the call was done."""
        last = error if self._lost is None else self._lost
        last.request_id = next(
            (value for name, value in self._request.headers if name == HEADER_REQUEST_ID), ""
        )
        return last

    @property
    def _is_late(self) -> bool:
        limit = self._settings.timeout
        return limit is not None and self._clock() - self._begun >= limit

    @property
    def _is_keyed(self) -> bool:
        return any(name == HEADER_KEY for name, _ in self._request.headers)


def refusal(response: Response) -> VasError:
    """The error that a response stands for."""
    if 300 <= response.status < 400:
        return ProtocolError(
            f"the service answered with a redirect ({response.status}), which is not followed"
        )
    try:
        problem = json.loads(response.body) if response.body else {}
    except ValueError:
        problem = {}
    return problem_error(
        response.status,
        problem if isinstance(problem, dict) else {},
        request_id=response.request_id,
        instance=response.instance,
        retry_after=retry_after(response.headers),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of Retry-After; None if it is absent or a date."""
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _fraction() -> float:
    """A random number in [0, 1); the import of `random` would cost more than all the rest."""
    return int.from_bytes(os.urandom(4)) / 2**32
