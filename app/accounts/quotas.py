"""What accounts may own at most: judged in one place, after a call and inside its transaction, which a refusal undoes.

The owner of a space, segment or task pays for it, whoever makes or fills it; root pays nothing. Refused is only what
makes an account own more than before, and more than its quota: who is over his quota may still read, overwrite and
delete. Spaces, segments and tasks are counted by the engine. Bytes are those of the pages that the store keeps for what
the account owns (`Store.pages_held`), and of those that were written and are on their way there.

Counting all pages of an account costs time, so there is an upper bound for each: what it held when that was last
counted, and every page that was written since and clean before. When the bound passes the quota, the pages that are new
to the store count; when that passes it too, everything is counted, as it will be after the transaction, but once a
second at most while nothing can have become less. For all that everything earlier must be decided; `QuotaUndecided`
asks to wait for it and to try again.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from engine.changes import CloneObject, DropPages, PutPages
from engine.errors import EDQUOT, EngineError
from engine.journal import Transaction
from engine.machine import Machine

ROOT_UID: Final = 0
COUNTED: Final = {"space": "spaces", "segment": "segments", "task": "tasks"}
"""A kind of thing, and the limit on it."""
BYTES: Final = "bytes"
RECOUNT_S: Final = 1.0
"""How long a count is taken for exact while nothing is known to have become less: the store tidies up by itself."""


class QuotaPort(Protocol):
    """Limits of one account, None for none: `storage.sql.accounts.Quota`."""

    @property
    def spaces(self) -> int | None: ...

    @property
    def segments(self) -> int | None: ...

    @property
    def bytes(self) -> int | None: ...

    @property
    def tasks(self) -> int | None: ...

    @property
    def rate(self) -> int | None: ...


class PagesPort(Protocol):
    """What is needed of `storage.store.Store`."""

    def pages_held(self, objects: Sequence[int]) -> int: ...

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int: ...


class QuotaUndecided(Exception):
    """What the account owns depends on transactions, up to the one with this serial, that may yet be lost."""

    def __init__(self, serial: int) -> None:
        super().__init__(f"transactions up to {serial} are not decided")
        self.serial = serial


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account owns."""

    spaces: int
    segments: int
    bytes: int
    tasks: int


@dataclass(slots=True)
class Ledger:
    """Of an account whose bytes are limited: the pages that it has at most, None before they were counted.

    `last` is the serial of the last transaction that changed what it holds in the store. Before `exact_until`, seconds
    of the clock, the bound is no more than what a count would find.
    """

    last: int
    bound: int | None = None
    exact_until: float = 0.0


@dataclass(slots=True)
class Growth:
    """What a transaction may do to the bytes of accounts, by uid; None stands for nobody."""

    pages: Counter[int | None] = field(default_factory=Counter)
    """How many more they have at most, of what was theirs before."""
    holes: Counter[int | None] = field(default_factory=Counter)
    """Pages that were dropped: the store may have to remember that of each."""
    given: set[int | None] = field(default_factory=set)
    """Who was given, or runs, what another had."""
    shrunk: set[int | None] = field(default_factory=set)
    """Who may have less of something."""
    plain: bool = True
    """Whether nothing happened but stores."""

    @property
    def touched(self) -> set[int]:
        """Everybody."""
        return {
            uid for uid in self.pages.keys() | self.holes.keys() | self.given | self.shrunk if uid is not None
        }


