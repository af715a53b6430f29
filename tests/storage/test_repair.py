"""fsck --repair: what is provably safe is mended and told, all else is left as it is and told."""

import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from engine.changes import (
    Change,
    CloneObject,
    DropObject,
    DropPages,
    PutPages,
    PutReceipt,
    PutSegment,
    PutSpace,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import DataDirInUse, StoreError, StoreFailed
from storage.failpoints import VARIABLE, fail_at
from storage.lmdb.housekeeping import Tuning
from storage.rows.chunks import LOG_KEY
from storage.rows.format import FIRST_LAYER, STATE_KEY, TABLES, State
from storage.rows.nodes import NODE_KEY
from storage.upkeep.fsck import check_dir
from storage.upkeep.repair import repair

PAGE = X86_64.page_size
SEGMENT = SegmentRecord(1, "heap", 0, 1 << 30, 0o600, 0, 0, "shared", 1)
LAZY = Tuning(tail_entries=1 << 40, obsolete_rows=1 << 40, slack_pages=1 << 40)
"""Nothing is checkpointed, deleted or rewritten."""
KEEPS = Tuning(tail_entries=1, obsolete_rows=1 << 40, slack_pages=1 << 40)
"""Nothing is deleted or rewritten."""


def content(page: int, version: int = 0) -> bytes:
    return random.Random(f"{page}.{version}").randbytes(PAGE)


def put(object_id: int, *pages: int, version: int = 0) -> PutPages:
    return PutPages(object_id, pages, b"".join(content(page, version) for page in pages))


def leave(data_dir: Path, tuning: Tuning, *transactions: list[Change], tidy: bool = True) -> None:
    """Commit transactions and leave the file as it is when the process dies then."""
    store = open_store(data_dir, X86_64, tuning=tuning)
    for changes in transactions:
        store.commit([changes])
    while tidy and store.maintain():
        pass
    left = (data_dir / STORE_FILE).read_bytes()
    store.close()
    (data_dir / STORE_FILE).write_bytes(left)


def fill(data_dir: Path, tuning: Tuning = KEEPS) -> None:
    """Pages 0 to 99; 0 to 62, a whole chunk, are overwritten, and so are 70 to 79."""
    overwritten = put(1, *range(63), *range(70, 80), version=1)
    leave(data_dir, tuning, [PutSegment(SEGMENT), put(1, *range(100))], [overwritten])


def pages(data_dir: Path) -> dict[int, bytes]:
    store = open_store(data_dir, X86_64)
    found = store.fetch(1, range(200))
    store.close()
    return found


EXPECTED = {page: content(page, int(page < 63 or 70 <= page < 80)) for page in range(100)}


@contextmanager
def table(data_dir: Path, name: str) -> "Iterator[tuple[lmdb.Transaction[bytes], lmdb._Database]]":
    """A write transaction on the file itself."""
    with lmdb.open(
        str(data_dir / STORE_FILE), subdir=False, max_dbs=len(TABLES), map_size=1 << 30, lock=False
    ) as env:
        opened = env.open_db(name.encode())
        with env.begin(write=True) as txn:
            yield txn, opened


def damage(data_dir: Path, name: str, key: bytes, position: int = -1) -> None:
    """Flip a bit of a row."""
    with table(data_dir, name) as (txn, opened):
        value = bytearray(txn.get(key, b"", opened))
        value[position] ^= 1
        txn.put(key, bytes(value), db=opened)


def log_keys(data_dir: Path) -> list[tuple[int, int]]:
    with table(data_dir, "log") as (txn, opened):
        return [LOG_KEY.unpack(key) for key, _ in txn.cursor(opened)]


def run(data_dir: Path, *options: str, failpoint: str = "") -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "app.cli", "fsck", *options, str(data_dir)]
    environment = {**os.environ, VARIABLE: failpoint}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


# --- what is repaired


