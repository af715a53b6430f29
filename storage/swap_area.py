"""The swap area: page frames of tasks' own memory that were put aside, in the file `swap` of the data directory.

Nothing in it outlives the service: it is emptied when it is opened, whatever a crash left there, and removed when it is
closed. Each page is remembered with the xxh3_64 of its slot and its bytes, so that what comes back is what was stored.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from xxhash import xxh3_64_intdigest

from storage.errors import StoreUnusable

SWAP_FILE: Final = "swap"


class SwapFile:
    """`capacity` slots of one page each, for one process. An `engine.ports.SwapArea`.

    A slot belongs to whoever stored into it last; a store that fails leaves its slots without a meaning.
    """

    def __init__(self, path: Path, page_size: int, capacity: int) -> None:
        """Make the file anew, empty and for its owner alone. Raises StoreUnusable: it cannot be made, or is no plain file."""
        self.capacity = capacity
        self._path = path
        self._page_size = page_size
        # Zeros that are not touched cost nothing: a large area is dear only as far as it is used.
        try:
            self._sums = np.zeros(capacity, np.uint64)
        except MemoryError:
            raise StoreUnusable(
                f"a swap area of {capacity} pages is more than this machine can keep track of"
            ) from None
        self._file = _emptied(path)

    def store(self, slots: Sequence[int], data: memoryview) -> None:
        """Put pages into slots, in order; `data` holds them one behind the other. Raises OSError (ENOSPC, EIO)."""
        size, view = self._page_size, data.cast("B")
        if view.nbytes != len(slots) * size:
            raise ValueError(f"{view.nbytes} bytes for {len(slots)} slots of {size}")
        self._require(slots)
        for first, count in _runs(slots):
            start = slots[first]
            run = view[first * size : (first + count) * size]
            self._write(run, start * size)
            self._sums[start : start + count] = [
                xxh3_64_intdigest(run[page * size : (page + 1) * size], start + page) for page in range(count)
            ]

    def load(self, slots: Sequence[int]) -> bytes:
        """The pages of slots, one behind the other. Raises OSError: EIO for bytes that are not what was stored."""
        self._require(slots)
        size, parts = self._page_size, []
        for first, count in _runs(slots):
            start = slots[first]
            run = self._read(count * size, start * size)
            for page in range(count):
                found = xxh3_64_intdigest(run[page * size : (page + 1) * size], start + page)
                if found != int(self._sums[start + page]):
                    raise OSError(
                        errno.EIO, f"slot {start + page} of the swap area does not match its checksum"
                    )
            parts.append(run)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Remove the file. Idempotent."""
        if self._file < 0:
            return
        opened, self._file = self._file, -1
        try:
            os.ftruncate(opened, 0)
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        finally:
            os.close(opened)

    def _require(self, slots: Sequence[int]) -> None:
        if slots and not (min(slots) >= 0 and max(slots) < self.capacity):
            raise ValueError(f"the swap area has slots 0 to {self.capacity - 1}")

    def _write(self, run: memoryview, position: int) -> None:
        while run.nbytes:
            written = os.pwrite(self._file, run, position)
            run, position = run[written:], position + written

    def _read(self, length: int, position: int) -> bytes:
        run = os.pread(self._file, length, position)
        while len(run) < length:
            more = os.pread(self._file, length - len(run), position + len(run))
            if not more:
                raise OSError(errno.EIO, "the swap area is shorter than what was stored in it")
            run += more
        return run


def open_swap(data_dir: Path, page_size: int, size: int) -> SwapFile | None:
    """The swap area of a data directory that the caller owns, of `size` bytes at most; None for less than a page."""
    capacity = size // page_size
    return SwapFile(data_dir / SWAP_FILE, page_size, capacity) if capacity else None


def _runs(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where slots that follow each other begin in `slots`, and how many they are."""
    first = 0
    for place in range(1, len(slots) + 1):
        if place == len(slots) or slots[place] != slots[place - 1] + 1:
            yield first, place - first
            first = place


def _emptied(path: Path) -> int:
    """The file, open and empty. A link is not followed: it would empty somebody else's file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        opened = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StoreUnusable(f"{path} is not a plain file") from None
        raise StoreUnusable(f"{path} cannot be used as swap area: {error.strerror}") from error
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise StoreUnusable(f"{path} is not a plain file of this directory alone")
        os.fchmod(opened, 0o600)
        os.ftruncate(opened, 0)
    except BaseException as error:
        os.close(opened)
        if isinstance(error, OSError):
            raise StoreUnusable(f"{path} cannot be used as swap area: {error.strerror}") from error
        raise
    return opened
