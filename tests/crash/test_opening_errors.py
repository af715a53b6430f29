"""The n-th call fails while a store is opened, made or closed: one line and an end, and nothing is lost by it."""

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.crash.below import Call, Watched
from tests.crash.rounds import Refusals
from tests.crash.victims import HERE, environment
from tests.crash.workload import Expectation

SEED = 3
CODES = (errno.EIO, errno.ENOSPC, errno.EROFS)


def lived(data_dir: Path, refusals: Refusals, *, commits: int) -> tuple[bool, str]:
    """Whether a store could be opened and closed, and what it said on standard error."""

    def decide(call: Call) -> int:
        return refusals(call) if call.path.startswith(str(data_dir)) else 0

    script = [str(HERE / "obeying.py"), str(data_dir), str(SEED)]
    try:
        watched = Watched.start(
            script, decide, environment(), stderr=subprocess.PIPE, preload="tests.crash.workload"
        )
    except OSError as refused:
        pytest.skip(f"calls cannot be watched here: {refused}")
    out, said = watched.process.communicate(b"failing\n" + b"commit\n" * commits + b"close\n")
    watched.finish()
    return out.startswith(b"no\n"), said.decode()


def one_line(said: str) -> str:
    """The error with which it ended: one of the store's own, told in one line."""
    last = said.rstrip().splitlines()[-1]
    assert re.match(r"storage\.errors\.\w+: .+", last), said
    return last


@pytest.mark.slow
def test_while_it_is_made(tmp_path: Path) -> None:
    for n in range(1, 100):
        code = CODES[n % len(CODES)]
        data_dir, refusals = tmp_path / str(n), Refusals(n, 1, code)
        opened, said = lived(data_dir, refusals, commits=0)
        if not opened:
            one_line(said)
        assert lived(data_dir, Refusals(0, 0, code), commits=2) == (True, "")
        Expectation(SEED).examine(data_dir, 2, 2)
        if refusals.met < n:
            break
    assert n > 10


@pytest.mark.slow
def test_while_it_is_opened_and_closed(tmp_path: Path) -> None:
    assert lived(tmp_path, Refusals(0, 0, 0), commits=9) == (True, "")
    for n in range(1, 100):
        refusals = Refusals(n, 1, CODES[n % len(CODES)])
        opened, said = lived(tmp_path, refusals, commits=0)
        if not opened:
            one_line(said)
        Expectation(SEED).examine(tmp_path, 9, 9)
        if refusals.met < n:
            break
    assert n > 3


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """As on a file system that is mounted read-only."""
    assert lived(tmp_path, Refusals(0, 0, 0), commits=3) == (True, "")
    opened, said = lived(tmp_path, Refusals(1, 1000, errno.EROFS), commits=0)
    assert not opened
    assert str(tmp_path) in one_line(said)
    assert os.strerror(errno.EROFS) in said or "cannot be written" in said
    Expectation(SEED).examine(tmp_path, 3, 3)
