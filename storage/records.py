"""Rows of the tables `spaces`, `segments` and `regions`."""

import struct
from typing import Final

from engine.changes import RegionRecord, SegmentRecord, SpaceRecord
from storage.errors import RowDamaged
from storage.format import pack, seal, split, unpack, unseal

ID_KEY: Final = struct.Struct(">Q")
"""Tables `spaces` and `segments`: vid or sid."""
REGION_KEY: Final = struct.Struct(">QQ")
"""Table `regions`: vid, first byte."""

SHARING_CODES: Final = {"exclusive": 0, "shared": 1, "lockable": 2}
_SHARING_NAMES: Final = {code: name for name, code in SHARING_CODES.items()}

# --- space: 0 object u64 | 8 uid u32 | 12 gid u32 | 16 mode u32 | 20 sharing u8 | 21 name, UTF-8

SPACE: Final = struct.Struct("<QIIIB")


def encode_space(record: SpaceRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(ID_KEY, record.vid)
    head = pack(SPACE, record.object_id, record.uid, record.gid, record.mode, _sharing_code(record.sharing))
    return key, seal(key, head + record.name.encode())


def decode_space(key: bytes, value: bytes) -> SpaceRecord:
    """Raises RowDamaged."""
    (vid,) = unpack(ID_KEY, key)
    (object_id, uid, gid, mode, sharing), name = split(SPACE, unseal(key, value))
    return SpaceRecord(vid, name.decode(), mode, uid, gid, _sharing_name(sharing), object_id)


# --- segment: 0 start u64 | 8 end u64 | 16 object u64 | 24 uid u32 | 28 gid u32 | 32 mode u32 | 36 sharing u8 |
# 37 name, UTF-8

SEGMENT: Final = struct.Struct("<QQQIIIB")


def encode_segment(record: SegmentRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(ID_KEY, record.sid)
    head = pack(
        SEGMENT,
        record.start,
        record.end,
        record.object_id,
        record.uid,
        record.gid,
        record.mode,
        _sharing_code(record.sharing),
    )
    return key, seal(key, head + record.name.encode())


def decode_segment(key: bytes, value: bytes) -> SegmentRecord:
    """Raises RowDamaged."""
    (sid,) = unpack(ID_KEY, key)
    (start, end, object_id, uid, gid, mode, sharing), name = split(SEGMENT, unseal(key, value))
    return SegmentRecord(sid, name.decode(), start, end, mode, uid, gid, _sharing_name(sharing), object_id)


# --- region: 0 end u64 | 8 sid u64 | 16 access u8 | 17 shared u8 | 18 type u8

REGION: Final = struct.Struct("<QQBBB")


def encode_region(vid: int, record: RegionRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(REGION_KEY, vid, record.start)
    return key, seal(key, pack(REGION, record.end, record.sid, record.access, record.shared, record.type))


def decode_region(key: bytes, value: bytes) -> tuple[int, RegionRecord]:
    """(vid, record). Raises RowDamaged."""
    vid, start = unpack(REGION_KEY, key)
    end, sid, access, shared, type = unpack(REGION, unseal(key, value))
    return vid, RegionRecord(start, end, access, bool(shared), sid, type)


def _sharing_code(sharing: str) -> int:
    if sharing not in SHARING_CODES:
        raise ValueError(f"unknown sharing {sharing!r}")
    return SHARING_CODES[sharing]


def _sharing_name(code: int) -> str:
    if code not in _SHARING_NAMES:
        raise RowDamaged(f"unknown sharing {code}")
    return _SHARING_NAMES[code]
