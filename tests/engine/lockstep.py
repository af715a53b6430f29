"""The engine and the naive model in step: the same random calls, and everything compared after each.

Transactions wait, as behind a slow disk, and are then committed oldest first or taken back newest first; pages are
evicted, translations dropped, fetched bytes handed in late, the machine restarted or crashed at any moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from engine.check import check
from engine.credentials import ROOT, Credentials
from engine.errors import EngineError, PagesNeeded
from engine.geometry import Geometry
from engine.journal import Transaction
from engine.machine import Machine
from engine.memory.eviction import evict
from engine.memory.frames import STORED, SWAPPED
from engine.memory.memory_object import MemoryObject
from engine.regions.address_space import AddressSpace
from storage.memory import MemoryStore
from tests.engine.host import MemorySwap
from tests.engine.model import Model
from tests.engine.model_state import Cell, Pages, Refused, Region

ROUNDS_MAX = 64


class Divergence(AssertionError):  # noqa: N818 - what it is
    """Engine and model disagree."""


def shown(value: object) -> object:
    """Short enough for a log: bytes by their number, addresses in hex."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return hex(value) if type(value) is int and value > 4095 else value


@dataclass(frozen=True)
class Outcome:
    """What a call came to: a value, or an errno and, for page faults, the address."""

    value: object = None
    errno: str = ""
    address: object = None

    def __str__(self) -> str:
        return f"{self.errno} {self.address or ''}".rstrip() if self.errno else f"ok {shown(self.value)}"


@dataclass
class Waiting:
    """A transaction that is neither settled nor rolled back, and the model as it was before."""

    txn: Transaction
    before: Model


class OutOfFrames(Exception):  # noqa: N818 - what it is
    """The engine's resident limit, of which the model knows nothing. The call changed nothing."""


