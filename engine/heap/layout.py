"""The bytes of a heap: a header, rows of free lists, blocks (docs/heap.md has the tables).

Everything is little-endian; every place is an offset in bytes from the segment's start, so that the heap means the same
wherever the segment's bytes are. Each structure ends in a checksum of its fields, its offset and its kind.
"""

import struct
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

MAGIC: Final = b"EVSPHEAP"
VERSION: Final = 1
UNIT: Final = 16
"""Bytes: blocks, and so what is given out, begin on multiples of it."""
BLOCK_HEADER: Final = 16
MIN_BLOCK: Final = 32
"""Bytes of the smallest block: a header, and the links that it has while it is free."""
HEADER_SIZE: Final = 80
COLUMNS: Final = 16
ROW_SIZE: Final = 8 + 8 * COLUMNS
LINEAR_END: Final = UNIT * COLUMNS
"""Bytes: blocks below this size have a list for each size."""

_LINEAR_BITS: Final = LINEAR_END.bit_length() - 1
_COLUMN_BITS: Final = COLUMNS.bit_length() - 1
_U48: Final = (1 << 48) - 1
_LIVE: Final = 1
_HEADER: Final = struct.Struct("<8sHHIQQQQQQQ")
_ROW: Final = struct.Struct(f"<I{COLUMNS}Q")
_CRC: Final = struct.Struct("<I")


class DamagedError(Exception):
    """The bytes at `offset` are not what a heap has there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"{what} at offset {offset:#x}")
        self.offset = offset
        self.what = what


@dataclass(slots=True)
class Header:
    """What is known of the whole heap, at offset 0. [top, size) was never used; `last` is the block that ends at top, or 0.

    `allocated` are the bytes of live blocks with their headers; bit n of `row_map`: row n has a list that is not empty.
    """

    size: int
    top: int
    last: int = 0
    allocated: int = 0
    blocks: int = 0
    free_blocks: int = 0
    row_map: int = 0

    def encode(self, _: int) -> bytes:
        """The bytes at offset 0."""
        fields = _HEADER.pack(
            MAGIC,
            VERSION,
            rows_for(self.size),
            0,
            self.size,
            self.top,
            self.last,
            self.allocated,
            self.blocks,
            self.free_blocks,
            self.row_map,
        )
        fields += bytes(4)
        return fields + _CRC.pack(crc32(fields))


def decode_header(raw: bytes, size: int) -> Header:
    """The header of a heap in a segment of `size` bytes. DamagedError."""
    magic, version, rows, reserved, *numbers = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise DamagedError(0, "bytes that are no heap")
    if _CRC.unpack_from(raw, HEADER_SIZE - 4)[0] != crc32(raw[: HEADER_SIZE - 4]):
        raise DamagedError(0, "a damaged heap header")
    header = Header(*numbers)
    first = first_block(size)
    sound = (
        first <= header.top <= size and not header.top % UNIT and (header.top == first) == (not header.last)
    )
    if version != VERSION or rows != rows_for(size) or reserved or header.size != size or not sound:
        raise DamagedError(0, "the header of another kind of heap")
    return header


@dataclass(slots=True)
class Row:
    """The free lists of sizes that have their highest bit in common: their first blocks, 0 where a list is empty."""

    heads: list[int] = field(default_factory=lambda: [0] * COLUMNS)

    @property
    def map(self) -> int:
        """Bit n: list n is not empty."""
        return sum(1 << column for column, head in enumerate(self.heads) if head)

    def encode(self, offset: int) -> bytes:
        """The bytes at `offset`."""
        fields = _ROW.pack(self.map, *self.heads)
        return fields + _CRC.pack(crc32(fields, _seed(b"R", offset)))


def decode_row(raw: bytes, offset: int) -> Row:
    """The row whose bytes at `offset` are `raw`. DamagedError."""
    column_map, *heads = _ROW.unpack_from(raw)
    row = Row(heads)
    if _CRC.unpack_from(raw, ROW_SIZE - 4)[0] != crc32(raw[: ROW_SIZE - 4], _seed(b"R", offset)):
        raise DamagedError(offset, "a damaged row of free lists")
    if column_map != row.map or not column_map:
        raise DamagedError(offset, "a row of free lists that contradicts itself")
    return row


@dataclass(slots=True)
class Block:
    """A block's header. `size` counts it; `prev` is the offset of the block that ends here, 0 for the first one."""

    size: int
    prev: int
    live: bool

    def encode(self, offset: int) -> bytes:
        """The bytes at `offset`."""
        return _pair(self.size | (_LIVE if self.live else 0), self.prev, b"B", offset)


def decode_block(raw: bytes, offset: int) -> Block | None:
    """The header whose bytes at `offset` are `raw`; None if they are not one."""
    found = _unpair(raw, b"B", offset)
    if found is None:
        return None
    word, prev = found
    size = word & ~_LIVE
    if size % UNIT or size < MIN_BLOCK or prev >= offset:
        return None
    return Block(size, prev, bool(word & _LIVE))


@dataclass(slots=True)
class Links:
    """Behind the header of a free block: the blocks after and before it in its list, 0 at the ends."""

    next: int
    prev: int

    def encode(self, offset: int) -> bytes:
        """The bytes at `offset`."""
        return _pair(self.next, self.prev, b"L", offset)


def decode_links(raw: bytes, offset: int) -> Links:
    """The links whose bytes at `offset` are `raw`. DamagedError."""
    found = _unpair(raw, b"L", offset)
    if found is None:
        raise DamagedError(offset, "damaged links of a free block")
    return Links(*found)


def claimed(raw: bytes) -> tuple[int, int]:
    """(size, prev) that a block's header claims, whether its checksum is right or not."""
    word = int.from_bytes(raw[:12], "little")
    return word & _U48 & ~_LIVE, word >> 48


def class_of(size: int) -> tuple[int, int]:
    """The row and the column of the list for free blocks of `size` bytes."""
    if size < LINEAR_END:
        return 0, size // UNIT
    bits = size.bit_length()
    return bits - _LINEAR_BITS, (size >> (bits - 1 - _COLUMN_BITS)) & (COLUMNS - 1)


def rounded(size: int) -> int:
    """The least size from `size` on such that every block in its list has that size at least."""
    if size < LINEAR_END:
        return size
    step = 1 << (size.bit_length() - 1 - _COLUMN_BITS)
    return (size + step - 1) & -step


def rows_for(size: int) -> int:
    """Rows of free lists of a heap of `size` bytes: what is left beside the header and one row may be one block."""
    return class_of(max(size - HEADER_SIZE - ROW_SIZE, MIN_BLOCK))[0] + 1


def row_offset(number: int) -> int:
    """Where a row begins."""
    return HEADER_SIZE + number * ROW_SIZE


def first_block(size: int) -> int:
    """Where the blocks of a heap of `size` bytes begin."""
    return (row_offset(rows_for(size)) + UNIT - 1) & -UNIT


def _seed(kind: bytes, offset: int) -> int:
    return crc32(kind + offset.to_bytes(8, "little"))


def _pair(first: int, second: int, kind: bytes, offset: int) -> bytes:
    fields = (first | second << 48).to_bytes(12, "little")
    return fields + _CRC.pack(crc32(fields, _seed(kind, offset)))


def _unpair(raw: bytes, kind: bytes, offset: int) -> tuple[int, int] | None:
    if _CRC.unpack_from(raw, 12)[0] != crc32(raw[:12], _seed(kind, offset)):
        return None
    word = int.from_bytes(raw[:12], "little")
    return word & _U48, word >> 48
