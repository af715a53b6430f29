"""The bytes of every layout, one by one: whoever changes them has to make a new format version."""

from pathlib import Path

import numpy as np
import pytest

from engine.changes import BirthRecord, RegionRecord, SegmentRecord, SpaceRecord
from storage.errors import RowDamaged
from storage.failpoints import FAILPOINTS, KILLPOINTS
from storage.lmdb.layers import decode_layer, encode_layer
from storage.rows import format as layouts
from storage.rows.chunks import (
    WHOLE_LAYER,
    Chunk,
    Drop,
    chunk_bytes,
    chunk_cost,
    chunk_slots,
    decode_drops,
    encode_chunk,
    encode_drops,
)
from storage.rows.format import FIRST_LAYER, U64, State, Superblock
from storage.rows.lineage import decode_birth, decode_root, encode_birth, encode_root
from storage.rows.nodes import HOLE, NODE_KEY, decode_node, encode_node
from storage.rows.receipts import decode_receipt, encode_receipt
from storage.rows.records import (
    decode_region,
    decode_segment,
    decode_space,
    encode_region,
    encode_segment,
    encode_space,
)

SPACE = SpaceRecord(3, "lab ß", 0o640, 1000, 100, "shared", 7, 5, 2, 9, (0x1000, 0x3000))
SEGMENT = SegmentRecord(4, "heap", 0x1000, 0x3000, 0o600, 1000, 100, "exclusive", 8, 3, 1, 10)
REGION = RegionRecord(0x1000, 0x3000, 3, True, 4, 2, 0x102)
BIRTH = BirthRecord((REGION,), (("first", 0x2000), ("ß", 0x2010)))
DROPS = [Drop(8, 2, 3), Drop(FIRST_LAYER, 4, 5, hides=True), Drop(9, 0, WHOLE_LAYER)]
PAGES = [b"0123456789abcdef", b"fedcba9876543210"]


def array(*numbers: int) -> U64:
    return np.array(numbers, np.uint64)


def node() -> U64:
    entries = np.zeros(256, np.uint64)
    entries[1], entries[2], entries[255] = 5 << 6 | 2, HOLE, 6 << 6 | 62
    return entries


