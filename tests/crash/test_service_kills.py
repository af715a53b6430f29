"""kill -9 of a whole service at seams and at random moments, and system calls that fail under it while clients store."""

from pathlib import Path

import pytest

from tests.crash.rounds import Figures
from tests.crash.service_rounds import errors_of_the_service, kills_of_the_service

KILLS = 6
ERRORS = 30


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_under_load(tmp_path: Path, seed: int) -> None:
    figures = Figures()
    kills_of_the_service(tmp_path / "run", seed, KILLS, figures)
    assert figures.kills == KILLS
    assert figures.checked > 0
    print(figures)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("can_watch")
def test_calls_fail_under_load(tmp_path: Path, seed: int) -> None:
    figures = Figures()
    errors_of_the_service(tmp_path / "run", seed, ERRORS, figures)
    assert figures.errors > 0
    assert figures.checked > 0
    print(figures)
