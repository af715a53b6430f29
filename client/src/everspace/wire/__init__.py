"""What the client and the service agree on: names, limits and the spelling of numbers.

Pure standard library and no state. The service imports this module and nothing else of the SDK,
so a name that both sides must spell alike is spelled here, once.

Where a call's optional `tid` travels: as a member of the JSON body where the request has one (mmap,
fork, threads, heap, ...), as a query parameter where it has none (GET and PUT of memory) and beside
`atomic` in the query of a batch. A call inside a batch may also name a `tid` among its own args.

What a call inside a batch gives as its `value` is what the SDK's call of that name returns: an id as an
integer, an address as a hex string, bytes as base64, attributes as the object that GET answers, a new
task or thread as the object that its POST answers, and 0 where there is nothing to return.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# -- routes -------------------------------------------------------------------------------------
API_PREFIX: Final = "/v1"
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8765

# -- headers and media types --------------------------------------------------------------------
HEADER_INSTANCE: Final = "Everspace-Instance"
"""On every response: a random id per start of the service (also `instance` of GET /version).

On a request about a task it is a condition: the task was made under this instance. Pids start anew with the
service, so a service of another instance refuses with ESRCH, whatever task has that pid now, and does nothing.
"""
HEADER_REQUEST_ID: Final = "X-Request-Id"
"""Sent by the client, echoed by the service; made by the service where the client sent none."""
HEADER_KEY: Final = "Idempotency-Key"
"""On a POST that makes something: asked again under the same key it is not done again, for a day."""
HEADER_REPLAYED: Final = "Idempotent-Replayed"
"""On an answer that was given before, under the same key."""

MEDIA_BYTES: Final = "application/octet-stream"
MEDIA_JSON: Final = "application/json"
MEDIA_PROBLEM: Final = "application/problem+json"
MEDIA_TEXT: Final = "text/plain; charset=utf-8"

# -- limits -------------------------------------------------------------------------------------
BATCH_CALLS_MAX: Final = 10_000
"""Calls in one batch; more is E2BIG."""
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of one request body and of one memory or segment read, as the service is set by default; more is E2BIG."""
LEASE_SECONDS_DEFAULT: Final = 60.0
LEASE_SECONDS_MAX: Final = 86_400.0
LEASE_SECONDS_MIN: Final = 1.0
LIST_LIMIT_DEFAULT: Final = 100
LIST_LIMIT_MAX: Final = 1000
LIST_LIMIT_MIN: Final = 1

# -- names of small enumerations ----------------------------------------------------------------
TYPE_NAMES: Final[Mapping[int, str]] = MappingProxyType({0: "ro", 1: "wo", 2: "rw"})
"""Attach types: O_RDONLY, O_WRONLY, O_RDWR and what JSON calls them."""
TYPE_VALUES: Final[Mapping[str, int]] = MappingProxyType({name: value for value, name in TYPE_NAMES.items()})
SHARING_NAMES: Final = ("exclusive", "shared", "lockable")
LIFETIME_NAMES: Final = ("persistent", "transient")
"""`transient`: gone with the last attachment, at the latest with the service."""
RESOURCE_NAMES: Final = ("address_space", "data", "stack", "locked", "map_count")
"""What prlimit limits: bytes, and the number of regions."""
DURABILITY_NAMES: Final = ("commit", "relaxed")
"""`commit`: on stable storage before the answer. `relaxed`: at once; msync makes it durable."""

# -- errors -------------------------------------------------------------------------------------
ERRNO_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "E2BIG": 413,
        "EACCES": 403,
        "EAGAIN": 429,
        "EBUSY": 409,
        "EDQUOT": 429,
        "EEXIST": 409,
        "EFAULT": 422,
        "EINVAL": 400,
        "EIO": 500,
        "ENOENT": 404,
        "ENOMEM": 507,
        "ENOSPC": 507,
        "EPERM": 403,
        "ESRCH": 404,
        "ESTALE": 412,
        "ETIMEDOUT": 408,
    }
)
"""Every errno a call may end with, and the HTTP status of its problem document."""

_DIGITS: Final = frozenset("0123456789")
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def hex_address(address: int) -> str:
    """The spelling of an address in JSON and in queries: lower-case hex with 0x, no padding.

    A negative address keeps its sign: it is shown to people, and nothing reads it as an address.
    """
    return f"{address:#x}"


def parse_address(value: object) -> int:
    """An address out of a JSON value or a query: an int, a "0x…" string or a decimal string.

    Raises ValueError for anything else: bools, floats, strings with a sign, "0X…", underscores, spaces.
    Whether the address lies in the geometry is not judged here; a negative integer is returned as it is.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 40:
        if value[:2] == "0x" and len(value) > 2 and _HEX_DIGITS.issuperset(value[2:]):
            return int(value, 16)
        if value and _DIGITS.issuperset(value):
            return int(value)
    raise ValueError(f"not an address: {value!r:.60}")


def parse_type(value: object) -> int:
    """An attach type out of a JSON value: "ro", "wo", "rw", or an integer that the engine is to judge.

    Raises ValueError for an unknown name and for any other kind of value.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value in TYPE_VALUES:
        return TYPE_VALUES[value]
    raise ValueError(f"not an attach type: {value!r:.60} (ro, wo or rw)")
