"""Rows of the table `nodes`: where the pages of an object lie."""

import struct
from typing import Final

import numpy as np

from storage.errors import RowDamaged
from storage.format import NODE_PAGES, U64, Bytes, seal, unpack, unseal

NODE_KEY: Final = struct.Struct(">QQ")
"""Object id, node number (page index >> NODE_SHIFT)."""


def decode_node_key(key: Bytes) -> tuple[int, int]:
    """(object, node number). Raises RowDamaged."""
    object_id, number = unpack(NODE_KEY, bytes(key))
    return object_id, number


# --- node: 0 bitmap of present pages 32 | 32 their locations u64 each

_BITMAP_BYTES: Final = NODE_PAGES // 8

SLOT_BITS: Final = 6
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
"""A location is (log sequence number of the chunk << SLOT_BITS) | slot; 0 means that the page is absent."""


def encode_node(key: bytes, entries: U64) -> bytes:
    """The value of a node. `entries` are NODE_PAGES locations."""
    present = entries != 0
    return seal(
        key, np.packbits(present, bitorder="little").tobytes() + entries[present].astype("<u8").tobytes()
    )


def decode_node(key: bytes, value: Bytes) -> U64:
    """NODE_PAGES locations. Raises RowDamaged."""
    body = unseal(key, value)
    present = np.unpackbits(np.frombuffer(body[:_BITMAP_BYTES], np.uint8), bitorder="little").view(np.bool_)
    entries = np.zeros(NODE_PAGES, np.uint64)
    if len(body) != _BITMAP_BYTES + 8 * int(np.count_nonzero(present)):
        raise RowDamaged(f"{len(body)} bytes")
    entries[present] = np.frombuffer(body, "<u8", offset=_BITMAP_BYTES)
    return entries
