"""The sync batch."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from everspace._batch import BatchCalls
from everspace._calls import tasks
from everspace._calls.call import TaskState, ThreadState
from everspace._gathered import Handle
from everspace.errors import VasError

if TYPE_CHECKING:
    from everspace.client import Client
    from everspace.task import Task, Thread


class Batch(BatchCalls):
    """Made by `task.batch()`: a context manager whose calls are sent as one request when the block is left.

    Each call gets its own result. With `atomic`, all are done or none: the first that fails ends it, leaving the
    block raises its error, whose `index` says which one it was. An exception inside the block sends nothing.
    """

    def __init__(self, client: "Client", task: TaskState, thread: ThreadState, atomic: bool) -> None:
        super().__init__(task, thread, atomic)
        self._client = client

    def thread(self) -> "Handle[Thread]":
        """See Task."""
        from everspace.task import Thread

        return self._add_made(tasks.thread(), lambda state: Thread(self._client, self._task, state))

    def fork(self) -> "Handle[Task]":
        """See Task."""
        return self._add_made(tasks.fork(), self._client.adopt)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
            return
        self._closed = True
        if not self._entries:
            return
        try:
            results = self._client.perform(self._request(), self._task, self._thread)
        except VasError as refused:
            self._abandon(refused)
            raise
        self._settle(self._client.session, results)
