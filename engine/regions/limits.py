"""Resource limits of a task (setrlimit(2))."""

from dataclasses import dataclass, fields, replace
from typing import Final

from engine.constants import MAP_COUNT_MAX, RLIM_INFINITY
from engine.credentials import Credentials
from engine.errors import EINVAL, EngineError
from engine.geometry import Geometry

LOCKED_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, but `map_count`, which is a number of regions; `RLIM_INFINITY` does not limit.

    A program that starts with an unlimited stack gets its mappings bottom up, as on Linux.
    """

    address_space: int = RLIM_INFINITY
    data: int = RLIM_INFINITY
    stack: int = RLIM_INFINITY
    locked: int = RLIM_INFINITY
    map_count: int = MAP_COUNT_MAX

    def of(self, resource: str) -> int:
        """One limit by its name. EINVAL."""
        if resource not in RESOURCES:
            raise EngineError(EINVAL, f"{resource!r} is none of {', '.join(RESOURCES)}")
        value: int = getattr(self, resource)
        return value

    def with_limit(self, resource: str, value: int) -> "Limits":
        """The same limits but for one. EINVAL: unknown, or no number of bytes or regions."""
        self.of(resource)
        if not 0 <= value <= RLIM_INFINITY:
            raise EngineError(EINVAL, f"a limit of {value}")
        return replace(self, **{resource: value})


RESOURCES: Final = tuple(each.name for each in fields(Limits))
UNLIMITED: Final = Limits()
"""What a space has."""


def default_limits(geometry: Geometry) -> Limits:
    """What a task gets if nobody says otherwise."""
    return Limits(stack=geometry.stack_limit, locked=LOCKED_BYTES)


def limits_for(cred: Credentials, limits: Limits) -> Limits:
    """Root may lock as much memory as it likes (CAP_IPC_LOCK)."""
    return replace(limits, locked=RLIM_INFINITY) if cred.is_root else limits
