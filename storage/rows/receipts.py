"""Rows of the table `receipts`: what was done, told in bytes that the store does not look into."""

from engine.changes import RECEIPT_KEY_MAX, RECEIPT_VALUE_MAX
from storage.rows.format import seal, unseal

# --- receipt: key 1 to 64 bytes; value 0 to 1 MiB


def encode_receipt(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Key and value. Raises ValueError when one of them is too long, or there is no key."""
    if len(value) > RECEIPT_VALUE_MAX:
        raise ValueError(f"the value of a receipt has {len(value)} bytes")
    return checked_key(key), seal(key, value)


def checked_key(key: bytes) -> bytes:
    """The key. Raises ValueError when it is empty or too long."""
    if not 0 < len(key) <= RECEIPT_KEY_MAX:
        raise ValueError(f"the key of a receipt has {len(key)} bytes")
    return key


def decode_receipt(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """(key, value). Raises RowDamaged."""
    return key, unseal(key, value)
