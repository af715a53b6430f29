"""The clients of the load test: each makes random calls on memory of its own and on what all share, and knows what it must read.

A refusal that is none of the documented limits, and a byte that is another than was written, end the test.
"""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import everspace
from everspace import AsyncClient, AsyncTask

PAGE: Final = 4096
OWN_PAGES: Final = 64
"""Pages of a client's space."""
BASE: Final = 0x1000_0000_0000
COMMON: Final = 0x2000_0000_0000
SEGMENTS: Final = 0x3000_0000_0000
SLOT: Final = 64
"""Bytes of the common segment that belong to one client."""
LIMITS: Final = frozenset({"EAGAIN"})
"""What the service may refuse when it is asked too often: the one account with a rate is."""


@dataclass(slots=True)
class Record:
    """What happened: seconds of each call by its kind, and refusals by kind and errno."""

    times: dict[str, "array[float]"] = field(default_factory=dict)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    made: Counter[int] = field(default_factory=Counter)
    """Calls by client."""

    def took(self, kind: str, seconds: float) -> None:
        """Note a call that succeeded."""
        self.times.setdefault(kind, array("d")).append(seconds)


class Worker:
    """One client. Calls of `weights` are made at random, by their weights."""

    def __init__(self, number: int, rng: random.Random, record: Record, *, limited: bool) -> None:
        self.number = number
        self.rng = rng
        self.record = record
        self.limited = limited
        self.bytes = bytearray(OWN_PAGES * PAGE)
        self.slot = b""
        self.made = 0
        self.client: AsyncClient
        self.task: AsyncTask
        self.common: everspace.AsyncSegment

    async def prepare(self, client: AsyncClient) -> None:
        """A task inside a space of its own with a segment to take memory from."""
        self.client = client
        self.task = task = await client.spawn(f"load-{self.number}", lease=3600)
        start = SEGMENTS + self.number * 0x1000_0000
        vid = await task.vas_create(f"space-{self.number}", 0o600)
        self.sid = await task.vas_seg_create(f"segment-{self.number}", start, start + 256 * PAGE, 0o600)
        await task.vas_seg_attach(vid, self.sid, "rw")
        await task.vas_attach(0, vid, "rw")
        await task.vas_switch(vid)
        self.vid = vid
        flags = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS | everspace.MAP_FIXED
        await task.mmap(BASE, OWN_PAGES * PAGE, everspace.PROT_READ | everspace.PROT_WRITE, flags)
        self.common = await client.segments.find("common")

    async def work(self, until: float) -> None:
        """Make calls until that time (of time.monotonic)."""
        kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "load": (30, self.load), "store": (20, self.store), "store relaxed": (10, self.store_relaxed),
            "batch of 40": (10, self.batch), "batch of 40, atomic": (4, self.atomic), "maps": (4, self.maps),
            "mmap, munmap": (5, self.mapping), "malloc, free": (5, self.heap), "getattr": (5, self.getattr),
            "clone, delete": (2, self.clone), "fork, exit": (2, self.fork), "thread, exit": (2, self.thread),
            "pwrite, pread": (6, self.shared), "list": (1, self.listing), "switch out, in": (4, self.switch),
        }  # fmt: skip
        if self.limited:  # what is refused half way would have to be made good
            kinds = {name: kinds[name] for name in ("load", "store", "getattr")}
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        while time.monotonic() < until:
            (kind,) = self.rng.choices(names, weights)
            began = time.perf_counter()
            try:
                await kinds[kind][1]()
            except everspace.VasError as refused:
                self.record.refused[kind, refused.errno_name] += 1
                if not self.limited or refused.errno_name not in LIMITS:
                    raise
                await asyncio.sleep(min(1.0, refused.retry_after or 0.1))
            else:
                self.record.took(kind, time.perf_counter() - began)
            self.record.made[self.number] += 1

    def _place(self, most: int) -> tuple[int, int]:
        length = self.rng.choice((8, 8, 8, 64, most))
        return self.rng.randrange(0, len(self.bytes) - length), length

    def _expect(self, at: int, found: bytes) -> None:
        if found != self.bytes[at : at + len(found)]:
            raise AssertionError(f"client {self.number} reads other bytes at {BASE + at:#x} than it wrote")

    async def load(self) -> None:
        at, length = self._place(PAGE)
        self._expect(at, await self.task.read(BASE + at, length))

    async def store(self) -> None:
        await self._store("commit")

    async def store_relaxed(self) -> None:
        await self._store("relaxed")

    async def _store(self, durability: str) -> None:
        at, length = self._place(PAGE)
        data = self.rng.randbytes(length)
        await self.task.write(BASE + at, data, durability)
        self.bytes[at : at + length] = data

    async def batch(self) -> None:
        places = [self._place(512) for _ in range(40)]
        async with self.task.batch() as batch:
            handles = [batch.read(BASE + at, length) for at, length in places]
        for (at, _), handle in zip(places, handles, strict=True):
            self._expect(at, handle.result())

    async def atomic(self) -> None:
        stored = [(at, self.rng.randbytes(length)) for at, length in (self._place(64) for _ in range(20))]
        async with self.task.batch(atomic=True) as batch:
            for at, data in stored:
                batch.write(BASE + at, data)
        for at, data in stored:
            self.bytes[at : at + len(data)] = data

    async def maps(self) -> None:
        if f"{BASE:x}-" not in await self.task.maps():
            raise AssertionError("its own region is not in its map")

    async def mapping(self) -> None:
        flags = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
        addr = await self.task.mmap(0, 16 * PAGE, everspace.PROT_READ | everspace.PROT_WRITE, flags)
        await self.task.write(addr, b"mapped", "relaxed")
        await self.task.munmap(addr, 16 * PAGE)

    async def heap(self) -> None:
        addr = await self.task.vas_malloc(self.rng.randrange(1, 2000))
        await self.task.vas_free(addr)

    async def getattr(self) -> None:
        await self.task.vas_getattr(self.vid)
        await self.task.vas_seg_getattr(self.sid)

    async def clone(self) -> None:
        self.made += 1
        clone = await self.task.vas_seg_clone(self.sid, f"clone-{self.number}-{self.made}")
        await self.task.vas_seg_delete(clone)

    async def fork(self) -> None:
        child = await self.task.fork()
        await child.exit()

    async def thread(self) -> None:
        thread = await self.task.thread()
        await thread.exit()

    async def shared(self) -> None:
        data = self.rng.randbytes(SLOT)
        await self.common.pwrite(self.number * SLOT, data)
        if await self.common.pread(self.number * SLOT, SLOT) != data:
            raise AssertionError("its slot of the common segment has other bytes than it wrote")

    async def listing(self) -> None:
        names = [space.name async for space in self.client.spaces.list(limit=50)]
        if len(set(names)) != len(names):
            raise AssertionError("a space is listed twice")

    async def switch(self) -> None:
        await self.task.vas_switch(0)
        await self.task.vas_switch(self.vid)
