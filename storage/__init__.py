"""What remembers: the LMDB store of pages and the SQL accounts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.lmdb.opening import open_store

__all__ = ["open_store"]


def __getattr__(name: str) -> Any:
    """Load the store when it is asked for: commands about accounts do without it and its libraries."""
    if name != "open_store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from storage.lmdb.opening import open_store

    return open_store