def test_a_sound_directory_is_not_touched(tmp_path: Path) -> None:
    fill(tmp_path)
    before = (tmp_path / STORE_FILE).read_bytes()
    assert list(repair(tmp_path)) == []
    assert (tmp_path / STORE_FILE).read_bytes() == before
    assert run(tmp_path, "--repair") == (0, [f"{tmp_path}: clean"])
    assert (tmp_path / STORE_FILE).read_bytes() == before


@pytest.mark.parametrize("position", [8, 20, 16 + 24 * 63 + 5, -1])
def test_a_damaged_chunk_without_a_page_in_use(tmp_path: Path, position: int) -> None:
    """In its header, its arrays, its first and its last page."""
    fill(tmp_path)
    (lsn, slots), *_ = log_keys(tmp_path)
    damage(tmp_path, "log", LOG_KEY.pack(lsn, slots), position)
    status, lines = run(tmp_path)
    assert (status, len(lines)) == (1, 1)
    told = f"chunk {lsn}, in which no page is in use, was damaged and is deleted"
    assert run(tmp_path, "--repair") == (3, [f"repaired: {told}", f"{tmp_path}: clean"])
    assert run(tmp_path) == (0, [f"{tmp_path}: clean"])
    assert pages(tmp_path) == EXPECTED


def test_a_damaged_slot_in_no_use(tmp_path: Path) -> None:
    """Its neighbours are put again, under the same checksums, and the chunk goes."""
    fill(tmp_path)
    lsn, slots = log_keys(tmp_path)[1]
    damage(tmp_path, "log", LOG_KEY.pack(lsn, slots), 16 + 24 * slots + 8 * PAGE)
    line = f"page 71 of layer 1, stored in chunk {lsn}, is damaged: checksum mismatch in slot 8"
    assert run(tmp_path) == (1, [f"{line}, which is in no use"])
    told = f"chunk {lsn} was damaged where it is in no use: its pages were put again"
    assert list(repair(tmp_path)) == [told]
    assert list(check_dir(tmp_path)) == []
    assert pages(tmp_path) == EXPECTED


def test_a_damaged_drop_record_before_the_checkpoint(tmp_path: Path) -> None:
    fill(tmp_path)
    leave(tmp_path, KEEPS, [DropPages(1, 90, 10)])
    lsn, slots = log_keys(tmp_path)[-1]
    assert slots == 0
    damage(tmp_path, "log", LOG_KEY.pack(lsn, 0), 3)
    assert list(repair(tmp_path)) == [
        f"drop record {lsn}, which the page maps contain, was damaged and is deleted"
    ]
    assert list(check_dir(tmp_path)) == []
    assert pages(tmp_path) == {page: EXPECTED[page] for page in range(90)}


def test_a_damaged_node_of_a_layer_that_is_gone(tmp_path: Path) -> None:
    """An object with a node was dropped, and the process killed before the node was deleted."""
    born: list[Change] = [PutSegment(SEGMENT), put(1, *range(10))]
    leave(tmp_path, KEEPS, born, [CloneObject(1, 2)], [put(2, 1, 300)])
    leave(tmp_path, LAZY, [DropObject(2)], tidy=False)
    with table(tmp_path, "nodes") as (txn, opened):
        keys = [NODE_KEY.unpack(key) for key, _ in txn.cursor(opened)]
    layer, number = next(key for key in keys if key[0] >= FIRST_LAYER and key[1] == 1)
    damage(tmp_path, "nodes", NODE_KEY.pack(layer, number))
    with pytest.raises(StoreError):
        open_store(tmp_path, X86_64)
    assert list(repair(tmp_path)) == [
        f"node {number} of layer {layer}, which is gone, was damaged and is deleted"
    ]
    assert pages(tmp_path) == {page: content(page) for page in range(10)}
    assert list(check_dir(tmp_path)) == []


