"""A few threads of their own for what may never answer, so that nothing else waits for it, and the process's end neither."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Asked(NamedTuple):
    """A call for a thread, and whom to tell how it ended: its value, or what it raised."""

    call: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    tell: Callable[[Any, BaseException | None], None]


class Threads:
    """At most `count` calls at a time; one more waits on the event loop, and is forgotten when nobody waits for it.

    The threads are daemons: one whose call never returns is left behind when the process ends. They end with this object.
    """

    def __init__(self, count: int, name: str) -> None:
        self._free = asyncio.Semaphore(count)
        self._name = name
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._busy = 0
        self._started = 0
        weakref.finalize(self, _end, self._asked, count)

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`. Who stops waiting for it frees himself, not the thread."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(value: T, failure: BaseException | None) -> None:
            self._busy -= 1
            self._free.release()
            if done.done():
                return
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(value)

        self._busy += 1
        if self._busy > self._started:
            self._started += 1
            threading.Thread(target=_work, args=(self._asked,), name=self._name, daemon=True).start()
        self._asked.put(_Asked(call, loop, tell))
        return await done


def _work(asked: "SimpleQueue[_Asked | None]") -> None:
    """A thread: call after call, until there is None."""
    while (each := asked.get()) is not None:
        value, failure = None, None
        try:
            value = each.call()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            each.loop.call_soon_threadsafe(each.tell, value, failure)
        del each, value, failure


def _end(asked: "SimpleQueue[_Asked | None]", count: int) -> None:
    for _ in range(count):
        asked.put(None)
