"""From the tables to what is kept in memory: nodes, then the log behind the checkpoint, then live counts.

A node's row may be older or newer than the checkpoint; the log behind the checkpoint holds the last word on every page
that changed since, so that replaying it in order always ends in the same map. What objects stand on is not replayed:
those rows are written with the commit that changes them, and no record of the log depends on them.
"""

from dataclasses import dataclass, field

import numpy as np

from storage.errors import RowDamaged, StoreDamaged, StoreFailed
from storage.lmdb.catalog import read_layers
from storage.lmdb.live import LiveCounts
from storage.lmdb.locations import LocationMap, Patch, Placed
from storage.lmdb.tables import NodeTable, Tables, Txn, checked_node
from storage.rows.chunks import LOG_KEY, Chunk, decode_drops, decode_log_key
from storage.rows.format import STATE_KEY, U64, State
from storage.rows.nodes import SLOT_BITS, decode_node_key

_BATCH = 1024


@dataclass(slots=True)
class Recovered:
    """What was in the tables."""

    locations: LocationMap
    live: LiveCounts
    state: State
    last_lsn: int = 0
    drop_lsns: list[int] = field(default_factory=list)
    tail_entries: int = 0
    """Pages and drops in the log behind the checkpoint."""


def read_state(tables: Tables, txn: Txn) -> State:
    """The counters. Raises StoreDamaged."""
    value = txn.get(STATE_KEY, db=tables.meta)
    try:
        if value is None:
            raise RowDamaged("it is missing")
        return State.decode(bytes(value))
    except RowDamaged as damage:
        raise StoreDamaged(f"the row of counters is damaged: {damage}") from damage


def recover(tables: Tables, page_size: int, nodes_max: int) -> Recovered:
    """Read the maps and replay the log. Raises StoreDamaged."""
    with tables.read() as txn:
        found = Recovered(LocationMap(nodes_max), LiveCounts(page_size), read_state(tables, txn))
        found.locations.layers = read_layers(tables, txn)
        try:
            _read_nodes(found, tables, txn)
            _list_log(found, tables, txn)
            _replay(found, tables, txn)
        except (StoreFailed, RowDamaged) as damage:
            raise StoreDamaged(f"the page maps or the log cannot be read: {damage}") from damage
    missing = found.live.settle()
    if missing:
        raise StoreDamaged(f"chunk {missing[0]} is missing, and {len(missing) - 1} more; run fsck")
    return found


def _read_nodes(found: Recovered, tables: Tables, txn: Txn) -> None:
    batch: list[U64] = []
    for key, value in txn.cursor(tables.nodes):
        layer, number = decode_node_key(key)
        node = checked_node(bytes(key), value)
        found.locations.admit(layer, number, node)
        batch.append(node)
        if len(batch) == _BATCH:
            found.live.count(batch, +1)
            batch.clear()
    found.live.count(batch, +1)


def _list_log(found: Recovered, tables: Tables, txn: Txn) -> None:
    found.last_lsn = found.state.checkpoint
    for key in txn.cursor(tables.log).iternext(values=False):
        lsn, slots = decode_log_key(key)
        if slots:
            found.live.add(lsn, slots, 0)
        else:
            found.drop_lsns.append(lsn)
        found.last_lsn = max(found.last_lsn, lsn)


def _replay(found: Recovered, tables: Tables, txn: Txn) -> None:
    cursor = txn.cursor(tables.log)
    if not cursor.set_range(LOG_KEY.pack(found.state.checkpoint + 1, 0)):
        return
    rows = NodeTable(tables, txn)
    for key, value in cursor:
        lsn, slots = decode_log_key(key)
        try:
            if slots:
                chunk = Chunk(bytes(key), value)
                found.tail_entries += slots
                patch = _placing(chunk, lsn, found.locations, rows)
            else:
                drops = decode_drops(bytes(key), value)
                found.tail_entries += len(drops)
                patch = found.locations.prepare(drops, {}, rows)
        except (RowDamaged, ValueError) as damage:
            raise StoreDamaged(f"log row {lsn} is damaged: {damage}") from damage
        found.live.count(found.locations.publish(patch), -1)
        found.live.count([placed.locations for placed in patch.placed], +1)


def _placing(chunk: Chunk, lsn: int, locations: LocationMap, rows: NodeTable) -> Patch:
    """The patch that puts a chunk's pages where the chunk is."""
    slots = np.arange(chunk.slots, dtype=np.uint64) | np.uint64(lsn << SLOT_BITS)
    order = np.lexsort((chunk.pages, chunk.layers))
    parts = {int(layer): order[chunk.layers[order] == layer] for layer in np.unique(chunk.layers)}
    patch = locations.prepare([], {layer: chunk.pages[part] for layer, part in parts.items()}, rows)
    patch.placed = [Placed(layer, chunk.pages[part], slots[part]) for layer, part in parts.items()]
    return patch
