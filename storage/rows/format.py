"""The store file: tables, seals, superblock and counters. docs/format.md shows every layout as a table.

Integers are big-endian in keys, so that keys sort as their numbers do, and little-endian in values. Every value
carries the xxh3_64 of its key and its bytes, so that a row that was damaged, or that belongs to another key, is found
out. The pages of a chunk have a checksum each. A change to any layout needs a new `VERSION`.

The layouts of rows lie beside their structs: spaces, segments and regions in records.py, births and roots in
lineage.py, receipts in receipts.py, what objects stand on in layers.py, the page maps in nodes.py, the log of chunks and drop records in
chunks.py.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_digest

from storage.errors import RowDamaged

U64 = npt.NDArray[np.uint64]
Bytes = bytes | memoryview

MAGIC: Final = b"EVRSPACE"
VERSION: Final = 3

TABLES: Final = (
    "meta",
    "spaces",
    "segments",
    "regions",
    "births",
    "roots",
    "receipts",
    "objects",
    "layers",
    "nodes",
    "log",
)
"""Named databases of the LMDB environment."""

NODE_SHIFT: Final = 8
NODE_PAGES: Final = 1 << NODE_SHIFT
"""Consecutive pages of one layer whose locations form one row of table `nodes`."""

FIRST_LAYER: Final = 1 << 63
"""Layers that the store began have ids from here on; below, a layer has the id of the object that began on it."""

# --- sealed rows: body, then the checksum of key and body

SEAL_BYTES: Final = 8


def seal(key: bytes, body: bytes) -> bytes:
    """The value of a row: `body` and the checksum of `key` and `body`."""
    return body + xxh3_64_digest(key + body)


def unseal(key: bytes, value: Bytes) -> bytes:
    """The body of a sealed row. Raises RowDamaged."""
    body = bytes(value[:-SEAL_BYTES])
    if xxh3_64_digest(key + body) != bytes(value[-SEAL_BYTES:]):
        raise RowDamaged("checksum mismatch")
    return body


# --- superblock: 0 magic 8 | 8 version u16 | 10 pages of a node u16 | 12 page size u32 | 16 architecture 24

SUPERBLOCK_KEY: Final = b"superblock"
SUPERBLOCK: Final = struct.Struct("<8sHHI24s")
ARCH_BYTES_MAX: Final = 24
SUPERBLOCK_HEAD: Final = struct.Struct("<8sH")
"""Magic and version lie here in every version."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """What must be known before anything else can be read. `page_size` in bytes."""

    arch: str
    page_size: int

    def encode(self) -> bytes:
        """The row's value. Raises ValueError when the architecture's name is too long."""
        if len(self.arch.encode()) > ARCH_BYTES_MAX:
            raise ValueError(f"architecture name {self.arch!r} is too long")
        body = SUPERBLOCK.pack(MAGIC, VERSION, NODE_PAGES, self.page_size, self.arch.encode())
        return seal(SUPERBLOCK_KEY, body)

    @staticmethod
    def decode(value: bytes) -> "Superblock":
        """Of a value whose version is known to be ours. Raises RowDamaged."""
        body = unseal(SUPERBLOCK_KEY, value)
        if len(body) != SUPERBLOCK.size:
            raise RowDamaged(f"{len(body)} bytes")
        _, _, node_pages, page_size, arch = SUPERBLOCK.unpack(body)
        if node_pages != NODE_PAGES:
            raise RowDamaged(f"nodes of {node_pages} pages")
        return Superblock(text(arch.rstrip(b"\0")), page_size)


# --- state: 0 next vid u64 | 8 next sid u64 | 16 next object u64 | 24 checkpoint u64 | 32 next layer u64

STATE_KEY: Final = b"state"
STATE: Final = struct.Struct("<QQQQQ")


@dataclass(frozen=True, slots=True)
class State:
    """Counters. Log rows up to and including `checkpoint` are contained in the nodes."""

    next_vid: int = 1
    next_sid: int = 1
    next_object: int = 1
    checkpoint: int = 0
    next_layer: int = FIRST_LAYER

    def encode(self) -> bytes:
        """The row's value."""
        fields = (self.next_vid, self.next_sid, self.next_object, self.checkpoint, self.next_layer)
        return seal(STATE_KEY, STATE.pack(*fields))

    @staticmethod
    def decode(value: bytes) -> "State":
        """Raises RowDamaged."""
        return State(*unpack(STATE, unseal(STATE_KEY, value)))


# --- packing


def pack(layout: struct.Struct, *fields: int) -> bytes:
    """Raises ValueError when a field does not fit."""
    try:
        return layout.pack(*fields)
    except struct.error as error:
        raise ValueError(f"a field does not fit its place: {error}") from None


def unpack(layout: struct.Struct, body: bytes) -> tuple[int, ...]:
    """The fields of a body of exactly this layout. Raises RowDamaged."""
    if len(body) != layout.size:
        raise RowDamaged(f"{len(body)} bytes")
    return layout.unpack(body)


def split(layout: struct.Struct, body: bytes) -> tuple[tuple[int, ...], bytes]:
    """The fields of a body that starts with this layout, and the rest. Raises RowDamaged."""
    if len(body) < layout.size:
        raise RowDamaged(f"{len(body)} bytes")
    return layout.unpack_from(body), body[layout.size :]


def text(raw: bytes) -> str:
    """A name. Raises RowDamaged."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RowDamaged("a name that is no UTF-8") from None
