"""Receipts: what is asked for again under the same Idempotency-Key is not done again, but answered as before.

A receipt is kept in the transaction of what it is the receipt of. A call that changed what is stored has a stored
receipt: after a crash both are there or neither. A call that changed only what goes with the service (tasks and their
memory), or that first of all, has one that goes with the service. Refusals change nothing and are not kept, so the call is judged anew; only
one that changed something on its way (`partial`) is kept like a success.

A stored receipt is named by 36 bytes, see idempotency.py; its value, big-endian:

    offset  size  meaning
         0     1  version, 1
         1     8  when it was made, milliseconds since 1970
         9     2  HTTP status
        11    32  fingerprint of the request
        43        body of the answer: JSON, or a problem document
"""

import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from app.errors import HttpProblem, answer_of, too_big
from app.idempotency import NAME_BYTES, UID_BYTES, Key, Subject
from engine.changes import DropReceipt, PutReceipt
from engine.errors import EngineError
from engine.journal import Journal

KEPT_SECONDS: Final = 24 * 3600.0
"""How long a key is remembered at the most."""
KEPT_MAX: Final = 4096
"""Receipts of one account of either kind, stored and not; the oldest give way."""
KEPT_BYTES_MAX: Final = 4 << 20
"""The bodies of those together."""
BODY_BYTES_MAX: Final = 512 << 10
"""An answer that is longer is not given under a key."""
SWEEP_MAX: Final = 1000
"""Receipts that one sweep drops."""
SWEEP_SECONDS: Final = 60.0

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BQH32s")

Shelf = tuple[int, bool]
"""Where a receipt is: whose it is, and whether it is stored."""
Run = Callable[[Callable[[], "Receipt"]], Awaitable["Receipt"]]
"""Runs a call as one transaction and waits until it is durable."""


@dataclass(slots=True, eq=False)
class Receipt:
    """An answer that was given. `pending` is the executor's; `subject` is None for those of earlier starts."""

    name: bytes
    made: float
    status: int
    fingerprint: bytes
    body: bytes
    shelf: Shelf
    subject: Subject | None = None
    pending: int = 0

    @property
    def encoded(self) -> bytes:
        """The stored value."""
        return _HEAD.pack(_VERSION, int(self.made * 1000), self.status, self.fingerprint) + self.body