def joined(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


def test_superblock() -> None:
    value = Superblock("x86_64", 4096).encode()
    assert value == joined(
        "4556525350414345", "0300", "0001", "00100000", "7838365f3634", "00" * 18, "29d83e208640e7cd"
    )
    assert Superblock.decode(value) == Superblock("x86_64", 4096)
    with pytest.raises(ValueError):
        Superblock("x" * 25, 4096).encode()


def test_state() -> None:
    state = State(4, 5, 9, 17, FIRST_LAYER + 3)
    value = state.encode()
    counters = (f"{number:02x}{'00' * 7}" for number in (4, 5, 9, 17))
    assert value == joined(*counters, "0300000000000080", "c3d8ce047031d802")
    assert State.decode(value) == state


def test_space() -> None:
    key, value = encode_space(SPACE)
    assert key == joined("0000000000000003")
    assert value == joined(
        "0700000000000000", "0200000000000000", "0900000000000000", "0010000000000000", "0030000000000000",
        "e8030000", "64000000", "a0010000", "0500", "01", "6c616220c39f", "6a50f732813b99b0",
    )  # fmt: skip
    assert decode_space(key, value) == SPACE


def test_segment() -> None:
    key, value = encode_segment(SEGMENT)
    assert key == joined("0000000000000004")
    assert value == joined(
        "0010000000000000", "0030000000000000", "0800000000000000", "0100000000000000", "0a00000000000000",
        "e8030000", "64000000", "80010000", "0300", "00", "68656170", "1b089ed740587620",
    )  # fmt: skip
    assert decode_segment(key, value) == SEGMENT


def test_region() -> None:
    key, value = encode_region(3, REGION)
    assert key == joined("0000000000000003", "0000000000001000")
    assert value == joined(
        "0030000000000000", "0400000000000000", "0201000000000000", "03", "01", "02", "adf1462600f96873"
    )
    assert decode_region(key, value) == (3, REGION)


def test_birth() -> None:
    key, value = encode_birth(3, BIRTH)
    assert key == joined("0000000000000003")
    assert value == joined(
        "01000000", "02000000",
        "0010000000000000", "0030000000000000", "0400000000000000", "0201000000000000", "03", "01", "02",
        "0020000000000000", "0500", "6669727374",
        "1020000000000000", "0200", "c39f", "9eb3d7fdfd4c0f2a",
    )  # fmt: skip
    assert decode_birth(key, value) == (3, BIRTH)
    assert decode_birth(*encode_birth(4, BirthRecord((), ()))) == (4, BirthRecord((), ()))


def test_root() -> None:
    key, value = encode_root(3, "ß", 0x2010)
    assert key == joined("0000000000000003", "c39f")
    assert value == joined("1020000000000000", "891b4260b273236e")
    assert decode_root(key, value) == (3, "ß", 0x2010)
    encode_root(3, "x" * 255, 0)
    for name in ("", "x" * 256):
        with pytest.raises(ValueError):
            encode_root(3, name, 0)


def test_layer() -> None:
    key, value = encode_layer(7, FIRST_LAYER)
    assert key == joined("0000000000000007")
    assert value == joined("0000000000000080", "678d3c2529585717")
    assert decode_layer(key, value) == (7, FIRST_LAYER)


def test_node() -> None:
    key = NODE_KEY.pack(8, 3)
    value = encode_node(key, node())
    assert key == joined("0000000000000008", "0000000000000003")
    assert value == joined(
        "06", "00" * 30, "80", "4201000000000000", "0100000000000000", "be01000000000000", "70f89d83ec0e7eb4"
    )
    assert decode_node(key, value).tolist() == node().tolist()


def test_drop_record() -> None:
    key, value = encode_drops(6, DROPS)
    assert key == joined("0000000000000006", "00")
    assert value == joined(
        "0800000000000000", "0200000000000000", "0300000000000000",
        "0000000000000080", "0400000000000080", "0500000000000000",
        "0900000000000000", "0000000000000000", "ffffffffffffffff", "f414f121ce6a255d",
    )  # fmt: skip
    assert decode_drops(key, value) == DROPS


def test_chunk() -> None:
    key, value = encode_chunk(5, array(8, 9), array(769, 0), PAGES)
    assert key == joined("0000000000000005", "02")
    assert value == joined(
        "0200", "0000", "10000000", "ccae8ca324913218",
        "0800000000000000", "0900000000000000",
        "0103000000000000", "0000000000000000",
        "2d21fad846994364", "c2b4510632ef665e",
    ) + b"".join(PAGES)  # fmt: skip
    chunk = Chunk(key, value)
    assert (chunk.slots, chunk.layers.tolist(), chunk.pages.tolist()) == (2, [8, 9], [769, 0])
    assert [chunk.content(0, 8, 769), chunk.content(1, 9, 0)] == PAGES
    with pytest.raises(RowDamaged, match="another page"):
        chunk.content(0, 9, 0)


@pytest.mark.parametrize(
    ("page_size", "slots", "cost", "cost_of_one"),
    [(16, 63, 1, 1), (4096, 63, 64, 2), (16384, 15, 61, 5), (65536, 3, 49, 17)],
)
def test_a_chunk_fills_whole_pages_of_lmdb(page_size: int, slots: int, cost: int, cost_of_one: int) -> None:
    assert chunk_slots(page_size) == slots
    assert chunk_cost(slots, page_size) == cost <= 64
    assert chunk_cost(1, page_size) == cost_of_one
    assert 16 + chunk_bytes(slots, page_size) <= 64 * 4096


def test_every_byte_of_every_row_is_checked() -> None:
    node_key = NODE_KEY.pack(8, 3)
    rows = {
        decode_space: encode_space(SPACE),
        decode_segment: encode_segment(SEGMENT),
        decode_region: encode_region(3, REGION),
        decode_birth: encode_birth(3, BIRTH),
        decode_root: encode_root(3, "list", 0x2010),
        decode_receipt: encode_receipt(b"key", b"what was done"),
        decode_layer: encode_layer(7, FIRST_LAYER),
        decode_node: (node_key, encode_node(node_key, node())),
        decode_drops: encode_drops(6, DROPS),
    }
    for decode, (key, value) in rows.items():
        for position in range(len(value)):
            with pytest.raises(RowDamaged):
                decode(key, flipped(value, position))
        for position in range(len(key)):
            with pytest.raises(RowDamaged):
                decode(flipped(key, position), value)
        with pytest.raises(RowDamaged):
            decode(key, value[:-1])


def test_every_byte_of_a_chunk_is_checked() -> None:
    key, value = encode_chunk(5, array(8, 9), array(769, 0), PAGES)
    for position in range(len(value)):
        with pytest.raises(RowDamaged):
            read_all(key, flipped(value, position))
    for position in range(len(key)):
        with pytest.raises(RowDamaged):
            read_all(flipped(key, position), value)
    for length in (0, 15, 16, len(value) - 1):
        with pytest.raises(RowDamaged):
            read_all(key, value[:length])


def read_all(key: bytes, value: bytes) -> list[bytes]:
    chunk = Chunk(key, value)
    return [chunk.content(0, 8, 769), chunk.content(1, 9, 0)]


def flipped(raw: bytes, position: int) -> bytes:
    return raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]


@pytest.mark.parametrize("uid", [-1, 1 << 32])
def test_a_field_that_does_not_fit_is_refused(uid: int) -> None:
    with pytest.raises(ValueError):
        encode_space(SpaceRecord(3, "lab", 0o640, uid, 100, "shared", 7))
    with pytest.raises(ValueError):
        encode_space(SpaceRecord(3, "lab", 0o640, 0, 100, "borrowed", 7))


def test_receipt() -> None:
    key, value = encode_receipt(b"1000/key", b"{}")
    assert (key, value) == (b"1000/key", joined("7b7d", "f7224bcab8ac79c8"))
    assert decode_receipt(key, value) == (key, b"{}")
    assert decode_receipt(*encode_receipt(b"x" * 64, bytes(1 << 20))) == (b"x" * 64, bytes(1 << 20))
    for too_long in ((b"", b""), (b"x" * 65, b""), (b"x", bytes((1 << 20) + 1))):
        with pytest.raises(ValueError):
            encode_receipt(*too_long)


@pytest.mark.parametrize("name", [*FAILPOINTS, *KILLPOINTS])
def test_every_edge_is_in_the_docs(name: str) -> None:
    docs = Path(__file__).parents[2] / "docs" / "format.md"
    assert f"`{name}`" in docs.read_text(encoding="utf-8").partition("## Edges")[2]


def test_the_version_is_three() -> None:
    """These bytes are format 3. Change them together with the version, and add a migration from the old one."""
    assert (layouts.MAGIC, layouts.VERSION, layouts.NODE_PAGES) == (b"EVRSPACE", 3, 256)
