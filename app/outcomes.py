"""What calls come to: transactions that wait for their commit, results, and what is counted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from engine.errors import EngineError, PagesNeeded
from engine.journal import Transaction

Waiting = Callable[[], Awaitable[object]]
"""A call that may take long, and its result."""


class ManyPagesNeeded(Exception):
    """Several calls of one transaction lack pages; all that could be foreseen are named."""

    def __init__(self, needs: list[PagesNeeded]) -> None:
        super().__init__(f"{len(needs)} calls lack pages")
        self.needs = needs


@dataclass(frozen=True, slots=True)
class Run:
    """Calls in a row that change nothing: loads.

    They are made `together`, in one transaction; if one of them is refused, each of `calls` by itself instead.
    """

    calls: Sequence[Callable[[], object]]
    together: Callable[[], Sequence[object]]


@dataclass(slots=True, eq=False)
class Entry:
    """A transaction that is not durable yet. `seq` is the commit that decides its fate."""

    txn: Transaction
    seq: int
    failure: EngineError | None = None
    redo: Callable[[], object] | None = None
    """A call that was answered at once, to be made again when it is taken back with what came before it."""
    waiters: list["asyncio.Future[None]"] = field(default_factory=list)

    def decide(self, failure: EngineError | None) -> None:
        """Wake everyone who waits."""
        self.failure = failure
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


@dataclass(slots=True)
class Outcome:
    """What a call came to, and the entry it has to wait for, if any. Of a run, `value` holds that of each call."""

    value: object = None
    refused: EngineError | None = None
    entry: Entry | None = None
    writes: bool = False
    """Whether the call has changes of its own in that entry's commit."""
    owns: bool = False
    """Whether the entry is that of the call's own transaction."""
    count: int = 1
    """Calls that it is of: those of a run that was made together share one."""


@dataclass(slots=True)
class Counts:
    """Totals since the start, for /metrics."""

    transactions: int = 0
    commits: int = 0
    commits_failed: int = 0
    fetches: int = 0
    pages_fetched: int = 0
