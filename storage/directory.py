"""The data directory: made when missing, owned by one process at a time through a locked file.

A restore puts several files in place at once: it moves them all into `restored` first, which is the moment when it
happened, and whoever claims the directory next takes them out of there, if the restore itself could not.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.errors import DataDirInUse, StoreUnusable
from storage.failpoints import killpoint

LOCK_FILE: Final = "lock"
STORE_FILE: Final = "store.lmdb"
ACCOUNTS_FILE: Final = "accounts.sqlite"
ACCOUNTS_JOURNALS: Final = ("accounts.sqlite-wal", "accounts.sqlite-shm", "accounts.sqlite-journal")
RESTORED: Final = "restored"
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
            elif not (path / STORE_FILE).is_file() and not (path / RESTORED).is_dir():
                raise StoreUnusable(f"{path} is not a data directory: it has no {STORE_FILE}")
            lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise StoreUnusable(f"{path} is not a directory") from None
        except OSError as error:
            raise unusable(path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            if error.errno in _BUSY:
                owner = f"process {holder}" if holder else "another process"
                raise DataDirInUse(f"{path} is in use by {owner}") from None
            raise StoreUnusable(f"{path} cannot be locked: {error.strerror}") from error
        with suppress(OSError):  # the lock holds without its text, which a full disk may refuse
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        directory = DataDir(path, lock)
        try:
            directory.take_restored()
        except OSError as error:
            directory.release()
            raise StoreUnusable(f"{path}: a restore cannot be completed: {error.strerror}") from error
        return directory

    @staticmethod
    def settle(path: Path) -> None:
        """Complete a restore that was cut short, for those who do not claim the directory. Raises as `claim`."""
        try:
            cut_short = (path / RESTORED).is_dir()
        except OSError as error:
            raise unusable(path, error) from error
        if cut_short:
            DataDir.claim(path, create=False).release()

    def take_restored(self) -> None:
        """Put the files of a restore, if there is one, in the place of what there was. Raises OSError; then again."""
        restored = self.path / RESTORED
        if not restored.is_dir():
            return
        for name in (ACCOUNTS_FILE, STORE_FILE):
            if not (restored / name).exists():
                continue
            if name == ACCOUNTS_FILE:
                for journal in ACCOUNTS_JOURNALS:
                    (self.path / journal).unlink(missing_ok=True)
            (restored / name).replace(self.path / name)
            killpoint("restore.moved")
        sync_names(self.path, restored)
        restored.rmdir()
        sync_names(self.path)

    def sync(self) -> None:
        """Make the names of new files durable."""
        sync_names(self.path, self.path.parent)

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def unusable(path: Path, error: OSError) -> StoreUnusable:
    """A directory that the system does not let us into."""
    return StoreUnusable(f"{path} cannot be used as a data directory: {error.strerror}")


def sync_names(*directories: Path) -> None:
    """Make the names in directories durable. Raises OSError."""
    for directory in directories:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
