"""Stores, loads, forks and advice at random in a memory that is too small, with commits that fail: every byte is right.

The model is one bytearray for each task's own memory and one for the space that all of them share.
"""

import errno
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.check import check
from storage.errors import StoreFull
from storage.swap_area import SwapFile
from tests.app.support import BASE, PAGE, Answer, HeldStore, Site, held

PAGES = 200
OWN = BASE + (1 << 32)
MEMORY, SWAP = 1 << 20, 6 << 20
TASKS_MAX = 5
DONTNEED, POPULATE_WRITE = 4, 23
HARMLESS = (3, 14, 15, 20, 21, 22, POPULATE_WRITE, 25)
"""Advice that keeps every byte."""
SHORT = ("ENOMEM", "ENOSPC", "EIO")
"""EIO only where the swap area fails."""
STEPS = 1500


class Pressure:
    """A service under pressure, and what its memory must hold."""

    def __init__(self, site: Site, store: HeldStore, rng: random.Random) -> None:
        self.site = site
        self.store = store
        self.rng = rng
        self.space = bytearray(PAGES * PAGE)
        self.own: dict[int, bytearray] = {}
        self.refused = 0

    async def begin(self) -> None:
        """A space and a task with memory in it and of its own."""
        await self.site.space(mode=0o666)
        await self.site.ok("PATCH", "/vas/1", {"sharing": "shared"})
        pid = await self.site.task()
        await self.site.mmap(pid, PAGES, OWN)
        await self.enter(pid, bytearray(PAGES * PAGE))
        await self.site.mmap(pid, PAGES)

    async def enter(self, pid: int, own: bytearray) -> None:
        await self.site.ok("PUT", f"/tasks/{pid}/vas/1", {"type": "rw"})
        await self.site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 1})
        self.own[pid] = own

    def done(self, answer: Answer) -> bool:
        """Whether the call was done; memory or the disk may be short, anything else is wrong."""
        if answer.status < 300:
            return True
        assert answer.errno in SHORT, answer
        self.refused += 1
        return False

    def place(self, pid: int) -> tuple[bytearray, int]:
        return (self.space, BASE) if self.rng.random() < 0.4 else (self.own[pid], OWN)

    def pages(self) -> tuple[int, int]:
        first = self.rng.randrange(PAGES)
        return first, min(PAGES - first, self.rng.choice([1, 3, 6, 60]))

    async def write(self, pid: int) -> None:
        memory, base = self.place(pid)
        offset = self.rng.randrange(PAGES * PAGE)
        data = (self.rng.randbytes(16) * 5120)[
            : min(self.rng.choice([1, 50, PAGE, 81920]), PAGES * PAGE - offset)
        ]
        how = self.rng.choice(["commit", "relaxed"])
        if self.done(await self.site.write(pid, base + offset, data, durability=how)):
            memory[offset : offset + len(data)] = data

    async def read(self, pid: int) -> None:
        memory, base = self.place(pid)
        first, count = self.pages()
        answer = await self.site.read(pid, base + first * PAGE, count * PAGE)
        if self.done(answer):
            assert answer.body == memory[first * PAGE : (first + count) * PAGE]

    async def advise(self, pid: int) -> None:
        first, count = self.pages()
        advice = self.rng.choice([DONTNEED, *HARMLESS])
        wanted = {"addr": OWN + first * PAGE, "length": count * PAGE, "advice": advice}
        answer = await self.site.call("POST", f"/tasks/{pid}/madvise", wanted)
        if advice == 25 and answer.status == 400:
            return  # no huge page fits there
        if self.done(answer) and advice == DONTNEED:
            self.own[pid][first * PAGE : (first + count) * PAGE] = bytes(count * PAGE)

    async def fork(self, pid: int) -> None:
        if len(self.own) == TASKS_MAX:
            return
        answer = await self.site.call("POST", f"/tasks/{pid}/fork", {})
        if self.done(answer):
            self.store.failure = None
            await self.enter(answer.json["pid"], bytearray(self.own[pid]))

    async def exit(self, pid: int) -> None:
        if len(self.own) > 1 and self.done(await self.site.call("DELETE", f"/tasks/{pid}")):
            del self.own[pid]

    async def undone(self, pid: int) -> None:
        """An atomic batch whose last call is refused: nothing of it may stay."""
        place = OWN + self.rng.randrange(PAGES - 8) * PAGE
        calls: list[tuple[str, dict[str, Any]]] = [
            ("write", {"addr": place, "data": "dW5kb25l" * 4000}),
            ("madvise", {"addr": place, "length": 4 * PAGE, "advice": DONTNEED}),
            ("munmap", {"addr": place, "length": 2 * PAGE}),
            ("munmap", {"addr": place + 1, "length": PAGE}),
        ]
        answer = await self.site.batch(pid, *calls, query="?atomic=1")
        assert answer.errno in ("EINVAL", *SHORT)

    async def step(self) -> None:
        self.store.failure = StoreFull("no space left on the disk") if self.rng.random() < 0.03 else None
        moves: list[Callable[[int], Coroutine[Any, Any, None]]] = [
            self.write, self.read, self.advise, self.fork, self.exit, self.undone,
        ]  # fmt: skip
        (move,) = self.rng.choices(moves, [35, 35, 15, 6, 4, 5])
        await move(self.rng.choice(list(self.own)))


async def run(data_dir: Path, seed: int, calm: list[bool] | None = None) -> Pressure:
    """Steps at random, with all invariants looked at now and then; `calm[0]` is true while they are."""
    calm = [False] if calm is None else calm
    async with held(data_dir, memory=MEMORY, swap_bytes=SWAP) as (site, store):
        pressure = Pressure(site, store, random.Random(seed))
        await pressure.begin()
        for number in range(STEPS):
            await pressure.step()
            if number % 20 == 0:
                store.failure = None
                await site.service.executor.settled()
                calm[0] = True
                assert list(check(site.service.machine)) == []
                calm[0] = False
        counters = [(await site.ok("GET", f"/tasks/{pid}"))["counters"] for pid in pressure.own]
        assert sum(told["major_faults"] for told in counters) > 0
        return pressure


@pytest.mark.parametrize("seed", range(3))
async def test_every_byte_is_right_when_memory_is_short(tmp_path: Path, seed: int) -> None:
    assert (await run(tmp_path, seed)).refused > 0


@pytest.mark.parametrize("seed", range(2))
async def test_a_swap_area_that_fails_changes_no_byte(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, failures, calm = random.Random(seed), [0], [False]
    store, load = SwapFile.store, SwapFile.load

    def fail(error: int) -> None:
        failures[0] += 1
        raise OSError(error, os.strerror(error))

    def flaky_store(area: SwapFile, slots: Sequence[int], data: memoryview) -> None:
        if rng.random() < 0.1:
            fail(errno.ENOSPC)
        store(area, slots, data)

    def flaky_load(area: SwapFile, slots: Sequence[int]) -> bytes:
        if not calm[0] and rng.random() < 0.05:
            fail(errno.EIO)
        return load(area, slots)

    monkeypatch.setattr(SwapFile, "store", flaky_store)
    monkeypatch.setattr(SwapFile, "load", flaky_load)
    await run(tmp_path, seed, calm)
    assert failures[0] > 0
