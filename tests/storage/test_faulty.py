"""The n-th thing fails, n = 1, 2, …: each time nothing was changed, and the next attempt goes through."""

from itertools import count
from pathlib import Path

import pytest

from engine.changes import (
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropReceipt,
    DropSpace,
    PutPages,
    PutReceipt,
    PutRegion,
    PutRoot,
    PutSpace,
    RegionRecord,
    SpaceRecord,
)
from engine.geometry import TOY
from storage import open_store
from storage.errors import StoreError, StoreFailed, StoreFull
from storage.failpoints import FAILPOINTS, fail_at
from storage.faulty import FaultyStore
from storage.lmdb.housekeeping import Tuning
from storage.memory import MemoryStore
from storage.store import Store
from storage.upkeep.fsck import check_dir

BEFORE: list[Change] = [
    PutSpace(SpaceRecord(1, "old", 0o600, 0, 0, "exclusive", 1)),
    PutSpace(SpaceRecord(2, "gone", 0o600, 0, 0, "exclusive", 2)),
    PutPages(1, (0, 1, 2), bytes(range(48))),
    PutReceipt(b"old", b"done"),
]
AFTER: list[Change] = [
    PutSpace(SpaceRecord(3, "new", 0o600, 0, 0, "exclusive", 3)),
    PutRegion(3, RegionRecord(0x40, 0x80, 3, False, 0, 2)),
    PutPages(1, (1,), b"x" * 16),
    PutPages(3, (7, 700), b"y" * 32),
    DropPages(1, 2, 5),
    DropSpace(2),
    CloneObject(1, 4),
    PutPages(1, (1, 300), b"z" * 32),
    PutRoot(3, "list", 0x40),
    PutReceipt(b"new", b"done"),
    DropReceipt(b"old"),
]
LATER: list[Change] = [DropObject(4), CloneObject(1, 5), DropPages(5, 0, 9)]


def shown(store: Store) -> object:
    return (
        store.load(),
        [store.fetch(object_id, range(1000)) for object_id in range(1, 6)],
        store.stored_pages(1, 0, 9),
        store.differing(1, 4, 0, 1 << 40),
        store.usage([1])[0],
        store.pages_held([2]),
    )


def expected(*transactions: list[Change]) -> object:
    model = MemoryStore(TOY)
    for changes in transactions:
        model.commit([changes])
    return shown(model)


@pytest.mark.parametrize("error", [StoreFailed, StoreFull])
def test_the_nth_operation_fails(error: type[StoreError]) -> None:
    for n in count(1):
        store = FaultyStore(MemoryStore(TOY), [n], error)
        failures = 0
        for changes in (BEFORE, AFTER):
            try:
                store.commit([changes])
            except error:
                failures += 1
                store.commit([changes])
        if not failures:
            break
        assert shown(store) == expected(BEFORE, AFTER)
    assert n == 3


def test_the_nth_seam_of_a_commit_fails(tmp_path: Path) -> None:
    """Inside the real store: before, between and after the writes of one transaction."""
    eager = Tuning(nodes_max=1, tail_entries=1, obsolete_rows=1, slack_pages=0, step_rows=1)
    for n in count(1):
        store = open_store(tmp_path / str(n), TOY, tuning=eager)
        store.commit([BEFORE])
        with fail_at(n, StoreFailed("made to fail")):
            try:
                store.commit([AFTER])
            except StoreFailed:
                failed = True
            else:
                failed = False
        assert shown(store) == (expected(BEFORE) if failed else expected(BEFORE, AFTER))
        if failed:
            store.commit([AFTER])
            assert shown(store) == expected(BEFORE, AFTER)
        store.close()
        assert list(check_dir(tmp_path / str(n))) == []
        if not failed:
            break
    assert n == 1 + sum(name.startswith("commit.") for name in FAILPOINTS)


def test_the_nth_seam_of_merging_fails(tmp_path: Path) -> None:
    """Housekeeping after a clone was dropped: whatever fails, what is shown stays."""
    eager = Tuning(nodes_max=1, tail_entries=1, obsolete_rows=1, slack_pages=0, step_rows=1)
    for n in count(1):
        store = open_store(tmp_path / str(n), TOY, tuning=eager)
        for changes in (BEFORE, AFTER, LATER):
            store.commit([changes])
        failed = False
        with fail_at(n, StoreFailed("made to fail")):
            try:
                while store.maintain():
                    assert shown(store) == expected(BEFORE, AFTER, LATER)
            except StoreFailed:
                failed = True
        assert shown(store) == expected(BEFORE, AFTER, LATER)
        while store.maintain():
            pass
        assert shown(store) == expected(BEFORE, AFTER, LATER)
        store.close()
        assert list(check_dir(tmp_path / str(n))) == []
        if not failed:
            break
    assert n > 12


def test_the_nth_seam_of_opening_fails(tmp_path: Path) -> None:
    for n in count(1):
        with fail_at(n, StoreFailed("made to fail")):
            try:
                open_store(tmp_path / "data", TOY).close()
            except StoreFailed:
                continue
        break
    assert n == 1 + sum(name.startswith("create.") for name in FAILPOINTS)
    assert list(check_dir(tmp_path / "data")) == []
