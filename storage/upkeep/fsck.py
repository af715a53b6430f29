"""The whole-store check: trees, checksums, and that every page of every kind is accounted for exactly once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb
import numpy as np

from engine.changes import Image
from storage.directory import ACCOUNTS_FILE, DataDir
from storage.errors import FormatUnreadable, RowDamaged, StoreDamaged, StoreFailed
from storage.lmdb.catalog import read_image
from storage.lmdb.opening import MAP_BYTES, open_environment, open_tables
from storage.lmdb.recovery import Recovered, recover
from storage.lmdb.rows import check_row, damage_of
from storage.lmdb.tables import Tables, Txn, page_problems
from storage.rows.chunks import LOG_KEY, Chunk, decode_log_key
from storage.rows.format import NODE_PAGES, NODE_SHIFT, TABLES, U64
from storage.rows.nodes import SLOT_BITS, SLOT_MASK
from storage.upkeep.checking import check_image, owned_objects
from storage.upkeep.owners import Place, Whose
from storage.upkeep.sqlite_file import check_database

NODES_MAX: Final = 1 << 62
"""The check keeps every page map in memory."""


def check_dir(path: Path | str) -> Iterator[str]:
    """Every problem of the stopped data directory `path`, one line each; none when all is well. Changes nothing.

    Raises DataDirInUse while a service owns it, FormatUnreadable and StoreUnusable when it is no store of this format.
    """
    directory = DataDir.claim(Path(path), create=False)
    try:
        yield from check_claimed(directory)
    finally:
        directory.release()


def check_claimed(directory: DataDir) -> Iterator[str]:
    """`check_dir` of a directory that the caller has claimed."""
    yield from check_store(directory.store_file)
    accounts = directory.path / ACCOUNTS_FILE
    if accounts.is_file():
        try:
            check_database(accounts, accounts)
        except StoreDamaged as damage:
            yield str(damage)


def check_store(path: Path) -> Iterator[str]:
    """Every problem of the store file `path`, which nobody uses. Raises FormatUnreadable, StoreUnusable."""
    # LMDB itself must not read a file whose trees are broken: it could crash.
    problems = page_problems(path)
    yield from problems
    if problems:
        return
    env = open_environment(path, MAP_BYTES, readonly=True)
    try:
        tables, superblock = open_tables(env, path)
        sound = True
        with tables.read() as txn:
            for problem in _check_rows(tables, txn):
                yield problem
                sound = False
        found = recover(tables, superblock.page_size, NODES_MAX) if sound else None
        with tables.read() as txn:
            image, unreadable = None, None
            try:
                image = None if found is None else read_image(tables, txn, superblock, found.state)
            except StoreDamaged as damage:
                unreadable = damage
            yield from _check_log(tables, txn, found, image)
            if unreadable is not None:
                raise unreadable
            if found is not None and image is not None:
                yield from check_image(image)
                yield from _check_layers(image, found)
    except FormatUnreadable:
        raise
    except (StoreDamaged, StoreFailed, lmdb.Error) as error:
        yield str(error)
    finally:
        env.close()


def _check_rows(tables: Tables, txn: Txn) -> Iterator[str]:
    """Checksums of all rows but those of the log."""
    for name in TABLES:
        if name == "log":
            continue
        for key, value in txn.cursor(getattr(tables, name)):
            try:
                check_row(name, bytes(key), value)
            except RowDamaged as damage:
                yield damage_of(name, bytes(key), damage)


def _check_layers(image: Image, found: Recovered) -> Iterator[str]:
    """Something stands on every layer, and every page belongs to a layer, or to one that is being cleared away."""
    layers, dead = found.locations.layers, found.locations.dead
    standing = {layers.layer_of(object_id) for object_id in (*owned_objects(image), *image.unowned)}
    needed = {below for layer in standing for below in layers.ancestry(layer)}
    held = {layer for layer, _, node in found.locations.walk() if node.any()}
    yield from (f"layer {layer} has pages, but no object" for layer in sorted(held - needed))
    yield from (
        f"layer {layer} stands on layer {parent}, but no object on it"
        for layer, parent in sorted(layers.parents.items())
        if layer not in needed
    )
    for object_id in owned_objects(image):
        if not layers.layer_of(object_id):
            yield f"object {object_id} has an owner, but no layer"
    yield from (f"layer {layer} is gone, but has an object" for layer in sorted(needed & dead.keys()))
    newest = newest_layer(found)
    if newest >= found.state.next_layer:
        yield f"layer {newest} exists, but the next one would be {found.state.next_layer}"
    counted: Counter[int] = Counter()
    for layer, _, node in found.locations.walk():
        counted[layer] += int(np.count_nonzero(node))
    for layer in sorted(held | {layer for layer, count in layers.entries.items() if count}):
        if counted[layer] != layers.entries.get(layer, 0):
            yield f"layer {layer} has {counted[layer]} entries, but counts {layers.entries.get(layer, 0)}"


def newest_layer(found: Recovered) -> int:
    """The greatest id of a layer that anything names, 0 when there is none."""
    layers = found.locations.layers
    held = (layer for layer, _, node in found.locations.walk() if node.any())
    named = (*layers.objects.values(), *layers.parents, *layers.parents.values())
    return max((*named, *held, *found.locations.dead), default=0)


def _check_log(tables: Tables, txn: Txn, found: Recovered | None, image: Image | None) -> Iterator[str]:
    """Checksums of the log; and every slot is either live or dead, every location that of exactly one live slot."""
    maps: dict[tuple[int, int], U64] = {}
    whose = None if found is None or image is None else Whose(tables, txn, image, found)
    if found is not None:
        maps.update(((layer, number), node) for layer, number, node in found.locations.walk())
        for layer, nodes in found.locations.dead.items():
            maps.update(((layer, number), node) for number, node in nodes.items())
    matched: Counter[tuple[int, int]] = Counter()
    for raw, value in txn.cursor(tables.log):
        key = bytes(raw)
        try:
            lsn, slots = decode_log_key(key)
            if not slots:
                check_row("log", key, value)
                continue
            chunk = Chunk(key, value)
        except RowDamaged as damage:
            lost = whose.tell(_places_in(maps, LOG_KEY.unpack(key)[0])) if whose and _names_chunk(key) else ""
            yield f"log row {key.hex()} is damaged: {damage}{lost}"
            continue
        live = set[int]()
        for slot, (layer, page) in enumerate(zip(chunk.layers.tolist(), chunk.pages.tolist(), strict=True)):
            node = maps.get((layer, page >> NODE_SHIFT))
            if node is not None and int(node[page & (NODE_PAGES - 1)]) == lsn << SLOT_BITS | slot:
                matched[layer, page >> NODE_SHIFT] += 1
                live.add(slot)
        yield from _damaged_pages(chunk, lsn, live, whose)
        if found is not None and len(live) != found.live.live_slots(lsn):
            yield f"chunk {lsn} has {len(live)} live pages but counts {found.live.live_slots(lsn)}"
    for (layer, number), node in maps.items():
        present = int(np.count_nonzero(node > SLOT_MASK))
        if present != matched[layer, number]:
            first = number << NODE_SHIFT
            yield (
                f"layer {layer}, pages {first} to {first + NODE_PAGES - 1}: "
                f"{present} have a location, {matched[layer, number]} are there"
            )


def _damaged_pages(chunk: Chunk, lsn: int, live: set[int], whose: Whose | None) -> Iterator[str]:
    for slot in chunk.damaged_slots():
        layer, page = int(chunk.layers[slot]), int(chunk.pages[slot])
        use = ""
        if whose is not None:
            place = layer, page, lsn << SLOT_BITS | slot
            use = whose.tell([place]) if slot in live else ", which is in no use"
        yield (
            f"page {page} of layer {layer}, stored in chunk {lsn}, is damaged: checksum mismatch in slot {slot}{use}"
        )


def _names_chunk(key: bytes) -> bool:
    """Whether a key of the log is that of a chunk, be its row as it may."""
    return len(key) == LOG_KEY.size and LOG_KEY.unpack(key)[1] > 0


def _places_in(maps: dict[tuple[int, int], U64], lsn: int) -> list[Place]:
    """All places that the maps say are in a chunk."""
    return [
        (layer, (number << NODE_SHIFT) + int(index), int(node[index]))
        for (layer, number), node in maps.items()
        for index in np.flatnonzero((node >> np.uint64(SLOT_BITS) == lsn) & (node > SLOT_MASK))
    ]
