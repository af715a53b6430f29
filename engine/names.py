"""What may be a name: of spaces, segments, tasks and roots."""

import unicodedata

from engine.constants import NAME_BYTES_MAX
from engine.errors import EINVAL, EngineError


def with_suffix(stem: bytes, suffix: str) -> str:
    """The longest name that begins as `stem` does and ends with `suffix`."""
    return stem[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore") + suffix


def require_name(name: str) -> None:
    """EINVAL unless `name` is 1 to 255 bytes of UTF-8 without control characters (category Cc, NUL among them)."""
    if name.isascii() and name.isprintable() and 1 <= len(name) <= NAME_BYTES_MAX:
        return
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise EngineError(EINVAL, "the name is not valid Unicode") from None
    if not 1 <= size <= NAME_BYTES_MAX:
        raise EngineError(EINVAL, f"the name has {size} bytes, not 1 to {NAME_BYTES_MAX}")
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        raise EngineError(EINVAL, "the name has a control character")
