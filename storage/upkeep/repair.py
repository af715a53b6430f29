"""Repairing a store as far as that is provably safe: nothing that can be read, or might be needed, is ever given up.

What is repaired, and why it is safe:

- What an unfinished restore or compaction left: nothing ever refers to it.
- LMDB's list of free pages: it is of use to writers alone. All rows are copied to a new file, each checked.
- A damaged row that nothing needs: a chunk in which no page is current, a drop record that the nodes contain, a node
  of a layer that a sound drop record says is gone. Housekeeping would delete the same rows.
- Damaged slots in no use, in a chunk that has pages in use: those are put again, and the chunk is then deleted.
- A counter that lags behind an id that exists: it is raised, so that no id is given twice.

All else, a page in use that does not match its checksum above all, stays as it is and is reported: a backup has it.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import lmdb

from storage.directory import STORE_FILE, DataDir
from storage.errors import RowDamaged, StoreDamaged
from storage.failpoints import failpoint, killpoint
from storage.lmdb.catalog import read_image
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.opening import MAP_BYTES, open_environment, open_store, open_tables
from storage.lmdb.recovery import Recovered, recover
from storage.lmdb.rows import check_row
from storage.lmdb.tables import Tables, Txn, named_errors, page_problems
from storage.rows.chunks import Chunk, decode_drops, decode_log_key
from storage.rows.format import STATE_KEY, Superblock
from storage.rows.nodes import decode_node_key
from storage.upkeep.checking import owned_objects
from storage.upkeep.compaction import COMPACTING, rebuild
from storage.upkeep.fsck import NODES_MAX, newest_layer
from storage.upkeep.offline import replaceable
from storage.upkeep.restoring import RESTORING

FREE_LIST: Final = re.compile(r"freeDB\b|\d+ page\(s\) are (both|neither)")
"""How LMDB's verifier begins to tell of what concerns its list of free pages alone."""


def repair(path: Path | str) -> Iterator[str]:
    """Repair the stopped data directory `path`; a line for each thing that was done, none when there was nothing to do.

    What is still wrong, `check_dir` tells. Raises DataDirInUse, FormatUnreadable, StoreUnusable, StoreFull, StoreFailed.
    """
    found = _Repairs()
    directory = DataDir.claim(Path(path), create=False)
    try:
        with replaceable(directory):
            failpoint("repair.begin")
            yield from _remove_leftovers(directory)
            problems = page_problems(directory.store_file)
            if problems and all(FREE_LIST.match(problem) for problem in problems):
                rebuild(directory)
                yield "the list of free pages was wrong: all rows were copied to a new file"
            elif problems:
                return
            _repair_rows(directory.store_file, found)
    except (StoreDamaged, lmdb.Error):
        pass  # no more can be proved; the check says what is wrong
    finally:
        directory.release()
    yield from found.done
    if found.mixed:
        yield from _put_again(directory.path, found.mixed)


def _remove_leftovers(directory: DataDir) -> Iterator[str]:
    restoring = directory.path / RESTORING
    if restoring.is_dir():
        shutil.rmtree(restoring)
        yield "what an unfinished restore had left was removed"
    for name, whose in ((COMPACTING, "compaction"), (Path(STORE_FILE).stem + ".new", "start")):
        leftover = directory.path / name
        if leftover.is_file():
            leftover.unlink()
            yield f"what an unfinished {whose} had left was removed"


@dataclass(slots=True)
class _Repairs:
    """What was done, and chunks with damaged slots in no use beside others in use."""

    done: list[str] = field(default_factory=list)
    mixed: list[int] = field(default_factory=list)


def _repair_rows(path: Path, found: _Repairs) -> None:
    """Delete damaged rows that nothing needs, then raise counters. Raises StoreDamaged when no more can be proved."""
    env = open_environment(path, MAP_BYTES)
    try:
        tables, superblock = open_tables(env, path)
        with named_errors("repairing"), tables.write() as txn:
            done = list(_delete_nodes_of_gone_layers(tables, txn))
            failpoint("repair.staged")
        found.done += done
        recovered = recover(tables, superblock.page_size, NODES_MAX)
        with named_errors("repairing"), tables.write() as txn:
            done = list(_delete_obsolete_log(tables, txn, recovered, found.mixed))
            done += _raise_counters(tables, txn, superblock, recovered)
            failpoint("repair.staged")
        found.done += done
        killpoint("repair.synced")
    finally:
        env.close()


