"""All rows of a store, each checked as it passes; and a store file made of rows."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from storage.errors import RowDamaged, StoreDamaged
from storage.lmdb.layers import decode_layer
from storage.lmdb.opening import MAP_BYTES
from storage.lmdb.tables import FULL_CODES, Tables, Txn, named_errors
from storage.rows.chunks import Chunk, decode_drops, decode_log_key
from storage.rows.format import STATE_KEY, SUPERBLOCK_KEY, TABLES, Bytes, State, Superblock
from storage.rows.lineage import decode_birth, decode_root
from storage.rows.nodes import decode_node, decode_node_key
from storage.rows.receipts import decode_receipt
from storage.rows.records import decode_region, decode_segment, decode_space

STEP_BYTES: Final = 8 << 20
"""Of rows, that one write transaction of a new file takes, about."""


class Row(NamedTuple):
    """A row of any table, as it is stored."""

    table: str
    key: bytes
    value: bytes


# --- checking


def check_row(table: str, key: bytes, value: Bytes) -> None:
    """Raises RowDamaged when a row does not match its checksums or its layout."""
    try:
        _CHECKS[table](key, value if table == "log" else bytes(value))
    except (ValueError, KeyError) as error:
        raise RowDamaged(str(error)) from error


def _check_meta(key: bytes, value: bytes) -> None:
    if key not in (SUPERBLOCK_KEY, STATE_KEY):
        raise RowDamaged("nobody knows what it is")
    if key == SUPERBLOCK_KEY:
        Superblock.decode(value)
    else:
        State.decode(value)


def _check_log(key: bytes, value: Bytes) -> None:
    if not decode_log_key(key)[1]:
        decode_drops(key, value)
        return
    damaged = Chunk(key, value).damaged_slots()
    if damaged:
        raise RowDamaged(f"checksum mismatch in slot {damaged[0]}")


def _check_node(key: bytes, value: Bytes) -> None:
    decode_node_key(key)
    decode_node(key, value)


_CHECKS: Final[dict[str, Callable[[bytes, Any], object]]] = {
    "meta": _check_meta,
    "spaces": decode_space,
    "segments": decode_segment,
    "regions": decode_region,
    "births": decode_birth,
    "roots": decode_root,
    "receipts": decode_receipt,
    "objects": decode_layer,
    "layers": decode_layer,
    "nodes": _check_node,
    "log": _check_log,
}


def rows_of(tables: Tables, txn: Txn, names: Iterable[str] = TABLES) -> Iterator[Row]:
    """All rows of these tables, ascending by key in each. Raises StoreDamaged at the first one that is damaged."""
    for name in names:
        for key, value in txn.cursor(getattr(tables, name)):
            yield checked(Row(name, bytes(key), bytes(value)))


def checked(row: Row) -> Row:
    """The row. Raises StoreDamaged."""
    try:
        check_row(*row)
    except RowDamaged as damage:
        told = damage_of(row.table, row.key, damage)
        raise StoreDamaged(f"{told}; 'everspaced fsck' tells whose it is") from damage
    return row


def damage_of(table: str, key: bytes, damage: RowDamaged) -> str:
    """A damaged row in words."""
    return f"the row of {table.removesuffix('s')} {key.hex()} is damaged: {damage}"


# --- building


def build(path: Path, rows: Iterable[Row]) -> None:
    """Make the store file `path` of rows, ascending by key in each table. On return it is on stable storage.

    Raises StoreFull, StoreFailed and StoreDamaged, the last one when rows do not ascend. Then the file is of no use.
    """
    with named_errors(f"writing {path}", lacks_room=partial(lacks_room, path)):
        env = lmdb.open(
            str(path),
            map_size=MAP_BYTES,
            subdir=False,
            mode=0o600,
            max_dbs=len(TABLES),
            sync=False,
            lock=False,
        )
        try:
            with env.begin(write=True, buffers=True) as txn:
                tables = Tables.open(env, txn)
            waiting = iter(rows)
            while _put_some(tables, waiting):
                pass
            env.sync(True)
        finally:
            env.close()


def _put_some(tables: Tables, rows: Iterator[Row]) -> bool:
    """Put rows in one transaction; whether there may be more."""
    room = STEP_BYTES
    with tables.write() as txn:
        for name, key, value in rows:
            if not txn.put(key, value, append=True, db=getattr(tables, name)):
                raise StoreDamaged(f"row {key.hex()} of table {name} is not behind the one before it")
            room -= len(value)
            if room <= 0:
                return True
    return False


def lacks_room(path: Path) -> bool:
    """Whether the disk takes no more of a file: LMDB and SQLite report a write that was cut short as an I/O error."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.posix_fallocate(opened, os.fstat(opened).st_size, STEP_BYTES)
        finally:
            os.close(opened)
    except OSError as error:
        return error.errno in FULL_CODES
    return False
