"""The way of a call: run it in the engine, fetch what it lacks, answer when it is durable.

    run / run_each ──▶ transaction ──▶ quotas ──▶ changes? ──▶ writer (one durable commit for all that gathered) ──▶ answer
                           │ PagesNeeded: fetch in a thread, supply, run again
                           │ ENOMEM: make dirty pages durable, so that they can be evicted, run again
                           └ no changes: answer as soon as everything the call saw is durable

Everything here happens on the event loop's thread; only `Store.fetch` and the writer run elsewhere.

When a commit fails, every transaction that is not yet durable was built on what has just been lost, so all of them
are rolled back, newest first. Those with changes of their own are answered with the store's errno; the others are
run again on what is left. What was answered without waiting is made again (app/redoing.py) before anything else
happens. The writer refuses what was queued behind the failed commit until it is told to resume.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from app.accounts.quotas import Quotas, QuotaUndecided
from app.errors import EIO
from app.outcomes import Counts, Entry, ManyPagesNeeded, Outcome, Run, Waiting
from app.redoing import Redoing
from engine.changes import Change
from engine.errors import EAGAIN, ENOMEM, EngineError, PagesNeeded
from engine.journal import Transaction
from engine.machine import Machine
from engine.spaces.diff import Question
from storage.errors import StoreError
from storage.store import Store

T = TypeVar("T")
FETCH_PAGES = 2048
"""Pages that are fetched and handed in at a time; between two parts others get their turn."""
FETCH_ROUNDS_FREE = 3
"""Times one call may ask for pages before it takes turns with others that do so."""
FETCH_ROUNDS_MAX = 64
"""Times one call may ask for pages. More means that its pages do not fit into memory together."""

CALLS_IN_A_ROW = 200
"""Calls of one batch after which others get their turn."""

log = logging.getLogger("everspace.executor")


class WriterPort(Protocol):
    """What the executor needs of `storage.writer.Writer`."""

    def submit(self, changes: Sequence[Change]) -> "Future[None]": ...

    def resume(self) -> None: ...


class Executor:
    """Runs calls on `machine` and makes them durable through `writer`, as far as `quotas` let it. One per event loop."""

    def __init__(self, machine: Machine, store: Store, writer: WriterPort) -> None:
        self._machine = machine
        self.quotas = Quotas(machine, store)
        self._store = store
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._durable = 0
        self._unsettled: deque[Entry] = deque()
        self._staged: list[Change] = []
        self._keeping = asyncio.Lock()
        self._redoing = Redoing(machine, self._track, self._fetch, self.write_back)
        self.counts = Counts()

    @property
    def unsettled(self) -> int:
        """Transactions that wait for a commit."""
        return len(self._unsettled)

    async def run(self, call: Callable[[], T], *, wait: bool = True) -> T:
        """The result of `call`, durable. `wait=False` answers before that, for what may be lost by a crash, but by no
        commit that fails: then it is made again.

        Raises what the call raises (EngineError); ENOSPC or EIO when the store failed, and then nothing was changed.
        """
        while True:
            outcome = await self._attempt(call)
            self._flush()
            entry = outcome.entry
            if entry is not None and not wait and outcome.owns:
                entry.redo = call
            if entry is not None and wait:
                await self._decided(entry)
                if entry.failure is not None:
                    if outcome.writes:
                        raise entry.failure
                    continue
            if outcome.refused is not None:
                raise outcome.refused
            return outcome.value  # type: ignore[return-value]

    async def run_each(
        self,
        calls: Sequence[Callable[[], object] | Run],
        waits: Mapping[int, Waiting] | None = None,
        outcomes: list[Outcome] | None = None,
    ) -> list[Outcome]:
        """Each call in a transaction of its own, runs in one; in order, with one wait for all of them at the end.

        A call that is refused with EAGAIN and has its number, from 1 on, in `waits` is made by waiting there instead.
        If a wait ends with anything but a refusal, the calls behind it are not made; `outcomes`, the list that is
        returned, holds those before it, and they are decided.
        """
        outcomes = [] if outcomes is None else outcomes
        waits, made = waits or {}, 0
        try:
            for number, call in enumerate(calls, 1):
                if isinstance(call, Run):
                    outcomes += await self._attempt_run(call)
                    made += len(call.calls)
                else:
                    outcomes.append(await self._attempt_one(call, waits.get(number)))
                    made += 1
                if made >= CALLS_IN_A_ROW:
                    made = 0
                    await asyncio.sleep(0)
        finally:
            self._flush()
            for outcome in reversed(outcomes):
                if outcome.entry is not None:
                    await self._decided(outcome.entry)
                    if outcome.entry.failure is not None:
                        outcome.refused = outcome.entry.failure
        return outcomes

    async def _attempt_one(self, call: Callable[[], object], wait: Waiting | None) -> Outcome:
        try:
            outcome = await self._attempt(call)
            if outcome.refused is not None and outcome.refused.errno == EAGAIN and wait is not None:
                self._flush()
                outcome = Outcome(await wait())
        except EngineError as refused:
            return Outcome(refused=refused)
        return outcome

    async def _attempt_run(self, run: Run) -> list[Outcome]:
        outcome = await self._attempt_one(run.together, None)
        if outcome.refused is None:
            outcome.count = len(run.calls)
            return [outcome]
        return [await self._attempt_one(call, None) for call in run.calls]

    async def stored_pages(self, object_id: int, first: int, count: int) -> Sequence[int]:
        """Which pages of a range of an object the store has. Raises EIO."""
        try:
            return await asyncio.to_thread(self._store.stored_pages, object_id, first, count)
        except StoreError as cause:
            raise _refusal(cause) from cause

    async def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        """Pages of the first object that the store has, and how many of them others have, too. Raises EIO."""
        await self.caught_up()
        try:
            return await asyncio.to_thread(self._store.usage, objects)
        except StoreError as cause:
            raise _refusal(cause) from cause

    async def caught_up(self) -> None:
        """Wait until everything that has been done so far is decided."""
        self._flush()
        if self._unsettled:
            await self._decided(self._unsettled[-1])

    async def differing(self, questions: Sequence[Question]) -> list[Sequence[int]]:
        """For each question the pages of its left object that may differ in the store, ascending. Raises EIO."""
        store = self._store

        def answer(asked: Question) -> Sequence[int]:
            first, count, shift = asked.first, asked.count, asked.shift
            if not shift:
                return store.differing(asked.left, asked.right, first, count)
            here = store.stored_pages(asked.left, first, count)
            there = store.stored_pages(asked.right, first + shift, count)
            return sorted({*here, *(page - shift for page in there)})

        if not questions:
            return []
        try:
            return await asyncio.to_thread(lambda: [answer(asked) for asked in questions])
        except StoreError as cause:
            raise _refusal(cause) from cause

    async def settled(self) -> None:
        """Wait until nothing is pending."""
        await self._redoing.over()
        self._flush()
        while self._unsettled:
            await self._decided(self._unsettled[-1])

    async def write_back(self) -> bool:
        """Make every page that was written relaxed durable; whether there were any. Raises ENOSPC, EIO."""
        with self._machine.transaction() as txn:
            self._machine.flush()
        outcome = self._track(txn, None, None)
        self._flush()
        if outcome.entry is None:
            if not self._unsettled:
                return False
            await self._decided(self._unsettled[-1])  # what is dirty is on its way
            return True
        await self._decided(outcome.entry)
        if outcome.entry.failure is not None:
            raise outcome.entry.failure
        return outcome.writes

    async def _attempt(self, call: Callable[[], object]) -> Outcome:
        """Run the call until it has the pages it needs. The engine undoes an attempt that lacks some.

        One that lacks pages again and again takes turns with others of the kind, and keeps what it got.
        """
        with contextlib.ExitStack() as kept:
            return await self._attempt_keeping(call, kept)

    async def _attempt_keeping(self, call: Callable[[], object], kept: contextlib.ExitStack) -> Outcome:
        """See `_attempt`; `kept` undoes what keeps pages resident."""
        written_back, rounds = False, 0
        pins: contextlib.ExitStack | None = None
        while rounds < FETCH_ROUNDS_MAX:
            if rounds >= FETCH_ROUNDS_FREE and pins is None:
                await self._keeping.acquire()
                kept.callback(self._keeping.release)
                pins = kept
            if self._redoing.is_under_way:
                await self._redoing.over()
            rounds += 1
            self.counts.transactions += 1
            try:
                with self._machine.transaction() as txn:
                    value = self._judged(txn, call)
            except PagesNeeded as need:
                await self._fetch([need.with_traceback(None)], pins)
            except ManyPagesNeeded as many:
                await self._fetch(many.needs, pins)
            except QuotaUndecided as undecided:
                rounds -= 1
                await self._decided_up_to(undecided.serial)
            except EngineError as refused:
                if refused.errno != ENOMEM or refused.partial or written_back:
                    return self._track(txn, None, refused)
                written_back = True
                if not await self.write_back():
                    raise
            else:
                return self._track(txn, value, None)
        raise EngineError(ENOMEM, "the pages of this call do not fit into memory together")

    def _judged(self, txn: Transaction, call: Callable[[], object]) -> object:
        """What the call gives, when no quota is against it. A quota goes before another refusal that is partial."""
        try:
            value = call()
        except EngineError as refused:
            if refused.partial:
                self._judge(txn)
            raise
        self._judge(txn)
        return value

    def _judge(self, txn: Transaction) -> None:
        try:
            self.quotas.judge(txn)
        except StoreError as cause:
            raise _refusal(cause) from cause

    def _track(self, txn: Transaction, value: object, refused: EngineError | None) -> Outcome:
        """Decide what the outcome has to wait for."""
        if txn.changes:
            self._seq += 1
            for thing in txn.touched:
                thing.pending = self._seq
            self._staged.extend(txn.changes)
            entry = Entry(txn, self._seq)
            self._unsettled.append(entry)
            return Outcome(value, refused, entry, writes=True, owns=True)
        if not self._unsettled:
            txn.settle()
            return Outcome(value, refused)
        if txn.mutated:
            # It stands on transactions that may yet be rolled back, and would have to go before them.
            entry = Entry(txn, self._unsettled[-1].seq)
            self._unsettled.append(entry)
            return Outcome(value, refused, entry, owns=True)
        txn.settle()
        due = max((thing.pending for thing in txn.touched), default=0)
        return Outcome(value, refused, self._entry_of(due))

    def _entry_of(self, seq: int) -> Entry | None:
        """The entry that is decided with commit `seq`; None if that is durable."""
        if seq <= self._durable:
            return None
        return next(entry for entry in self._unsettled if entry.seq >= seq)

    async def _fetch(self, needs: Sequence[PagesNeeded], pins: contextlib.ExitStack | None) -> None:
        """Hand the engine the pages it lacks. What is not durable yet is not in the store yet: wait for it first.

        With `pins` they stay resident until that is closed, and so does what else the calls look at.
        """
        self._flush()
        if pins is not None:
            for need in needs:
                need.memory.pin(need)
                pins.callback(need.memory.unpin, need)
        for need in needs:
            changed_in = self._entry_of(self._machine.pending_of(need) or 0)
            if changed_in is not None:
                await self._decided(changed_in)
            for part in need.parts(FETCH_PAGES):
                await self._fetch_part(part)

    async def _fetch_part(self, need: PagesNeeded) -> None:
        try:
            pages = await asyncio.to_thread(self._store.fetch, need.object_id, need.pages)
        except StoreError as cause:
            raise _refusal(cause) from cause
        self.counts.fetches += 1
        self.counts.pages_fetched += len(pages)
        if self._machine.pending_of(need) is None:
            return  # gone meanwhile: when the call is run again it says so itself
        try:
            self._machine.supply(need, pages)
        except EngineError as refused:
            if refused.errno != ENOMEM or not await self.write_back():
                raise

    def _decided(self, entry: Entry) -> Awaitable[None]:
        waiter: asyncio.Future[None] = self._loop.create_future()
        if entry.seq <= self._durable:
            waiter.set_result(None)
        else:
            entry.waiters.append(waiter)
        return waiter

    def _decided_up_to(self, serial: int) -> Awaitable[None]:
        """Wait for the newest of the transactions up to one with that serial that are not durable yet."""
        self._flush()
        return self._decided(next(e for e in reversed(self._unsettled) if e.txn.serial <= serial))

    def _flush(self) -> None:
        """Hand everything staged to the writer, as one transaction."""
        if not self._staged:
            return
        changes, self._staged = self._staged, []
        seq = self._seq

        def on_done(done: "Future[None]") -> None:
            self._loop.call_soon_threadsafe(self._on_commit, seq, done.exception())

        self._writer.submit(changes).add_done_callback(on_done)

    def _on_commit(self, seq: int, error: BaseException | None) -> None:
        """A commit came back: up to `seq` everything is durable, or everything that is not is lost."""
        if seq <= self._durable:
            return  # refused behind a failure that has been dealt with
        if error is not None:
            self._roll_back(_refusal(error))
            return
        self.counts.commits += 1
        self._durable = seq
        while self._unsettled and self._unsettled[0].seq <= seq:
            entry = self._unsettled.popleft()
            entry.txn.settle()
            entry.decide(None)

    def _roll_back(self, failure: EngineError) -> None:
        log.error("commit failed, %d transactions rolled back: %s", len(self._unsettled), failure)
        self.counts.commits_failed += 1
        self._staged.clear()
        self.quotas.doubt()
        lost = list(self._unsettled)
        self._unsettled.clear()
        for entry in reversed(lost):
            entry.txn.rollback()
        self._durable = self._seq
        self._writer.resume()
        for entry in lost:
            entry.decide(failure)
        self._redoing.begin([entry.redo for entry in lost if entry.redo is not None])
        self._flush()


def _refusal(error: BaseException) -> EngineError:
    """The errno of a store's failure. What the store did not foresee is EIO."""
    if isinstance(error, StoreError):
        return EngineError(getattr(error, "errno", EIO), str(error))
    log.error("the store failed unexpectedly", exc_info=error)
    return EngineError(EIO, "the store failed")
