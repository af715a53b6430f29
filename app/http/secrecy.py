"""Tokens are struck out of whatever is written down: log lines, the audit journal, traces."""

import re
from typing import Final

_SECRET: Final = re.compile(r"evs_[\w-]{4,}|(?i:bearer)[ +]+[^\s\"',}]+")
_STRUCK: Final = "(struck out)"


def struck(text: str) -> str:
    """`text` without anything in it that looks like a token."""
    return _SECRET.sub(_STRUCK, text)
