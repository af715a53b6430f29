"""One thread that owns every write transaction, and commits in one step what has gathered meanwhile."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from engine.changes import Change, PutPages
from storage.errors import StoreError
from storage.store import Store

GROUP_BYTES_MAX: Final = 16 << 20
"""Page bytes from which a group takes in no further transaction. One that is larger makes a group of its own."""
PROBE_S: Final = 1.0
"""While writing fails and nobody writes, it is tried this often."""

_log = logging.getLogger(__name__)


class WriterClosed(RuntimeError):
    """`submit` after `close`."""


@dataclass(frozen=True, slots=True)
class _Entry:
    changes: Sequence[Change]
    future: Future[None] = field(default_factory=Future)

    @property
    def page_bytes(self) -> int:
        return sum(len(change.data) for change in self.changes if isinstance(change, PutPages))


class Writer:
    """Group commit. `submit` returns at once; the order of submission is the order of commit.

    Failure: when a group fails, its futures fail, and so does everything that was queued behind it or is submitted
    later, with the same exception and without being tried, until `resume` is called. What was queued had been decided
    in the belief that the failed group would be there; the caller rolls all of it back and then resumes:

        commit fails  ->  every unanswered transaction fails  ->  caller rolls back, newest first  ->  resume()

    Futures cannot be cancelled: what was submitted will be committed or fail. Their callbacks run in the writer's
    thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        group_bytes_max: int = GROUP_BYTES_MAX,
        on_commit: Callable[[int, float], None] | None = None,
    ) -> None:
        """`on_commit` is told, in the writer's thread, of each commit that was tried: transactions, and seconds."""
        self._store = store
        self._on_commit = on_commit
        self._group_bytes_max = group_bytes_max
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="everspace-writer", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> Exception | None:
        """Why everything fails until `resume`; None when all is well."""
        return self._failure

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        """Queue one transaction. The future completes when it is durable, or fails as the class describes.

        `changes` must not be modified afterwards. Raises WriterClosed after `close`.
        """
        entry = _Entry(changes)
        entry.future.set_running_or_notify_cancel()
        with self._changed:
            if self._closing:
                raise WriterClosed("the writer is closed")
            failure = self._failure
            if failure is None:
                self._queue.append(entry)
                self._changed.notify()
        if failure is not None:
            entry.future.set_exception(failure)
        return entry.future

    def resume(self) -> None:
        """Take transactions again after a failure: everything that failed has been rolled back."""
        with self._changed:
            self._failure = None

    def close(self) -> None:
        """Commit what is queued, then stop. Idempotent; does not close the store."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # --- the writer's thread

    def _run(self) -> None:
        tidy = True
        while True:
            with self._changed:
                while not self._queue and not self._closing and tidy:
                    if not self._changed.wait(None if self._store.failing is None else PROBE_S):
                        break
                if not self._queue and self._closing:
                    return
                group = self._take_group()
                waiting = bool(self._queue)
            if group:
                self._commit(group)
            elif tidy and not self._probe():
                continue
            tidy = not self._maintain(busy=waiting)

    def _take_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        room = self._group_bytes_max
        while self._queue and (not group or self._queue[0].page_bytes <= room):
            entry = self._queue.popleft()
            room -= entry.page_bytes
            group.append(entry)
        return group

    def _commit(self, group: list[_Entry]) -> None:
        began = perf_counter()
        failure: Exception | None = None
        try:
            self._store.commit([entry.changes for entry in group])
        except Exception as error:  # noqa: BLE001 - whatever it was, the futures must hear of it
            failure = error
        self._tell(len(group), perf_counter() - began)
        if failure is None:
            for entry in group:
                entry.future.set_result(None)
            return
        with self._changed:
            self._failure = failure
            group += self._queue
            self._queue.clear()
        for entry in group:
            entry.future.set_exception(failure)

    def _tell(self, transactions: int, seconds: float) -> None:
        if self._on_commit is None:
            return
        try:
            self._on_commit(transactions, seconds)
        except Exception:  # noqa: BLE001 - who counts commits must not be what decides them
            _log.exception("a commit was not counted")

    def _probe(self) -> bool:
        """Whether writing works again: nobody may come and try."""
        try:
            self._store.probe()
        except StoreError as error:
            _log.info("writing still fails: %s", error)
            return False
        except Exception:  # noqa: BLE001 - a bug here must not end the thread that commits
            _log.exception("writing still fails")
            return False
        _log.warning("writing works again")
        return True

    def _maintain(self, *, busy: bool) -> bool:
        """One step of housekeeping; whether another one is worth taking now."""
        try:
            return self._store.maintain(urgent_only=busy)
        except StoreError as error:
            # Nothing is lost: the step is tried again after the next commit.
            _log.warning("housekeeping failed: %s", error)
        except Exception:  # noqa: BLE001 - a bug here must not end the thread that commits
            _log.exception("housekeeping failed")
        return False
