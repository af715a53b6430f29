"""LMDB's two meta pages: which transaction the file holds, and how to take back the last one.

A commit of LMDB first writes its pages to places that the transaction before does not use, syncs them, and then writes
one meta page; the two take turns. So until the next commit the file holds both states whole, and the other meta page
says which one counts. When that last write fails nobody knows what the disk has got of it. `take_back` makes it sure:
it writes the meta page of the transaction before over it, synchronously, with the number of the one before that, since
even numbers belong to the first page and odd ones to the second.

Layout of LMDB 0.9 on 64-bit machines, after a page header of 16 bytes: u32 magic, u32 version, u64 address, u64 map
size, two tables of 48 bytes, u64 last page, u64 transaction.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.errors import StoreFailed

HEADER_BYTES: Final = 16
META_BYTES: Final = 136
FIXED_BYTES: Final = 16
"""Magic, version and address, which no commit writes."""
_HEAD: Final = struct.Struct("=II")
_TRANSACTION: Final = struct.Struct("=Q")
_MAGIC: Final = (0xBEEFC0DE, 1)


@dataclass(frozen=True, slots=True)
class MetaPage:
    """One of the two."""

    place: int
    """Byte of the file where it starts, behind the header of its page."""
    content: bytes

    @property
    def is_whole(self) -> bool:
        """Whether it is a meta page at all."""
        return len(self.content) == META_BYTES and _HEAD.unpack_from(self.content) == _MAGIC

    @property
    def transaction(self) -> int:
        """The transaction that it ends; 0 in a new file."""
        return int(_TRANSACTION.unpack_from(self.content, META_BYTES - _TRANSACTION.size)[0])


def read_meta_pages(file: int, page_bytes: int) -> tuple[MetaPage, MetaPage]:
    """Both meta pages of an open LMDB file with pages of `page_bytes` bytes, as the system shows them."""
    first, second = (
        MetaPage(place, os.pread(file, META_BYTES, place))
        for place in (HEADER_BYTES, page_bytes + HEADER_BYTES)
    )
    return first, second


def take_back(path: Path, page_bytes: int, transaction: int) -> None:
    """Make `transaction` the last one of the file, durably, whatever became of the commit after it.

    Pre: nobody has the file open for writing, and no commit but that one came after. Raises StoreFailed: the disk still
    refuses, or the file is not as LMDB would leave it.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
        try:
            pages = read_meta_pages(file, page_bytes)
            kept = next((page for page in pages if page.is_whole and page.transaction == transaction), None)
            if kept is None or not transaction:
                raise StoreFailed(f"the file does not hold transaction {transaction} any more")
            (other,) = (page for page in pages if page is not kept)
            older = kept.content[FIXED_BYTES : -_TRANSACTION.size] + _TRANSACTION.pack(transaction - 1)
            written = os.pwrite(file, older, other.place + FIXED_BYTES)
        finally:
            os.close(file)
    except OSError as error:
        raise StoreFailed(f"the last commit cannot be taken back: {error.strerror}") from error
    if written != META_BYTES - FIXED_BYTES:
        raise StoreFailed("the last commit cannot be taken back: a write was cut short")
