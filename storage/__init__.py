"""What remembers: the LMDB store of pages and the SQL accounts."""

from storage.opening import open_store

__all__ = ["open_store"]
