"""Restoring a backup: all of it is verified before anything is made, and checked once more before anything is replaced."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.directory import (
    ACCOUNTS_FILE,
    LOCK_FILE,
    RESTORED,
    STORE_FILE,
    DataDir,
    sync_names,
    unusable,
)
from storage.errors import BackupDamaged, StoreDamaged, StoreFailed, StoreFull, StoreUnusable
from storage.failpoints import failpoint, killpoint
from storage.lmdb.rows import Row, build, checked
from storage.lmdb.tables import FULL_CODES
from storage.upkeep.archive import ACCOUNTS, KEY_BYTES, ROLL, ROWS, ArchiveReader, Totals
from storage.upkeep.backup import Progress, no_progress
from storage.upkeep.fsck import check_store
from storage.upkeep.offline import replaceable
from storage.upkeep.sqlite_file import check_database

RESTORING: Final = "restoring"
"""In the data directory: what is being restored. Of no meaning, and removed by the next restore."""


def verify(source: Path | str, progress: Progress = no_progress) -> Totals:
    """Read a whole backup and check every byte and every row of it. Raises BackupDamaged, StoreFailed."""
    totals, _ = _verify(Path(source), progress)
    return totals


def restore(
    source: Path | str, data_dir: Path | str, *, force: bool = False, progress: Progress = no_progress
) -> Totals:
    """Make the data directory `data_dir` what the backup `source` holds; `force` allows that it holds something.

    The backup is verified first, and the store made of it checked as fsck does, before anything is replaced; then all
    of it is replaced at once. root.token stays as it is, and so do the accounts when the backup has none. Raises
    BackupDamaged, DataDirInUse, StoreUnusable, StoreFull, StoreFailed; then everything is as it was.
    """
    source, path = Path(source), Path(data_dir)
    made = not path.exists()
    _require_free(path, force=force)
    totals, roll = _verify(source, lambda done, total: progress(done, 2 * total))
    directory = DataDir.claim(path, create=True)
    try:
        with replaceable(directory):
            _require_free(path, force=force)
            try:
                _stage(source, directory, roll, lambda done, total: progress(total + done, 2 * total))
            except BaseException:
                for name in (RESTORING, RESTORED):
                    shutil.rmtree(path / name, ignore_errors=True)
                if made:
                    shutil.rmtree(path)
                raise
            killpoint("restore.committed")
            directory.take_restored()
    except OSError as error:
        raise _failed(f"restoring {path}", error) from error
    finally:
        directory.release()
    return totals


def _failed(action: str, error: OSError) -> StoreFull | StoreFailed:
    kind = StoreFull if error.errno in FULL_CODES else StoreFailed
    return kind(f"{action} failed: {error.strerror}")


def _require_free(path: Path, *, force: bool) -> None:
    """There is nothing, or it may be replaced. Raises StoreUnusable."""
    if force or not path.is_dir():
        return
    try:
        found = sorted(entry.name for entry in path.iterdir() if entry.name not in (LOCK_FILE, RESTORING))
    except OSError as error:
        raise unusable(path, error) from error
    if found:
        raise StoreUnusable(f"{path} is not empty, it has {found[0]}: --force replaces what is there")


def _verify(source: Path, progress: Progress) -> tuple[Totals, frozenset[bytes]]:
    """How much there is, and the roll."""
    try:
        with source.open("rb") as file:
            reader, roll, log = ArchiveReader(file, str(source)), set[bytes](), set[bytes]()
            size = os.fstat(file.fileno()).st_size
            for kind, body in reader.blocks():
                if kind == ROLL:
                    roll.update(body[at : at + KEY_BYTES] for at in range(0, len(body), KEY_BYTES))
                elif kind == ROWS:
                    log.update(row.key for row in map(_checked, reader.rows(body)) if row.table == "log")
                progress(file.tell(), size)
    except OSError as error:
        raise StoreFailed(f"reading {source} failed: {error.strerror}") from error
    if not roll <= log:
        raise BackupDamaged(f"{source} is damaged: row {min(roll - log).hex()} of the log is missing")
    return reader.totals, frozenset(roll)


def _checked(row: Row) -> Row:
    try:
        return checked(row)
    except StoreDamaged as damage:
        raise BackupDamaged(f"the backup is damaged: {damage}") from damage


def _stage(source: Path, directory: DataDir, roll: frozenset[bytes], progress: Progress) -> None:
    """Make the files, check them, and commit to them by one change of a name."""
    staged = directory.path / RESTORING
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700)
    failpoint("restore.begin")
    accounts = staged / ACCOUNTS_FILE
    with source.open("rb") as file:
        build(staged / STORE_FILE, _rows(ArchiveReader(file, str(source)), roll, accounts, progress))
    failpoint("restore.built")
    for problem in check_store(staged / STORE_FILE):
        raise BackupDamaged(f"{source} holds a store that is not sound: {problem}")
    if accounts.exists():
        check_database(accounts, accounts)
        with accounts.open("rb") as written:
            os.fsync(written.fileno())
    sync_names(staged)
    failpoint("restore.synced")
    staged.rename(directory.path / RESTORED)
    directory.sync()


def _rows(reader: ArchiveReader, roll: frozenset[bytes], accounts: Path, progress: Progress) -> Iterator[Row]:
    """The rows that belong to the backup; its accounts go to the file `accounts` on the way."""
    size = os.fstat(reader.file.fileno()).st_size
    for kind, body in reader.blocks():
        if kind == ROWS:
            yield from (row for row in reader.rows(body) if row.table != "log" or row.key in roll)
        elif kind == ACCOUNTS:
            opened = os.open(accounts, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(opened, "wb") as file:
                file.write(body)
        progress(reader.file.tell(), size)
