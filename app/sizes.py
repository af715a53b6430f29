"""Sizes as people write them."""

import re
from typing import Final

SIZE: Final = re.compile(r"(?P<number>[0-9]{1,19})(?:(?P<unit>[KMGT])(?:iB)?)?")
"""Units are powers of 1024."""


def size_of(text: str) -> int | None:
    """Bytes: 1073741824, 512M or 10GiB; None for anything else."""
    sized = SIZE.fullmatch(text)
    return None if sized is None else int(sized["number"]) << 10 * " KMGT".index(sized["unit"] or " ")