def _delete_nodes_of_gone_layers(tables: Tables, txn: Txn) -> Iterator[str]:
    damaged: list[bytes] = []
    for key, value in txn.cursor(tables.nodes):
        try:
            check_row("nodes", bytes(key), value)
        except RowDamaged:
            damaged.append(bytes(key))
    gone = _gone_layers(tables, txn) if damaged else set()
    for row in damaged:
        layer, number = decode_node_key(row)
        if layer in gone:
            txn.delete(row, db=tables.nodes)
            yield f"node {number} of layer {layer}, which is gone, was damaged and is deleted"


def _gone_layers(tables: Tables, txn: Txn) -> set[int]:
    """Layers that a sound drop record says are gone."""
    gone: set[int] = set()
    for key, value in txn.cursor(tables.log):
        if not decode_log_key(key)[1]:
            try:
                gone.update(drop.layer for drop in decode_drops(bytes(key), value) if drop.is_whole)
            except RowDamaged:
                continue
    return gone


def _delete_obsolete_log(tables: Tables, txn: Txn, recovered: Recovered, mixed: list[int]) -> Iterator[str]:
    """Rows of the log that the page maps prove to be of no use; adds chunks that are of some use to `mixed`."""
    for key, has_header in list(_damaged_log(tables, txn)):
        lsn, slots = decode_log_key(key)
        if not slots and lsn <= recovered.state.checkpoint:
            txn.delete(key, db=tables.log)
            yield f"drop record {lsn}, which the page maps contain, was damaged and is deleted"
        elif slots and not recovered.live.live_slots(lsn):
            txn.delete(key, db=tables.log)
            yield f"chunk {lsn}, in which no page is in use, was damaged and is deleted"
        elif has_header:
            mixed.append(lsn)


def _raise_counters(tables: Tables, txn: Txn, superblock: Superblock, recovered: Recovered) -> Iterator[str]:
    state = recovered.state
    image = read_image(tables, txn, superblock, state)
    objects = (*owned_objects(image), *image.unowned)
    raised = replace(
        state,
        next_vid=max([state.next_vid, *(space.vid + 1 for space in image.spaces)]),
        next_sid=max([state.next_sid, *(segment.sid + 1 for segment in image.segments)]),
        next_object=max([state.next_object, *(number + 1 for number in objects)]),
        next_layer=max(state.next_layer, newest_layer(recovered) + 1),
    )
    if raised != state:
        txn.put(STATE_KEY, raised.encode(), db=tables.meta)
        yield "counters lagged behind ids that exist and were raised"


def _damaged_log(tables: Tables, txn: Txn) -> Iterator[tuple[bytes, bool]]:
    """Keys of the log's damaged rows, and whether the row is a chunk of which at least the header is sound."""
    for raw, value in txn.cursor(tables.log):
        key = bytes(raw)
        try:
            check_row("log", key, value)
        except RowDamaged:
            yield key, _has_header(key, value)


def _has_header(key: bytes, value: memoryview) -> bool:
    try:
        Chunk(key, value)
    except RowDamaged:
        return False
    return True


def _put_again(path: Path, lsns: list[int]) -> Iterator[str]:
    """Empty chunks of their pages in use, where those are sound, so that the chunks can be deleted."""
    store = open_store(path, None, tuning=Tuning(obsolete_rows=1))
    try:
        store.rewrite(lsns)
        while store.maintain():
            pass
        emptied = [lsn for lsn in lsns if not store.has_chunk(lsn)]
    finally:
        store.close()
    yield from (f"chunk {lsn} was damaged where it is in no use: its pages were put again" for lsn in emptied)
