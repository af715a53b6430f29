"""Checkpoints, clearing away and rewriting, and what a crash in the middle of them leaves."""

import shutil
from pathlib import Path

import pytest

from engine.changes import DropPages, DropSegment, PutPages, PutSegment, SegmentRecord
from engine.geometry import TOY
from storage import open_store
from storage.directory import STORE_FILE
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.recovery import Recovered, recover
from storage.lmdb.store import LmdbStore
from storage.upkeep.fsck import check_dir

NODE = 256
"""Pages of a node."""


def segment(sid: int) -> PutSegment:
    return PutSegment(SegmentRecord(sid, f"segment {sid}", 0, 0x100, 0o600, 0, 0, "shared", sid))


def put(object_id: int, *pages: int) -> PutPages:
    return PutPages(object_id, pages, b"".join(page.to_bytes(16, "little") for page in pages))


def tidy(store: LmdbStore) -> None:
    while store.maintain():
        pass


def left_by_a_crash(data_dir: Path, copy: Path) -> Path:
    """A directory with what is in the store's file now."""
    copy.mkdir()
    shutil.copyfile(data_dir / STORE_FILE, copy / STORE_FILE)
    return copy


def on_disk(store: LmdbStore) -> Recovered:
    """What an opening would find now."""
    return recover(store._tables, TOY.page_size, 1 << 20)


def test_a_checkpoint_takes_over_what_the_log_holds(data_dir: Path) -> None:
    store = open_store(data_dir, TOY, tuning=Tuning(tail_entries=10, step_rows=2, obsolete_rows=1))
    store.commit([[segment(1), put(1, *range(0, 8 * NODE, NODE))]])
    assert not store.maintain()
    assert on_disk(store).tail_entries == 8
    store.commit([[put(1, 1, 2), DropPages(1, 1, 1)]])
    assert on_disk(store).tail_entries == 10
    assert store.maintain()
    store.commit([[put(1, 3)]])
    tidy(store)
    found = on_disk(store)
    assert found.tail_entries <= 1
    assert found.drop_lsns == []
    assert store.fetch(1, range(4)).keys() == {0, 2, 3}
    store.close()


def test_closing_leaves_nothing_to_replay(data_dir: Path) -> None:
    store = open_store(data_dir, TOY)
    store.commit([[segment(1), put(1, *range(0, 40 * NODE, 50)), DropPages(1, 10, 100)]])
    store.close()
    store.close()
    store = open_store(data_dir, TOY)
    assert on_disk(store).tail_entries == 0
    assert on_disk(store).drop_lsns == []
    store.close()


def test_a_checkpoint_waits_for_an_object_that_dies_while_it_is_written(tmp_path: Path) -> None:
    """The row of the object's last node is older than the checkpoint: only its deletion makes that harmless."""
    tuning = Tuning(tail_entries=4, step_rows=2, obsolete_rows=1)
    store = open_store(tmp_path / "data", TOY, tuning=tuning)
    last = 5 * NODE
    store.commit([[segment(3), segment(5), put(3, 0, NODE, 2 * NODE), put(5, *range(0, last, NODE))]])
    store.commit([[put(5, last)]])
    tidy(store)
    store.commit([[put(5, last)]])
    store.commit([[put(3, 0, NODE, 2 * NODE)]])
    store.maintain()
    store.commit([[DropSegment(5)]])
    for step in range(20):
        copy = left_by_a_crash(tmp_path / "data", tmp_path / f"after step {step}")
        assert list(check_dir(copy)) == []
        store.maintain()
    store.close()
    assert list(check_dir(tmp_path / "data")) == []


def test_memory_is_bounded_by_the_tuning(data_dir: Path) -> None:
    store = open_store(data_dir, TOY, tuning=Tuning(nodes_max=8, tail_entries=4, step_rows=4))
    store.commit([[segment(1)]])
    for number in range(200):
        store.commit([[put(1, number * NODE)]])
        store.maintain()
    held = sum(1 for _ in store._locations.walk())
    assert held <= 8 + 4 * 4
    assert len(store.fetch(1, range(0, 200 * NODE, NODE))) == 200
    store.close()


def test_without_idle_moments_the_log_and_memory_stay_bounded(data_dir: Path) -> None:
    """Nobody calls maintain: the chores that cannot wait ride in the commits."""
    store = open_store(
        data_dir, TOY, tuning=Tuning(nodes_max=8, tail_entries=8, step_rows=4, obsolete_rows=2)
    )
    store.commit([[segment(1)]])
    for number in range(400):
        store.commit([[put(1, number % 150 * NODE), DropPages(1, (number + 70) % 150 * NODE, 3)]])
    found = on_disk(store)
    assert found.tail_entries < 200
    assert len(found.drop_lsns) < 150
    assert sum(1 for _ in store._locations.walk()) < 150
    store.close()


def test_urgent_work_is_less_than_idle_work(data_dir: Path) -> None:
    store = open_store(data_dir, TOY, tuning=Tuning(tail_entries=4))
    store.commit([[segment(1), put(1, 0, NODE, 2 * NODE, 3 * NODE)]])
    assert not store.maintain(urgent_only=True)
    assert on_disk(store).tail_entries == 4
    store.maintain()
    assert on_disk(store).tail_entries == 0
    store.close()


def test_a_put_into_an_object_that_is_gone_is_refused(data_dir: Path) -> None:
    store = open_store(data_dir, TOY)
    store.commit([[segment(1), put(1, 0)]])
    with pytest.raises(ValueError):
        store.commit([[DropSegment(1)], [put(1, 1)]])
    store.commit([[DropSegment(1)]])
    with pytest.raises(ValueError):
        store.commit([[put(1, 1)]])
    store.close()
