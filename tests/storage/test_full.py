"""No space left: ENOSPC, nothing changed, deletes still work, and writing goes on once there is space.

Run as a script, this file is the child process whose file size is limited.
"""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from engine.changes import (
    CloneObject,
    DropObject,
    DropSegment,
    PutPages,
    PutSegment,
    SegmentRecord,
)
from engine.geometry import X86_64
from storage import open_store
from storage.errors import StoreFull
from storage.lmdb.headroom import Headroom
from storage.lmdb.housekeeping import Housekeeper, Tuning
from storage.lmdb.store import LmdbStore

PAGE = X86_64.page_size
ROOM = 24 << 20
BATCH = 200
PROMPT = Tuning(obsolete_rows=1)


def segment(sid: int) -> PutSegment:
    return PutSegment(SegmentRecord(sid, f"segment {sid}", 0, 1 << 40, 0o600, 0, 0, "shared", sid))


def batch(sid: int, number: int) -> PutPages:
    pages = tuple(range(number * BATCH, (number + 1) * BATCH))
    return PutPages(sid, pages, os.urandom(PAGE * BATCH))


def fill(store: LmdbStore, sid: int) -> int:
    """Put batches into a new segment until there is no space; how many fitted."""
    store.commit([[segment(sid)]])
    for number in range(1000):
        try:
            store.commit([[batch(sid, number)]])
        except StoreFull as error:
            assert error.errno == "ENOSPC"
            return number
    raise AssertionError("it never was full")


def pages_of(store: LmdbStore, sid: int) -> int:
    return len(store.fetch(sid, range(1000 * BATCH)))


def tidy(store: LmdbStore) -> None:
    while store.maintain():
        pass


def rounds(store: LmdbStore) -> None:
    """Fill it, delete, fill it again: what a delete gives back can be used, and deleting always works."""
    for sid in range(1, 6):
        fitted = fill(store, sid)
        assert fitted * BATCH * PAGE > ROOM // 2
        for _ in range(3):
            with pytest.raises(StoreFull):
                store.commit([[segment(1000)], [batch(sid, number) for number in range(900, 903)]])
        assert pages_of(store, sid) == fitted * BATCH
        assert [record.sid for record in store.load().segments] == [sid]
        store.commit([[DropSegment(sid)]])
        tidy(store)


def test_a_full_map(data_dir: Path) -> None:
    store = open_store(data_dir, X86_64, map_bytes=ROOM, tuning=PROMPT)
    rounds(store)
    store.close()


def test_a_full_disk(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refuses to let the file grow beyond `ROOM`, then is given more space."""
    grow, room = os.posix_fallocate, [ROOM]

    def limited(file: int, offset: int, length: int) -> None:
        if offset + length > room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        grow(file, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", limited)
    store = open_store(data_dir, X86_64, tuning=PROMPT)
    rounds(store)
    fitted = fill(store, 6)
    room[0] *= 2
    store.commit([[batch(6, fitted)]])
    assert pages_of(store, 6) == (fitted + 1) * BATCH
    store.close()


def test_a_snapshot_that_is_dropped_gives_its_room_back(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging layers needs room, but to forget what is hidden needs none."""
    store = open_store(data_dir, X86_64, tuning=PROMPT)
    store.commit([[segment(1)], *([batch(1, number)] for number in range(5))])
    store.commit([[CloneObject(1, 2)]])
    store.commit([[batch(1, number)] for number in range(2)])
    tidy(store)
    assert store.statistics().live_pages == 7 * BATCH
    occupied = store.statistics().chunk_bytes

    def full(headroom: Headroom, wanted: int, *, puts_pages: bool) -> None:
        if puts_pages:
            raise StoreFull("no space left on the disk")

    monkeypatch.setattr(Headroom, "secure", full)
    store.commit([[DropObject(2)]])
    with pytest.raises(StoreFull):
        tidy(store)
    assert store.statistics().live_pages == 5 * BATCH
    assert store.statistics().chunk_bytes < occupied - BATCH * PAGE
    monkeypatch.undo()
    tidy(store)
    assert pages_of(store, 1) == store.statistics().live_pages == 5 * BATCH
    store.close()


def test_chores_do_not_take_the_room_of_a_delete(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint that would ride in the commit does not fit any more; the commit itself does."""
    store = open_store(data_dir, X86_64, tuning=Tuning(tail_entries=1))
    store.commit([[segment(1), batch(1, 0)], [segment(2), batch(2, 0)]])

    def full(*arguments: object) -> None:
        raise lmdb.MapFullError("mdb_put")

    monkeypatch.setattr(Housekeeper, "_write_checkpoint", full)
    with pytest.raises(StoreFull):
        store.commit([[batch(1, 1)]])
    store.commit([[DropSegment(1)]])
    assert [record.sid for record in store.load().segments] == [2]
    assert (pages_of(store, 1), pages_of(store, 2)) == (0, BATCH)
    with pytest.raises(StoreFull):
        store.maintain()
    monkeypatch.undo()
    tidy(store)
    store.close()


def test_rewriting_does_not_stop_the_chores_that_make_room(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(data_dir, X86_64, tuning=Tuning(slack_pages=0, obsolete_rows=1))
    store.commit([[segment(1), segment(2), batch(1, 0)]])
    for page in range(10):
        store.commit([[PutPages(2, (page,), bytes(PAGE))]])
    store.commit([[DropSegment(1)]])

    def full(headroom: Headroom, wanted: int, *, puts_pages: bool) -> None:
        if puts_pages:
            raise StoreFull("no space left on the disk")

    monkeypatch.setattr(Headroom, "secure", full)
    for _ in range(5):
        try:
            store.maintain()
        except StoreFull:
            break
    assert store.statistics().live_pages == 10
    assert store.statistics().chunk_bytes == 10 * 2 * PAGE
    monkeypatch.undo()
    tidy(store)
    assert store.statistics().chunk_bytes == 11 * PAGE
    store.close()


@pytest.mark.parametrize("fallocate", ["works", "unsupported"])
def test_a_limited_file_size(data_dir: Path, fallocate: str) -> None:
    """With the system's own refusal: before the commit, or in the middle of LMDB's."""
    done = subprocess.run(
        [sys.executable, __file__, str(data_dir), fallocate], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr


def main() -> None:
    """Fill a store up to the limit, then raise the limit and go on."""
    data_dir, fallocate = Path(sys.argv[1]), sys.argv[2]
    if fallocate == "unsupported":

        def refuse(file: int, offset: int, length: int) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        os.posix_fallocate = refuse
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    store = open_store(data_dir, X86_64, tuning=PROMPT)
    store.commit([[segment(1000)]])
    fitted = fill(store, 1)
    assert fitted * BATCH * PAGE > ROOM // 2
    assert pages_of(store, 1) == fitted * BATCH
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * ROOM, hard))
    store.commit([[batch(1, fitted)]])
    assert pages_of(store, 1) == (fitted + 1) * BATCH
    fill(store, 2)
    store.commit([[DropSegment(1)]])
    tidy(store)
    assert fill(store, 3) * BATCH * PAGE > ROOM // 2
    store.close()
    sys.stdout.write("all is well\n")


if __name__ == "__main__":
    main()
