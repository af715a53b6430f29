"""kill -9 at every seam, at random moments and at system calls: what was acknowledged is there, every transaction whole
or absent, and fsck finds nothing.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE
from tests.crash.rounds import PASSAGES, SEAMS, Figures, kills_at_calls, kills_at_random, kills_at_seams
from tests.crash.victims import HERE, Nursery, environment
from tests.crash.workload import Expectation

SEAM_ROUNDS = len(SEAMS) * 3
RANDOM_ROUNDS = 30
CALL_ROUNDS = 10


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_killed_at_seams(nursery: Nursery, tmp_path: Path, seed: int, part: int) -> None:
    """Each seam three times in each part."""
    figures = Figures()
    kills_at_seams(nursery, tmp_path / "data", seed + part, SEAM_ROUNDS, figures)
    assert figures.kills == SEAM_ROUNDS
    print(figures)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_killed_at_random_moments(nursery: Nursery, tmp_path: Path, seed: int, part: int) -> None:
    figures = Figures()
    kills_at_random(nursery, tmp_path / "data", seed + part, RANDOM_ROUNDS, figures)
    assert figures.kills == RANDOM_ROUNDS
    print(figures)


@pytest.mark.slow
@pytest.mark.usefixtures("can_watch")
@pytest.mark.parametrize("part", range(2))
def test_killed_at_system_calls(tmp_path: Path, seed: int, part: int) -> None:
    figures = Figures()
    kills_at_calls(tmp_path / "data", seed + part, CALL_ROUNDS, figures)
    assert figures.kills == CALL_ROUNDS
    print(figures)


@pytest.mark.parametrize("name", [name for name in SEAMS if not name.startswith("create.")])
def test_every_seam_is_passed_often(nursery: Nursery, tmp_path: Path, name: str) -> None:
    """No round above waits for a seam that is not met so often."""
    durable, killed = nursery.victim(tmp_path, 1, eager=True, count=400, failpoint=f"{name}:{max(PASSAGES)}")
    assert killed
    Expectation(1).examine(tmp_path, durable, durable + 4)


def test_the_environment_arms_a_seam(tmp_path: Path) -> None:
    """As an operator would do it."""
    command = [sys.executable, str(HERE / "obeying.py"), str(tmp_path), "1"]
    done = subprocess.run(
        command,
        input=b"commit\ncommit\ncommit\n",
        capture_output=True,
        check=False,
        env={**environment(), VARIABLE: "commit.synced:2"},
    )
    assert (done.stdout, done.returncode) == (b"ok\n", -signal.SIGKILL)
    Expectation(1).examine(tmp_path, 2, 2)


def test_seams_have_names_of_their_own() -> None:
    assert len({*FAILPOINTS, *KILLPOINTS}) == len(FAILPOINTS) + len(KILLPOINTS)
    assert os.environ.get(VARIABLE) is None
