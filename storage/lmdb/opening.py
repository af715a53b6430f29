"""Opening a data directory: lock, environment, superblock, recovery."""

import errno
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import lmdb

from engine.geometry import Geometry
from storage.directory import DataDir
from storage.errors import (
    FormatUnreadable,
    RowDamaged,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnusable,
)
from storage.failpoints import failpoint, killpoint
from storage.lmdb.headroom import Headroom
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.recovery import recover
from storage.lmdb.store import LmdbStore
from storage.lmdb.tables import Tables, name_error, page_problems
from storage.rows.format import (
    MAGIC,
    STATE_KEY,
    SUPERBLOCK_HEAD,
    SUPERBLOCK_KEY,
    TABLES,
    VERSION,
    State,
    Superblock,
)

MAP_BYTES: Final = 1 << 40
"""Greatest size of the store file, 1 TiB. Only address space is reserved for it; it is never resized."""
READERS_MAX: Final = 1024
_READ_ONLY: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def open_store(
    data_dir: Path | str,
    geometry: Geometry | None,
    *,
    map_bytes: int = MAP_BYTES,
    tuning: Tuning | None = None,
    make: bool = True,
) -> LmdbStore:
    """Open the store in `data_dir`, made when missing unless `make` is false. The caller owns the directory until `close`.

    Without a `geometry` the store must be there, and may be of any.
    Raises DataDirInUse; FormatUnreadable for another format, version, architecture or page size; StoreDamaged;
    StoreUnusable for whatever else keeps it from being opened; StoreFull.
    """
    tuning = tuning or Tuning()
    directory = DataDir.claim(Path(data_dir), create=geometry is not None)
    env: lmdb.Environment | None = None
    try:
        new = Superblock(geometry.name, geometry.page_size) if geometry is not None else None
        if new is not None and _is_absent(directory.store_file):
            if not make:
                raise StoreUnusable(
                    f"{directory.path} was in use, but its store is gone: restore a backup, or begin with an empty directory"
                )
            _make(directory, new, map_bytes)
        env = open_environment(directory.store_file, map_bytes)
        env.reader_check()
        if new is not None and _is_empty(env):
            _create(env, new)  # what an early release left when it was cut short
        tables, superblock = open_tables(env, directory.store_file)
        if new is not None and new != superblock:
            raise _of_another_geometry(directory.path, superblock, new)
        found = recover(tables, superblock.page_size, tuning.nodes_max)
        headroom = Headroom(directory.store_file, tables)
        try:
            opening = partial(open_environment, directory.store_file, map_bytes)
            return LmdbStore(tables, superblock, found, headroom, opening, directory.release, tuning)
        except StoreError as error:
            headroom.close()
            raise StoreDamaged(f"{directory.store_file} is damaged: {error}") from error
    except BaseException as error:
        if env is not None:
            env.close()
        directory.release()
        if isinstance(error, lmdb.Error):
            raise _unusable(directory.store_file, error) from error
        if isinstance(error, OSError):
            raise StoreUnusable(f"{directory.store_file} cannot be opened: {error.strerror}") from error
        raise


def _make(directory: DataDir, superblock: Superblock, map_bytes: int) -> None:
    """A new store, whole and durable before it gets its name; else nothing. Raises StoreUnusable and StoreFull."""
    new = directory.store_file.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        env = open_environment(new, map_bytes, shared=False)
        try:
            _create(env, superblock)
        finally:
            env.close()
        new.replace(directory.store_file)
        directory.sync()
    except BaseException as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreUnusable(f"{directory.store_file} cannot be made: {error.strerror}") from error
        raise
    killpoint("create.synced")


def open_environment(
    path: Path, map_bytes: int, *, readonly: bool = False, shared: bool | None = None
) -> lmdb.Environment:
    """Open the LMDB file, made when missing unless `readonly`. Raises StoreUnusable and its kinds.

    Only where it is `shared` with other processes, LMDB's own locks are taken: by default unless it is `readonly`,
    since the directory's lock keeps others away.
    """
    try:
        env = lmdb.open(
            str(path),
            map_size=map_bytes,
            subdir=False,
            mode=0o600,
            max_readers=READERS_MAX,
            max_dbs=len(TABLES),
            max_spare_txns=8,
            readonly=readonly,
            create=not readonly,
            lock=not readonly if shared is None else shared,
        )
    except lmdb.Error as error:
        raise _unusable(path, error) from error
    try:
        _require_whole(path, env)
    except StoreError:
        env.close()
        raise
    return env


