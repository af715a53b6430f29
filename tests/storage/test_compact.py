"""Compaction: the same content in a smaller file, or the old file; and full disks under backup, restore and compaction."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.changes import DropPages, PutPages, PutSegment, SegmentRecord
from engine.geometry import X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import DataDirInUse, StoreDamaged, StoreFailed, StoreFull, StoreUnusable
from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE, fail_at
from storage.upkeep.backup import back_up, back_up_store
from storage.upkeep.compaction import COMPACTING, compact
from storage.upkeep.fsck import check_dir
from storage.upkeep.repair import repair
from storage.upkeep.restoring import restore
from tests.crash.workload import EAGER, Expectation, transaction
from tests.storage.test_backup import fill

SEAMS = [name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith("compact.")]
PAGE = X86_64.page_size
LAST = 60


@pytest.fixture
def made(tmp_path: Path, seed: int) -> Path:
    """A directory with transactions 1 to LAST, some in the log behind the checkpoint, and much that is dead."""
    store = open_store(tmp_path / "data", X86_64)
    for number in range(1, LAST + 1):
        store.commit([transaction(seed, number)])
    store.close()
    return tmp_path / "data"


def run(call: str, failpoint: str = "", limit: int = 0) -> "subprocess.CompletedProcess[str]":
    """Evaluate a call in another process, in which files may have `limit` bytes; prints the kind of what it raises."""
    script = (
        "import resource\n"
        "from storage.upkeep.backup import *\nfrom storage.upkeep.compaction import *\nfrom storage.upkeep.restoring import *\n"
        f"limit = {limit}\n"
        "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        f"try: {call}\nexcept Exception as error: print(type(error).__name__)"
    )
    environment = {**os.environ, VARIABLE: failpoint}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )


def test_the_same_in_less(made: Path, seed: int) -> None:
    done = compact(made)
    assert done.after < done.before
    assert done.after == (made / STORE_FILE).stat().st_blocks * 512
    assert Expectation(seed).examine(made, LAST, LAST) == LAST
    store = open_store(made, X86_64)
    store.commit([transaction(seed, LAST + 1)])
    store.close()
    assert Expectation(seed).examine(made, LAST + 1, LAST + 1)


def test_what_was_deleted_is_given_back(tmp_path: Path) -> None:
    store = open_store(tmp_path, X86_64)
    store.commit([[PutSegment(SegmentRecord(1, "heap", 0, 1 << 40, 0o600, 0, 0, "shared", 1))]])
    for first in range(0, 4000, 400):
        store.commit([[PutPages(1, tuple(range(first, first + 400)), os.urandom(400 * PAGE))]])
    store.commit([[DropPages(1, 100, 3800)]])
    kept = store.fetch(1, range(4000))
    store.close()
    done = compact(tmp_path)
    assert done.before > 4000 * PAGE
    assert done.after < 300 * PAGE
    store = open_store(tmp_path, X86_64)
    assert store.fetch(1, range(4000)) == kept
    store.close()
    assert list(check_dir(tmp_path)) == []


def test_twice_gains_nothing(made: Path, seed: int) -> None:
    compact(made)
    done = compact(made)
    assert done.after == done.before
    assert Expectation(seed).examine(made, LAST, LAST) == LAST


@pytest.mark.parametrize("name", SEAMS)
def test_killed_at_a_seam(made: Path, seed: int, name: str) -> None:
    assert run(f"compact({str(made)!r})", name).returncode == -signal.SIGKILL
    leftover = name in ("compact.built", "compact.checked")
    assert (made / COMPACTING).exists() == leftover
    assert Expectation(seed).examine(made, LAST, LAST) == LAST
    assert list(repair(made)) == (["what an unfinished compaction had left was removed"] if leftover else [])
    assert not (made / COMPACTING).exists()
    compact(made)
    assert Expectation(seed).examine(made, LAST, LAST) == LAST


def test_the_nth_seam_fails(made: Path, seed: int) -> None:
    for passage in range(1, 1000):
        with fail_at(passage, StoreFailed("made to fail")):
            try:
                compact(made)
            except StoreFailed:
                assert not (made / COMPACTING).exists()
                continue
        break
    assert passage > sum(name in FAILPOINTS for name in SEAMS)
    assert Expectation(seed).examine(made, LAST, LAST) == LAST


def test_what_is_damaged_or_in_use_is_left_alone(made: Path, tmp_path: Path) -> None:
    store = open_store(made, X86_64)
    with pytest.raises(DataDirInUse, match="in use by process"):
        compact(made)
    refused: list[str] = []
    back_up_store(store.tables, made, tmp_path / "backup")
    store.close()

    def meanwhile(done: int, total: int) -> None:
        assert run(f"compact({str(made)!r})").stdout == f"{DataDirInUse.__name__}\n"
        refused.append("once")

    back_up(made, tmp_path / "backup", meanwhile)
    assert refused
    raw = bytearray((made / STORE_FILE).read_bytes())
    mark = raw.index((LAST).to_bytes(8, "little") * (PAGE // 8))
    raw[mark + 99] ^= 1
    (made / STORE_FILE).write_bytes(raw)
    with pytest.raises(StoreDamaged, match="checksum mismatch in slot"):
        compact(made)
    assert not (made / COMPACTING).exists()
    assert len(list(check_dir(made))) == 1
    with pytest.raises(StoreUnusable, match="is not a data directory"):
        compact(tmp_path)


# --- a full disk


def kilobytes(count: int) -> int:
    return count << 10


def test_a_disk_that_is_full_for_a_backup(made: Path, tmp_path: Path, seed: int) -> None:
    back_up(made, tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    for limit in (1, kilobytes(1), kilobytes(300), len(whole) - 1):
        done = run(f"back_up({str(made)!r}, {str(tmp_path / 'backup')!r})", limit=limit)
        assert done.stdout == f"{StoreFull.__name__}\n"
        assert (tmp_path / "backup").read_bytes() == whole
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup", "data"]
    restore(tmp_path / "backup", tmp_path / "restored")
    assert Expectation(seed).examine(tmp_path / "restored", LAST, LAST) == LAST


def test_a_disk_that_is_full_for_the_accounts(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    for limit in (kilobytes(20), kilobytes(40)):
        done = run(f"back_up({str(tmp_path / 'data')!r}, {str(tmp_path / 'backup')!r})", limit=limit)
        assert done.stdout == f"{StoreFull.__name__}\n"
        assert (tmp_path / "backup").read_bytes() == whole
        done = run(f"restore({str(tmp_path / 'backup')!r}, {str(tmp_path / 'new')!r})", limit=limit)
        assert done.stdout == f"{StoreFull.__name__}\n"
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup", "data"]


def test_one_line_about_a_full_disk(made: Path) -> None:
    script = "import resource, sys; from app.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))"
    command = [sys.executable, "-c", f"{script}; sys.exit(main())", "compact", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("everspaced: no space left")
    assert done.stderr.count("\n") == 1


def test_a_disk_that_is_full_for_a_restore(made: Path, tmp_path: Path, seed: int) -> None:
    back_up(made, tmp_path / "backup")
    (tmp_path / "other").mkdir()
    for limit in (kilobytes(8), kilobytes(100), kilobytes(1000)):
        for target in (tmp_path / "new", tmp_path / "other", made):
            call = f"restore({str(tmp_path / 'backup')!r}, {str(target)!r}, force=True)"
            assert run(call, limit=limit).stdout == f"{StoreFull.__name__}\n"
            assert not (tmp_path / "new").exists()
            assert [entry.name for entry in (tmp_path / "other").iterdir()] in ([], ["lock"])
    assert Expectation(seed).examine(made, LAST, LAST) == LAST


def test_a_disk_that_is_full_for_a_compaction(made: Path, seed: int) -> None:
    for limit in (kilobytes(8), kilobytes(100), kilobytes(1000)):
        assert run(f"compact({str(made)!r})", limit=limit).stdout == f"{StoreFull.__name__}\n"
        assert not (made / COMPACTING).exists()
        assert Expectation(seed).examine(made, LAST, LAST) == LAST


def test_eager_housekeeping_leaves_what_can_be_compacted(tmp_path: Path, seed: int) -> None:
    store = open_store(tmp_path / "data", X86_64, tuning=EAGER)
    for number in range(1, LAST + 1):
        store.commit([transaction(seed, number)])
        store.maintain()
    store.close()
    compact(tmp_path / "data")
    assert Expectation(seed).examine(tmp_path / "data", LAST, LAST) == LAST
