"""The rounds of a crash run: each does harm of one kind to a store, looks at what is left, and counts.

Every round is a function of a seed, except for the moments of its kills. A loss raises AssertionError, naming the seed.
"""

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Final

from storage.failpoints import FAILPOINTS, KILLPOINTS
from tests.crash.below import Call
from tests.crash.images import Disk
from tests.crash.nursery import GROUP
from tests.crash.victims import Nursery, Store
from tests.crash.workload import Expectation

SEAMS: Final = tuple(
    name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith(("create.", "commit.", "merge."))
)
PASSAGES: Final = (1, 2, 3, 5, 9, 16, 30, 41)
ERRORS: Final = (errno.EIO, errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)


@dataclass
class Figures:
    """What a crash run has done."""

    kills: int = 0
    """Processes killed with SIGKILL."""
    errors: int = 0
    """System calls that were made to fail."""
    images: int = 0
    """Files that a power failure could have left, each opened and checked."""
    histories: int = 0
    """Random histories of machine and store that were lived through."""
    checked: int = 0
    """Acknowledged transactions and requests that were looked for after something went wrong, and found."""

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, field.name)} {field.name}" for field in fields(self))


class Refusals:
    """Decides that `length` calls from the `begin`-th on fail with an errno; files may be opened for reading."""

    def __init__(self, begin: int, length: int, code: int) -> None:
        self._refused = range(begin, begin + length)
        self._code = code
        self.met = 0
        """Calls so far that write, grow, sync or open for writing."""
        self.failed = 0

    def __call__(self, call: Call) -> int:
        if call.name == "openat" and not call.writes:
            return 0
        self.met += 1
        if self.met not in self._refused:
            return 0
        self.failed += 1
        return self._code


@contextmanager
def directory(where: Path) -> Iterator[Path]:
    """A data directory that is removed, unless the block fails."""
    yield where
    shutil.rmtree(where)


def kills_at_seams(nursery: Nursery, where: Path, seed: int, count: int, figures: Figures) -> None:
    """One directory lives through kills at failpoints, by turns."""
    rng = Random(seed)
    expected, last = Expectation(seed), 0
    names = rng.sample(SEAMS, len(SEAMS))
    with directory(where) as data_dir:
        for turn in range(count):
            name = names[turn % len(names)]
            if name.startswith("create."):
                shutil.rmtree(data_dir, ignore_errors=True)
                last = 0
            passage = 1 if name.startswith("create.") else rng.choice(PASSAGES)
            durable, killed = nursery.victim(
                data_dir, seed, eager=True, count=400, failpoint=f"{name}:{passage}"
            )
            assert killed, f"seed {seed}: {name}:{passage} was never reached"
            figures.kills += 1
            if name.startswith("create."):
                durable, killed = nursery.victim(data_dir, seed, eager=True, count=4)
                assert (durable, killed) == (4, False)
            last = expected.examine(data_dir, max(last, durable), durable + GROUP)
            figures.checked += durable


def kills_at_random(nursery: Nursery, where: Path, seed: int, count: int, figures: Figures) -> None:
    """One directory lives through kills at any moment."""
    rng = Random(seed)
    expected, last = Expectation(seed), 0
    with directory(where) as data_dir:
        for _ in range(count):
            seconds = rng.choice((0.003, 0.03, 0.1)) * rng.random()
            durable, killed = nursery.victim(data_dir, seed, eager=rng.random() < 0.6, seconds=seconds)
            assert killed
            figures.kills += 1
            last = expected.examine(data_dir, max(last, durable), max(last, durable) + GROUP)
            figures.checked += max(last, durable)


