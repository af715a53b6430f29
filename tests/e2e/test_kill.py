"""SIGKILL at a random moment of a stream of stores: nothing acknowledged is missing, and fsck finds nothing.

`KILL_ROUNDS` (environment) sets how many rounds each of the parts has; `--seed` replays one.
"""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.support.service import EVERSPACED, Service, run
from tests.e2e.writers import Writer

PARTS = 4
ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
WRITERS = 3


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * ROUNDS)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_missing(fresh: Service, seed: int, part: int) -> None:
    rng = random.Random(f"{seed} {part}")
    writers = [Writer(number) for number in range(WRITERS)]
    fresh.start()
    for writer in writers:
        writer.prepare(fresh)
    for _ in range(ROUNDS):
        with ThreadPoolExecutor(WRITERS) as pool:
            running = [pool.submit(writer.work, fresh, rng.getrandbits(32)) for writer in writers]
            time.sleep(rng.choice((0.02, 0.1, 0.5)) * rng.random())
            fresh.kill()
            for done in running:
                done.result()
        checked = run([EVERSPACED, "fsck", str(fresh.data_dir)])
        assert (checked.returncode, checked.stderr) == (0, ""), checked
        fresh.start()
        for writer in writers:
            writer.compare(fresh)
    print(f"acknowledged: {[writer.acknowledged for writer in writers]}")
    assert fresh.stop() == 0


@pytest.mark.slow
def test_a_store_that_is_lost_would_be_noticed(fresh: Service, seed: int) -> None:
    """The canary: a writer that takes relaxed stores for durable ones must be caught."""
    writer = Writer(0, durability="relaxed")
    fresh.start()
    writer.prepare(fresh)
    for number in range(10):
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(writer.work, fresh, seed + number)
            time.sleep(0.3)
            fresh.kill()
            running.result()
        fresh.start()
        try:
            writer.compare(fresh)
        except AssertionError:
            return
    raise AssertionError("ten kills, and no relaxed store was lost")


@pytest.mark.slow
def test_sigterm_in_the_middle_of_stores_loses_nothing_and_ends_with_0(fresh: Service, seed: int) -> None:
    rng = random.Random(seed)
    writers = [Writer(number) for number in range(WRITERS)]
    fresh.start()
    for writer in writers:
        writer.prepare(fresh)
    for _ in range(3):
        with ThreadPoolExecutor(WRITERS) as pool:
            running = [pool.submit(writer.work, fresh, rng.getrandbits(32)) for writer in writers]
            time.sleep(0.3 * rng.random())
            assert fresh.stop() == 0
            for done in running:
                done.result()
        fresh.start()
        for writer in writers:
            writer.compare(fresh)
