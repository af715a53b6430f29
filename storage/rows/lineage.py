"""Rows of the tables `births` and `roots`: what a clone was born with, and the names of addresses in a space."""

import struct
from typing import Final

from engine.changes import BirthRecord
from storage.errors import RowDamaged
from storage.rows.format import pack, seal, split, text, unpack, unseal
from storage.rows.records import ID_KEY, REGION, region_body, region_of

# --- root: key vid u64 | 8 name, UTF-8; value 0 address u64

ADDRESS: Final = struct.Struct("<Q")
ROOT_NAME_MAX: Final = 255
"""Bytes of a root's name."""


def encode_root_key(vid: int, name: str) -> bytes:
    """Raises ValueError when the name is empty or too long."""
    raw = name.encode()
    if not 0 < len(raw) <= ROOT_NAME_MAX:
        raise ValueError(f"the name of a root has {len(raw)} bytes")
    return pack(ID_KEY, vid) + raw


def encode_root(vid: int, name: str, address: int) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = encode_root_key(vid, name)
    return key, seal(key, pack(ADDRESS, address))


def decode_root(key: bytes, value: bytes) -> tuple[int, str, int]:
    """(vid, name, address). Raises RowDamaged."""
    (vid,), name = split(ID_KEY, key)
    (address,) = unpack(ADDRESS, unseal(key, value))
    return vid, text(name), address


# --- birth: 0 regions u32 | 4 roots u32 | each region: first byte u64, then as in table `regions` |
# each root: address u64, bytes of the name u16, name

BIRTH: Final = struct.Struct("<II")
_BORN_REGION: Final = struct.Struct("<Q" + REGION.format[1:])
_BORN_ROOT: Final = struct.Struct("<QH")


def encode_birth(vid: int, record: BirthRecord) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when a field does not fit its place."""
    key = pack(ID_KEY, vid)
    parts = [pack(BIRTH, len(record.regions), len(record.roots))]
    parts += [pack(ADDRESS, region.start) + region_body(region) for region in record.regions]
    for name, address in record.roots:
        raw = encode_root_key(vid, name)[ID_KEY.size :]
        parts += [pack(_BORN_ROOT, address, len(raw)), raw]
    return key, seal(key, b"".join(parts))


def decode_birth(key: bytes, value: bytes) -> tuple[int, BirthRecord]:
    """(vid, record). Raises RowDamaged."""
    (vid,) = unpack(ID_KEY, key)
    (region_count, root_count), rest = split(BIRTH, unseal(key, value))
    low, high = 0, region_count * _BORN_REGION.size
    if high > len(rest):
        raise RowDamaged(f"{region_count} regions in {len(rest)} bytes")
    regions = [region_of(fields[0], fields[1:]) for fields in _BORN_REGION.iter_unpack(rest[:high])]
    roots: list[tuple[str, int]] = []
    for _ in range(root_count):
        low = high + _BORN_ROOT.size
        if low > len(rest):
            raise RowDamaged(f"{root_count} roots in {len(rest)} bytes")
        address, length = _BORN_ROOT.unpack_from(rest, high)
        high = low + length
        roots.append((text(rest[low:high]), address))
    if high != len(rest):
        raise RowDamaged(f"{len(rest)} bytes")
    return vid, BirthRecord(tuple(regions), tuple(roots))
