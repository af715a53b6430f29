"""The whole-store check: trees, checksums, and that every page of every kind is accounted for exactly once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import numpy as np

from engine.changes import Image, RegionRecord, SegmentRecord, SpaceRecord
from storage.catalog import read_image
from storage.changeset import objects_of
from storage.chunks import Chunk, decode_drops, decode_log_key
from storage.directory import DataDir
from storage.errors import FormatUnreadable, RowDamaged, StoreDamaged, StoreFailed
from storage.format import NODE_PAGES, NODE_SHIFT, U64
from storage.nodes import SLOT_BITS, SLOT_MASK
from storage.opening import MAP_BYTES, open_environment, open_tables
from storage.recovery import Recovered, recover
from storage.tables import Tables, Txn, page_problems

NODES_MAX = 1 << 62
"""The check keeps every page map in memory."""


def check_dir(path: Path | str) -> Iterator[str]:
    """Every problem of the stopped data directory `path`, one line each; none when all is well. Changes nothing.

    Raises DataDirInUse while a service owns it, FormatUnreadable and StoreUnusable when it is no store of this format.
    """
    directory = DataDir.claim(Path(path), create=False)
    try:
        yield from _check(directory)
    finally:
        directory.release()


def _check(directory: DataDir) -> Iterator[str]:
    # LMDB itself must not read a file whose trees are broken: it could crash.
    problems = page_problems(directory.store_file)
    yield from problems
    if problems:
        return
    env = open_environment(directory.store_file, MAP_BYTES, readonly=True)
    try:
        tables, superblock = open_tables(env, directory, None)
        with tables.read() as txn:
            yield from _check_rows(tables, txn)
            found = recover(tables, superblock.page_size, NODES_MAX)
            image = read_image(tables, txn, superblock, found.state)
            yield from _check_image(image)
            yield from _check_layers(image, found)
            yield from _check_log(tables, txn, found)
    except FormatUnreadable:
        raise
    except (StoreDamaged, StoreFailed, lmdb.Error) as error:
        yield str(error)
    finally:
        env.close()


def _check_rows(tables: Tables, txn: Txn) -> Iterator[str]:
    """Checksums of all chunks, of every slot in them, live or dead, and of all drop records."""
    for raw, value in txn.cursor(tables.log):
        key = bytes(raw)
        try:
            lsn, slots = decode_log_key(key)
            if slots:
                yield from _check_slots(lsn, Chunk(key, value))
            else:
                decode_drops(key, value)
        except RowDamaged as damage:
            yield f"log row {key.hex()} is damaged: {damage}"


def _check_slots(lsn: int, chunk: Chunk) -> Iterator[str]:
    for slot, (layer, page) in enumerate(zip(chunk.layers.tolist(), chunk.pages.tolist(), strict=True)):
        try:
            chunk.content(slot, layer, page)
        except RowDamaged as damage:
            yield f"page {page} of layer {layer}, stored in chunk {lsn}, is damaged: {damage}"


def _check_image(image: Image) -> Iterator[str]:
    """Records agree with each other and with the counters."""
    for kind, records in (("space", image.spaces), ("segment", image.segments)):
        names = Counter(record.name for record in records)
        yield from (f"{count} {kind}s are called {name!r}" for name, count in names.items() if count > 1)
    objects = Counter(_owned_objects(image))
    yield from (f"object {number} has {count} owners" for number, count in objects.items() if count > 1)
    last = max((*objects, *image.unowned), default=0)
    if last >= image.next_object:
        yield f"object {last} exists, but the next one would be {image.next_object}"
    if image.spaces and image.spaces[-1].vid >= image.next_vid:
        yield f"space {image.spaces[-1].vid} exists, but the next one would be {image.next_vid}"
    if image.segments and image.segments[-1].sid >= image.next_sid:
        yield f"segment {image.segments[-1].sid} exists, but the next one would be {image.next_sid}"
    for segment in image.segments:
        if not 0 <= segment.start < segment.end or (segment.start | segment.end) % image.page_size:
            yield f"segment {segment.sid} is {segment.start:#x}-{segment.end:#x}"
    known = {segment.sid for segment in image.segments} | {0}
    for vid, regions in image.regions.items():
        yield from _check_regions(f"space {vid}", regions, image.page_size)
        for region in regions:
            if region.sid not in known:
                yield f"space {vid}: region {region.start:#x} is a window on segment {region.sid}, which is gone"
    for vid, birth in image.births.items():
        yield from _check_regions(f"the birth of space {vid}", birth.regions, image.page_size)


def _check_regions(whose: str, regions: Sequence[RegionRecord], page_size: int) -> Iterator[str]:
    end = 0
    for region in regions:
        if region.start < end or region.end <= region.start or (region.start | region.end) % page_size:
            yield f"{whose}: region {region.start:#x}-{region.end:#x} after {end:#x}"
        end = region.end


def _owned_objects(image: Image) -> list[int]:
    records: list[SpaceRecord | SegmentRecord] = [*image.spaces, *image.segments]
    return [object_id for record in records for object_id in objects_of(record)]


def _check_layers(image: Image, found: Recovered) -> Iterator[str]:
    """Something stands on every layer, and every page belongs to a layer, or to one that is being cleared away."""
    layers, dead = found.locations.layers, found.locations.dead
    standing = {layers.layer_of(object_id) for object_id in (*_owned_objects(image), *image.unowned)}
    needed = {below for layer in standing for below in layers.ancestry(layer)}
    held = {layer for layer, _, node in found.locations.walk() if node.any()}
    yield from (f"layer {layer} has pages, but no object" for layer in sorted(held - needed))
    yield from (
        f"layer {layer} stands on layer {parent}, but no object on it"
        for layer, parent in sorted(layers.parents.items())
        if layer not in needed
    )
    for object_id in _owned_objects(image):
        if not layers.layer_of(object_id):
            yield f"object {object_id} has an owner, but no layer"
    yield from (f"layer {layer} is gone, but has an object" for layer in sorted(needed & dead.keys()))
    known = {*layers.objects.values(), *layers.parents, *layers.parents.values(), *held, *dead}
    newest = max(known, default=0)
    if newest >= found.state.next_layer:
        yield f"layer {newest} exists, but the next one would be {found.state.next_layer}"
    counted: Counter[int] = Counter()
    for layer, _, node in found.locations.walk():
        counted[layer] += int(np.count_nonzero(node))
    for layer in sorted(held | {layer for layer, count in layers.entries.items() if count}):
        if counted[layer] != layers.entries.get(layer, 0):
            yield f"layer {layer} has {counted[layer]} entries, but counts {layers.entries.get(layer, 0)}"


def _check_log(tables: Tables, txn: Txn, found: Recovered) -> Iterator[str]:
    """Every slot is either live or dead, and every location in the maps is that of exactly one live slot."""
    maps: dict[tuple[int, int], U64] = {
        (layer, number): node for layer, number, node in found.locations.walk()
    }
    for layer, nodes in found.locations.dead.items():
        maps.update(((layer, number), node) for number, node in nodes.items())
    matched: Counter[tuple[int, int]] = Counter()
    for raw, value in txn.cursor(tables.log):
        key = bytes(raw)
        lsn, slots = decode_log_key(key)
        if not slots:
            continue
        try:
            chunk = Chunk(key, value)
        except RowDamaged:
            continue  # reported with the rows
        live = 0
        for slot, (layer, page) in enumerate(zip(chunk.layers.tolist(), chunk.pages.tolist(), strict=True)):
            node = maps.get((layer, page >> NODE_SHIFT))
            if node is not None and int(node[page & (NODE_PAGES - 1)]) == lsn << SLOT_BITS | slot:
                matched[layer, page >> NODE_SHIFT] += 1
                live += 1
        if live != found.live.live_slots(lsn):
            yield f"chunk {lsn} has {live} live pages but counts {found.live.live_slots(lsn)}"
    for (layer, number), node in maps.items():
        present = int(np.count_nonzero(node > SLOT_MASK))
        if present != matched[layer, number]:
            first = number << NODE_SHIFT
            yield (
                f"layer {layer}, pages {first} to {first + NODE_PAGES - 1}: "
                f"{present} have a location, {matched[layer, number]} are there"
            )