class Quotas:
    """The quotas of one machine's accounts. On the event loop's thread."""

    def __init__(
        self, machine: Machine, store: PagesPort, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._machine = machine
        self._store = store
        self._clock = clock
        self._page_size = machine.geometry.page_size
        self._ledgers: dict[int, Ledger] = {}
        self.limits: dict[int, QuotaPort] = {}
        """By uid, of those that have any."""
        self.refusals: Counter[str] = Counter()
        """How often each limit was the reason of a refusal."""

    def replace(self, limits: Mapping[int, QuotaPort]) -> None:
        """These are the quotas from now on."""
        for uid in self.limits.keys() - limits.keys():
            self.put(uid, None)
        for uid, quota in limits.items():
            self.put(uid, quota)

    def put(self, uid: int, quota: QuotaPort | None) -> None:
        """This is the quota of one account from now on."""
        if quota is None or uid == ROOT_UID:
            self.limits.pop(uid, None)
            self._ledgers.pop(uid, None)
            return
        self.limits[uid] = quota
        if quota.bytes is None:
            self._ledgers.pop(uid, None)
        elif uid not in self._ledgers:
            self._ledgers[uid] = Ledger(self._machine.journal.last)

    def usage(self, uid: int) -> Usage:
        """What an account owns; to be asked when everything earlier is decided."""
        machine = self._machine
        objects = machine.objects_of(uid)
        pages = self._store.pages_held(objects)
        for object_id in objects:
            pages += self._new(object_id, machine.dirty_pages(object_id))
        counts = (machine.owned(kind, uid) for kind in COUNTED)
        spaces, segments, tasks = counts
        return Usage(spaces, segments, pages * self._page_size, tasks)

    def judge(self, txn: Transaction) -> None:
        """Of the transaction in progress, after its call. EDQUOT: names the limit. Raises QuotaUndecided."""
        if not self.limits:
            return
        if txn.owned:
            self._judge_counts(txn)
        if self._ledgers and (txn.stored or txn.changes):
            self._judge_bytes(txn)

    def _judge_counts(self, txn: Transaction) -> None:
        grown: Counter[tuple[str, int]] = Counter()
        for kind, uid, _, by in txn.owned:
            grown[kind, uid] += by
        for (kind, uid), count in grown.items():
            quota = self.limits.get(uid)
            if quota is not None and count > 0:
                limit: int | None = getattr(quota, COUNTED[kind])
                after = self._machine.owned(kind, uid)
                if limit is not None and after > limit:
                    raise self._refused(uid, COUNTED[kind], limit, after - count, count)

    def doubt(self) -> None:
        """Transactions were lost: every account may have less than is thought."""
        for ledger in self._ledgers.values():
            ledger.exact_until = 0.0

    def _judge_bytes(self, txn: Transaction) -> None:
        growth = self._growth(txn)
        counted: list[Ledger] = []
        for uid in growth.touched:
            ledger = self._ledgers.get(uid)
            if ledger is None:
                continue
            try:
                self._judge_account(txn, uid, ledger, growth)
            except (EngineError, QuotaUndecided):
                for other in counted:  # what they grew by is taken back
                    other.exact_until = 0.0
                raise
            counted.append(ledger)
            if txn.changes:
                ledger.last = txn.serial

    def _growth(self, txn: Transaction) -> "Growth":
        """Who may have more than before, or less."""
        growth, owner_of = Growth(), self._machine.owner_of
        for object_id, pages in txn.stored:
            growth.pages[owner_of(object_id)] += len(pages)
        for change in txn.changes:
            if type(change) is CloneObject:
                growth.plain = False
                source, target = owner_of(change.source), owner_of(change.target)
                # a page that is dirty now may be written once more without being clean before, into another layer
                growth.pages[source] += len(self._machine.dirty_pages(change.source))
                growth.shrunk.add(target)
                growth.given.update(self._run_by(txn) if target is None else {target} - {source})
            elif type(change) is DropPages:
                growth.plain = False
                growth.holes[owner_of(change.object_id)] += change.count
        lost = {id(thing) for _, _, thing, by in txn.owned if by < 0}
        for _, uid, thing, by in txn.owned if lost else ():
            growth.plain = False
            if by < 0:
                growth.shrunk.add(uid)
            elif id(thing) in lost:
                growth.given.add(uid)
        return growth

    def _judge_account(self, txn: Transaction, uid: int, ledger: Ledger, growth: "Growth") -> None:
        limit, count = self.limits[uid].bytes, growth.pages[uid]
        if uid in growth.shrunk or growth.holes[uid]:
            ledger.exact_until = 0.0
        if ledger.bound is not None:
            ledger.bound += growth.holes[uid]
        if limit is None or not (count or uid in growth.given):
            return
        most = limit // self._page_size
        if uid in growth.given or ledger.bound is None:
            self._count(txn, uid, ledger, most)
        elif ledger.bound + count <= most:
            ledger.bound += count
            ledger.exact_until = 0.0
        else:
            self._require_decided(ledger)
            if growth.plain and self._fits(txn, uid, ledger, most, ledger.bound):
                return
            self._count(txn, uid, ledger, most)

    def _fits(self, txn: Transaction, uid: int, ledger: Ledger, most: int, bound: int) -> bool:
        """Whether the pages that are new to the store fit below the bound. EDQUOT: that is sure already."""
        stored: dict[int, set[int]] = {}
        for number, pages in txn.stored:
            if self._machine.owner_of(number) == uid:
                stored.setdefault(number, set()).update(pages)
        new = sum(self._new(number, pages) for number, pages in stored.items())
        if bound + new <= most:
            ledger.bound = bound + new
            return True
        if self._clock() < ledger.exact_until:
            raise self._too_many_pages(uid, most, bound, new)
        return False

    def _require_decided(self, ledger: Ledger) -> None:
        if self._machine.journal.oldest_open <= ledger.last:
            raise QuotaUndecided(ledger.last)

    def _run_by(self, txn: Transaction) -> list[int]:
        """Accounts whose tasks became what an image is."""
        return [members["uid"] for _, kind, members in txn.notes if kind == "task.exec"]

    def _count(self, txn: Transaction, uid: int, ledger: Ledger, most: int) -> None:
        """Count the pages of an account. EDQUOT: more than before, and more than `most`. Raises QuotaUndecided."""
        self._require_decided(ledger)
        ledger.bound = after = self._pages_after(txn, uid)
        ledger.exact_until = self._clock() + RECOUNT_S
        if after > most:
            before = self._pages_before(txn, uid)
            if after > before:
                ledger.bound = before
                raise self._too_many_pages(uid, most, before, after - before)

    def _pages_after(self, txn: Transaction, uid: int) -> int:
        """What the store will hold for an account with the transaction, and with what was written relaxed."""
        below: dict[int, int] = {}
        """The object of the store that each one stands on, where it is not itself."""
        layers: dict[int, list[set[int]]] = {}
        """What each puts, in the layer that the store has of it, and in those that begin with each clone."""
        for change in txn.changes:
            match change:
                case PutPages():
                    layers.setdefault(change.object_id, [set()])[-1].update(change.pages)
                case DropPages():
                    if change.object_id in layers:
                        gone = range(change.first, change.first + change.count)
                        top = layers[change.object_id][-1]
                        top.difference_update([page for page in top if page in gone])
                case CloneObject(source, target):
                    own = layers.setdefault(source, [set()])
                    layers[target], below[target] = [*own, set()], below.get(source, source)
                    own.append(set())
        objects = self._machine.objects_of(uid)
        total = self._store.pages_held(sorted({below.get(number, number) for number in objects}))
        counted: set[int] = set()
        for number in objects:
            dirty = self._machine.dirty_pages(number)
            if number not in layers:
                total += self._new(number, dirty)
                continue
            own = layers[number]
            own[-1].update(set(dirty).difference(*own))
            for depth, pages in enumerate(own):
                if pages and id(pages) not in counted:
                    counted.add(id(pages))
                    total += len(pages) if depth else self._new(below.get(number, number), pages)
        return total

    def _pages_before(self, txn: Transaction, uid: int) -> int:
        """What an account held before the transaction. What that made is unknown to the store, and so counts nothing."""
        gained = {
            number for _, whose, thing, by in txn.owned if whose == uid and by > 0 for number in _of(thing)
        }
        lost = {
            number for _, whose, thing, by in txn.owned if whose == uid and by < 0 for number in _of(thing)
        }
        stored: dict[int, set[int]] = {}
        for number, pages in txn.stored:
            stored.setdefault(number, set()).update(pages)
        objects = set(self._machine.objects_of(uid)) - gained | lost
        total = self._store.pages_held(sorted(objects))
        for number in objects:
            total += self._new(number, set(self._machine.dirty_pages(number)) - stored.get(number, set()))
        return total

    def _new(self, object_id: int, pages: Collection[int]) -> int:
        return self._store.pages_new(object_id, sorted(pages)) if pages else 0

    def _too_many_pages(self, uid: int, most: int, used: int, wanted: int) -> EngineError:
        size = self._page_size
        return self._refused(uid, BYTES, most * size, used * size, wanted * size)

    def _refused(self, uid: int, limit: str, quota: int, used: int, wanted: int) -> EngineError:
        self.refusals[limit] += 1
        return EngineError(
            EDQUOT,
            f"uid {uid} may have {quota} {limit}, has {used} and would have {wanted} more",
            resource=limit,
            quota=quota,
            used=used,
            wanted=wanted,
        )


def _of(thing: object) -> tuple[int, ...]:
    """The objects of what an account gains or loses; a task has none that are its own."""
    objects = getattr(thing, "objects", None)
    found: tuple[int, ...] = objects() if objects is not None else ()
    return found
