"""Power failures: whatever the disk has kept of what no sync had covered, what was acknowledged is there, whole."""

from pathlib import Path
from random import Random

import pytest

from tests.crash.below import Call
from tests.crash.conftest import MakeStore
from tests.crash.images import Disk
from tests.crash.rounds import Figures, PowerFailures, power_failures
from tests.crash.workload import Expectation


@pytest.mark.slow
@pytest.mark.usefixtures("can_watch")
@pytest.mark.parametrize("part", range(2))
def test_a_power_failure_at_any_call(tmp_path: Path, seed: int, part: int) -> None:
    figures = Figures()
    failures = power_failures(tmp_path / "run", seed + part, 15, figures)
    assert figures.images > 20
    assert failures.old
    assert failures.new
    print(figures)


def test_a_disk_that_keeps_nothing_it_was_not_told_to_sync(
    watched_store: MakeStore, tmp_path: Path, seed: int
) -> None:
    """Only what syncs have covered: after each commit all of it is there."""
    store, figures = watched_store(seed), Figures()
    failures = PowerFailures(tmp_path / "images", seed, store, figures)
    failures.each, failures.share = 0, 0.0
    store.decide = failures.decide
    for number in range(1, 9):
        assert store.told("commit") == "ok"
        failures.disk.done()
        failures.acknowledged = number
        failures.judge(most=0)
    assert figures.images == failures.old == 8


def test_a_disk_that_lies_would_be_noticed(watched_store: MakeStore, tmp_path: Path, seed: int) -> None:
    """The canary: a disk that syncs nothing but meta pages is found out."""
    store = watched_store(seed)
    content = (store.data_dir / "store.lmdb").read_bytes()
    disk = Disk(bytearray(content), size=len(content))

    def only_meta_pages_arrive(call: Call) -> int:
        if call.name not in ("fdatasync", "openat"):
            disk.follow(call)
        return 0

    store.decide = only_meta_pages_arrive
    for _ in range(5):
        assert store.told("commit") == "ok"
    disk.done()
    assert disk.early
    data_dir = tmp_path / "lied to"
    data_dir.mkdir()
    (data_dir / "store.lmdb").write_bytes(next(disk.images(Random(seed), 0)))
    with pytest.raises(AssertionError, match="fsck"):
        Expectation(seed).examine(data_dir, 5, 5)


def test_a_power_failure_while_the_store_is_made(watched_store: MakeStore, tmp_path: Path, seed: int) -> None:
    """The file gets its name when all of it is on the disk: there is no image of less than a store under that name."""
    disk, waiting = Disk(), []

    def decide(call: Call) -> int:
        if call.name == "rename":
            disk.done()
            waiting.append(list(disk.waiting))
        elif call.name != "openat":
            disk.follow(call)
        return 0

    store = watched_store(seed, decide=decide, suffix="/store.new")
    assert waiting == [[]]
    store.kill()
    (whole,) = disk.images(Random(seed), 1)
    data_dir = tmp_path / "image"
    data_dir.mkdir()
    (data_dir / "store.lmdb").write_bytes(whole)
    Expectation(seed).examine(data_dir, 0, 0)
