"""The async batch."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from everspace._batch import BatchCalls
from everspace._calls import tasks
from everspace._calls.call import TaskState, ThreadState
from everspace._gathered import Handle
from everspace.errors import VasError

if TYPE_CHECKING:
    from everspace.aio.client import AsyncClient
    from everspace.aio.task import AsyncTask, AsyncThread


class AsyncBatch(BatchCalls):
    """Made by `task.batch()`: a context manager whose calls are sent as one request when the block is left.

    Each call gets its own result. With `atomic`, all are done or none: the first that fails ends it, leaving the
    block raises its error, whose `index` says which one it was. An exception inside the block sends nothing.
    """

    def __init__(self, client: "AsyncClient", task: TaskState, thread: ThreadState, atomic: bool) -> None:
        super().__init__(task, thread, atomic)
        self._client = client

    def thread(self) -> "Handle[AsyncThread]":
        """See Task."""
        from everspace.aio.task import AsyncThread

        return self._add_made(tasks.thread(), lambda state: AsyncThread(self._client, self._task, state))

    def fork(self) -> "Handle[AsyncTask]":
        """See Task."""
        return self._add_made(tasks.fork(), self._client.adopt)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
            return
        self._closed = True
        if not self._entries:
            return
        try:
            results = await self._client.perform(self._request(), self._task, self._thread)
        except VasError as refused:
            self._abandon(refused)
            raise
        self._settle(self._client.session, results)
