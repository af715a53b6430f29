"""Rows of the tables `spaces`, `segments` and `regions`."""

import struct
from typing import Final

from engine.changes import RegionRecord, SegmentRecord, SpaceRecord
from storage.errors import RowDamaged
from storage.rows.format import pack, seal, split, text, unpack, unseal

ID_KEY: Final = struct.Struct(">Q")
"""Tables `spaces` and `segments`: vid or sid."""
REGION_KEY: Final = struct.Struct(">QQ")
"""Table `regions`: vid, first byte."""

SHARING_CODES: Final = {"exclusive": 0, "shared": 1, "lockable": 2}
_SHARING_NAMES: Final = {code: name for name, code in SHARING_CODES.items()}

# --- space: 0 object u64 | 8 origin u64 | 16 birth u64 | 24 brk start u64 | 32 brk end u64 | 40 uid u32 | 44 gid u32 |
# 48 mode u32 | 52 flags u16 | 54 sharing u8 | 55 name, UTF-8

SPACE: Final = struct.Struct("<QQQQQIIIHB")


def encode_space(record: SpaceRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(ID_KEY, record.vid)
    head = pack(
        SPACE,
        record.object_id,
        record.origin,
        record.birth,
        *record.brk,
        record.uid,
        record.gid,
        record.mode,
        record.flags,
        _sharing_code(record.sharing),
    )
    return key, seal(key, head + record.name.encode())


def decode_space(key: bytes, value: bytes) -> SpaceRecord:
    """Raises RowDamaged."""
    (vid,) = unpack(ID_KEY, key)
    fields, name = split(SPACE, unseal(key, value))
    object_id, origin, birth, low, high, uid, gid, mode, flags, sharing = fields
    return SpaceRecord(
        vid,
        text(name),
        mode,
        uid,
        gid,
        sharing_name(sharing),
        object_id,
        flags,
        origin,
        birth,
        (low, high),
    )


# --- segment: 0 start u64 | 8 end u64 | 16 object u64 | 24 origin u64 | 32 birth u64 | 40 uid u32 | 44 gid u32 |
# 48 mode u32 | 52 flags u16 | 54 sharing u8 | 55 name, UTF-8

SEGMENT: Final = struct.Struct("<QQQQQIIIHB")


def encode_segment(record: SegmentRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(ID_KEY, record.sid)
    head = pack(
        SEGMENT,
        record.start,
        record.end,
        record.object_id,
        record.origin,
        record.birth,
        record.uid,
        record.gid,
        record.mode,
        record.flags,
        _sharing_code(record.sharing),
    )
    return key, seal(key, head + record.name.encode())


def decode_segment(key: bytes, value: bytes) -> SegmentRecord:
    """Raises RowDamaged."""
    (sid,) = unpack(ID_KEY, key)
    fields, name = split(SEGMENT, unseal(key, value))
    start, end, object_id, origin, birth, uid, gid, mode, flags, sharing = fields
    return SegmentRecord(
        sid,
        text(name),
        start,
        end,
        mode,
        uid,
        gid,
        sharing_name(sharing),
        object_id,
        flags,
        origin,
        birth,
    )


# --- region: 0 end u64 | 8 sid u64 | 16 flags u64 | 24 access u8 | 25 shared u8 | 26 type u8

REGION: Final = struct.Struct("<QQQBBB")


def encode_region(vid: int, record: RegionRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(REGION_KEY, vid, record.start)
    return key, seal(key, region_body(record))


def region_body(record: RegionRecord) -> bytes:
    """All of a region but its first byte. Raises ValueError when a field does not fit its place."""
    return pack(REGION, record.end, record.sid, record.flags, record.access, record.shared, record.type)


def decode_region(key: bytes, value: bytes) -> tuple[int, RegionRecord]:
    """(vid, record). Raises RowDamaged."""
    vid, start = unpack(REGION_KEY, key)
    return vid, region_of(start, unpack(REGION, unseal(key, value)))


def region_of(start: int, fields: tuple[int, ...]) -> RegionRecord:
    """The region from `start` with the fields of REGION."""
    end, sid, flags, access, shared, type = fields
    return RegionRecord(start, end, access, bool(shared), sid, type, flags)


def _sharing_code(sharing: str) -> int:
    if sharing not in SHARING_CODES:
        raise ValueError(f"unknown sharing {sharing!r}")
    return SHARING_CODES[sharing]


def sharing_name(code: int) -> str:
    """The name of a sharing. Raises RowDamaged."""
    if code not in _SHARING_NAMES:
        raise RowDamaged(f"unknown sharing {code}")
    return _SHARING_NAMES[code]