def test_what_was_done_is_told_though_no_more_can_be_proved(tmp_path: Path) -> None:
    """A node of a layer that is gone is deleted; then another node, which is needed, keeps the maps from being read."""
    born: list[Change] = [PutSegment(SEGMENT), put(1, *range(10))]
    leave(tmp_path, KEEPS, born, [CloneObject(1, 2)], [put(2, 1, 300)])
    leave(tmp_path, LAZY, [DropObject(2)], tidy=False)
    damage(tmp_path, "nodes", NODE_KEY.pack(FIRST_LAYER, 1))
    damage(tmp_path, "nodes", NODE_KEY.pack(1, 0))
    status, lines = run(tmp_path, "--repair")
    assert status == 1
    assert lines[0].startswith(f"repaired: node 1 of layer {FIRST_LAYER}")
    assert lines[1].startswith("the row of node 0000000000000001")
    assert len(lines) == 2


def test_counters_that_lag_behind(tmp_path: Path) -> None:
    store = open_store(tmp_path, X86_64)
    store.commit([[PutSpace(SpaceRecord(5, "lab", 0o600, 0, 0, "exclusive", 7)), PutSegment(SEGMENT)]])
    store.commit([[put(1, 1), CloneObject(1, 9), put(9, 2)]])
    store.close()
    with table(tmp_path, "meta") as (txn, opened):
        state = State.decode(txn.get(STATE_KEY, b"", opened))
        txn.put(STATE_KEY, State(checkpoint=state.checkpoint).encode(), db=opened)
    assert len(list(check_dir(tmp_path))) == 4
    assert list(repair(tmp_path)) == ["counters lagged behind ids that exist and were raised"]
    assert list(check_dir(tmp_path)) == []
    store = open_store(tmp_path, X86_64)
    image = store.load()
    assert (image.next_vid, image.next_sid, image.next_object) == (6, 2, 10)
    store.close()


def forget_free_pages(data_dir: Path) -> None:
    """Empty LMDB's list of free pages: 48 bytes at offset 24 of what the newer meta page holds."""
    path = data_dir / STORE_FILE
    raw = bytearray(path.read_bytes())
    places = [16, PAGE + 16]
    newer = max(places, key=lambda place: struct.unpack_from("<Q", raw, place + 24 + 96 + 8)[0])
    size, flags = struct.unpack_from("<IH", raw, newer + 24)
    struct.pack_into("<IHHQQQQQ", raw, newer + 24, size, flags, 0, 0, 0, 0, 0, (1 << 64) - 1)
    path.write_bytes(raw)


def test_a_wrong_list_of_free_pages(tmp_path: Path) -> None:
    fill(tmp_path)
    forget_free_pages(tmp_path)
    status, lines = run(tmp_path)
    assert status == 1
    assert "neither reachable nor in the freeDB" in lines[0]
    told = "the list of free pages was wrong: all rows were copied to a new file"
    assert run(tmp_path, "--repair") == (3, [f"repaired: {told}", f"{tmp_path}: clean"])
    assert pages(tmp_path) == EXPECTED


# --- what is not


def test_a_damaged_page_in_use_stays_and_is_told(tmp_path: Path) -> None:
    fill(tmp_path)
    lsn, slots = log_keys(tmp_path)[1]
    damage(tmp_path, "log", LOG_KEY.pack(lsn, slots), 16 + 24 * slots + 2 * PAGE)
    before = (tmp_path / STORE_FILE).read_bytes()
    line = (
        f"page 65 of layer 1, stored in chunk {lsn}, is damaged: checksum mismatch in slot 2: "
        "offset 0x41000 of segment 1 'heap'"
    )
    assert run(tmp_path, "--repair") == (1, [line])
    assert run(tmp_path) == (1, [line])
    store = open_store(tmp_path, X86_64)
    with pytest.raises(StoreFailed, match="page 65 of object 1"):
        store.fetch(1, [65])
    others = [page for page in range(100) if page != 65]
    assert store.fetch(1, others) == {page: EXPECTED[page] for page in others}
    store.close()
    assert len(before) == (tmp_path / STORE_FILE).stat().st_size


