"""The data directory: made when missing, owned by one process at a time through a locked file."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from storage.errors import DataDirInUse, StoreUnusable

LOCK_FILE: Final = "lock"
STORE_FILE: Final = "store.lmdb"
_BUSY: Final = (errno.EAGAIN, errno.EACCES)


class DataDir:
    """A directory whose lock is held until `release`, or until the process ends in whatever way."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @property
    def store_file(self) -> Path:
        """Where the store lies."""
        return self.path / STORE_FILE

    @staticmethod
    def claim(path: Path, *, create: bool) -> "DataDir":
        """Take the directory's lock. Raises DataDirInUse and StoreUnusable."""
        try:
            if create:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not (path / STORE_FILE).is_file():
                raise StoreUnusable(f"{path} is not a data directory: it has no {STORE_FILE}")
            lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise StoreUnusable(f"{path} is not a directory") from None
        except OSError as error:
            raise StoreUnusable(f"{path} cannot be used as a data directory: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            if error.errno in _BUSY:
                owner = f"process {holder}" if holder else "another process"
                raise DataDirInUse(f"{path} is in use by {owner}") from None
            raise StoreUnusable(f"{path} cannot be locked: {error.strerror}") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return DataDir(path, lock)

    def sync(self) -> None:
        """Make the names of new files durable."""
        for directory in (self.path, self.path.parent):
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
