"""From formats 1 and 2 to format 3: rows of format 1 get their new fields, tables are added.

Page maps and log are the same in all of them, so that it costs nothing what pages there are; what format 3 adds to
format 2 is the table of receipts alone. All of it is one write transaction: whatever happens, the directory is of the
old format or of the new one.
"""

import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import lmdb

from engine.changes import RegionRecord, SegmentRecord, SpaceRecord
from storage.directory import DataDir
from storage.errors import RowDamaged, StoreDamaged
from storage.failpoints import failpoint, killpoint
from storage.lmdb.opening import MAP_BYTES, open_environment, read_superblock, superblock_value
from storage.lmdb.tables import Tables, Txn, named_errors
from storage.rows.format import (
    STATE_KEY,
    SUPERBLOCK_HEAD,
    SUPERBLOCK_KEY,
    VERSION,
    State,
    Superblock,
    split,
    text,
    unpack,
    unseal,
)
from storage.rows.records import (
    ID_KEY,
    REGION_KEY,
    encode_region,
    encode_segment,
    encode_space,
    sharing_name,
)

ROWS_CHANGED: Final = 2
"""The version in which rows got new fields."""

# --- format 1: the fields of later formats that it has, in their order

OLD_STATE: Final = struct.Struct("<QQQQ")
OLD_SPACE: Final = struct.Struct("<QIIIB")
OLD_SEGMENT: Final = struct.Struct("<QQQIIIB")
OLD_REGION: Final = struct.Struct("<QQBBB")

Row = tuple[bytes, bytes]


def migrate(path: Path | str) -> bool:
    """Bring the data directory `path`, which no service owns, to this release's format. False when it had it already.

    Raises DataDirInUse, FormatUnreadable, StoreDamaged, StoreUnusable, StoreFull and StoreFailed; then it is as it was.
    """
    directory = DataDir.claim(Path(path), create=False)
    try:
        env = open_environment(directory.store_file, MAP_BYTES)
        try:
            return _migrate(directory, env)
        finally:
            env.close()
    finally:
        directory.release()


def _migrate(directory: DataDir, env: lmdb.Environment) -> bool:
    path = directory.store_file
    value = superblock_value(path, env)
    version = SUPERBLOCK_HEAD.unpack_from((value or b"").ljust(SUPERBLOCK_HEAD.size, b"\xff"))[1]
    if value is None or not 0 < version < VERSION:
        read_superblock(path, value)
        return False
    try:
        superblock = Superblock.decode(value)
    except RowDamaged as damage:
        raise StoreDamaged(f"{path} is damaged: superblock: {damage}") from damage
    with named_errors("migrating", lacks_room=partial(_lacks_room, path)):
        failpoint("migrate.begin")
        with env.begin(write=True, buffers=True) as txn:
            tables = Tables.open(env, txn)
            if version < ROWS_CHANGED:
                _change_rows(tables, txn)
            txn.put(SUPERBLOCK_KEY, superblock.encode(), db=tables.meta)
            failpoint("migrate.rows_put")
    killpoint("migrate.synced")
    return True


def _change_rows(tables: Tables, txn: Txn) -> None:
    for table, rows in (
        (tables.meta, [_state(tables, txn)]),
        (tables.spaces, list(_rows(txn, tables.spaces, "space", _space))),
        (tables.segments, list(_rows(txn, tables.segments, "segment", _segment))),
        (tables.regions, list(_rows(txn, tables.regions, "region", _region))),
    ):
        for key, row in rows:
            txn.put(key, row, db=table)


def _lacks_room(path: Path) -> bool:
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize < path.stat().st_size // 16


def _rows(
    txn: Txn, table: lmdb._Database, kind: str, convert: Callable[[bytes, bytes], Row]
) -> Iterator[Row]:
    for key, value in txn.cursor(table):
        try:
            yield convert(bytes(key), bytes(value))
        except RowDamaged as damage:
            raise StoreDamaged(f"the row of {kind} {bytes(key).hex()} is damaged: {damage}") from damage


def _state(tables: Tables, txn: Txn) -> Row:
    value = txn.get(STATE_KEY, db=tables.meta)
    try:
        if value is None:
            raise RowDamaged("it is missing")
        return STATE_KEY, State(*unpack(OLD_STATE, unseal(STATE_KEY, value))).encode()
    except RowDamaged as damage:
        raise StoreDamaged(f"the row of counters is damaged: {damage}") from damage


def _space(key: bytes, value: bytes) -> Row:
    (vid,) = unpack(ID_KEY, key)
    (object_id, uid, gid, mode, sharing), name = split(OLD_SPACE, unseal(key, value))
    return encode_space(SpaceRecord(vid, text(name), mode, uid, gid, sharing_name(sharing), object_id))


def _segment(key: bytes, value: bytes) -> Row:
    (sid,) = unpack(ID_KEY, key)
    (start, end, object_id, uid, gid, mode, sharing), name = split(OLD_SEGMENT, unseal(key, value))
    return encode_segment(
        SegmentRecord(sid, text(name), start, end, mode, uid, gid, sharing_name(sharing), object_id)
    )


def _region(key: bytes, value: bytes) -> Row:
    vid, start = unpack(REGION_KEY, key)
    end, sid, access, shared, type = unpack(OLD_REGION, unseal(key, value))
    return encode_region(vid, RegionRecord(start, end, access, bool(shared), sid, type))
