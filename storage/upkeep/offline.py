"""Working on a data directory beside the service or instead of it: who may read its store file, who may replace it.

Whoever reads the store from another process holds a shared lock of the store file (flock(2)) for as long as it has
LMDB open; whoever puts another file in its place takes that lock alone, beside the lock of the directory.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from storage.directory import STORE_FILE, DataDir
from storage.errors import DataDirInUse, StoreUnusable
from storage.lmdb.measuring import measured
from storage.lmdb.opening import MAP_BYTES, open_environment, open_tables
from storage.lmdb.recovery import recover
from storage.lmdb.tables import Tables, named_errors
from storage.rows.format import Superblock
from storage.statistics import Statistics


@contextlib.contextmanager
def beside_service(data_dir: Path) -> Iterator[tuple[Tables, Superblock]]:
    """The store of a data directory that a service may own, to be read in short transactions.

    Raises FormatUnreadable, StoreDamaged, StoreUnusable.
    """
    path = data_dir / STORE_FILE
    DataDir.settle(data_dir)
    if not path.is_file():
        raise StoreUnusable(f"{data_dir} is not a data directory: it has no {STORE_FILE}")
    held = _hold(path)
    try:
        env = open_environment(path, MAP_BYTES, readonly=True, shared=True)
        try:
            env.reader_check()
            yield open_tables(env, path)
        finally:
            env.close()
    finally:
        os.close(held)


def _hold(path: Path) -> int:
    """A descriptor with the shared lock of the file that is at `path` now."""
    while True:
        held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_SH)
        if os.fstat(held).st_ino == path.stat().st_ino:
            return held
        os.close(held)


@contextlib.contextmanager
def replaceable(directory: DataDir) -> Iterator[None]:
    """Nobody reads the store of a claimed directory inside the block. Raises DataDirInUse."""
    if not directory.store_file.is_file():
        yield
        return
    held = os.open(directory.store_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirInUse(f"{directory.path} is being read, by a backup perhaps") from None
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def instead_of_service(directory: DataDir) -> Iterator[tuple[Tables, Superblock]]:
    """The store of a claimed directory, to be read. Raises FormatUnreadable, StoreDamaged, StoreUnusable."""
    env = open_environment(directory.store_file, MAP_BYTES, readonly=True)
    try:
        yield open_tables(env, directory.store_file)
    finally:
        env.close()


def statistics_of(data_dir: Path | str) -> Statistics:
    """The statistics of a data directory, whether a service owns it or not. Reads the page maps and the log's keys.

    Raises FormatUnreadable, StoreDamaged, StoreUnusable.
    """
    with beside_service(Path(data_dir)) as (tables, superblock), named_errors("reading statistics"):
        found = recover(tables, superblock.page_size, 1)
        return measured(
            tables,
            found.locations.layers,
            found.live,
            tail_entries=found.tail_entries,
            last_lsn=found.last_lsn,
        )