class Lockstep:
    """One machine, one store, one model. `frames` is the resident limit in pages, `swap` what may lie outside it."""

    def __init__(self, seed: int, geometry: Geometry, frames: int, swap: int = 0) -> None:
        self.rng = Random(seed)
        self.geometry = geometry
        self.frames = frames
        self.swap = swap
        self.store = MemoryStore(geometry)
        self.machine = self._booted()
        self.model = Model(geometry)
        self.waiting: list[Waiting] = []
        self.late: list[tuple[PagesNeeded, dict[int, bytes]]] = []
        self.log: list[str] = []
        self.out_of_frames = 0
        self.huge_pages_seen = 0

    def _booted(self) -> Machine:
        first_pid = self.rng.randrange(1, 1000)
        swap = MemorySwap(self.swap) if self.swap else None
        return Machine(self.geometry, self.frames, first_pid=first_pid, swap=swap)

    # -- calls ---------------------------------------------------------------------------------------------------

    def call(self, name: str, cred: Credentials, *args: Any) -> Outcome:
        """Make one call on both and compare what they say."""
        self.log.append(f"{name}{(cred.uid, *map(shown, args))}")
        before = self.model.copy()
        try:
            real, txn = self._engine(name, cred, args)
        except OutOfFrames:
            self.out_of_frames += 1
            self.log[-1] += " -> out of frames"
            return Outcome(errno="ENOMEM")
        self.log[-1] += f" -> {real}"
        ideal = self._model(name, cred, args, real.value, before)
        if real != ideal:
            raise Divergence(f"engine: {real.value!r} {real}\nmodel:  {ideal.value!r} {ideal}"[:4000])
        self._track(txn, before)
        return real

    def _engine(self, name: str, cred: Credentials, args: Sequence[Any]) -> tuple[Outcome, Transaction]:
        names = {"thread_new": "thread"}
        method = getattr(self.machine, names.get(name, name))
        if name == "spawn":
            args = (None, 60.0)
        for _ in range(ROUNDS_MAX):
            try:
                with self.machine.transaction() as txn:
                    value = method(cred, *args)
            except PagesNeeded as need:
                self._fetch(need)
            except EngineError as error:
                if error.errno == "ENOMEM" and "frames" in error.detail:
                    txn.rollback()  # also what is partial: the model does not know how far it went
                    raise OutOfFrames from None
                address = (
                    error.data.get("address") if error.errno == "EFAULT" and "access" in error.data else None
                )
                return Outcome(errno=error.errno, address=address), txn
            else:
                return Outcome(value.pid if name in ("spawn", "fork") else value), txn
        raise OutOfFrames

    def _fetch(self, need: PagesNeeded) -> None:
        """Hand in what the engine lacks; now and then something goes on between the request and its answer."""
        self.commit(len(self.waiting))
        pages = self.store.fetch(need.object_id, need.pages)
        if self.rng.random() < 0.1:
            self.evict()
        if self.rng.random() < 0.3:
            self.late.append((need, pages))
        self._supply(need, pages)

    def _supply(self, need: PagesNeeded, pages: dict[int, bytes]) -> None:
        try:
            self.machine.supply(need, pages)
        except EngineError as error:
            if error.errno != "ENOMEM":
                raise
            raise OutOfFrames from None

    def _model(
        self, name: str, cred: Credentials, args: Sequence[Any], given: object, before: Model
    ) -> Outcome:
        try:
            value = getattr(self.model, name)(cred, *args, given=given)
        except Refused as refused:
            if not refused.partial:
                self.model = before.copy()
            return Outcome(
                errno=refused.errno, address=refused.address if refused.errno == "EFAULT" else None
            )
        return Outcome(value)

    # -- the life of transactions --------------------------------------------------------------------------------

    def _track(self, txn: Transaction, before: Model) -> None:
        """As the service does: what changed something waits for its commit, or for the one before it."""
        if txn.changes or (txn.mutated and self.waiting):
            self.waiting.append(Waiting(txn, before))
        else:
            txn.settle()

    def commit(self, count: int) -> None:
        """Make the oldest `count` transactions durable."""
        done, self.waiting = self.waiting[:count], self.waiting[count:]
        self.store.commit([entry.txn.changes for entry in done if entry.txn.changes])
        for entry in done:
            entry.txn.settle()

    def roll_back(self, count: int) -> None:
        """Take back the newest `count` transactions."""
        for _ in range(min(count, len(self.waiting))):
            entry = self.waiting.pop()
            entry.txn.rollback()
            self.model = entry.before

    def restart(self, *, crashed: bool) -> None:
        """Stop cleanly, or lose all that was not durable; and start again from the store."""
        if crashed and self.waiting:
            self.model = self.waiting[0].before
        if not crashed:
            with self.machine.transaction() as txn:
                self.machine.flush()
            self.waiting.append(Waiting(txn, self.model))
            self.commit(len(self.waiting))
        self.model = self.model.after_restart(crashed=crashed)
        self.waiting, self.late = [], []
        self.machine = self._booted()
        self.machine.restore(self.store.load())

    # -- disturbances, none of which may be seen -----------------------------------------------------------------

    def evict(self) -> None:
        for obj in list(self.machine.objects):
            evict(obj, self.rng.randrange(4))
        if self.swap:
            self.machine.reclaim.free(self.rng.randrange(4))

    def drop_tables(self) -> None:
        for task in self.machine.tasks_table:
            for union in task.space.unions:
                union.table.drop()

    def supply_late(self) -> None:
        if self.late:
            need, pages = self.rng.choice(self.late)
            try:
                self._supply(need, pages)
            except (EngineError, OutOfFrames):
                self.late.remove((need, pages))  # its object is gone, or there is no room

    # -- comparison ----------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Everything that can be seen, without faulting anything in."""
        problems = list(check(self.machine, pending=bool(self.waiting)))
        if problems:
            raise Divergence("\n".join(problems))
        self._same("spaces", self._spaces(), self._model_spaces())
        self._same("segments", self._segments(), self._model_segments())
        self._same("tasks", self._tasks(), self._model_tasks())
        self.compare_memory()
        for segment in self.machine.segments.registry:
            cells = self.model.segments[segment.sid].cells
            shown = self.peek(segment.obj, 0, len(cells))
            self._same(f"bytes of segment {segment.sid}", shown, b"".join(cell.data for cell in cells))

    def compare_memory(self) -> None:
        """Regions and bytes of every owner."""
        for space in self.machine.spaces.registry:
            self._compare_memory(space.memory, self.model.spaces[space.vid].pages)
        for task in self.machine.tasks_table:
            self._compare_memory(task.space, self.model.tasks[task.pid].pages)

    def _same(self, what: str, real: object, ideal: object) -> None:
        if real != ideal:
            raise Divergence(f"{what}:\nengine: {real}\nmodel:  {ideal}"[:4000])

    def _compare_memory(self, owner: AddressSpace, pages: Pages) -> None:
        self._same(f"regions of {owner.label}", regions(owner), self.model.regions(pages))
        shift = self.geometry.page_shift
        for vma in owner.vmas:
            count = (vma.end - vma.start) >> shift
            cells = [pages[(vma.start >> shift) + number].cell for number in range(count)]
            shown = self.peek(vma.obj, vma.offset, count)
            self._settle(shown, cells)
            ideal = b"".join(self.model.zeros if cell is None else cell.data for cell in cells)
            self._same(f"bytes of {vma.range} of {owner.label}", shown, ideal)

    def _settle(self, shown: bytes, cells: list[Cell | None]) -> None:
        """What the engine was free to forget."""
        page = self.geometry.page_size
        for number, cell in enumerate(cells):
            if cell is not None and cell.other is not None:
                cell.settle(shown[number * page : (number + 1) * page])

    def peek(self, obj: MemoryObject, first: int, count: int) -> bytes:
        """The bytes of pages, wherever they are."""
        entries = obj.pages.entries(first, count).tolist()
        stored = [first + position for position, entry in enumerate(entries) if entry == STORED]
        fetched = self.store.fetch(obj.object_id, stored)
        zeros = bytes(self.geometry.page_size)
        return b"".join(
            fetched.get(first + position, zeros)
            if entry == STORED
            else self.machine.slots.load(np.array([entry]))
            if entry <= SWAPPED
            else obj.pool.pages[entry].tobytes()
            for position, entry in enumerate(entries)
        )

    def _spaces(self) -> list[object]:
        return [
            (a.vid, a.name, a.mode, a.uid, a.gid, a.sharing, a.attach_count, a.segments)
            for a in self.machine.vas_list(ROOT)
        ]

    def _model_spaces(self) -> list[object]:
        rows: list[object] = []
        for vid, space in sorted(self.model.spaces.items()):
            sids = {page.sid for page in space.pages.values() if page.sid}
            count = len(self.model.holders(vid))
            own = (vid, space.name, space.mode, space.uid, space.gid, space.sharing)
            rows.append((*own, count, tuple(sorted(sids))))
        return rows

    def _segments(self) -> list[object]:
        return [
            (a.sid, a.name, a.start, a.end, a.mode, a.uid, a.gid, a.sharing, a.attach_count)
            for a in self.machine.vas_seg_list(ROOT)
        ]

    def _model_segments(self) -> list[object]:
        return [
            (s.sid, s.name, s.start, s.end, s.mode, s.uid, s.gid, s.sharing, len(self.model.spaces_with(sid)))
            for sid, s in sorted(self.model.segments.items())
        ]

    def _tasks(self) -> list[object]:
        rows: list[object] = []
        for told in self.machine.tasks(ROOT):
            threads = {thread.tid: thread.active for thread in told.threads}
            attached = {held.vid: held.type for held in told.attachments}
            heap = self.machine.tasks_table.get(told.pid).space.brk
            rows.append((told.pid, told.uid, threads, attached, (heap.start, heap.now)))
        return rows

    def _model_tasks(self) -> list[object]:
        return [
            (pid, task.cred.uid, task.threads, task.attached, task.heap)
            for pid, task in sorted(self.model.tasks.items())
        ]


def regions(owner: AddressSpace) -> list[Region]:
    """An owner's regions with all that is known of them, as the model tells them."""
    marks = {0: 0}
    found: list[Region] = []
    for v in owner.vmas:
        kind = int(v.access), v.shared, v.sid, v.type, v.flags
        found.append((v.start, v.end, *kind, v.moved, marks.setdefault(v.anon, len(marks)), v.forked))
    return found


def run(world: Lockstep, steps: int, step: Callable[[Lockstep], None]) -> None:
    """Take `steps` steps, comparing after each; a divergence tells the last calls."""
    for _ in range(steps):
        try:
            step(world)
            world.compare()
        except Divergence as divergence:
            raise Divergence("\n".join([*world.log[-25:], str(divergence)])) from None
        except Exception as error:
            error.add_note("\n".join(world.log[-25:]))
            raise
