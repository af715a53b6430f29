"""Backups, taken while writes go on: one file that holds the store as one moment had it, and the accounts.

The log is most of a store, and its rows never change. So it is copied first, in short transactions, up to where it
ends by then; one last transaction then adds the rest of the log, all other tables, and the roll: which rows of the log
there are in that transaction. What the roll does not name, because it died meanwhile, does not count. So a backup is
what one transaction saw, and yet keeps the service from using freed pages again for a moment only.
"""

import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.directory import ACCOUNTS_FILE, sync_names
from storage.errors import StoreFailed, StoreFull, StoreUnusable
from storage.failpoints import failpoint, killpoint
from storage.lmdb.rows import Row, checked, rows_of
from storage.lmdb.tables import FULL_CODES, Tables, Txn, named_errors
from storage.rows.format import TABLES
from storage.upkeep.archive import MAGIC, ArchiveWriter, Totals
from storage.upkeep.offline import beside_service
from storage.upkeep.sqlite_file import copy_database

STEP_ROWS: Final = 32
"""Rows of the log that one short transaction reads: about 8 MiB."""
PART_BYTES: Final = 1 << 20
Progress = Callable[[int, int], None]
"""Told how many bytes are done, and of how many about."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def back_up(data_dir: Path | str, target: Path | str, progress: Progress = no_progress) -> Totals:
    """Write a backup of `data_dir`, which a service may be using, to the file `target`, mode 0600, as a whole.

    A backup of that name is replaced, anything else is not. root.token is not in it. Raises FormatUnreadable,
    StoreDamaged when anything does not match its checksum, StoreUnusable, StoreFull, StoreFailed; then `target` is as
    it was.
    """
    with beside_service(Path(data_dir)) as (tables, _):
        return back_up_store(tables, Path(data_dir), Path(target), progress)


def back_up_store(tables: Tables, data_dir: Path, target: Path, progress: Progress = no_progress) -> Totals:
    """`back_up` of a store that is open: in the service's own process, LMDB must not be opened once more."""
    with appearing(target) as write, named_errors("reading the store for a backup"):
        failpoint("backup.begin")
        writer = ArchiveWriter(write)
        _copy_store(tables, writer, progress)
        _copy_accounts(data_dir / ACCOUNTS_FILE, target, writer)
        writer.end()
        failpoint("backup.written")
    killpoint("backup.renamed")
    return writer.totals


def _copy_store(tables: Tables, writer: ArchiveWriter, progress: Progress) -> None:
    with tables.read() as txn:
        stat = txn.stat(tables.log)
    total = max(tables.used_pages(), 1) * stat["psize"]
    done, last = 0, b""
    # What is written meanwhile is followed as far again as there was at first; the last transaction takes the rest.
    while done < 2 * total:
        with tables.read() as txn:
            rows = list(itertools.islice(_log_behind(tables, txn, last), STEP_ROWS))
        if len(rows) < STEP_ROWS:
            break
        for row in rows:
            writer.row(checked(row))
            done += len(row.value)
        last = rows[-1].key
        progress(min(done, total), total)
    failpoint("backup.log_copied")
    with tables.read() as txn:
        for row in _log_behind(tables, txn, last):
            writer.row(checked(row))
        for row in rows_of(tables, txn, [name for name in TABLES if name != "log"]):
            writer.row(row)
        writer.flush()
        writer.roll(bytes(key) for key in txn.cursor(tables.log).iternext(values=False))
        failpoint("backup.rows_copied")
    progress(total, total)


def _log_behind(tables: Tables, txn: Txn, last: bytes) -> Iterator[Row]:
    """Rows of the log whose keys are greater than `last`."""
    with txn.cursor(tables.log) as cursor:
        if cursor.set_range(last + b"\0"):
            for key, value in cursor:
                yield Row("log", bytes(key), bytes(value))


# --- accounts


def _copy_accounts(source: Path, target: Path, writer: ArchiveWriter) -> None:
    """Add the accounts as one moment has them, if they are kept in the data directory."""
    if not source.is_file():
        return
    copy = target.with_name(f"{target.name}.partial-accounts")
    try:
        copy_database(source, copy)
        with copy.open("rb") as file:
            while part := file.read(PART_BYTES):
                writer.accounts(part)
    finally:
        copy.unlink(missing_ok=True)


# --- the file


@contextmanager
def appearing(target: Path) -> Iterator[Callable[[bytes], None]]:
    """Writes a file that takes the name `target` when the block ends well, on stable storage, or leaves no trace.

    Raises StoreUnusable when the name cannot be taken, StoreFull and StoreFailed.
    """
    _require_replaceable(target)
    partial = target.with_name(f"{target.name}.partial")
    try:
        opened = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{target} cannot be written: {error.strerror}") from error
    try:
        _claim_partial(opened, partial, target)
        try:
            os.ftruncate(opened, 0)
            yield lambda data: _write(opened, data)
            os.fsync(opened)
            partial.replace(target)
            sync_names(target.absolute().parent)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                kind = StoreFull if error.errno in FULL_CODES else StoreFailed
                raise kind(f"writing {target} failed: {error.strerror}") from error
            raise
    finally:
        os.close(opened)


def _claim_partial(opened: int, partial: Path, target: Path) -> None:
    """Nobody else writes the file, and it still has its name. Raises StoreUnusable."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        claimed = partial.exists() and os.fstat(opened).st_ino == partial.stat().st_ino
    except BlockingIOError:
        claimed = False
    if not claimed:
        raise StoreUnusable(f"another backup is being written to {target}")


def _write(opened: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(opened, left) :]


def _require_replaceable(target: Path) -> None:
    try:
        with target.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnusable(f"{target} cannot be written: {error.strerror}") from error
    raise StoreUnusable(f"{target} exists and is not a backup")
