"""One run of the load: a service, clients that work, clients that do not behave, and the service's memory over time."""

import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

import everspace
from tests.conformance.support.service import Service, run
from tests.load.bad_clients import BadClients
from tests.load.clients import COMMON, PAGE, SLOT, Record, Worker

ACCOUNTS: Final = 4
"""Clients belong to these in turn; the last one has a rate."""
RATE: Final = 20
"""Requests a second of the account that has a rate."""
BAD_OF_EACH: Final = 4
MIB: Final = 1 << 20
GROWTH_MAX: Final = 24 * MIB
"""What the service's own memory may grow by between the second and the last quarter of a run."""
TARGET_BYTES: Final = 2 * MIB


@dataclass(slots=True)
class Report:
    """What a run came to. `memory` are pairs of the resident set and its anonymous part, in bytes, over time."""

    seconds: float
    record: Record
    bad_connections: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Calls that succeeded; some are of several requests."""
        return sum(map(len, self.record.times.values()))

    @property
    def growth(self) -> int:
        """Bytes by which the service's own memory grew, from the second quarter of the run to the last one."""
        quarter = len(self.memory) // 4
        own = [anonymous for _, anonymous in self.memory]
        early, late = own[quarter : 2 * quarter], own[-quarter:]
        return int(statistics.median(late) - statistics.median(early)) if quarter else 0

    def text(self) -> str:
        """A table."""
        lines = [f"{'milliseconds':22} {'calls':>7} {'p50':>8} {'p99':>8} {'max':>8}"]
        for kind, times in sorted(self.record.times.items()):
            ordered = sorted(times)
            shown = (ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])
            lines.append(f"{kind:22} {len(ordered):7} " + " ".join(f"{value * 1e3:8.2f}" for value in shown))
        sizes = [
            f"{whole / MIB:.0f}/{own / MIB:.0f}"
            for whole, own in self.memory[:: max(1, len(self.memory) // 8)]
        ]
        refused = ", ".join(f"{kind} {errno} {count}" for (kind, errno), count in self.record.refused.items())
        lines += [
            f"{self.calls} calls in {self.seconds:.0f} s: {self.calls / self.seconds:.0f} a second",
            f"refused: {refused or 'none'}",
            f"{self.bad_connections} connections of clients that do not behave",
            f"MiB resident/own over time: {' '.join(sizes)}; own grew by {self.growth / MIB:.1f}",
        ]
        return "\n".join(lines)


def load(folder: Path, seed: int, seconds: float, clients: int) -> Report:
    """Run it. Raises what a client could not account for."""
    with Service(folder / "data") as service:
        tokens = [service.account(1000 + number, 1000 + number) for number in range(ACCOUNTS)]
        report = asyncio.run(_load(service, tokens, seed, seconds, clients))
        if "Traceback" in service.said():
            raise RuntimeError(f"the service failed:\n{service.said()}")
        if service.stop():
            raise RuntimeError(f"the service ended badly:\n{service.said()}")
    checked = run([str(Path(service.command()[0])), "fsck", str(service.data_dir)])
    if checked.returncode:
        raise RuntimeError(f"fsck found something:\n{checked.stdout}{checked.stderr}")
    return report


async def _load(service: Service, tokens: list[str], seed: int, seconds: float, clients: int) -> Report:
    report = Report(seconds, Record())
    rng = random.Random(seed)
    async with everspace.aconnect(service.url, service.root_token) as root:
        await root.segments.create("common", COMMON, COMMON + (clients * SLOT // PAGE + 1) * PAGE, 0o666)
        asleep = await root.spawn("bad", lease=3600)
        flags = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
        addr = await asleep.mmap(0, TARGET_BYTES, everspace.PROT_READ | everspace.PROT_WRITE, flags)
        await asleep.write(addr, bytes(range(256)) * (TARGET_BYTES // 256), "relaxed")
        target = f"/v1/tasks/{asleep.pid}/memory?addr={addr:#x}&len={TARGET_BYTES}"
        bad = BadClients(service.port, service.root_token, target)
        misbehaving = asyncio.create_task(bad.run(BAD_OF_EACH))
        watching = asyncio.create_task(_watch(service.pid, report, seconds))
        ready = asyncio.Barrier(clients + 1)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(clients):
                    limited = number % ACCOUNTS == ACCOUNTS - 1
                    worker = Worker(
                        number, random.Random(rng.getrandbits(64)), report.record, limited=limited
                    )
                    group.create_task(_one(worker, service.url, tokens[number % ACCOUNTS], ready, seconds))
                await ready.wait()
                await asyncio.to_thread(_limit, service)
        finally:
            watching.cancel()
            misbehaving.cancel()
            await asyncio.gather(watching, misbehaving, return_exceptions=True)
        report.bad_connections = bad.begun
    return report


def _limit(service: Service) -> None:
    """Give the last account its rate."""
    limited = service.everspaced("quota set", "--uid", str(1000 + ACCOUNTS - 1), "--rate", str(RATE))
    if limited.returncode:
        raise RuntimeError(f"the account gets no rate: {limited.stderr}")


async def _one(worker: Worker, url: str, token: str, ready: asyncio.Barrier, seconds: float) -> None:
    async with everspace.aconnect(url, token, timeout=60.0) as client:
        await worker.prepare(client)
        await ready.wait()
        await worker.work(time.monotonic() + seconds)


async def _watch(pid: int, report: Report, seconds: float) -> None:
    """Look at the service's memory forty times or more in a run."""
    process = psutil.Process(pid)
    while True:
        memory = process.memory_info()
        report.memory.append((memory.rss, memory.rss - memory.shared))
        await asyncio.sleep(min(0.5, seconds / 40))
