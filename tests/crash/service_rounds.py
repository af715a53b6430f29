"""The rounds of a crash run that do harm to a whole service under load; see rounds.py."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE
from storage.upkeep.fsck import check_dir
from tests.conformance.support.http import Problem
from tests.conformance.support.service import STOP_S, Service, until
from tests.crash.below import Call
from tests.crash.rounds import ERRORS, Figures, directory
from tests.crash.serving import Steadfast, WatchedService
from tests.e2e.writers import Writer

WRITERS: Final = 3
SEAMS: Final = tuple(name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith("commit."))


class Armed(Service):
    """A service whose next start may be armed to die at a seam."""

    def start_armed(self, seam: str) -> None:
        self._env = {VARIABLE: seam}
        self.start()
        self._env = {}

    def wait(self) -> None:
        """Until it is dead."""
        if self._process is not None:
            self._process.wait(STOP_S)


def kills_of_the_service(where: Path, seed: int, count: int, figures: Figures) -> None:
    """Kills at seams of commits and at random moments, by turns, while clients store."""
    rng = Random(seed)
    with directory(where):
        where.mkdir(parents=True)
        service = Armed(where / "data")
        writers = [Writer(number) for number in range(WRITERS)]
        try:
            service.start()
            for writer in writers:
                writer.prepare(service)
            for turn in range(count):
                seam = turn % 2 == 0
                if seam:
                    service.stop()
                    service.start_armed(f"{rng.choice(SEAMS)}:{rng.randrange(10, 120)}")
                with ThreadPoolExecutor(WRITERS) as pool:
                    running = [pool.submit(writer.work, service, rng.getrandbits(32)) for writer in writers]
                    if seam:
                        service.wait()
                    else:
                        time.sleep(rng.choice((0.02, 0.1, 0.5)) * rng.random())
                        service.kill()
                    for done in running:
                        done.result()
                figures.kills += 1
                _sound(service.data_dir, seed)
                service.start()
                _compare(service, writers, figures)
        finally:
            service.close()
        _no_traceback(service)


def errors_of_the_service(where: Path, seed: int, count: int, figures: Figures) -> None:
    """System calls fail while clients store; it recovers by itself, and then is killed."""
    rng = Random(seed)
    with directory(where):
        where.mkdir(parents=True)
        service = WatchedService(where / "data")
        writers = [Steadfast(number) for number in range(WRITERS)]
        try:
            service.start()
            for writer in writers:
                writer.prepare(service)
            while count > 0:
                with ThreadPoolExecutor(WRITERS) as pool, _stopping(writers):
                    running = [pool.submit(writer.work, service, rng.getrandbits(32)) for writer in writers]
                    for _ in range(6):
                        chance = Chance(rng.getrandbits(32), rng.choice((0.05, 0.3, 1.0)), rng.choice(ERRORS))
                        service.decide = chance
                        time.sleep(0.3 * rng.random())
                        service.decide = lambda call: 0
                        figures.errors += chance.failed
                        count -= max(chance.failed, 1)
                        time.sleep(0.1)
                    until("writing works again", lambda: _ready(service), 30)
                    service.kill()
                    for writer in writers:
                        writer.stopping = True
                    for done in running:
                        done.result()
                figures.kills += 1
                _sound(service.data_dir, seed)
                service.start()
                _compare(service, writers, figures)
        finally:
            service.close()
        _no_traceback(service)


class Chance:
    """Decides that calls fail, each with a certain chance."""

    def __init__(self, seed: int, share: float, code: int) -> None:
        self._rng = Random(seed)
        self._share = share
        self._code = code
        self.failed = 0

    def __call__(self, call: Call) -> int:
        if (call.name == "openat" and not call.writes) or self._rng.random() >= self._share:
            return 0
        self.failed += 1
        return self._code


@contextmanager
def _stopping(writers: Sequence[Steadfast]) -> Iterator[None]:
    """Writers work inside the block, and stop at its end even when it fails."""
    for writer in writers:
        writer.stopping = False
    try:
        yield
    finally:
        for writer in writers:
            writer.stopping = True


def _ready(service: WatchedService) -> bool:
    with suppress(Problem):
        return service.http().request("GET", "/readyz").body == b"ready\n"
    return False


def _compare(service: Service, writers: Sequence[Writer], figures: Figures) -> None:
    for writer in writers:
        writer.compare(service)
    figures.checked += sum(writer.acknowledged for writer in writers)


def _sound(data_dir: Path, seed: int) -> None:
    for damage in check_dir(data_dir):
        raise AssertionError(f"seed {seed}: fsck of {data_dir}: {damage}")


def _no_traceback(service: Service) -> None:
    if "Traceback" in service.said():
        raise AssertionError(service.said()[-4000:])
