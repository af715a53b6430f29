"""The store is opened anew after a commit that failed at its end, also when opening itself fails for a while."""

from pathlib import Path

import pytest

from engine.changes import Change, PutPages, PutSpace, SpaceRecord
from engine.geometry import TOY
from storage import open_store
from storage.errors import StoreError, StoreFailed
from storage.lmdb import store as lmdb_store
from storage.lmdb.store import LmdbStore
from storage.upkeep.fsck import check_dir


def transaction(number: int) -> list[Change]:
    return [
        PutSpace(SpaceRecord(number, f"space {number}", 0o600, 0, 0, "exclusive", number)),
        PutPages(number, (0,), bytes([number]) * TOY.page_size),
    ]


def fails(store: LmdbStore) -> bool:
    return store.failing is not None


@pytest.mark.parametrize("attempts", [1, 3])
def test_no_file_can_be_opened_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """Neither for writing nor for reading: then nothing works, and everything does as soon as files open again."""
    store = open_store(tmp_path / "data", TOY)
    store.commit([transaction(1)])

    def fail_at_the_end(self: LmdbStore, *_: object, **__: object) -> None:
        self._undecided = self._tables.env.info()["last_txnid"]
        raise StoreFailed("made to fail")

    def refuse(*_: object, **__: object) -> None:
        raise StoreFailed("too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(LmdbStore, "_write_group", fail_at_the_end)
        broken.setattr(lmdb_store, "take_back", refuse)
        broken.setattr(store, "_opening", refuse)
        for _ in range(attempts):
            with pytest.raises(StoreFailed):
                store.commit([transaction(2)])
        with pytest.raises(StoreError):
            store.fetch(1, [0])
        with pytest.raises(StoreError):
            store.statistics()
        assert fails(store)
    store.probe()
    assert not fails(store)
    assert store.fetch(1, [0]) == {0: bytes([1]) * TOY.page_size}
    store.commit([transaction(2)])
    assert store.statistics().spaces == 2
    store.close()
    assert list(check_dir(tmp_path / "data")) == []
