"""Rows of the table `nodes`: where the pages of a layer lie."""

import struct
from typing import Final

import numpy as np

from storage.errors import RowDamaged
from storage.rows.format import NODE_PAGES, U64, Bytes, seal, unpack, unseal

NODE_KEY: Final = struct.Struct(">QQ")
"""Layer, node number (page index >> NODE_SHIFT)."""


def decode_node_key(key: Bytes) -> tuple[int, int]:
    """(layer, node number). Raises RowDamaged."""
    layer, number = unpack(NODE_KEY, bytes(key))
    return layer, number


# --- node: 0 bitmap of present pages 32 | 32 their locations u64 each

_BITMAP_BYTES: Final = NODE_PAGES // 8

SLOT_BITS: Final = 6
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
"""A location is (log sequence number of the chunk << SLOT_BITS) | slot; 0 means that the layer says nothing of the page."""
HOLE: Final = 1
"""In the place of a location: the page reads as zeros, whatever lies below."""


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
