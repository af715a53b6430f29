"""Byte ranges of RFC 9110, section 14, and If-Range."""

import re
from typing import Final

from app.errors import HttpProblem, bad_input

RANGES_MAX: Final = 64
"""More ranges in one request are ignored, as RFC 9110 section 14.2 allows."""
HUGE: Final = 10**30
_DIGITS_MAX: Final = 30

_RANGE_SET = re.compile(r"bytes\s*=\s*(.*)", re.IGNORECASE | re.ASCII | re.DOTALL)
_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,30})-(\d{1,30})/(\*|\d{1,30})", re.IGNORECASE | re.ASCII)

Span = tuple[int, int]
"""First and one past the last byte."""


def requested(header: str | None, size: int) -> list[Span] | None:
    """The satisfiable spans of a Range header, in its order; None to send everything.

    A malformed header, or another unit, is ignored. 416 if no range overlaps the `size` bytes there are.
    """
    if header is None:
        return None
    matched = _RANGE_SET.fullmatch(header.strip())
    if matched is None:
        return None
    spans = []
    texts = [text.strip() for text in matched[1].split(",")]
    if len(texts) > RANGES_MAX:
        return None
    for text in filter(None, texts):
        found = _RANGE.fullmatch(text)
        if found is None or text == "-":
            return None
        first, last = _number(found[1]), _number(found[2])
        if first is None:
            start, stop = max(0, size - (last or 0)), size
        else:
            if last is not None and last < first:
                return None
            start, stop = first, size if last is None else min(last + 1, size)
        if start < stop:
            spans.append((start, stop))
    if not any(texts):
        return None
    if not spans:
        raise HttpProblem(416, f"no byte of the range exists: there are {size}", content_range(None, size))
    return spans


def written(header: bytes | None, length: int, size: int) -> int:
    """The offset that a Content-Range names for a body of `length` bytes. EINVAL: missing, malformed, contradicting."""
    matched = None if header is None else _CONTENT_RANGE.fullmatch(header.decode("latin-1").strip())
    if matched is None:
        raise bad_input("a Content-Range of the form 'bytes FIRST-LAST/*' is needed")
    first, last = int(matched[1]), int(matched[2])
    if last < first or last + 1 - first != length:
        raise bad_input(f"Content-Range names {max(0, last + 1 - first)} bytes, the body has {length}")
    if matched[3] != "*" and int(matched[3]) != size:
        raise bad_input(f"Content-Range says {matched[3]} bytes in all, there are {size}")
    return first


def content_range(span: Span | None, size: int) -> tuple[bytes, bytes]:
    """The Content-Range header of a part; of none, for 416."""
    text = "*" if span is None else f"{span[0]}-{span[1] - 1}"
    return b"content-range", f"bytes {text}/{size}".encode("ascii")


def still_same(header: bytes | None, etag: str) -> bool:
    """If-Range: whether the range may be sent. A date never matches, since there is no Last-Modified."""
    return header is None or header.decode("latin-1").strip() == etag


def _number(digits: str) -> int | None:
    if not digits:
        return None
    return int(digits) if len(digits) <= _DIGITS_MAX else HUGE
