"""Room at the end of the store file, taken from the disk before a commit needs it.

A full disk is thus found before anything is written, and a small reserve stays behind it: deleting spaces, segments
and pages still works when nothing else does, and that is what makes room again.
"""

import errno
import os
import resource
from pathlib import Path
from typing import Final

from storage.errors import StoreFailed, StoreFull
from storage.lmdb.tables import FULL_CODES, Tables

RESERVE_BYTES: Final = 1 << 20
"""Kept for commits that put no page."""
STEP_BYTES: Final = 4 << 20
"""The file grows by this much at a time."""
COMMIT_PAGES: Final = 64
"""LMDB pages that a commit may need beside its chunks and rows: the paths of its trees and the list of free pages."""
_NOT_SUPPORTED: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Headroom:
    """Grows the store file ahead of LMDB. Used by the committing thread alone."""

    def __init__(self, path: Path, tables: Tables) -> None:
        self._tables = tables
        self.page_bytes: int = tables.env.stat()["psize"]
        """Size of LMDB's pages."""
        self._map_bytes = tables.env.info()["map_size"]
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._taken = os.fstat(self._file).st_size

    def secure(self, wanted: int, *, puts_pages: bool) -> None:
        """Take room for a commit of `wanted` bytes. Raises StoreFull when there is none for one that puts pages.

        What LMDB has free is counted half: free pages that do not lie together cannot hold a chunk.
        """
        if self._end(wanted) <= self._taken:
            return
        fits = self._free_bytes() >= 2 * wanted + RESERVE_BYTES
        end = self._end(0 if fits else wanted)
        if end <= self._taken or self._grow(end + STEP_BYTES) or self._grow(end):
            return
        if puts_pages and not fits:
            raise StoreFull(
                "no space left on the disk" if end <= self._map_bytes else "no space left in the map"
            )

    def lacks(self, wanted: int) -> bool:
        """After a commit of `wanted` bytes has failed: whether the disk has no room for it, or the limit on file sizes."""
        end, limit = self._end(wanted), resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and limit < self._taken:
            return True  # the file is larger than it may be by now
        return end > self._taken and not self._grow(end)

    def _end(self, wanted: int) -> int:
        """Where the file would end if `wanted` bytes, and what goes with them, were all put behind its last page."""
        pages = self._tables.env.info()["last_pgno"] + 1 + COMMIT_PAGES
        return pages * self.page_bytes + wanted + RESERVE_BYTES

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def _grow(self, end: int) -> bool:
        """Take the file up to `end` from the disk, if it is there."""
        if end > self._map_bytes:
            return False
        try:
            os.posix_fallocate(self._file, self._taken, end - self._taken)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                return _refused(error)
            return self._fill(end)
        self._taken = end
        return True

    def _fill(self, end: int) -> bool:
        """`_grow` for a file system that has no fallocate: write zeros."""
        position = self._taken
        try:
            while position < end:
                position += os.pwrite(self._file, bytes(min(end - position, RESERVE_BYTES)), position)
        except OSError as error:
            os.ftruncate(self._file, self._taken)
            return _refused(error)
        self._taken = end
        return True

    def _free_bytes(self) -> int:
        """Bytes of the file that LMDB can use again."""
        pages = self._tables.env.info()["last_pgno"] + 1 - self._tables.used_pages()
        return pages * self.page_bytes


def _refused(error: OSError) -> bool:
    """False, when the disk is full. Raises StoreFailed for any other error."""
    if error.errno in FULL_CODES:
        return False
    raise StoreFailed(f"growing the store file failed: {error.strerror}") from error