class Receipts:
    """All that are kept. `clock` gives seconds since 1970. Everything happens on the event loop's thread."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._journal = journal
        self._shelves: dict[Shelf, OrderedDict[bytes, Receipt]] = {}
        self._bytes: dict[Shelf, int] = {}
        self._under_way: dict[bytes, Key] = {}
        self._unreadable: list[bytes] = []

    def __len__(self) -> int:
        return sum(map(len, self._shelves.values()))

    @property
    def unreadable(self) -> int:
        """Stored ones that another version made; the next sweep drops them."""
        return len(self._unreadable)

    def restore(self, stored: Mapping[bytes, bytes]) -> None:
        """Take over what earlier starts kept."""
        found = []
        for name, value in stored.items():
            receipt = _decoded(name, value)
            if receipt is None:
                self._unreadable.append(name)
            else:
                found.append(receipt)
        for receipt in sorted(found, key=lambda receipt: receipt.made):
            self._add(receipt)

    async def once(
        self, key: Key, status: int, run: Run, make: Callable[[], bytes], *, lasting: bool = True
    ) -> tuple[Receipt, bool]:
        """The answer to a call that `make` makes, and whether it was given before. `lasting` is false for what is done to a
        task first of all: it has to be done again after a restart, whatever it did to what is stored.

        Raises what the call raises; HttpProblem 422 if something else was asked under the key, 409 while it is asked.
        """

        def perform() -> Receipt:
            kept = self._find(key)
            if kept is not None:
                replayed.append(kept)
                return kept
            replayed.clear()
            try:
                body = make()
            except EngineError as refused:
                if refused.partial:
                    told, problem, _ = answer_of(refused)
                    self._keep(key, told, problem, lasting)
                raise
            return self._keep(key, status, body, lasting)

        replayed: list[Receipt] = []
        with self._asked(key):
            receipt = await run(perform)
            return receipt, bool(replayed)

    def sweep(self) -> None:
        """Drop some of what has been kept long enough. In a transaction."""
        left = SWEEP_MAX
        while self._unreadable and left:
            name = self._unreadable.pop()
            self._journal.undo(self._unreadable.append, name)
            self._journal.change(DropReceipt(name))
            left -= 1
        for receipts in list(self._shelves.values()):
            for receipt in self._expired(receipts, left):
                self._drop(receipt)
                left -= 1

    @contextmanager
    def _asked(self, key: Key) -> Iterator[None]:
        other = self._under_way.get(key.name)
        if other is not None:
            if not _same(key, other):
                raise _misused()
            raise HttpProblem(
                409, "the same is being done under this Idempotency-Key at the moment", (b"retry-after", b"1")
            )
        self._under_way[key.name] = key
        try:
            yield
        finally:
            del self._under_way[key.name]

    def _find(self, key: Key) -> Receipt | None:
        """What is kept under a key; the caller's answer then waits until it is durable."""
        for stored in (True, False):
            receipts = self._shelves.get((key.uid, stored))
            receipt = None if receipts is None else receipts.get(key.name)
            if receipt is None:
                continue
            if receipt.made + KEPT_SECONDS <= self.clock():
                self._drop(receipt)
                continue
            if not _same(key, receipt):
                raise _misused()
            self._journal.touch(receipt)
            return receipt
        return None

    def _keep(self, key: Key, status: int, body: bytes, lasting: bool) -> Receipt:
        """Keep an answer in the transaction in progress, and make room for it. E2BIG: it is too long."""
        if len(body) > BODY_BYTES_MAX:
            raise too_big(f"an answer of {len(body)} bytes cannot be kept: ask without an Idempotency-Key")
        changing = self._journal.current
        stored = lasting and changing is not None and bool(changing.changes)
        shelf = key.uid, stored
        receipt = Receipt(key.name, self.clock(), status, key.fingerprint, body, shelf, key.subject)
        for oldest in self._superfluous(shelf, len(body)):
            self._drop(oldest)
        self._add(receipt)
        self._journal.undo(self._remove, receipt)
        if stored:
            self._journal.change(PutReceipt(receipt.name, receipt.encoded), receipt)
        else:
            self._journal.touch(receipt)
        return receipt

    def _superfluous(self, shelf: Shelf, coming: int) -> Sequence[Receipt]:
        """The oldest of a shelf that have to go when one of `coming` bytes comes: few, so that no call pays for many."""
        receipts = self._shelves.get(shelf)
        if receipts is None:
            return ()
        count, size = len(receipts) + 1, self._bytes[shelf] + coming
        gone: list[Receipt] = []
        for receipt in receipts.values():
            if count <= KEPT_MAX and size <= KEPT_BYTES_MAX:
                break
            gone.append(receipt)
            count, size = count - 1, size - len(receipt.body)
        return gone

    def _expired(self, receipts: Mapping[bytes, Receipt], most: int) -> Sequence[Receipt]:
        before = self.clock() - KEPT_SECONDS
        gone: list[Receipt] = []
        for receipt in receipts.values():
            if receipt.made > before or len(gone) == most:
                break
            gone.append(receipt)
        return gone

    def _drop(self, receipt: Receipt) -> None:
        self._remove(receipt)
        self._journal.undo(self._put_back, receipt)
        if receipt.shelf[1]:
            self._journal.change(DropReceipt(receipt.name), receipt)

    def _add(self, receipt: Receipt) -> None:
        shelf = receipt.shelf
        self._shelves.setdefault(shelf, OrderedDict())[receipt.name] = receipt
        self._bytes[shelf] = self._bytes.get(shelf, 0) + len(receipt.body)

    def _put_back(self, receipt: Receipt) -> None:
        """Where it was: among the oldest."""
        self._add(receipt)
        self._shelves[receipt.shelf].move_to_end(receipt.name, last=False)

    def _remove(self, receipt: Receipt) -> None:
        shelf = receipt.shelf
        receipts = self._shelves[shelf]
        del receipts[receipt.name]
        self._bytes[shelf] -= len(receipt.body)
        if not receipts:
            del self._shelves[shelf], self._bytes[shelf]


def _misused() -> HttpProblem:
    return HttpProblem(422, "something else was asked under this Idempotency-Key")


def _same(key: Key, other: Key | Receipt) -> bool:
    """Whether the same was asked. A receipt of an earlier start knows no subject: that task is gone."""
    return other.fingerprint == key.fingerprint and other.subject in (None, key.subject)


def _decoded(name: bytes, value: bytes) -> Receipt | None:
    """A stored receipt; None if this version did not make it."""
    if len(value) < _HEAD.size or len(name) != NAME_BYTES:
        return None
    version, made, status, fingerprint = _HEAD.unpack_from(value)
    if version != _VERSION:
        return None
    uid = int.from_bytes(name[:UID_BYTES])
    return Receipt(name, made / 1000, status, fingerprint, value[_HEAD.size :], (uid, True))
