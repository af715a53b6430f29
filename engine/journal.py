"""The one transaction in progress: how to undo it, what it changes in the store, whose fate it shares.

Parts of the machine mutate themselves at once and tell the journal how to take it back. Outside a transaction
(`active` is false) nothing is remembered and what would be freed later is freed at once.
"""

from collections.abc import Callable
from typing import Protocol

from engine.changes import Change
from engine.invariant import invariant


class Durable(Protocol):
    """A space, a segment or an object. `pending` is the service's: the last transaction that changed it."""

    pending: int


class Transaction:
    """What one call or one atomic batch did. After it ended: `settle` once it is durable, or `rollback`."""

    __slots__ = ("_deferred", "_undo", "changes", "touched")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.touched: set[Durable] = set()
        self._undo: list[Callable[[], object]] = []
        self._deferred: list[Callable[[], object]] = []

    @property
    def mutated(self) -> bool:
        """Whether there is anything to undo, volatile things included."""
        return bool(self._undo)

    def rollback(self) -> None:
        """Undo everything. Of several unsettled transactions the newest is rolled back first."""
        while self._undo:
            self._undo.pop()()
        self._deferred.clear()
        self.changes.clear()

    def settle(self) -> None:
        """The transaction is durable: free what only an undo would have needed."""
        self._undo.clear()
        for release in self._deferred:
            release()
        self._deferred.clear()


class Journal:
    """Shared by every part of one machine; forwards to the transaction in progress, if there is one."""

    __slots__ = ("_current",)

    def __init__(self) -> None:
        self._current: Transaction | None = None

    @property
    def active(self) -> bool:
        """Whether a transaction is in progress."""
        return self._current is not None

    def begin(self) -> Transaction:
        """Start a transaction; there is at most one at a time."""
        invariant(self._current is None, "I14: a transaction began while one was in progress")
        self._current = Transaction()
        return self._current

    def end(self) -> None:
        """Stop recording. The transaction itself stays open until `settle` or `rollback`."""
        self._current = None

    def undo(self, action: Callable[[], object]) -> None:
        """Remember how to take back the mutation just made."""
        if self._current is not None:
            self._current._undo.append(action)

    def defer(self, release: Callable[[], object]) -> None:
        """Run `release` when the transaction can no longer be rolled back; at once outside one."""
        if self._current is None:
            release()
        else:
            self._current._deferred.append(release)

    def change(self, change: Change, *things: Durable) -> None:
        """Ask the store to remember `change`, which concerns `things`."""
        if self._current is not None:
            self._current.changes.append(change)
            self._current.touched.update(things)

    def touch(self, thing: Durable) -> None:
        """The call saw `thing`: its answer must not outrun the thing's own pending changes."""
        if self._current is not None:
            self._current.touched.add(thing)
