"""Whatever bytes a row of the store has, also under a seal that fits them: it is read, or refused by name; nothing else.

`--seed` replays a run.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from engine.changes import (
    BirthRecord,
    CloneObject,
    DropPages,
    PutBirth,
    PutPages,
    PutReceipt,
    PutRegion,
    PutRoot,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import TOY
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import RowDamaged, StoreError
from storage.lmdb.layers import decode_layer
from storage.rows.chunks import CHUNK, Chunk, decode_drops, decode_log_key
from storage.rows.format import SEAL_BYTES, STATE_KEY, SUPERBLOCK_KEY, TABLES, State, Superblock, seal
from storage.rows.lineage import decode_birth, decode_root
from storage.rows.nodes import decode_node, decode_node_key
from storage.rows.receipts import decode_receipt
from storage.rows.records import decode_region, decode_segment, decode_space
from storage.upkeep.fsck import check_dir

Row = tuple[str, bytes, bytes]
"""Table, key, value."""
PAGE = TOY.page_size
EXAMPLES_OF_DECODERS = 2000
EXAMPLES_OF_STORES = 100
MAP_BYTES = 1 << 24


def fill(data_dir: Path) -> None:
    """A store with rows in every table."""
    region = RegionRecord(0, 4 * PAGE, 3, True, 1, 2)
    store = open_store(data_dir, TOY)
    store.commit([[
        PutSpace(SpaceRecord(1, "space", 0o600, 0, 0, "shared", 1, brk=(PAGE, 2 * PAGE))), PutRegion(1, region),
        PutSegment(SegmentRecord(1, "segment", 0, 64 * PAGE, 0o600, 0, 0, "shared", 2)),
        PutBirth(1, BirthRecord((region,), (("root", 8),))), PutRoot(1, "root", 8), PutReceipt(b"key", b"value"),
        PutPages(1, (0, 1), bytes(2 * PAGE)), PutPages(2, tuple(range(64)), bytes(range(256)) * (64 * PAGE // 256)),
    ]])  # fmt: skip
    store.close()
    store = open_store(data_dir, TOY)
    store.commit([[DropPages(2, 3, 5), CloneObject(1, 3), CloneObject(2, 4), PutPages(1, (1,), b"x" * PAGE)]])
    store.close()


def rows(data_dir: Path) -> list[Row]:
    """All rows of a store."""
    found = []
    env = lmdb.open(
        str(data_dir / STORE_FILE), subdir=False, max_dbs=len(TABLES), map_size=MAP_BYTES, lock=False
    )
    with env, env.begin() as txn:
        for table in TABLES:
            found += [
                (table, bytes(key), bytes(value))
                for key, value in txn.cursor(env.open_db(table.encode(), txn))
            ]
    return found


def put(data_dir: Path, row: Row, value: bytes) -> None:
    """Write a row past the store."""
    env = lmdb.open(
        str(data_dir / STORE_FILE), subdir=False, max_dbs=len(TABLES), map_size=MAP_BYTES, lock=False
    )
    with env, env.begin(write=True) as txn:
        txn.put(row[1], value, db=env.open_db(row[0].encode(), txn))


def sealed(table: str, key: bytes, body: bytes) -> bytes:
    """A value whose checksum fits. In a chunk that is the one of its head."""
    if table == "log" and len(key) == 9 and key[8] and len(body) >= CHUNK.size:
        arrays = body[CHUNK.size : CHUNK.size + key[8] * 24]
        return (
            body[:8] + xxh3_64_intdigest(key + body[:8] + arrays).to_bytes(8, "little") + body[CHUNK.size :]
        )
    return seal(key, body)


def body_of(row: Row) -> bytes:
    """What the seal is of."""
    table, key, value = row
    return value if table == "log" and key[8] else value[:-SEAL_BYTES]


@st.composite
def changed(draw: st.DrawFn, body: bytes) -> bytes:
    """Other bytes: some changed, cut short, made longer, or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    found = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        some = draw(
            st.sampled_from([b"", b"\0", b"\1", b"\xff", b"\xff" * 8, b"\0" * 8, b"\x80"])
            | st.binary(max_size=9)
        )
        found[at : at + draw(st.sampled_from([len(some), 0, 1, 64, len(found)]))] = some
    return bytes(found)


