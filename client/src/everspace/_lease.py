"""Which leases are to be renewed, and when: the pure half of the heartbeat."""

from collections.abc import Callable
from typing import Final

from everspace._calls.call import TaskState

SHARE: Final = 3.0
"""A lease is renewed when a third of it has gone, so that two renewals may fail."""
RETRY_SHARE: Final = 10.0
"""After a renewal that failed the next is tried after a tenth of the lease."""
REST_SECONDS: Final = 60.0


class LeaseBook:
    """The tasks of one client. A call of a task renews it, too: `TaskState.renewed_at` says when it last was.

    Adding and removing are single operations on a dict, so any thread may do them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[int, TaskState] = {}  # by identity: a pid changes when the task is brought back
        self._not_before: dict[int, float] = {}

    def add(self, task: TaskState) -> None:
        """Keep this task alive."""
        self._tasks[id(task)] = task

    def remove(self, task: TaskState) -> None:
        """No longer."""
        self._tasks.pop(id(task), None)
        self._not_before.pop(id(task), None)

    def tasks(self) -> list[TaskState]:
        """All that are kept alive."""
        return list(self._tasks.values())

    def due(self) -> list[TaskState]:
        """The tasks to renew now; ended ones are dropped."""
        now = self._clock()
        for task in self.tasks():
            if task.ended:
                self.remove(task)
        return [task for task in self.tasks() if self._when(task) <= now]

    def failed(self, task: TaskState) -> None:
        """The renewal did not get through: try again soon."""
        if id(task) in self._tasks:
            self._not_before[id(task)] = self._clock() + task.lease_s / RETRY_SHARE

    def pause(self) -> float:
        """Seconds until the next renewal is due."""
        now = self._clock()
        return min([REST_SECONDS, *(max(0.0, self._when(task) - now) for task in self.tasks())])

    def _when(self, task: TaskState) -> float:
        return max(task.renewed_at + task.lease_s / SHARE, self._not_before.get(id(task), 0.0))
