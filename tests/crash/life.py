"""A machine over a store on LMDB, lived through as the service does: calls wait for their commit in groups, groups fail
and are taken back, pages are fetched and evicted, it stops and starts, and it crashes.

`model` is whatever the calls are compared with: anything with a `copy`. It follows every transaction that is taken back.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Generic, Protocol, Self, TypeVar

from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError, PagesNeeded
from engine.geometry import X86_64
from engine.journal import Transaction
from engine.machine import Machine
from storage import open_store
from storage.errors import StoreError, StoreFailed, StoreFull
from storage.failpoints import fail_at
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.store import LmdbStore
from storage.upkeep.fsck import check_dir
from tests.engine.host import MemorySwap

EAGER = Tuning(nodes_max=2, tail_entries=3, obsolete_rows=1, slack_pages=0, step_rows=2, step_chunks=1)
ROUNDS_MAX = 40
ROUNDS_FREE = 3
SWAP_PAGES = 400


class Copyable(Protocol):
    """A model."""

    def copy(self) -> Self: ...


M = TypeVar("M", bound=Copyable)


class OutOfFrames(Exception):  # noqa: N818 - what it is
    """The resident limit, of which models know nothing. The call changed nothing."""


class Life(Generic[M]):
    """One data directory under `where`, which moves at each crash."""

    def __init__(self, where: Path, rng: Random, model: M) -> None:
        self.rng = rng
        self.model = model
        self.log: list[str] = []
        self.losses_of_groups = 0
        """Groups that the store refused."""
        self._where = where
        self._lives = 0
        self._tuning = EAGER if rng.random() < 0.6 else Tuning()
        self._frames = rng.choice((60, 90, 200))
        self._waiting: list[tuple[Transaction, M]] = []
        self._relaxed = False
        """Whether pages were written relaxed since all were written back: what a crash leaves of them is open."""
        self.store, self.machine = self._begin()

    @property
    def data_dir(self) -> Path:
        return self._where / str(self._lives)

    # -- calls

    def do(self, call: str, *args: Any, **named: Any) -> Any:
        """The value of a call. Raises EngineError, and OutOfFrames."""
        told = [f"{len(arg)} bytes" if isinstance(arg, bytes) else arg for arg in args]
        self.log.append(f"{call}{tuple(told)} {named or ''}")
        self._relaxed |= named.get("durable") is False
        with ExitStack() as pins:
            return self._do(pins, call, args, named)

    def refused(self, call: str, *args: Any, **named: Any) -> str:
        """The errno of a call; empty when it succeeds."""
        try:
            self.do(call, *args, **named)
        except EngineError as error:
            return error.errno
        return ""

    def _do(self, pins: ExitStack, call: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        before, written_back = self.model.copy(), False
        for number in range(ROUNDS_MAX):
            try:
                with self.machine.transaction() as txn:
                    value = getattr(self.machine, call)(ROOT, *args, **named)
            except PagesNeeded as need:
                if number >= ROUNDS_FREE:
                    need.memory.pin(need)
                    pins.callback(need.memory.unpin, need)
                self._supply(need)
            except EngineError as error:
                if error.errno == "ENOMEM":
                    txn.rollback()  # what is partial, too
                    if written_back:
                        raise OutOfFrames from None
                    written_back = True
                    self.write_back()
                    continue
                self._track(txn, before)
                raise
            else:
                self._track(txn, before)
                return value
        raise OutOfFrames

    def _supply(self, need: PagesNeeded) -> None:
        self.commit()
        pages = self.store.fetch(need.object_id, need.pages)
        try:
            self.machine.supply(need, pages)
        except EngineError as error:
            if error.errno != "ENOMEM":
                raise
            self.write_back()

    def _track(self, txn: Transaction, before: M) -> None:
        if txn.changes or (self._waiting and txn.mutated):
            self._waiting.append((txn, before))
        else:
            txn.settle()

    # -- commits

    def commit(self) -> None:
        """Make everything that waits durable, in groups of any size."""
        while self._waiting:
            count = self.rng.randint(1, len(self._waiting))
            self.store.commit([txn.changes for txn, _ in self._waiting[:count]])
            for txn, _ in self._waiting[:count]:
                txn.settle()
            del self._waiting[:count]

    def commit_that_may_fail(self) -> None:
        """The disk fails somewhere in a commit: then everything that waits is taken back, newest first."""
        if not self._waiting:
            return
        error = self.rng.choice((StoreFailed, StoreFull))("made to fail")
        try:
            with fail_at(self.rng.randint(1, 8), error):
                self.commit()
        except StoreError:
            self.log.append(f"* {len(self._waiting)} taken back")
            self.losses_of_groups += 1
            self.model = self._waiting[0][1]
            for txn, _ in reversed(self._waiting):
                txn.rollback()
            self._waiting.clear()

    def write_back(self) -> None:
        """Make everything durable, what was written relaxed too."""
        before = self.model.copy()
        with self.machine.transaction() as txn:
            self.machine.flush()
        self._track(txn, before)
        self.commit()
        self._relaxed = False

    def maintain(self) -> None:
        """Housekeeping, which nothing may show; sometimes it fails."""
        fails = self.rng.random() < 0.2
        try:
            with fail_at(self.rng.randint(1, 8) if fails else 0, StoreFailed("made to fail")):
                for _ in range(self.rng.randint(1, 20)):
                    if not self.store.maintain(urgent_only=self.rng.random() < 0.2):
                        break
        except StoreError:
            self.log.append("* housekeeping failed")

    # -- ends and beginnings

    def restart(self) -> None:
        """A clean stop and a start."""
        self.write_back()
        self.store.close()
        self._check_dir()
        self.store, self.machine = self._begin()

    def crash(self) -> None:
        """Everything that waits is lost."""
        if self._relaxed:
            self.write_back()
        if self._waiting:
            self.model = self._waiting[0][1]
            self._waiting.clear()
        before = self.data_dir
        self._lives += 1
        self.data_dir.mkdir(parents=True)
        shutil.copyfile(before / "store.lmdb", self.data_dir / "store.lmdb")
        self.store.close()
        shutil.rmtree(before)
        self._check_dir()
        self.store, self.machine = self._begin()

    def end(self) -> None:
        """Stop for good; everything must be in order."""
        self.commit()
        self.require_rules()
        self.store.close()
        self._check_dir()

    def require_rules(self) -> None:
        """Raises AssertionError when the machine breaks one of its own."""
        problems = list(check(self.machine, pending=bool(self._waiting)))
        assert problems == []

    def _check_dir(self) -> None:
        damage = list(check_dir(self.data_dir))
        assert damage == []

    def _begin(self) -> tuple[LmdbStore, Machine]:
        self.log.append("* start")
        store = open_store(self.data_dir, X86_64, tuning=self._tuning)
        machine = Machine(X86_64, self._frames, swap=MemorySwap(SWAP_PAGES))
        machine.restore(store.load())
        with machine.transaction() as txn:
            machine.start()
        store.commit([txn.changes])
        txn.settle()
        return store, machine

    @contextmanager
    def told(self) -> Iterator[None]:
        """A failure inside the block tells the last calls."""
        try:
            yield
        except Exception as error:
            error.add_note("\n".join(self.log[-25:]))
            raise
