"""Sixty-four clients at once for a moment: nobody is refused or starved, and memory stays. `make load` is the long one."""

from pathlib import Path

import pytest

from tests.load.load import BAD_OF_EACH, GROWTH_MAX, load

CLIENTS = 64
SECONDS = 6.0


@pytest.mark.timeout(300)
def test_many_clients_at_once_and_others_that_do_not_behave(tmp_path: Path, seed: int) -> None:
    report = load(tmp_path, seed, SECONDS, CLIENTS)
    print(report.text())
    assert sorted(report.record.made) == list(range(CLIENTS))
    assert {errno for _, errno in report.record.refused} <= {"EAGAIN"}
    assert report.bad_connections >= 6 * BAD_OF_EACH
    assert report.growth < 2 * GROWTH_MAX  # it has hardly warmed up