def decode_meta(key: bytes, value: bytes) -> object:
    """The two rows of table `meta`."""
    return {SUPERBLOCK_KEY: Superblock.decode, STATE_KEY: State.decode}[key](value)


def decode_log(key: bytes, value: bytes) -> object:
    """A chunk with all it tells, or a drop record."""
    if not decode_log_key(key)[1]:
        return decode_drops(key, value)
    chunk = Chunk(key, value)
    for slot in chunk.damaged_slots():
        with pytest.raises(RowDamaged):
            chunk.content(slot, int(chunk.layers[slot]), int(chunk.pages[slot]))
    return chunk


def decode_whole_node(key: bytes, value: bytes) -> object:
    """A node and its place."""
    return decode_node_key(key), decode_node(key, value)


DECODERS: dict[str, Callable[[bytes, bytes], object]] = {
    "meta": decode_meta,
    "spaces": decode_space,
    "segments": decode_segment,
    "regions": decode_region,
    "births": decode_birth,
    "roots": decode_root,
    "receipts": decode_receipt,
    "objects": decode_layer,
    "layers": decode_layer,
    "nodes": decode_whole_node,
    "log": decode_log,
}


def driven(
    seed: int, examples: int, drive: Callable[..., None], **strategies: st.SearchStrategy[Any]
) -> None:
    """Run a test of generated values from a seed."""
    settled = hypothesis.settings(max_examples=examples, database=None)(given(**strategies)(drive))
    hypothesis.seed(seed)(settled)()


def test_decoders_read_or_refuse(tmp_path: Path, seed: int) -> None:
    fill(tmp_path)
    found = rows(tmp_path)
    assert {table for table, _, _ in found} >= set(DECODERS) - {"nodes"}
    found += [("nodes", bytes(16), body) for body in (bytes(32 + 8), b"\1" + bytes(31 + 16))]

    def decode(row: Row, data: st.DataObject) -> None:
        table, key, _ = row
        if data.draw(st.booleans()) and table not in ("meta", "log"):
            key = data.draw(changed(key))
        body = data.draw(changed(body_of(row)))
        value = sealed(table, key, body) if data.draw(st.integers(0, 9)) else body
        with contextlib.suppress(RowDamaged):
            DECODERS[table](key, value)

    driven(seed, EXAMPLES_OF_DECODERS, decode, row=st.sampled_from(found), data=st.data())


@pytest.mark.timeout(300)
def test_a_store_with_any_row_opens_or_refuses_and_is_looked_through(tmp_path: Path, seed: int) -> None:
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    fill(whole)
    found = rows(whole)

    def look(row: Row, data: st.DataObject) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        value = sealed(row[0], row[1], data.draw(changed(body_of(row))))
        if not value:
            return
        put(copy, row, value)
        with contextlib.suppress(StoreError):
            list(check_dir(copy))
        with contextlib.suppress(StoreError):
            store = open_store(copy, TOY)
            try:
                use(store)
            finally:
                store.close()

    driven(seed, EXAMPLES_OF_STORES, look, row=st.sampled_from(found), data=st.data())


def use(store: Any) -> None:
    """Ask for everything, and change something."""
    image = store.load()
    for object_id in (1, 2, *image.unowned[:4]):
        with contextlib.suppress(StoreError):
            store.stored_pages(object_id, 0, 128)
        for page in range(64):
            with contextlib.suppress(StoreError):
                assert all(len(content) == PAGE for content in store.fetch(object_id, (page,)).values())
    with contextlib.suppress(StoreError):
        store.usage((1, 2))
    with contextlib.suppress(StoreError):
        store.commit([[PutPages(1, (3,), bytes(PAGE))]])
