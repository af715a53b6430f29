"""All rows but nodes and log: read as an image and as the tree of layers, written as a group leaves them."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import lmdb

from engine.changes import Image, SegmentRecord, SpaceRecord
from storage.errors import RowDamaged, StoreDamaged
from storage.lmdb.changeset import ChangeSet, Rows, objects_of
from storage.lmdb.layers import LAYER_KEY, Layers, decode_layer, encode_layer
from storage.lmdb.tables import Tables, Txn
from storage.rows.format import State, Superblock
from storage.rows.lineage import decode_birth, decode_root
from storage.rows.receipts import decode_receipt
from storage.rows.records import ID_KEY, decode_region, decode_segment, decode_space

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
        _must_exist(image, vid, f"a region at {region.start:#x}")
        image.regions[vid].append(region)
    for vid, birth in _rows(txn, tables.births, "birth", decode_birth):
        _must_exist(image, vid, "a birth")
        image.births[vid] = birth
    for vid, name, address in _rows(txn, tables.roots, "root", decode_root):
        _must_exist(image, vid, f"the root {name!r}")
        image.roots.setdefault(vid, {})[name] = address
    image.receipts = dict(_rows(txn, tables.receipts, "receipt", decode_receipt))
    records: list[SpaceRecord | SegmentRecord] = [*image.spaces, *image.segments]
    owned = {number for record in records for number in objects_of(record)}
    rows = _rows(txn, tables.objects, "object", decode_layer)
    image.unowned = [object_id for object_id, _ in rows if object_id not in owned]
    return image


def read_layers(tables: Tables, txn: Txn) -> Layers:
    """What objects stand on. Raises StoreDamaged."""
    layers = Layers()
    try:
        layers.read(
            _rows(txn, tables.objects, "object", decode_layer),
            _rows(txn, tables.layers, "layer", decode_layer),
        )
    except RowDamaged as damage:
        raise StoreDamaged(f"the layers are damaged: {damage}") from damage
    return layers


def _must_exist(image: Image, vid: int, what: str) -> None:
    if vid not in image.regions:
        raise StoreDamaged(f"{what} belongs to space {vid}, which does not exist")


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
        _wipe(txn, tables.regions, vid)
        _wipe(txn, tables.roots, vid)
    changed: tuple[tuple[lmdb._Database, Rows], ...] = (
        (tables.spaces, group.space_rows),
        (tables.segments, group.segment_rows),
        (tables.regions, group.region_rows),
        (tables.births, group.birth_rows),
        (tables.roots, group.root_rows),
        (tables.receipts, group.receipt_rows),
    )
    if not group.layers.is_empty:
        layers = group.layers
        changed += (
            (tables.objects, _layer_rows(layers.objects)),
            (tables.layers, _layer_rows(layers.parents)),
        )
    for table, rows in changed:
        for key, value in sorted(rows.items(), key=lambda row: row[0]) if rows else ():
            if value is None:
                txn.delete(key, db=table)
            else:
                txn.put(key, value, db=table)


def _layer_rows(changed: dict[int, int]) -> Rows:
    return {
        LAYER_KEY.pack(number): encode_layer(number, layer)[1] if layer else None
        for number, layer in changed.items()
    }


def _wipe(txn: Txn, table: lmdb._Database, vid: int) -> None:
    """Delete the rows of a space."""
    prefix = ID_KEY.pack(vid)
    keys: list[bytes] = []
    with txn.cursor(table) as cursor:
        if cursor.set_range(prefix):
            for key in cursor.iternext(values=False):
                if key[: len(prefix)] != prefix:
                    break
                keys.append(bytes(key))
    for found in keys:
        txn.delete(found, db=table)
