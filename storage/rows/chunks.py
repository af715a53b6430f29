"""Rows of the table `log`: chunks of pages, and drop records; the key holds the log sequence number (lsn)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from xxhash import xxh3_64_intdigest

from storage.errors import RowDamaged
from storage.rows.format import U64, Bytes, pack, seal, unpack, unseal

LOG_KEY: Final = struct.Struct(">QB")
"""Log sequence number, slots of the chunk (0: the row is a drop record)."""


def decode_log_key(key: Bytes) -> tuple[int, int]:
    """(log sequence number, slots). Raises RowDamaged."""
    lsn, slots = unpack(LOG_KEY, bytes(key))
    return lsn, slots


# --- drop record (log row with 0 slots): triples of layer u64, first page u64, count u64

DROP: Final = struct.Struct("<QQQ")
WHOLE_LAYER: Final = (1 << 64) - 1
"""As `count`: the layer itself is gone and its id will not come back."""
HIDING: Final = 1 << 63
"""Added to the first page: the pages are holes from here on, which hide what lies below."""


@dataclass(frozen=True, slots=True, order=True)
class Drop:
    """Pages [first, first + count) of a layer are forgotten from here on, or, when it `hides`, are holes."""

    layer: int
    first: int
    count: int
    hides: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the layer itself is gone."""
        return self.count == WHOLE_LAYER


def encode_drops(lsn: int, drops: Sequence[Drop]) -> tuple[bytes, bytes]:
    """Key and value of a drop record."""
    key = LOG_KEY.pack(lsn, 0)
    body = b"".join([pack(DROP, drop.layer, drop.first + HIDING * drop.hides, drop.count) for drop in drops])
    return key, seal(key, body)


def decode_drops(key: bytes, value: Bytes) -> list[Drop]:
    """Raises RowDamaged."""
    body = unseal(key, value)
    if len(body) % DROP.size:
        raise RowDamaged(f"{len(body)} bytes")
    return [
        Drop(layer, first & ~HIDING, count, bool(first & HIDING))
        for layer, first, count in DROP.iter_unpack(body)
    ]


# --- chunk (log row with 1 to 63 slots)
# 0 slots u16 | 2 zero u16 | 4 page size u32 | 8 checksum u64 of key, bytes 0-7 and the three arrays
# 16 layer u64 x slots | page index u64 x slots | checksum of the page u64 x slots | the pages

CHUNK: Final = struct.Struct("<HHIQ")
_CHUNK_HEAD: Final = struct.Struct("<HHI")
_SLOT_BYTES: Final = 24
CHUNK_SLOTS_MAX: Final = 63
OVERFLOW_PAGE: Final = 4096
CHUNK_BYTES_MAX: Final = 64 * OVERFLOW_PAGE - 16
"""An LMDB value of this size fills 64 overflow pages exactly: LMDB keeps 16 bytes of the first for itself."""


def chunk_slots(page_size: int) -> int:
    """Pages of `page_size` bytes that fit one chunk."""
    return min(CHUNK_SLOTS_MAX, (CHUNK_BYTES_MAX - CHUNK.size) // (_SLOT_BYTES + page_size))


def chunk_bytes(slots: int, page_size: int) -> int:
    """Bytes of a chunk's value."""
    return CHUNK.size + slots * (_SLOT_BYTES + page_size)


def chunk_cost(slots: int, page_size: int) -> int:
    """LMDB pages that a chunk occupies."""
    return -(-(16 + chunk_bytes(slots, page_size)) // OVERFLOW_PAGE)


def encode_chunk(lsn: int, layers: U64, pages: U64, contents: Sequence[Bytes]) -> tuple[bytes, bytes]:
    """Key and value. `contents` are pages of one size; slot i holds page `pages[i]` of layer `layers[i]`."""
    slots = len(contents)
    key = LOG_KEY.pack(lsn, slots)
    head = _CHUNK_HEAD.pack(slots, 0, len(contents[0]))
    sums = np.array([xxh3_64_intdigest(content) for content in contents], "<u8")
    arrays = layers.astype("<u8").tobytes() + pages.astype("<u8").tobytes() + sums.tobytes()
    return key, b"".join([head, struct.pack("<Q", xxh3_64_intdigest(key + head + arrays)), arrays, *contents])


class Chunk:
    """A chunk's value, its header verified. Holds on to `value`, which may lie in LMDB's map."""

    __slots__ = ("_data", "_page_size", "_sums", "_value", "layers", "pages", "slots")

    def __init__(self, key: bytes, value: Bytes) -> None:
        """Raises RowDamaged."""
        if len(value) < CHUNK.size:
            raise RowDamaged(f"{len(value)} bytes")
        self.slots, _, self._page_size, checksum = CHUNK.unpack_from(value)
        self._data = CHUNK.size + self.slots * _SLOT_BYTES
        if len(value) != self._data + self.slots * self._page_size or decode_log_key(key)[1] != self.slots:
            raise RowDamaged(f"{len(value)} bytes")
        if not self._page_size:
            raise RowDamaged("pages of no bytes")
        arrays = bytes(value[CHUNK.size : self._data])
        if xxh3_64_intdigest(key + bytes(value[: _CHUNK_HEAD.size]) + arrays) != checksum:
            raise RowDamaged("checksum mismatch in the header")
        self._value = value
        self.layers: U64
        self.layers, self.pages, self._sums = np.frombuffer(arrays, "<u8").reshape(3, self.slots)

    def damaged_slots(self) -> list[int]:
        """Slots whose pages do not match their checksums."""
        starts = range(self._data, len(self._value), self._page_size)
        return [
            slot
            for slot, start in enumerate(starts)
            if xxh3_64_intdigest(self._value[start : start + self._page_size]) != int(self._sums[slot])
        ]

    def content(self, slot: int, layer: int, page: int) -> bytes:
        """A copy of the page in `slot`, which must be this one. Raises RowDamaged."""
        if slot >= self.slots or (int(self.layers[slot]), int(self.pages[slot])) != (layer, page):
            raise RowDamaged(f"slot {slot} holds another page")
        start = self._data + slot * self._page_size
        content = bytes(self._value[start : start + self._page_size])
        if xxh3_64_intdigest(content) != int(self._sums[slot]):
            raise RowDamaged(f"checksum mismatch in slot {slot}")
        return content
