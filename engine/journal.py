"""The one transaction in progress: how to undo it, what it changes in the store, whose fate it shares.

Parts of the machine mutate themselves at once and tell the journal how to take it back. Outside a transaction
(`current` is None) nothing is remembered and what would be freed later is freed at once.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVarTuple

from engine.changes import Change
from engine.errors import EngineError
from engine.invariant import invariant

Ts = TypeVarTuple("Ts")
Record = tuple[Callable[..., object], *tuple[object, ...]]
"""What to call, and with what."""
Transfer = tuple[str, int, object, int]
"""Of which kind, whose uid, which thing; 1: it is now his, -1: it is no longer."""
Noted = tuple[int, str, dict[str, Any]]
"""A note (engine/notes.py): how many changes came before it, its kind, its members."""


class Durable(Protocol):
    """A space, a segment or an object. `pending` is the service's: the last transaction that changed it."""

    pending: int


class Transaction:
    """What one call or one atomic batch did. After it ended: `settle` once it is durable, or `rollback`.

    `with` it: an exception takes everything back, unless it is an `EngineError` that is partial. `serial` ascends in
    the order in which transactions begin. A transaction is open until it is settled or rolled back. For those who judge
    what it takes: `owned` says what changed hands, `stored` which clean pages of persistent memory were written.
    """

    __slots__ = ("_deferred", "_journal", "_undo", "changes", "notes", "owned", "serial", "stored", "touched")

    def __init__(self, journal: "Journal", serial: int) -> None:
        self._journal = journal
        self.serial = serial
        self.changes: list[Change] = []
        self.notes: list[Noted] = []
        self.owned: list[Transfer] = []
        self.stored: list[tuple[int, Sequence[int]]] = []
        self.touched: set[Durable] = set()
        self._undo: list[Record] = []
        self._deferred: list[Record] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.current = None
        if error is not None and not (isinstance(error, EngineError) and error.partial):
            self.rollback()

    @property
    def mutated(self) -> bool:
        """Whether there is anything to undo or to tell, volatile things included."""
        return bool(self._undo or self.notes)

    def rollback(self) -> None:
        """Undo everything. Of several open transactions the newest is rolled back first."""
        while self._undo:
            action, *arguments = self._undo.pop()
            action(*arguments)
        self._deferred.clear()
        self.changes.clear()
        self.notes.clear()
        self._journal._open.pop(self.serial, None)

    def settle(self) -> None:
        """The transaction is durable: free what only an undo would have needed, and tell who listens."""
        self._undo.clear()
        if self._deferred:
            for release, *arguments in self._deferred:
                release(*arguments)
            self._deferred.clear()
        journal = self._journal
        if self.serial in journal._open:
            del journal._open[self.serial]
            if journal.listener is not None and (self.changes or self.notes):
                journal.listener(self)


class Journal:
    """Shared by every part of one machine; forwards to the transaction in progress, if there is one.

    `current` is that transaction; paths that must be quick look at it themselves. `listener` is told each transaction
    that was settled and has changes or notes, in the order in which they are settled.
    """

    __slots__ = ("_last", "_open", "current", "listener")

    def __init__(self) -> None:
        self.current: Transaction | None = None
        self._last = 0
        self._open: dict[int, None] = {}
        self.listener: Callable[[Transaction], None] | None = None

    @property
    def active(self) -> bool:
        """Whether a transaction is in progress."""
        return self.current is not None

    @property
    def serial(self) -> int:
        """Of the transaction in progress; 0 outside one."""
        return 0 if self.current is None else self.current.serial

    @property
    def last(self) -> int:
        """The serial of the transaction that began last."""
        return self._last

    @property
    def oldest_open(self) -> int:
        """The lowest serial of an open transaction. What was stamped with less can no longer be taken back."""
        return next(iter(self._open), self._last + 1)

    def is_open(self, serial: int) -> bool:
        """Whether that transaction is neither settled nor rolled back."""
        return serial in self._open

    def begin(self) -> Transaction:
        """Start a transaction; there is at most one in progress at a time."""
        if self.current is not None:
            invariant(False, "I14: a transaction began while one was in progress")
        self._last = serial = self._last + 1
        self._open[serial] = None
        self.current = txn = Transaction(self, serial)
        return txn

    def end(self) -> None:
        """Stop recording. The transaction itself stays open until `settle` or `rollback`."""
        self.current = None

    def undo(self, *call: *tuple[Callable[[*Ts], object], *Ts]) -> None:
        """Remember the call, a function and its arguments, that takes back the mutation just made."""
        if self.current is not None:
            self.current._undo.append(call)

    def defer(self, *call: *tuple[Callable[[*Ts], object], *Ts]) -> None:
        """Make the call when the transaction can no longer be rolled back; at once outside one."""
        if self.current is None:
            call[0](*call[1:])
        else:
            self.current._deferred.append(call)

    def change(self, change: Change, *things: Durable) -> None:
        """Ask the store to remember `change`, which concerns `things`."""
        if self.current is not None:
            self.current.changes.append(change)
            self.current.touched.update(things)

    def note(self, kind: str, /, **members: object) -> None:
        """Tell what happened that the store is not asked to remember (engine/notes.py), once it is settled."""
        if self.current is not None:
            self.current.notes.append((len(self.current.changes), kind, members))

    def touch(self, thing: Durable) -> None:
        """The call saw `thing`: its answer must not outrun the thing's own pending changes."""
        if self.current is not None:
            self.current.touched.add(thing)
