"""Compaction: what is of no use is collected, and the rest copied to a new file that takes the place of the old one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.directory import DataDir
from storage.errors import StoreDamaged, StoreFailed, StoreFull
from storage.failpoints import failpoint, killpoint
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.opening import open_store
from storage.lmdb.rows import Row, build, rows_of
from storage.lmdb.tables import FULL_CODES, Tables, Txn, named_errors
from storage.upkeep.backup import Progress, no_progress
from storage.upkeep.fsck import check_store
from storage.upkeep.offline import instead_of_service, replaceable

COMPACTING: Final = "store.lmdb.compacting"
"""The new file, until it takes its place. Of no meaning, and removed by the next compaction."""
THOROUGH: Final = Tuning(obsolete_rows=1, slack_pages=0, tail_entries=1)
PASSES_MAX: Final = 1 << 20
"""Steps of housekeeping, at most."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """Bytes that the store file took on the disk, and takes now."""

    before: int
    after: int


def compact(data_dir: Path | str, progress: Progress = no_progress) -> Compacted:
    """Make the store file of `data_dir`, which no service owns, as small as its content. Needs room for a second one.

    Every row is checked on the way, and the new file as fsck does. Raises DataDirInUse, FormatUnreadable,
    StoreDamaged, StoreUnusable, StoreFull, StoreFailed; then the old file is in place, with the same content.
    """
    path = Path(data_dir)
    _collect(path)
    directory = DataDir.claim(path, create=False)
    try:
        with replaceable(directory):
            return rebuild(directory, progress)
    except OSError as error:
        kind = StoreFull if error.errno in FULL_CODES else StoreFailed
        raise kind(f"compacting {path} failed: {error.strerror}") from error
    finally:
        directory.release()


def _collect(path: Path) -> None:
    """Do all housekeeping that can be done."""
    store = open_store(path, None, tuning=THOROUGH)
    try:
        steps = 0
        while steps < PASSES_MAX and store.maintain():
            steps += 1
    except StoreFull:
        pass  # moving pages needs room; what is left as it is will be copied as it is
    finally:
        store.close()


def _told(tables: Tables, txn: Txn, progress: Progress) -> Iterator[Row]:
    """All rows of the store, each checked."""
    total = max(tables.used_pages(), 1) * tables.env.stat()["psize"]
    done = 0
    for row in rows_of(tables, txn):
        yield row
        done += len(row.value)
        progress(min(done, total), total)
    progress(total, total)


def rebuild(directory: DataDir, progress: Progress = no_progress) -> Compacted:
    """Copy all rows of a claimed directory's store to a new file and put that in its place. Raises as `compact`."""
    old, new = directory.store_file, directory.path / COMPACTING
    before = _on_disk(old)
    failpoint("compact.begin")
    new.unlink(missing_ok=True)
    try:
        with (
            instead_of_service(directory) as (tables, _),
            named_errors(f"reading {old}"),
            tables.read() as txn,
        ):
            build(new, _told(tables, txn, progress))
        failpoint("compact.built")
        for problem in check_store(new):
            raise StoreDamaged(f"{old} is damaged: {problem}")
        failpoint("compact.checked")
        after = _on_disk(new)
        new.replace(old)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    killpoint("compact.renamed")
    directory.sync()
    return Compacted(before, after)


def _on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512
