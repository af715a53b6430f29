"""How many requests a second: never more than the rate in any second, and told with every answer.

RateLimit and RateLimit-Policy are those of draft-ietf-httpapi-ratelimit-headers: what may still be asked for in this
second, and what may be asked for in each.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from app.errors import Header
from engine.errors import EAGAIN, EngineError

WINDOW_S: Final = 1.0
POLICY: Final = b"ratelimit-policy"
LIMIT: Final = b"ratelimit"
UIDS_MAX: Final = 65_536
"""Accounts whose requests are counted at a time; those that were idle for longest are forgotten."""


class Window:
    """Times of the last second, at most `rate` of them."""

    __slots__ = ("_times", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._times: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Seconds until there is room for one more; 0.0 when there is."""
        times = self._times
        past = now - WINDOW_S
        while times and times[0] <= past:
            times.popleft()
        return 0.0 if len(times) < self.rate else times[len(times) - self.rate] - past

    def take(self, now: float) -> None:
        """One more; to be called when there is room, or the oldest gives way."""
        if len(self._times) >= self.rate:
            self._times.popleft()
        self._times.append(now)

    @property
    def room(self) -> int:
        """How many more there is room for, as of the last question."""
        return max(0, self.rate - len(self._times))


class Rates:
    """The requests of each account. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[int, Window] = {}
        self.refusals = 0

    def admit(self, uid: int, rate: int) -> list[Header]:
        """One more request of an account with that rate. EAGAIN in `RateRefusedError`. The headers to be sent with its answer."""
        window = self._windows.pop(uid, None)
        if window is None:
            if len(self._windows) >= UIDS_MAX:
                del self._windows[next(iter(self._windows))]
            window = Window(rate)
        self._windows[uid] = window
        window.rate = rate
        now = self._clock()
        wait = window.wait(now)
        if wait:
            self.refusals += 1
            raise RateRefusedError(uid, rate, headers(rate, 0, wait))
        window.take(now)
        return headers(rate, window.room, WINDOW_S)


class RateRefusedError(EngineError):
    """EAGAIN: more requests than the account may make. `headers` are to be sent with the answer."""

    def __init__(self, uid: int, rate: int, headers: list[Header]) -> None:
        super().__init__(EAGAIN, f"uid {uid} may make {rate} requests a second", resource="rate", quota=rate)
        self.headers = headers


def headers(rate: int, room: int, wait: float) -> list[Header]:
    """What an account with a rate is told: the policy, what is left of it, and seconds until there is more."""
    seconds = -int(-wait // 1)
    return [(POLICY, b'"requests";q=%d;w=1' % rate), (LIMIT, b'"requests";r=%d;t=%d' % (room, seconds))]
