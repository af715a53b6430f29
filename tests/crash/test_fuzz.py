"""Random histories of machine and store together, with commits that fail, housekeeping that fails, restarts and crashes:
everything reads as a naive model says, every rule holds, fsck finds nothing. `--seed` replays one.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.changes import Change, DropPages
from storage.lmdb.store import LmdbStore
from tests.crash.family import Family

STEPS = 300


def live(where: Path, seed: int, steps: int) -> Family:
    """One history."""
    family = Family(where, seed)
    with family.life.told():
        for number in range(steps):
            family.step()
            if number % 10 == 0:
                family.life.require_rules()
        family.compare()
        family.life.crash()
        family.compare()
        family.life.end()
    return family


@pytest.mark.parametrize("fixed_seed", range(4))
def test_a_known_history(tmp_path: Path, fixed_seed: int) -> None:
    family = live(tmp_path, fixed_seed, STEPS)
    assert family.life.losses_of_groups > 1


@pytest.mark.parametrize("part", range(4))
def test_a_new_history(tmp_path: Path, seed: int, part: int) -> None:
    live(tmp_path, seed + part, STEPS)


def test_a_history_can_be_replayed(tmp_path: Path) -> None:
    first, second = (live(tmp_path / str(number), 5, 60) for number in range(2))
    assert first.life.log == second.life.log


def test_a_store_that_forgets_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary: every commit loses its drops of pages."""
    commit = LmdbStore.commit

    def forgetful(store: LmdbStore, transactions: Sequence[Sequence[Change]]) -> None:
        commit(store, [[c for c in changes if not isinstance(c, DropPages)] for changes in transactions])

    monkeypatch.setattr(LmdbStore, "commit", forgetful)
    with pytest.raises(AssertionError):
        for seed in range(20):
            live(tmp_path / str(seed), seed, STEPS)
