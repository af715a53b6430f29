"""What the disk may hold after a power failure: every write that no sync has covered is there, or not, or in parts.

`Disk` follows the calls of a process on one file. What was written is on the way until the file is synced, or at once
when it was opened with O_DSYNC, as LMDB opens it to write meta pages. `images` yields files that a power failure could
have left at this moment. A sector of 512 bytes is taken to be written whole or not at all, as LMDB demands of a disk.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.crash.below import Call

SECTOR: Final = 512


@dataclass
class Disk:
    """A file, and what is on the way to it."""

    durable: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset, bytes) of writes that no sync has covered, in order."""
    size: int = 0
    """Of the file as processes see it."""
    early: list[str] = field(default_factory=list)
    """Synchronous writes that began while others were on the way: a meta page before its pages."""

    def follow(self, call: Call) -> None:
        """Take note of a call that is about to be made. What it says is durable is so only at the next `done`."""
        self.done()
        if call.name in ("pwrite", "writev"):
            self._under_way = (call.offset, call.data)
            self._synchronous = bool(flags_of(call) & os.O_DSYNC)
            if self._synchronous and self.waiting:
                self.early.append(f"a synchronous write at {call.offset} before {len(self.waiting)} others")
        elif call.name in ("fdatasync", "fsync"):
            self._syncing = True
        elif call.name == "fallocate":
            self.size = max(self.size, call.arguments[2] + call.arguments[3])
        elif call.name == "ftruncate":
            self.size = call.arguments[1]

    def done(self) -> None:
        """The call followed last has returned."""
        if self._under_way is not None:
            offset, data = self._under_way
            self.size = max(self.size, offset + len(data))
            if self._synchronous:
                put(self.durable, offset, data)
            else:
                self.waiting.append(self._under_way)
        elif self._syncing:
            for offset, data in self.waiting:
                put(self.durable, offset, data)
            self.durable.extend(bytes(max(0, self.size - len(self.durable))))
            self.waiting.clear()
        self._under_way, self._syncing = None, False

    def images(self, rng: Random, count: int) -> Iterator[bytes]:
        """Files that a power failure could leave now: nothing, all, and `count` other parts of what is on the way."""
        writes = [*self.waiting, *([self._under_way] if self._under_way is not None else [])]
        sectors = [sector for write in writes for sector in cut(*write)]
        yield self._image([])
        if not sectors:
            return
        yield self._image(sectors)
        for _ in range(count):
            share = rng.choice((0.02, 0.2, 0.5, 0.8, 0.98))
            chosen = [sector for sector in sectors if rng.random() < share]
            yield self._image(chosen, cut_off=rng.random() < 0.3)

    def _image(self, sectors: list[tuple[int, bytes]], *, cut_off: bool = False) -> bytes:
        made = bytearray(self.durable)
        for offset, data in sectors:
            put(made, offset, data)
        if not cut_off:
            made.extend(bytes(max(0, self.size - len(made))))
        return bytes(made)

    _under_way: tuple[int, bytes] | None = None
    _synchronous: bool = False
    _syncing: bool = False


def flags_of(call: Call) -> int:
    """How the file was opened that a call writes to."""
    lines = Path(f"/proc/{call.pid}/fdinfo/{call.arguments[0]}").read_text(encoding="ascii").split()
    return int(lines[lines.index("flags:") + 1], 8)


def put(content: bytearray, offset: int, data: bytes) -> None:
    """Write into a file's content; what lies before becomes zeros where there was nothing."""
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


def cut(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """A write, sector by sector."""
    at = 0
    while at < len(data):
        length = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
        yield offset + at, data[at : at + length]
        at += length
