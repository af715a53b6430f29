"""The LMDB environment and its tables as transactions see them, and how LMDB's errors are named."""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, TypeAlias

import lmdb
from lmdb import verify

from storage.errors import RowDamaged, StoreError, StoreFailed, StoreFull
from storage.rows.chunks import LOG_KEY, Chunk
from storage.rows.format import TABLES, U64
from storage.rows.nodes import NODE_KEY, decode_node
from storage.rows.records import ID_KEY

Txn: TypeAlias = "lmdb.Transaction[memoryview]"

FULL_CODES: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
EXCHANGE_S: Final = 10.0
"""A reader that met a failed environment waits so long, at most, for it to be exchanged."""


class Readers:
    """Threads that read. Whoever wants to exchange the environment waits until there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reading = 0
        self._stopped = False
        self._exchanges = 0

    def enter(self) -> int:
        """Begin to read; waits while the environment is exchanged. How often it has been by now."""
        with self._changed:
            while self._stopped:
                self._changed.wait()
            self._reading += 1
            return self._exchanges

    def leave(self) -> None:
        """End what `enter` began."""
        with self._changed:
            self._reading -= 1
            if self._stopped and not self._reading:
                self._changed.notify_all()

    def await_exchange(self, exchanges: int) -> bool:
        """Wait until the environment was exchanged more often than that; False if it is not in `EXCHANGE_S`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._exchanges > exchanges, EXCHANGE_S)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nobody reads inside the block. One thread at a time, which must not read itself."""
        with self._changed:
            self._stopped = True
            while self._reading:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._stopped = False
                self._exchanges += 1
                self._changed.notify_all()


@dataclass(slots=True)
class Tables:
    """The environment and its named databases. `reopen` exchanges them all: keep none of them elsewhere."""

    path: Path
    """Of the store file, which stays the same."""
    env: lmdb.Environment
    meta: lmdb._Database
    spaces: lmdb._Database
    segments: lmdb._Database
    regions: lmdb._Database
    births: lmdb._Database
    roots: lmdb._Database
    receipts: lmdb._Database
    objects: lmdb._Database
    layers: lmdb._Database
    nodes: lmdb._Database
    log: lmdb._Database
    readers: Readers = field(default_factory=Readers, init=False)

    @staticmethod
    def open(env: lmdb.Environment, txn: "Txn | None" = None) -> "Tables":
        """Open the tables; within the write transaction `txn` they are made when they are missing."""
        path = Path(env.path())
        return Tables(
            path, env, *(env.open_db(name.encode(), txn, create=txn is not None) for name in TABLES)
        )

    def reopen(self, opening: Callable[[], lmdb.Environment]) -> None:
        """Close the environment and take the one that `opening` makes, between two reads.

        Raises what `opening` raises; then every read and write fails until this is called again. Not within a read.
        """
        with self.readers.stopped():
            self.env.close()
            opened = Tables.open(opening())
            self.env = opened.env
            for name in TABLES:
                setattr(self, name, getattr(opened, name))

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A read transaction. Keep it short, for it holds on to every page freed meanwhile, and begin no other in it."""
        with self._begin() as txn:
            try:
                yield txn
            finally:
                txn.abort()
                self.readers.leave()

    def _begin(self) -> Txn:
        """As a reader. A commit whose end failed leaves LMDB unusable until the committing thread has reopened it."""
        while True:
            exchanges = self.readers.enter()
            try:
                return self.env.begin(buffers=True)
            except BaseException as error:
                self.readers.leave()
                if not isinstance(error, lmdb.PanicError) or not self.readers.await_exchange(exchanges):
                    raise

    def write(self) -> Txn:
        """Begin the write transaction. It is bound to the calling thread."""
        return self.env.begin(write=True, buffers=True)

    def used_pages(self) -> int:
        """LMDB pages that the tables occupy."""
        with self.read() as txn:
            stats = [txn.stat(), *(txn.stat(getattr(self, name)) for name in TABLES)]
        return sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)


@dataclass(frozen=True, slots=True)
class NodeTable:
    """`storage.lmdb.locations.NodeRows` of a transaction."""

    tables: Tables
    txn: Txn

    def read(self, layer: int, number: int) -> U64 | None:
        """See `NodeRows.read`. Raises StoreFailed when the row is damaged."""
        key = NODE_KEY.pack(layer, number)
        value = self.txn.get(key, db=self.tables.nodes)
        return None if value is None else checked_node(key, value)

    def numbers(self, layer: int, first: int, last: int) -> list[int]:
        """See `NodeRows.numbers`."""
        return list(takewhile(lambda number: number <= last, self.from_number(layer, first)))

    def from_number(self, layer: int, first: int) -> Iterator[int]:
        """Numbers of the layer's rows from `first` on, ascending."""
        return (NODE_KEY.unpack(key)[1] for key in self._keys(layer, first))

    def any(self, layer: int) -> bool:
        """See `NodeRows.any`."""
        return next(self._keys(layer, 0), None) is not None

    def rows(self, layer: int, count: int) -> dict[int, bytes]:
        """The first `count` rows of the layer, undecoded, by number."""
        keys = list(islice(self._keys(layer, 0), count))
        return {
            NODE_KEY.unpack(key)[1]: bytes(self.txn.get(key, b"", db=self.tables.nodes))
            for key in map(bytes, keys)
        }

    def _keys(self, layer: int, first: int) -> Iterator[memoryview]:
        """Keys of the layer's rows from `first` on."""
        prefix = ID_KEY.pack(layer)
        with self.txn.cursor(self.tables.nodes) as cursor:
            if cursor.set_range(NODE_KEY.pack(layer, first)):
                for key in cursor.iternext(values=False):
                    if key[: len(prefix)] != prefix:
                        return
                    yield key


def checked_node(key: bytes, value: memoryview) -> U64:
    """A node's locations. Raises StoreFailed when the row is damaged."""
    try:
        return decode_node(key, value)
    except RowDamaged as damage:
        layer, number = NODE_KEY.unpack(key)
        raise StoreFailed(f"the page map of layer {layer}, node {number}, is damaged: {damage}") from damage


def find_chunk(tables: Tables, txn: Txn, lsn: int) -> Chunk | None:
    """The chunk with this log sequence number, or None. Raises RowDamaged."""
    with txn.cursor(tables.log) as cursor:
        if not cursor.set_range(LOG_KEY.pack(lsn, 0)):
            return None
        key = bytes(cursor.key())
        return Chunk(key, cursor.value()) if LOG_KEY.unpack(key)[0] == lsn else None


def page_problems(path: Path) -> list[str]:
    """What is wrong with the LMDB file as such: broken trees, and pages that are not either reachable or free.

    Reads the file without LMDB, so that no damage can hurt this process.
    """
    try:
        problems: list[str] = verify.verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        return [str(error)]
    return problems


def name_error(error: lmdb.Error, action: str, lacks_room: Callable[[], bool] | None = None) -> StoreError:
    """The store's error for one of LMDB's.

    LMDB reports a write that was cut short as EIO; `lacks_room` then tells whether the disk is full.
    """
    full = isinstance(error, lmdb.MapFullError) or error.code in FULL_CODES
    if full or (error.code == errno.EIO and lacks_room is not None and lacks_room()):
        return StoreFull(f"no space left: {action}")
    return StoreFailed(f"{action} failed: {error}")


@contextmanager
def named_errors(action: str, lacks_room: Callable[[], bool] | None = None) -> Iterator[None]:
    """Turn LMDB's errors into StoreFull and StoreFailed, as `name_error` does."""
    try:
        yield
    except lmdb.Error as error:
        raise name_error(error, action, lacks_room) from error