def kills_at_calls(where: Path, seed: int, count: int, figures: Figures) -> None:
    """One directory lives through kills at the n-th system call on its file: before it is made."""
    rng = Random(seed)
    expected, last = Expectation(seed), 0
    with directory(where) as data_dir:
        for _ in range(count):
            left = rng.randrange(1, 40)

            def decide(call: Call) -> int:
                nonlocal left
                left -= 1
                if not left:
                    os.kill(call.pid, signal.SIGKILL)
                return 0

            store = Store(data_dir, seed, *rng.choice(((), ("eager",))), decide=decide)
            try:
                while store.told("commit") == "ok" and store.told("check") == "same":
                    last += 1
            finally:
                store.kill()
            figures.kills += 1
            last = expected.examine(data_dir, last, last + 1) if (data_dir / "store.lmdb").exists() else 0
            figures.checked += last


def errors_at_calls(where: Path, seed: int, count: int, figures: Figures) -> None:
    """One store lives through system calls that fail, for a while; then the process is killed."""
    rng = Random(seed)
    expected = Expectation(seed)
    with directory(where) as data_dir:
        store = Store(data_dir, seed, *rng.choice(((), ("eager",))))
        last = 0
        try:
            assert store.told("failing") == "no"  # it is open
            while count > 0:
                begin, length, code = rng.randrange(1, 12), rng.choice((1, 1, 2, 9, 200)), rng.choice(ERRORS)
                store.decide = refusals = Refusals(begin, length, code)
                for _ in range(rng.randrange(1, 5)):
                    last += store.told("commit") == "ok"
                    store.told("tidy")
                    assert store.told("check") == "same", f"seed {seed}"
                store.decide = lambda call: 0
                assert (store.told("probe"), store.told("failing")) == ("ok", "no"), f"seed {seed}"
                assert store.told("commit") == "ok", f"seed {seed}"
                last += 1
                assert store.told("check") == "same", f"seed {seed}"
                figures.errors += refusals.failed
                figures.checked += last
                count -= max(refusals.failed, 1)
        finally:
            store.kill()
        figures.kills += 1
        expected.examine(data_dir, last, last)
        figures.checked += last


class PowerFailures:
    """Looks into what a power failure could leave at each call of a store."""

    def __init__(self, where: Path, seed: int, store: Store, figures: Figures) -> None:
        self._where = where
        self._rng = Random(seed)
        self._expected = Expectation(seed)
        self._figures = figures
        content = (store.data_dir / "store.lmdb").read_bytes()
        self.disk = Disk(bytearray(content), size=len(content))
        self.acknowledged = self.old = self.new = 0
        self.share = 0.35
        """Of the calls that are looked at."""
        self.each = 2
        """Images of each of them, beside those with nothing and with all of what was on the way."""

    def decide(self, call: Call) -> int:
        """Judge what a power failure at the beginning and in the midst of this call leaves."""
        if call.name in ("openat", "rename"):
            return 0
        self.disk.follow(call)
        if self._rng.random() < self.share:
            self.judge()
        return 0

    def judge(self, most: int = 1) -> None:
        """Power fails now; `most` transactions are under way."""
        for image in self.disk.images(self._rng, self.each):
            self._figures.images += 1
            self._figures.checked += self.acknowledged
            with directory(self._where / f"image {self._figures.images}") as data_dir:
                data_dir.mkdir(parents=True)
                (data_dir / "store.lmdb").write_bytes(image)
                last = self._expected.examine(data_dir, self.acknowledged, self.acknowledged + most)
            self.new += last > self.acknowledged
            self.old += last == self.acknowledged


def power_failures(where: Path, seed: int, count: int, figures: Figures) -> PowerFailures:
    """`count` transactions, with power failures at many of their system calls."""
    eager = bool(Random(seed).randrange(2))
    with directory(where):
        store = Store(where / "data", seed, *(("eager",) if eager else ()))
        try:
            assert store.told("failing") == "no"
            failures = PowerFailures(where, seed, store, figures)
            store.decide = failures.decide
            for number in range(1, count + 1):
                assert store.told("commit") == "ok", f"seed {seed}"
                failures.acknowledged = number
                if number % 3 == 0:
                    assert store.told("tidy") == "ok", f"seed {seed}"
        finally:
            store.kill()
    assert failures.disk.early == [], f"seed {seed}"
    return failures
