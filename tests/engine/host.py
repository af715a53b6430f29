"""A machine with a store behind it, used as the service uses it: every call a transaction, pages fetched on demand."""

from collections.abc import Sequence
from contextlib import ExitStack
from errno import ENOSPC
from typing import Any

from engine.changes import Change
from engine.credentials import ROOT, Credentials
from engine.errors import EngineError, PagesNeeded
from engine.geometry import X86_64, Geometry
from engine.journal import Transaction
from engine.machine import Machine
from storage.memory import MemoryStore

ALICE = Credentials(1000, (100,))
BOB = Credentials(1001, (100,))
EVE = Credentials(1002, (200,))

RW = 3
PRIVATE = 0x22
SHARED_MAP = 0x21
FIXED = 0x10
NOREPLACE = 0x100000

ROUNDS_MAX = 16


class MemorySwap:
    """A swap area in memory: `capacity` slots of one page. The n-th store fails for each n in `failing`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.slots: dict[int, bytes] = {}
        self.stores = 0
        self.failing: set[int] = set()

    def store(self, slots: Sequence[int], data: memoryview) -> None:
        self.stores += 1
        size = len(data) // len(slots)
        for position, slot in enumerate(slots):
            if not 0 <= slot < self.capacity:
                raise ValueError(f"slot {slot}")
            self.slots[slot] = bytes(data[position * size : (position + 1) * size])
        if self.stores in self.failing:
            for slot in slots:
                self.slots[slot] = b"?" * size
            raise OSError(ENOSPC, "No space left on device")

    def load(self, slots: Sequence[int]) -> bytes:
        return b"".join(self.slots[slot] for slot in slots)


class Host:
    """`frames` is the resident limit in pages, `swap` the size of the swap area. `changes` are those of the last call.

    `base` is the arena's first byte, `data` that of a program's data, `page` the size of one.
    """

    def __init__(self, geometry: Geometry = X86_64, frames: int = 256, swap: int = 0) -> None:
        self.geometry = geometry
        self.page = geometry.page_size
        self.base = geometry.arena_start
        self.data = geometry.text_start + self.page
        self.frames = frames
        self.store = MemoryStore(geometry)
        self.swap = MemorySwap(swap)
        self.machine = Machine(geometry, frames, swap=self.swap if swap else None)
        self.changes: list[Change] = []
        self.fetches = 0

    def do(self, call: str, *args: Any, cred: Credentials = ROOT, **named: Any) -> Any:
        """Make a call and make it durable."""
        with ExitStack() as pins:
            return self._do(pins, call, *args, cred=cred, **named)

    def _do(self, pins: ExitStack, call: str, *args: Any, cred: Credentials, **named: Any) -> Any:
        for _ in range(ROUNDS_MAX):
            try:
                with self.machine.transaction() as txn:
                    value = getattr(self.machine, call)(cred, *args, **named)
            except PagesNeeded as need:
                self.fetches += 1
                need.memory.pin(need)
                pins.callback(need.memory.unpin, need)
                self.machine.supply(need, self.store.fetch(need.object_id, need.pages))
            except EngineError:
                self.settle(txn)
                raise
            else:
                self.settle(txn)
                return value
        raise AssertionError(f"{call} never had all its pages")

    def settle(self, txn: Transaction) -> None:
        self.changes = list(txn.changes)
        self.store.commit([txn.changes])
        txn.settle()

    def refused(self, call: str, *args: Any, cred: Credentials = ROOT, **named: Any) -> str:
        """The errno of a call that fails, "" if it does not."""
        try:
            self.do(call, *args, cred=cred, **named)
        except EngineError as error:
            return error.errno
        return ""

    def restart(self) -> None:
        """A clean stop and a new start."""
        with self.machine.transaction() as txn:
            self.machine.flush()
        self.settle(txn)
        self.swap = MemorySwap(self.swap.capacity)
        self.machine = Machine(self.geometry, self.frames, swap=self.swap if self.swap.capacity else None)
        self.machine.restore(self.store.load())
        with self.machine.transaction() as txn:
            self.machine.start()
        self.settle(txn)

    # -- scenes --------------------------------------------------------------------------------------------------

    def task(self, cred: Credentials = ROOT) -> int:
        """A new task's pid."""
        pid: int = self.do("spawn", None, 60, cred=cred).pid
        return pid

    def space(self, name: str = "space", mode: int = 0o666, sharing: str = "shared", **named: Any) -> int:
        """A new space's vid."""
        vid: int = self.do("vas_create", name, mode, sharing, **named)
        return vid

    def segment(
        self, name: str = "segment", pages: int = 4, mode: int = 0o666, sharing: str = "shared", at: int = 0
    ) -> int:
        """A new segment's sid, `at` pages above the arena's start."""
        start = self.base + at * self.page
        sid: int = self.do("vas_seg_create", name, start, start + pages * self.page, mode, sharing)
        return sid

    def enter(self, pid: int, vid: int, type: int = 2, *, lazy: bool = True) -> None:
        """Attach a space and switch the main thread into it."""
        self.do("vas_attach", pid, vid, type, lazy)
        self.do("vas_switch", pid, None, vid)

    def inside(self, pages: int = 4) -> tuple[int, int]:
        """(pid, vid) of a task in a new space, with `pages` pages mapped at the arena's start."""
        pid, vid = self.task(), self.space(f"space-{len(self.machine.spaces.registry)}")
        self.enter(pid, vid)
        if pages:
            self.do("mmap", pid, None, self.base, pages * self.page, RW, PRIVATE | FIXED)
        return pid, vid

    def map_at(self, pid: int, first: int, last: int, prot: int = RW, flags: int = PRIVATE) -> int:
        """Map pages [first, last) of the arena; the address."""
        start = self.base + first * self.page
        where: int = self.do("mmap", pid, None, start, (last - first) * self.page, prot, flags | FIXED)
        return where

    def pages_of(self, pid: int) -> list[tuple[int, int, str]]:
        """The task's own regions in the arena, in pages from its start, and their rights."""
        space = self.machine.require_task(ROOT, pid).space
        return [
            ((vma.start - self.base) // self.page, (vma.end - self.base) // self.page, str(vma.access))
            for vma in space.vmas.overlapping(self.base, self.geometry.arena_end)
        ]

    def counters(self, pid: int) -> dict[str, int]:
        return self.machine.task_status(ROOT, pid).counters
