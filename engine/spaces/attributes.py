"""What spaces and segments are, beside owner and mode: persistent or transient, changeable or a snapshot."""

from typing import Final

from engine.changes import SNAPSHOT, TRANSIENT
from engine.errors import EINVAL, EPERM, EngineError

PERSISTENT_NAME: Final = "persistent"
TRANSIENT_NAME: Final = "transient"
LIFETIMES: Final = (PERSISTENT_NAME, TRANSIENT_NAME)
"""How long a space or a segment lives: until it is deleted, or until its last attachment goes, a restart at the latest."""


def with_lifetime(flags: int, lifetime: str) -> int:
    """`flags` for a lifetime. EINVAL: no such word."""
    if lifetime not in LIFETIMES:
        raise EngineError(EINVAL, f"lifetime {lifetime!r} is not one of {', '.join(LIFETIMES)}")
    return flags | TRANSIENT if lifetime == TRANSIENT_NAME else flags & ~TRANSIENT


def lifetime_of(flags: int) -> str:
    """The word for `flags`."""
    return TRANSIENT_NAME if flags & TRANSIENT else PERSISTENT_NAME


def require_mutable(flags: int, what: str) -> None:
    """EPERM for a snapshot: nobody changes it, root neither."""
    if flags & SNAPSHOT:
        raise EngineError(EPERM, f"{what} is a snapshot and cannot be changed")
