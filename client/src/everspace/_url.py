"""Where the service is, and whom to trust there: what the caller gave, or the environment."""

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from everspace.wire import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    import ssl

Files = str | os.PathLike[str]
Certificate = Files | tuple[Files, Files]
"""A PEM file with certificate and key, or one for each."""

URL_VARIABLE: Final = "EVERSPACE_URL"
TOKEN_VARIABLE: Final = "EVERSPACE_TOKEN"  # noqa: S105 - the name of a variable
CA_VARIABLE: Final = "EVERSPACE_CA"
CERT_VARIABLE: Final = "EVERSPACE_CERT"
KEY_VARIABLE: Final = "EVERSPACE_KEY"
_UNIX_SCHEMES: Final = ("unix", "http+unix")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP address (`host`, `port`, with TLS or not) or the `path` of a Unix socket; `prefix` goes before /v1.

    `trust` says whom to trust and who we are, by TLS; None is whom the system trusts.
    """

    host: str
    port: int
    tls: bool = False
    path: str = ""
    prefix: str = ""
    trust: "ssl.SSLContext | None" = field(default=None, compare=False, repr=False)

    @property
    def authority(self) -> str:
        """The Host header."""
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"


def parse_url(url: str) -> Endpoint:
    """http://host:port, https://…, unix:/path/to/socket (also unix:///path). ValueError says what is wrong."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme.lower() in _UNIX_SCHEMES:
        path = unquote(rest.removeprefix("//"))
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"not a Unix socket's URL: {url!r} (unix:/path/to/socket)")
        return Endpoint("", 0, path=path)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not a service's URL: {url!r} (http://host:port, https://host or unix:/path)")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold credentials: give the token as token= or in " + TOKEN_VARIABLE)
    if parts.query or parts.fragment:
        raise ValueError(f"a service's URL has no query and no fragment: {url!r}")
    tls = parts.scheme == "https"
    if not (
        parts.hostname.isascii()
        and parts.path.isascii()
        and parts.path.isprintable()
        and " " not in parts.path
    ):
        raise ValueError(f"not a service's URL: {url!r}")
    default = 443 if tls else 80
    return Endpoint(parts.hostname, parts.port or default, tls=tls, prefix=parts.path.rstrip("/"))


def find_endpoint(url: str | None, ca: Files | None = None, cert: Certificate | None = None) -> Endpoint:
    """The argument, else EVERSPACE_URL, else this machine's default port.

    With https:// also whom to trust, `ca`, else EVERSPACE_CA, and who we are, `cert`, else EVERSPACE_CERT with
    EVERSPACE_KEY. ValueError for files that cannot be used, and for arguments that have no meaning without https://.
    """
    endpoint = parse_url(url or os.environ.get(URL_VARIABLE) or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}")
    if not endpoint.tls:
        if ca is not None or cert is not None:
            raise ValueError(f"certificates have no meaning at {endpoint}: it is not https")
        return endpoint
    ca = ca or os.environ.get(CA_VARIABLE) or None
    if cert is None and (chain := os.environ.get(CERT_VARIABLE)):
        key = os.environ.get(KEY_VARIABLE)
        cert = (chain, key) if key else chain
    if ca is None and cert is None:
        return endpoint
    from everspace._tls import context

    return replace(endpoint, trust=context(ca, cert))


def trust_of(endpoint: Endpoint) -> "ssl.SSLContext":
    """The context of an https:// endpoint."""
    if endpoint.trust is not None:
        return endpoint.trust
    from everspace._tls import context

    return context()


def find_token(token: str | None) -> str | None:
    """The argument, else EVERSPACE_TOKEN, else none. ValueError for what no header can carry."""
    found = token if token is not None else os.environ.get(TOKEN_VARIABLE)
    if found and not (found.isascii() and found.isprintable() and " " not in found):
        raise ValueError("a token is printable ASCII without blanks")
    return found or None
