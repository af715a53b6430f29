"""Leases of tasks: any call about a task renews its lease; when one runs out, the task exits."""

import heapq
from collections.abc import Callable


class Leases:
    """Deadlines by pid. `clock` gives seconds that never go back. Renewing costs one dictionary store."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._leases: dict[int, tuple[float, float]] = {}
        self._queue: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._leases)

    def watch(self, pid: int, lease_s: float, after_s: float | None = None) -> None:
        """Start the lease of a task, which ends `lease_s` seconds, or `after_s`, from now."""
        deadline = self._clock() + (lease_s if after_s is None else after_s)
        self._leases[pid] = (deadline, lease_s)
        heapq.heappush(self._queue, (deadline, pid))

    def renew(self, pid: int) -> None:
        """Start the lease of a task anew. A pid without a lease is ignored."""
        lease = self._leases.get(pid)
        if lease is not None:
            self._leases[pid] = (self._clock() + lease[1], lease[1])

    def forget(self, pid: int) -> None:
        """The task is gone."""
        self._leases.pop(pid, None)

    def expired(self) -> list[int]:
        """Pids whose lease has run out; each is named once. Work is proportional to the deadlines that passed."""
        now = self._clock()
        gone = []
        while self._queue and self._queue[0][0] <= now:
            _, pid = heapq.heappop(self._queue)
            lease = self._leases.get(pid)
            if lease is None:
                continue
            if lease[0] <= now:
                del self._leases[pid]
                gone.append(pid)
            else:
                heapq.heappush(self._queue, (lease[0], pid))
        return gone