@pytest.mark.parametrize(
    "name", [name for name in TABLES if name not in ("log", "births", "roots", "regions")]
)
def test_a_damaged_row_that_is_needed_is_left_alone(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path, X86_64)
    lab = SpaceRecord(5, "lab", 0o600, 0, 0, "exclusive", 7)
    store.commit([[PutSpace(lab), PutSegment(SEGMENT), PutReceipt(b"key", b"done")]])
    store.commit([[put(1, 1), CloneObject(1, 9), put(9, 2)]])
    store.close()
    with table(tmp_path, name) as (txn, opened):
        key = next(iter(txn.cursor(opened)))[0]
    damage(tmp_path, name, key)
    before = (tmp_path / STORE_FILE).read_bytes()
    found = list(check_dir(tmp_path)) if name != "meta" else []
    try:
        assert list(repair(tmp_path)) == []
    except StoreError:
        assert name == "meta"
    assert (tmp_path / STORE_FILE).read_bytes() == before
    if found:
        assert "damaged" in found[0]
        assert list(check_dir(tmp_path)) == found


def test_a_broken_tree_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    raw = bytearray((tmp_path / STORE_FILE).read_bytes())
    place = raw.index(b"segments") // PAGE * PAGE
    raw[place + 16] ^= 0xFF
    (tmp_path / STORE_FILE).write_bytes(raw)
    assert list(repair(tmp_path)) == []
    assert (tmp_path / STORE_FILE).read_bytes() == bytes(raw)


def test_a_directory_in_use(tmp_path: Path) -> None:
    store = open_store(tmp_path, X86_64)
    with pytest.raises(DataDirInUse):
        list(repair(tmp_path))
    store.close()


def test_no_repair_changes_what_can_be_read(tmp_path: Path, seed: int) -> None:
    """Whatever bits flipped: each page reads after a repair as it did before them, or fails."""
    rng = random.Random(seed)
    fill(tmp_path, LAZY)
    whole = (tmp_path / STORE_FILE).read_bytes()
    used = len(whole.rstrip(b"\0"))
    for _ in range(25):
        raw = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(used)] ^= 1 << rng.randrange(8)
        (tmp_path / STORE_FILE).write_bytes(raw)
        try:
            list(repair(tmp_path))
            sound = not list(check_dir(tmp_path))
            store = open_store(tmp_path, X86_64)
        except StoreError:
            continue
        for page in range(100):
            try:
                assert store.fetch(1, [page]) == {page: EXPECTED[page]}
            except StoreFailed:
                assert not sound
        store.close()


# --- cut short


@pytest.mark.parametrize("name", ["repair.begin", "repair.staged", "repair.staged:2", "repair.synced"])
def test_killed_at_a_seam(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    (lsn, slots), *_ = log_keys(tmp_path)
    damage(tmp_path, "log", LOG_KEY.pack(lsn, slots), 20)
    assert run(tmp_path, "--repair", failpoint=name)[0] == -signal.SIGKILL
    assert run(tmp_path)[0] == (0 if name == "repair.synced" else 1)
    assert run(tmp_path, "--repair")[0] == (0 if name == "repair.synced" else 3)
    assert pages(tmp_path) == EXPECTED


def test_the_nth_seam_fails(tmp_path: Path) -> None:
    fill(tmp_path)
    lsn, slots = log_keys(tmp_path)[1]
    damage(tmp_path, "log", LOG_KEY.pack(lsn, slots), 16 + 24 * slots + 8 * PAGE)
    for passage in range(1, 100):
        with fail_at(passage, StoreFailed("made to fail")):
            try:
                told = list(repair(tmp_path))
            except StoreFailed:
                assert len(list(check_dir(tmp_path))) <= 1
                continue
        break
    assert passage > 4
    assert len(told) <= 1
    assert list(check_dir(tmp_path)) == []
    assert pages(tmp_path) == EXPECTED
