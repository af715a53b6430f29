"""Room for bodies: how many bytes of requests and of answers are held at a time, all connections together."""

from collections import Counter

from engine.credentials import Credentials
from engine.errors import EAGAIN, EngineError


class Room:
    """`capacity` in bytes, of which one account, but for root's, has at most half. On the event loop's thread.

    Whoever holds nothing where nothing is held is let in, however much he takes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self.refusals = 0
        self._taken_by: Counter[int] = Counter()

    def take(self, cred: Credentials, count: int, *, must: bool = False) -> None:
        """Hold `count` bytes more. EAGAIN: there is no room for them; `must` holds them all the same."""
        mine = self._taken_by[cred.uid]
        share = self.capacity if cred.is_root else self.capacity // 2
        full = self.taken and self.taken + count > self.capacity
        if not must and (full or (mine and mine + count > share)):
            self.refusals += 1
            raise EngineError(
                EAGAIN,
                f"bodies of {self.taken} bytes are held, {mine} of them for uid {cred.uid}: no room for {count} more",
            )
        self.taken += count
        self._taken_by[cred.uid] += count

    def give(self, cred: Credentials, count: int) -> None:
        """They are not held any longer."""
        self.taken -= count
        self._taken_by[cred.uid] -= count
        if not self._taken_by[cred.uid]:
            del self._taken_by[cred.uid]
