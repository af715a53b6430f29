"""A directory of format 1, written here row by row, becomes one of this release: as a whole or not at all."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from engine.changes import CloneObject, PutPages, RegionRecord, SegmentRecord, SpaceRecord
from engine.geometry import TOY
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import DataDirInUse, FormatUnreadable, StoreDamaged, StoreFailed, StoreUnusable
from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE, fail_at
from storage.rows.chunks import encode_chunk
from storage.rows.format import seal
from storage.upkeep.fsck import check_dir
from storage.upkeep.migration import migrate

SPACES = [
    SpaceRecord(2, "lab ß", 0o640, 1000, 100, "shared", 1),
    SpaceRecord(4, "empty", 0o600, 0, 0, "exclusive", 9),
]
SEGMENTS = [SegmentRecord(3, "heap", 0x40, 0x2000, 0o660, 7, 8, "lockable", 2)]
REGIONS = {2: [RegionRecord(0x40, 0x80, 3, False, 0, 2), RegionRecord(0x80, 0xC0, 1, True, 3, 0)], 4: []}
SHARING = {"exclusive": 0, "shared": 1, "lockable": 2}
TABLES = ("meta", "spaces", "segments", "regions", "nodes", "log")


def content(page: int, version: int) -> bytes:
    return struct.pack("<QQ", page, version)


def old_rows() -> list[tuple[str, bytes, bytes]]:
    """(table, key, body or sealed value): two spaces, a segment, and a log of which the first row is in the nodes."""
    superblock = struct.pack("<8sHHI24s", b"EVRSPACE", 1, 256, 16, b"toy")
    rows = [
        ("meta", b"superblock", superblock),
        ("meta", b"state", struct.pack("<QQQQ", 6, 5, 12, 1)),
        ("nodes", struct.pack(">QQ", 1, 0), b"\x03" + bytes(31) + struct.pack("<QQ", 1 << 6, 1 << 6 | 1)),
        ("nodes", struct.pack(">QQ", 1, 1), b"\x01" + bytes(31) + struct.pack("<Q", 1 << 6 | 2)),
        ("nodes", struct.pack(">QQ", 5, 0), b"\x80" + bytes(31) + struct.pack("<Q", 1 << 6 | 3)),
        ("log", struct.pack(">QB", 2, 0), struct.pack("<QQQQQQ", 1, 1, 7, 5, 0, 2**64 - 1)),
    ]
    for space in SPACES:
        head = struct.pack(
            "<QIIIB", space.object_id, space.uid, space.gid, space.mode, SHARING[space.sharing]
        )
        rows.append(("spaces", struct.pack(">Q", space.vid), head + space.name.encode()))
        for region in REGIONS[space.vid]:
            body = struct.pack("<QQBBB", region.end, region.sid, region.access, region.shared, region.type)
            rows.append(("regions", struct.pack(">QQ", space.vid, region.start), body))
    for one in SEGMENTS:
        head = struct.pack("<QQQIII", one.start, one.end, one.object_id, one.uid, one.gid, one.mode)
        body = head + bytes([SHARING[one.sharing]]) + one.name.encode()
        rows.append(("segments", struct.pack(">Q", one.sid), body))
    return [(table, key, seal(key, body)) for table, key, body in rows]


def chunk(lsn: int, *slots: tuple[int, int]) -> tuple[str, bytes, bytes]:
    """Chunks are the same in both formats; a slot holds (object, page)."""
    objects, pages = np.array(slots, np.uint64).T
    contents = [content(page, lsn) for _, page in slots]
    return ("log", *encode_chunk(lsn, objects, pages, contents))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory of format 1."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    env = lmdb.open(str(data_dir / STORE_FILE), subdir=False, max_dbs=6, map_size=1 << 24)
    tables = {name: env.open_db(name.encode()) for name in TABLES}
    rows = [*old_rows(), chunk(1, (1, 0), (1, 1), (1, 256), (5, 7)), chunk(3, (1, 256), (2, 5), (1, 4))]
    with env.begin(write=True) as txn:
        for table, key, value in rows:
            txn.put(key, value, db=tables[table])
    env.close()
    return data_dir


def verify(data_dir: Path) -> None:
    """All is there, and can be worked with."""
    assert list(check_dir(data_dir)) == []
    store = open_store(data_dir, TOY)
    image = store.load()
    assert (image.spaces, image.segments, image.regions) == (SPACES, SEGMENTS, REGIONS)
    assert (image.births, image.roots, image.unowned) == ({}, {}, [])
    assert (image.next_vid, image.next_sid, image.next_object) == (6, 5, 12)
    pages = {0: content(0, 1), 4: content(4, 3), 256: content(256, 3)}
    assert store.fetch(1, range(600)) == pages
    assert store.fetch(2, range(600)) == {5: content(5, 3)}
    assert store.fetch(5, range(600)) == {}
    store.commit([[CloneObject(1, 12), PutPages(1, (0,), content(0, 4))]])
    store.close()
    store = open_store(data_dir, TOY)
    assert store.fetch(12, range(600)) == pages
    assert store.fetch(1, range(600)) == pages | {0: content(0, 4)}
    store.close()
    assert list(check_dir(data_dir)) == []


def refuses(data_dir: Path) -> None:
    """It is of format 1 still."""
    for opening in (lambda: open_store(data_dir, TOY), lambda: list(check_dir(data_dir))):
        with pytest.raises(FormatUnreadable, match=f"format version 1: .*'everspaced migrate {data_dir}'"):
            opening()


def test_everything_is_kept(old: Path) -> None:
    refuses(old)
    assert migrate(old)
    assert not migrate(old)
    verify(old)


def test_the_nth_seam_fails(old: Path) -> None:
    for passage in (1, 2):
        with fail_at(passage, StoreFailed("made to fail")), pytest.raises(StoreFailed):
            migrate(old)
        refuses(old)
    assert migrate(old)
    verify(old)


@pytest.mark.parametrize("name", [name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith("migrate.")])
def test_killed_at_a_seam(old: Path, name: str) -> None:
    script = f"from storage.upkeep.migration import migrate; migrate({str(old)!r})"
    process = subprocess.run([sys.executable, "-c", script], env={**os.environ, VARIABLE: name}, check=False)
    assert process.returncode == -signal.SIGKILL
    if name in FAILPOINTS:
        refuses(old)
        assert migrate(old)
    verify(old)


@pytest.mark.parametrize("table", ["spaces", "segments", "regions", "meta"])
def test_a_damaged_row(old: Path, table: str) -> None:
    key, value = next((key, value) for name, key, value in reversed(old_rows()) if name == table)
    env = lmdb.open(str(old / STORE_FILE), subdir=False, max_dbs=6, map_size=1 << 24)
    with env.begin(write=True) as txn:
        txn.put(key, value[:-1] + b"x", db=env.open_db(table.encode(), txn))
    env.close()
    with pytest.raises(StoreDamaged, match="damaged: checksum mismatch"):
        migrate(old)
    refuses(old)


def test_what_cannot_be_migrated(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="is not a data directory"):
        migrate(tmp_path / "missing")
    store = open_store(tmp_path, TOY)
    with pytest.raises(DataDirInUse):
        migrate(tmp_path)
    store.close()
    assert not migrate(tmp_path)


def test_the_command(old: Path) -> None:
    def run(path: Path) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "app.cli", "migrate", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert run(old) == (0, f"{old}: format 3 now\n", "")
    assert run(old) == (0, f"{old}: format 3 already\n", "")
    status, out, err = run(old / "missing")
    assert (status, out) == (2, "")
    assert err.startswith("everspaced: ") and err.count("\n") == 1
