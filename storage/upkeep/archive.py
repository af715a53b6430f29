"""The backup file: a header, blocks of rows and of the accounts' database, and an end. docs/format.md has the tables.

Each block ends with the checksum of the one before it and of all its own bytes, so that no byte can change, no block
be left out or come from elsewhere, and nothing follow the end unnoticed. The file is written and read front to back.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from xxhash import xxh3_128_digest

from storage.errors import BackupDamaged
from storage.lmdb.rows import Row
from storage.rows.format import TABLES, VERSION

# --- header: 0 magic 8 | 8 version u16 | 10 version of the store u16 | 12 zero u32 | 16 checksum 16

MAGIC: Final = b"EVRSBKUP"
ARCHIVE_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sHHI")
_SUM_BYTES: Final = 16
HEADER_BYTES: Final = _HEADER.size + _SUM_BYTES

# --- block: 0 kind u8 | 1 zero 3 | 4 bytes of the body u32 | 8 number u64 | 16 body | then checksum 16

_BLOCK: Final = struct.Struct("<B3xIQ")
ROWS: Final = 1
"""Rows, each: table u8, zero u8, bytes of the key u16, bytes of the value u32, key, value."""
ROLL: Final = 2
"""Keys of the log, 9 bytes each, ascending: those of the rows that belong to the backup."""
ACCOUNTS: Final = 3
"""The next part of the accounts' database."""
END: Final = 4
"""Nothing follows. How much there was: rows u64, keys of the roll u64, bytes of the accounts u64."""

_ROW: Final = struct.Struct("<BxHI")
_END: Final = struct.Struct("<QQQ")
KEY_BYTES: Final = 9
BLOCK_BYTES: Final = 1 << 20
"""A block ends when it has this much."""


@dataclass(slots=True)
class Totals:
    """How much is in a backup."""

    rows: int = 0
    roll: int = 0
    accounts: int = 0


class ArchiveWriter:
    """Writes one backup file, front to back. Raises what `write` raises."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._number = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.totals = Totals()
        head = _HEADER.pack(MAGIC, ARCHIVE_VERSION, VERSION, 0)
        self._sum = xxh3_128_digest(head)
        write(head + self._sum)

    def row(self, row: Row) -> None:
        """Add a row; those of a table ascend."""
        head = _ROW.pack(TABLES.index(row.table), len(row.key), len(row.value))
        self._waiting += [head, row.key, row.value]
        self._waiting_bytes += len(head) + len(row.key) + len(row.value)
        self.totals.rows += 1
        if self._waiting_bytes >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait for their block to be full."""
        if self._waiting:
            self._block(ROWS, b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0

    def roll(self, keys: Iterable[bytes]) -> None:
        """Which rows of the log belong to the backup."""
        joined = b"".join(keys)
        step = BLOCK_BYTES // KEY_BYTES * KEY_BYTES
        for start in range(0, len(joined), step):
            self._block(ROLL, joined[start : start + step])
        self.totals.roll += len(joined) // KEY_BYTES

    def accounts(self, part: bytes) -> None:
        """Add the next part of the accounts' database."""
        self._block(ACCOUNTS, part)
        self.totals.accounts += len(part)

    def end(self) -> None:
        """Close the backup; the file stays open."""
        self.flush()
        self._block(END, _END.pack(self.totals.rows, self.totals.roll, self.totals.accounts))

    def _block(self, kind: int, body: bytes) -> None:
        head = _BLOCK.pack(kind, len(body), self._number)
        self._sum = xxh3_128_digest(b"".join((self._sum, head, body)))
        self._number += 1
        self._write(b"".join((head, body, self._sum)))


@dataclass(slots=True)
class ArchiveReader:
    """Reads one backup file, checking every byte of it. Raises BackupDamaged, and OSError as the file does."""

    file: BinaryIO
    name: str
    """What errors call it."""
    totals: Totals = field(default_factory=Totals)
    _left: int = 0
    """Bytes of the file that are still to be read."""

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """(kind, body) of each block but the end, in order. Comes to its end only if the backup is whole."""
        self.totals = Totals()
        self._left = os.fstat(self.file.fileno()).st_size
        last = self._header()
        number = 0
        while True:
            head = self._read(_BLOCK.size)
            kind, length, counted = _BLOCK.unpack(head)
            body, expected = self._read(length), self._read(_SUM_BYTES)
            last = xxh3_128_digest(b"".join((last, head, body)))
            if last != expected or counted != number:
                raise BackupDamaged(f"{self.name} is damaged: checksum mismatch in block {number}")
            number += 1
            if kind == END:
                self._end(body)
                return
            self._count(kind, body)
            yield kind, body

    def rows(self, body: bytes) -> Iterator[Row]:
        """The rows of a block."""
        at = 0
        while at < len(body):
            if at + _ROW.size > len(body):
                raise BackupDamaged(f"{self.name} is damaged: a row is cut short")
            table, key_bytes, value_bytes = _ROW.unpack_from(body, at)
            key_end = at + _ROW.size + key_bytes
            end = key_end + value_bytes
            if table >= len(TABLES) or end > len(body):
                raise BackupDamaged(f"{self.name} is damaged: a row is cut short")
            yield Row(TABLES[table], body[at + _ROW.size : key_end], body[key_end:end])
            at = end

    def _header(self) -> bytes:
        """Its checksum."""
        if self._left < HEADER_BYTES or not (head := self._read(_HEADER.size)).startswith(MAGIC):
            raise BackupDamaged(f"{self.name} is not a backup of Everspace, or its first bytes are damaged")
        found = xxh3_128_digest(head)
        if self._read(_SUM_BYTES) != found:
            raise BackupDamaged(f"{self.name} is damaged: checksum mismatch in its header")
        _, archive_version, version, _ = _HEADER.unpack(head)
        if (archive_version, version) != (ARCHIVE_VERSION, VERSION):
            raise BackupDamaged(
                f"{self.name} is a backup of version {archive_version} of a store of format {version}, "
                f"not of version {ARCHIVE_VERSION} and format {VERSION}: restore it with the release that made it"
            )
        return found

    def _read(self, count: int) -> bytes:
        found = self.file.read(count) if count <= self._left else b""
        if len(found) != count:
            raise BackupDamaged(f"{self.name} is damaged: it ends in the middle")
        self._left -= count
        return found

    def _count(self, kind: int, body: bytes) -> None:
        if kind == ROLL:
            self.totals.roll += len(body) // KEY_BYTES
        elif kind == ACCOUNTS:
            self.totals.accounts += len(body)
        elif kind == ROWS:
            self.totals.rows += sum(1 for _ in self.rows(body))
        else:
            raise BackupDamaged(f"{self.name} is damaged: a block of kind {kind}")

    def _end(self, body: bytes) -> None:
        told = (self.totals.rows, self.totals.roll, self.totals.accounts)
        if len(body) != _END.size or _END.unpack(body) != told:
            raise BackupDamaged(f"{self.name} is damaged: it holds another number of rows than it says")
        if self.file.read(1):
            raise BackupDamaged(f"{self.name} is damaged: something follows its end")
