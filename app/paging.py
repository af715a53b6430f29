"""Lists in parts: `limit` items, and an opaque cursor that says after which key the next part begins.

A cursor names a key, not a position: items that come or go between two requests neither repeat nor hide others.
"""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

from app.errors import bad_input

V = TypeVar("V")

_PREFIX = b"after:"


def after(cursor: str | None) -> int:
    """The key behind which a part begins; -1 for the first part. EINVAL: not one of our cursors."""
    if cursor is None:
        return -1
    try:
        text = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise bad_input("cursor is not one of this service's") from None
    digits = text.removeprefix(_PREFIX)
    if digits == text or not digits.isdigit() or len(digits) > 24:
        raise bad_input("cursor is not one of this service's")
    return int(digits)


def cursor_after(key: int) -> str:
    """The cursor of the part that begins behind `key`."""
    return base64.urlsafe_b64encode(_PREFIX + str(key).encode("ascii")).decode("ascii")


def part(
    items: Sequence[V], key: Callable[[V], int], cursor: str | None, limit: int
) -> tuple[Sequence[V], str | None]:
    """The items of one part and the cursor of the next. `items` ascend by `key`, which is never negative."""
    first = bisect_right(items, after(cursor), key=key)
    chosen = items[first : first + limit]
    more = first + limit < len(items)
    return chosen, cursor_after(key(chosen[-1])) if more else None
