"""Mapping into a space that nobody has to be in (the AS patch: as_mmap, as_munmap, as_mprotect; Barrelfish: vas_map).

Everybody who has the space attached sees the change at once; what would collide with one of them is refused.
"""

from typing import Final

from engine.access import Access
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.constants import MAP_LOCKED, MAP_POPULATE
from engine.credentials import Credentials
from engine.spaces.spaces import Space
from engine.union import Counters, Union

_FOR_TASKS: Final = MAP_LOCKED | MAP_POPULATE
"""Flags without meaning where no task is."""


def vas_mmap(cred: Credentials, space: Space, address: int, length: int, prot: int, flags: int) -> int:
    """mmap(2) into a space; the address. As `calls.mmap`; EACCES: the mode's write bit; EPERM: a snapshot."""
    return mmap(_alone(cred, space), address, length, prot, flags & ~_FOR_TASKS)


def vas_munmap(cred: Credentials, space: Space, address: int, length: int) -> None:
    """munmap(2) in a space. As `calls.mmap.munmap`, EBUSY for a segment; EACCES, EPERM as above."""
    seen = _alone(cred, space)
    if length > 0:
        space.memory.refuse_segments(address, address + length)
    munmap(seen, address, length)


def vas_mprotect(cred: Credentials, space: Space, address: int, length: int, prot: int) -> None:
    """mprotect(2) in a space. As `calls.mprotect`; EACCES, EPERM as above."""
    mprotect(_alone(cred, space), address, length, prot)


def _alone(cred: Credentials, space: Space) -> Union:
    """A space as if it were an original address space."""
    space.owner.require(cred, Access.WRITE, f"space {space.vid}")
    space.require_mutable()
    return Union(space.memory, Counters())
