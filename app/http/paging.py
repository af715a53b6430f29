"""Lists in parts: `limit` items, and an opaque cursor that says after which key the next part begins.

A cursor names a key, not a position: items that come or go between two requests neither repeat nor hide others.
"""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from app.errors import bad_input

V = TypeVar("V")

_PREFIX = b"after:"
_PREFIX_NAME = b"name:"


def after(cursor: str | None) -> int:
    """The key behind which a part begins; -1 for the first part. EINVAL: not one of our cursors."""
    if cursor is None:
        return -1
    digits = _opened(cursor, _PREFIX)
    if not digits.isdigit() or len(digits) > 24:
        raise bad_input("cursor is not one of this service's")
    return int(digits)


def cursor_after(key: int) -> str:
    """The cursor of the part that begins behind `key`."""
    return _sealed(_PREFIX, str(key).encode("ascii"))


def _opened(cursor: str, prefix: bytes) -> bytes:
    """What a cursor says. EINVAL: it is not one of this kind."""
    try:
        text = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise bad_input("cursor is not one of this service's") from None
    if not text.startswith(prefix):
        raise bad_input("cursor is not one of this service's")
    return text.removeprefix(prefix)


def _sealed(prefix: bytes, text: bytes) -> str:
    return base64.urlsafe_b64encode(prefix + text).decode("ascii")


def part(
    items: Sequence[V], key: Callable[[V], int], cursor: str | None, limit: int
) -> tuple[Sequence[V], str | None]:
    """The items of one part and the cursor of the next. `items` ascend by `key`, which is never negative."""
    first = bisect_right(items, after(cursor), key=key)
    chosen = items[first : first + limit]
    more = first + limit < len(items)
    return chosen, cursor_after(key(chosen[-1])) if more else None


def part_of_names(
    items: Mapping[str, V], cursor: str | None, limit: int
) -> tuple[Sequence[tuple[str, V]], str | None]:
    """The same of things by name, in the order of their code points."""
    behind = ""  # no name is empty
    if cursor is not None:
        try:
            behind = _opened(cursor, _PREFIX_NAME).decode("utf-8")
        except UnicodeDecodeError:
            raise bad_input("cursor is not one of this service's") from None
    names = sorted(items)
    first = bisect_right(names, behind)
    chosen = [(name, items[name]) for name in names[first : first + limit]]
    more = first + limit < len(names)
    return chosen, _sealed(_PREFIX_NAME, chosen[-1][0].encode("utf-8")) if more else None
