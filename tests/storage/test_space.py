"""The file stays in proportion to what is stored, and big drops are done in small steps."""

import os
from pathlib import Path

import numpy as np
import pytest

from engine.changes import DropPages, DropSegment, PutPages, PutSegment, SegmentRecord
from engine.geometry import X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.lmdb.headroom import RESERVE_BYTES, STEP_BYTES
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.recovery import recover
from storage.lmdb.store import LmdbStore

PAGE = X86_64.page_size


def segment(sid: int) -> PutSegment:
    return PutSegment(SegmentRecord(sid, f"segment {sid}", 0, 1 << 40, 0o600, 0, 0, "shared", sid))


def put(sid: int, pages: range | list[int]) -> PutPages:
    return PutPages(sid, tuple(pages), os.urandom(PAGE * len(pages)))


def file_bytes(data_dir: Path) -> int:
    return (data_dir / STORE_FILE).stat().st_size - RESERVE_BYTES - STEP_BYTES


def tidy(store: LmdbStore) -> int:
    steps = 1
    while store.maintain():
        steps += 1
    return steps


def test_stored_bytes_in_bulk(data_dir: Path) -> None:
    count = 16384
    store = open_store(data_dir, X86_64)
    store.commit([[segment(1)]])
    for base in range(0, count, 1024):
        store.commit([[put(1, range(base, base + 1024))]])
        tidy(store)
    store.close()
    assert file_bytes(data_dir) / (count * PAGE) < 1.05


@pytest.mark.parametrize("size", [1, 40, 1000])
def test_the_file_stays_bounded_under_overwriting(data_dir: Path, size: int, seed: int) -> None:
    """Fifty rounds that each write every page again, in random order and in commits of `size` pages."""
    count = 200 if size == 1 else 2000
    rng = np.random.default_rng(seed)
    store = open_store(data_dir, X86_64, tuning=Tuning(slack_pages=256, tail_entries=512))
    store.commit([[segment(1), put(1, range(count))]])
    sizes = []
    for _ in range(50):
        order = rng.permutation(count).tolist()
        for base in range(0, count, size):
            store.commit([[put(1, sorted(order[base : base + size]))]])
            store.maintain()
        sizes.append(file_bytes(data_dir))
    store.close()
    assert sizes[-1] < 3 * count * PAGE + (12 << 20)
    assert sizes[-1] <= sizes[len(sizes) // 2] * 1.25 + STEP_BYTES  # it is grown in such steps


def test_many_small_commits_come_together(data_dir: Path) -> None:
    """A commit of one page takes two of LMDB's; sparse chunks are rewritten until little is wasted."""
    store = open_store(data_dir, X86_64, tuning=Tuning(slack_pages=64))
    store.commit([[segment(1)]])
    for page in range(600):
        store.commit([[put(1, [page])]])
    before = store.statistics()
    tidy(store)
    after = store.statistics()
    assert before.live_pages == after.live_pages == 600
    assert before.chunk_bytes >= 2 * 600 * PAGE
    assert after.chunk_bytes < 1.5 * 600 * PAGE + 64 * 4096
    store.close()


def test_a_drop_of_a_large_object_is_one_small_commit(data_dir: Path) -> None:
    count = 20000
    store = open_store(data_dir, X86_64)
    store.commit([[segment(1), segment(2), put(2, range(100))]])
    for base in range(0, count, 2000):
        store.commit([[put(1, range(base, base + 2000))]])
    tidy(store)
    grown = file_bytes(data_dir)
    store.commit([[DropSegment(1)]])
    assert store.fetch(1, range(count)) == {}
    assert store.statistics().live_pages == count + 100
    assert tidy(store) > 3
    assert store.statistics().live_pages == 100
    for base in range(0, count - 2000, 2000):
        store.commit([[put(2, range(base, base + 2000))]])
        store.maintain()
    assert file_bytes(data_dir) <= grown * 1.25
    store.close()


def test_a_drop_is_not_undone_by_a_crash_in_the_middle_of_clearing_up(data_dir: Path) -> None:
    """Only some of the object's rows are gone when the store is left as a killed process would leave it."""
    tuning = Tuning(step_rows=2, obsolete_rows=1, tail_entries=1)
    store = open_store(data_dir, X86_64, tuning=tuning)
    store.commit([[segment(1), segment(2), put(1, range(0, 256 * 20, 64)), put(2, range(70))]])
    tidy(store)
    store.commit([[DropSegment(1), DropPages(2, 10, 50)]])
    for _ in range(4):
        store.maintain()
    found = recover(store._tables, PAGE, 1 << 20)
    assert found.live.live < 20 * 4 + 20
    assert sorted(store.fetch(2, range(100))) == [*range(10), *range(60, 70)]
    store.close()
    store = open_store(data_dir, X86_64, tuning=tuning)
    assert store.fetch(1, range(256 * 20)) == {}
    tidy(store)
    assert store.statistics().live_pages == 20
    store.close()
