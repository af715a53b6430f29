"""Root pointers: addresses by name that a space keeps, where a program begins to follow its pointers (Barrelfish: vas_set_root)."""

from engine.changes import DropRoot, PutRoot
from engine.constants import ROOTS_MAX
from engine.errors import EINVAL, ENOENT, ENOSPC, EngineError
from engine.geometry import Geometry
from engine.journal import Journal
from engine.names import require_name
from engine.spaces.spaces import Space


def set_root(journal: Journal, geometry: Geometry, space: Space, name: str, address: int) -> None:
    """Let a root name an address. EINVAL: name, or no address of the user's range; EPERM: a snapshot; ENOSPC: too many."""
    require_name(name)
    if not geometry.user_start <= address < geometry.user_end:
        raise EngineError(
            EINVAL,
            f"{address:#x} is not in {geometry.user_start:#x}-{geometry.user_end:#x}",
            address=address,
        )
    space.require_mutable()
    if len(space.roots) >= ROOTS_MAX and name not in space.roots:
        raise EngineError(ENOSPC, f"space {space.vid} has {ROOTS_MAX} roots")
    _put(journal, space, name, address)
    journal.change(PutRoot(space.vid, name, address), space)


def get_root(journal: Journal, space: Space, name: str) -> int:
    """The address that a root names. EINVAL: name; ENOENT: no such root."""
    require_name(name)
    journal.touch(space)
    address = space.roots.get(name)
    if address is None:
        raise EngineError(ENOENT, f"space {space.vid} has no root {name!r}")
    return address


def delete_root(journal: Journal, space: Space, name: str) -> None:
    """Forget a root. EINVAL: name; ENOENT; EPERM: a snapshot."""
    get_root(journal, space, name)
    space.require_mutable()
    _put(journal, space, name, None)
    journal.change(DropRoot(space.vid, name), space)


def _put(journal: Journal, space: Space, name: str, address: int | None) -> None:
    before = space.roots.get(name)
    if address is None:
        del space.roots[name]
    else:
        space.roots[name] = address
    journal.undo(_put_back, space, name, before)


def _put_back(space: Space, name: str, address: int | None) -> None:
    if address is None:
        del space.roots[name]
    else:
        space.roots[name] = address
