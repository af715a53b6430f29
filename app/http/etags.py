"""Entity tags of what the control routes answer, and the preconditions of RFC 9110 section 13.

A tag is a digest of the answer's bytes: strong, the same after a restart, and another one whenever anything in the
answer is another.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

from app.errors import ESTALE
from engine.errors import EngineError

TAG_BYTES: Final = 12
"""Of the digest; two states of one thing share a tag about once in 2**48 changes."""

_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def etag_of(body: bytes | bytearray | memoryview) -> str:
    """The strong tag of an answer's body."""
    return f'"{blake2b(body, digest_size=TAG_BYTES).hexdigest()}"'


def names(header: bytes | None, etag: str, *, weak: bool = False) -> bool:
    """Whether an If-Match or (weak) If-None-Match header names this strong tag, or any by `*`. Absent names nothing."""
    if header is None:
        return False
    text = header.decode("latin-1").strip()
    if text == "*":
        return True
    return any(
        found[0].removeprefix("W/") == etag and (weak or found[1] is None) for found in _TAG.finditer(text)
    )


@dataclass(frozen=True, slots=True)
class Conditions:
    """If-Match and If-None-Match of one request, as they came; several lines of one header are one list."""

    match: bytes | None
    none_match: bytes | None

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Self | None:
        """Those among the headers of a request; None if there are none."""
        match = none_match = None
        for name, value in headers:
            if name == b"if-match":
                match = value if match is None else match + b", " + value
            elif name == b"if-none-match":
                none_match = value if none_match is None else none_match + b", " + value
        return None if match is none_match is None else cls(match, none_match)

    def require_match(self, etag: str | None) -> None:
        """ESTALE: If-Match does not name what there is; `etag` is None where there is nothing."""
        if self.match is None:
            return
        if etag is None:
            raise EngineError(ESTALE, "there is nothing that If-Match could name")
        if not names(self.match, etag):
            raise EngineError(ESTALE, "it has changed since", etag=etag)

    def unchanged(self, etag: str) -> bool:
        """Whether If-None-Match names what there is, so that a reader need not get it again."""
        return names(self.none_match, etag, weak=True)

    def judge(self, etag: str | None) -> None:
        """For what changes: ESTALE unless both hold."""
        self.require_match(etag)
        if etag is not None and self.unchanged(etag):
            raise EngineError(ESTALE, "it is there already, as If-None-Match says it must not be", etag=etag)
