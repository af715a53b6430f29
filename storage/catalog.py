"""The rows of spaces, segments and regions: read as an image, written as a group leaves them."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import lmdb

from engine.changes import Image
from storage.changeset import ChangeSet
from storage.errors import RowDamaged, StoreDamaged
from storage.format import State, Superblock
from storage.records import ID_KEY, decode_region, decode_segment, decode_space
from storage.tables import Tables, Txn

Record = TypeVar("Record")


def read_image(tables: Tables, txn: Txn, superblock: Superblock, state: State) -> Image:
    """All records. Raises StoreDamaged."""
    image = Image(
        page_size=superblock.page_size,
        arch=superblock.arch,
        spaces=list(_rows(txn, tables.spaces, "space", decode_space)),
        segments=list(_rows(txn, tables.segments, "segment", decode_segment)),
        next_vid=state.next_vid,
        next_sid=state.next_sid,
        next_object=state.next_object,
    )
    image.regions = {record.vid: [] for record in image.spaces}
    for vid, region in _rows(txn, tables.regions, "region", decode_region):
        if vid not in image.regions:
            raise StoreDamaged(f"a region at {region.start:#x} belongs to space {vid}, which does not exist")
        image.regions[vid].append(region)
    return image


def _rows(
    txn: Txn, table: lmdb._Database, kind: str, decode: Callable[[bytes, bytes], Record]
) -> Iterator[Record]:
    for key, value in txn.cursor(table):
        try:
            yield decode(bytes(key), bytes(value))
        except RowDamaged as damage:
            raise StoreDamaged(f"the row of {kind} {bytes(key).hex()} is damaged: {damage}") from damage


def put_rows(tables: Tables, txn: Txn, group: ChangeSet) -> None:
    """Write the rows of a group."""
    for vid in sorted(group.wiped):
        _wipe_regions(tables, txn, vid)
    changed = (
        (tables.spaces, group.space_rows),
        (tables.segments, group.segment_rows),
        (tables.regions, group.region_rows),
    )
    for table, rows in changed:
        for key, value in sorted(rows.items(), key=lambda row: row[0]):
            if value is None:
                txn.delete(key, db=table)
            else:
                txn.put(key, value, db=table)


def _wipe_regions(tables: Tables, txn: Txn, vid: int) -> None:
    prefix = ID_KEY.pack(vid)
    keys: list[bytes] = []
    with txn.cursor(tables.regions) as cursor:
        if cursor.set_range(prefix):
            for key in cursor.iternext(values=False):
                if key[: len(prefix)] != prefix:
                    break
                keys.append(bytes(key))
    for found in keys:
        txn.delete(found, db=tables.regions)
