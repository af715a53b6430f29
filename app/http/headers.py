"""Security headers: what every answer tells a browser, and what keeps answers with anybody's data out of caches.

An answer that says otherwise itself, as the page /docs and its files do, is left as it is in that.
"""

from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from app.errors import Header

POLICY: Final = b"content-security-policy"
CACHE: Final = b"cache-control"

SECURITY: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (CACHE, b"no-store"),
    (POLICY, b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Bytes are never run, framed, embedded elsewhere, or kept by a cache."""
TRANSPORT: Final[Header] = (b"strict-transport-security", b"max-age=63072000")
"""Two years; only over TLS, where it has a meaning."""
RAW: Final = b"".join(b"%b: %b\r\n" % header for header in SECURITY)
"""The same for answers that are written before there is a request, as those to a head that is too large."""


def security_headers(scope: Scope) -> tuple[Header, ...]:
    """What an answer to this request has beside its own headers."""
    return (*SECURITY, TRANSPORT) if scope.get("scheme") == "https" else SECURITY


def with_common(own: Iterable[Header], common: Iterable[Header]) -> list[Header]:
    """An answer's own headers, and those of `common` that it does not have itself."""
    fields = list(own)
    named = {name.lower() for name, _ in fields}
    return [*fields, *(header for header in common if header[0] not in named)]