def open_tables(env: lmdb.Environment, path: Path) -> tuple[Tables, Superblock]:
    """The tables and the superblock of the environment in `path`. Raises FormatUnreadable and StoreDamaged."""
    superblock = read_superblock(path, superblock_value(path, env))
    try:
        return Tables.open(env), superblock
    except lmdb.NotFoundError:
        raise StoreDamaged(f"{path} is damaged: a table is missing") from None


def _is_absent(path: Path) -> bool:
    """A store gets its name when it is whole; a file without a byte is what is left of one."""
    return not path.exists() or not path.stat().st_size


def _is_empty(env: lmdb.Environment) -> bool:
    with env.begin() as txn:
        return not txn.stat()["entries"]


def superblock_value(path: Path, env: lmdb.Environment) -> bytes | None:
    """The row of the superblock, of whatever version. Raises FormatUnreadable."""
    try:
        meta = env.open_db(b"meta", create=False)
    except lmdb.NotFoundError:
        raise FormatUnreadable(f"{path} is an LMDB file, but not of Everspace") from None
    with env.begin() as txn:
        return txn.get(SUPERBLOCK_KEY, db=meta)


def _create(env: lmdb.Environment, superblock: Superblock) -> None:
    failpoint("create.begin")
    with env.begin(write=True, buffers=True) as txn:
        tables = Tables.open(env, txn)
        txn.put(SUPERBLOCK_KEY, superblock.encode(), db=tables.meta)
        txn.put(STATE_KEY, State().encode(), db=tables.meta)
        failpoint("create.before_sync")


def read_superblock(path: Path, value: bytes | None) -> Superblock:
    """Raises FormatUnreadable and StoreDamaged."""
    if value is None or len(value) < SUPERBLOCK_HEAD.size:
        raise StoreDamaged(f"{path} is damaged: it has no superblock")
    magic, version = SUPERBLOCK_HEAD.unpack_from(value)
    if magic != MAGIC:
        raise StoreDamaged(f"{path} is damaged: its superblock starts with {magic!r}")
    if version != VERSION:
        if version > VERSION:
            raise FormatUnreadable(
                f"{path} has format version {version}, newer than version {VERSION} of this release"
            )
        raise FormatUnreadable(
            f"{path} has format version {version}: bring it to version {VERSION} with "
            f"'everspaced migrate {path.parent}'"
        )
    try:
        return Superblock.decode(value)
    except RowDamaged as damage:
        raise StoreDamaged(f"{path} is damaged: superblock: {damage}") from damage


def _of_another_geometry(path: Path, found: Superblock, wanted: Superblock) -> FormatUnreadable:
    return FormatUnreadable(
        f"{path} holds {found.arch} with pages of {found.page_size} bytes, "
        f"not {wanted.arch} with pages of {wanted.page_size}"
    )


def _require_whole(path: Path, env: lmdb.Environment) -> None:
    """Refuse a file that was cut: reading behind its end would kill the process."""
    if path.stat().st_size >= (env.info()["last_pgno"] + 1) * env.stat()["psize"]:
        return
    # Free pages at the end may never have been written; only a walk can tell.
    problems = page_problems(path)
    if problems:
        raise StoreDamaged(f"{path} is damaged: it is shorter than it says: {problems[0]}")


def _unusable(path: Path, error: lmdb.Error) -> StoreError:
    if isinstance(error, lmdb.VersionMismatchError):
        return FormatUnreadable(f"{path} was written by another version of LMDB")
    if isinstance(error, lmdb.InvalidError):
        return FormatUnreadable(f"{path} is not an LMDB file")
    if isinstance(error, lmdb.ReadonlyError) or error.code in _READ_ONLY:
        return StoreUnusable(f"{path} cannot be written")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
        return StoreDamaged(f"{path} is damaged: {error}")
    named = name_error(error, f"{path} cannot be opened")
    return named if isinstance(named, StoreFull) else StoreUnusable(f"{path} cannot be opened: {error}")
