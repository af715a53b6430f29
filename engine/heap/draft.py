"""What one call sees of a heap, and what it will change: read and checked first, written at the end.

A call that fails, or that lacks pages, has changed nothing. Each page that changes is written once.
"""

from typing import Protocol

from engine.heap.layout import (
    BLOCK_HEADER,
    HEADER_SIZE,
    ROW_SIZE,
    UNIT,
    Block,
    DamagedError,
    Header,
    Links,
    Row,
    decode_block,
    decode_header,
    decode_links,
    decode_row,
    first_block,
    row_offset,
)


class HeapMemory(Protocol):
    """The bytes of a segment, by offset. `size` in bytes."""

    size: int
    page_size: int

    def read(self, offset: int, length: int) -> bytes:
        """Raises PagesNeeded."""

    def write(self, offset: int, data: bytes) -> None:
        """Bytes inside one page. Raises PagesNeeded."""


class Draft:
    """The heap in `memory`, as one call reads and changes it. What is asked for is read once, and checked."""

    def __init__(self, memory: HeapMemory, header: Header) -> None:
        self.memory = memory
        self.header = header
        self.first = first_block(memory.size)
        self._rows: dict[int, Row] = {}
        self._blocks: dict[int, Block] = {}
        self._links: dict[int, Links] = {}
        self._wiped: set[int] = set()
        self._changed: dict[int, Header | Row | Block | Links] = {}

    # -- what is there -------------------------------------------------------------------------------------------

    def find_block(self, offset: int) -> Block | None:
        """The block whose header is at `offset`; None if no sound header is there."""
        block = self._blocks.get(offset)
        if block is None and offset not in self._wiped:
            if offset % UNIT or not self.first <= offset < self.header.top:
                return None
            block = decode_block(self.memory.read(offset, BLOCK_HEADER), offset)
            if block is None or offset + block.size > self.header.top:
                return None
            self._blocks[offset] = block
        return block

    def block(self, offset: int) -> Block:
        """The block that must be at `offset`. DamagedError."""
        block = self.find_block(offset)
        if block is None:
            raise DamagedError(offset, "a damaged block header")
        return block

    def row(self, number: int) -> Row:
        """A row of free lists; one that the header says is empty is not looked at. DamagedError."""
        row = self._rows.get(number)
        if row is None:
            row = Row()
            if self.header.row_map >> number & 1:
                offset = row_offset(number)
                row = decode_row(self.memory.read(offset, ROW_SIZE), offset)
            self._rows[number] = row
        return row

    def links(self, offset: int) -> Links:
        """The links of the free block at `offset`. DamagedError."""
        links = self._links.get(offset)
        if links is None:
            where = offset + BLOCK_HEADER
            links = self._links[offset] = decode_links(self.memory.read(where, BLOCK_HEADER), where)
        return links

    # -- what will be --------------------------------------------------------------------------------------------

    def put_header(self) -> None:
        """The header was changed."""
        self._changed[0] = self.header

    def put_row(self, number: int, row: Row) -> None:
        """A row was changed; the header's map follows."""
        bit = 1 << number
        self.header.row_map = self.header.row_map | bit if row.map else self.header.row_map & ~bit
        self._changed[row_offset(number)] = row

    def put_block(self, offset: int, block: Block) -> None:
        """A block was changed, or is new."""
        self._blocks[offset] = block
        self._wiped.discard(offset)
        self._changed[offset] = block

    def put_links(self, offset: int, links: Links) -> None:
        """The links of a free block were changed, or are new."""
        self._links[offset] = links
        self._changed[offset + BLOCK_HEADER] = links

    def wipe(self, offset: int) -> None:
        """No block begins at `offset` any more: its header must not be taken for one."""
        self._blocks.pop(offset, None)
        self._changed.pop(offset, None)
        self._changed.pop(offset + BLOCK_HEADER, None)
        self._wiped.add(offset)

    def write(self) -> None:
        """Make all of it so."""
        pieces = [(offset, thing.encode(offset)) for offset, thing in self._changed.items()]
        pieces += [(offset, bytes(BLOCK_HEADER)) for offset in self._wiped]
        page_size = self.memory.page_size
        pages: dict[int, list[tuple[int, bytes]]] = {}
        for offset, data in pieces:
            for start in range(offset - offset % page_size, offset + len(data), page_size):
                low, high = max(offset, start), min(offset + len(data), start + page_size)
                pages.setdefault(start, []).append((low, data[low - offset : high - offset]))
        spans: list[tuple[int, bytearray]] = []
        for _, parts in sorted(pages.items()):
            begin = min(low for low, _ in parts)
            end = max(low + len(data) for low, data in parts)
            span = bytearray(self.memory.read(begin, end - begin))
            for low, data in parts:
                span[low - begin : low - begin + len(data)] = data
            spans.append((begin, span))
        for begin, span in spans:  # nothing is written before everything was read
            self.memory.write(begin, bytes(span))


def open_draft(memory: HeapMemory) -> Draft | None:
    """The heap in `memory`; None if there is none: its place is all zeros, or there is no place. DamagedError: other bytes."""
    if first_block(memory.size) > memory.size:
        return None
    raw = memory.read(0, HEADER_SIZE)
    if not any(raw) and not any(memory.read(0, first_block(memory.size))):
        return None
    return Draft(memory, decode_header(raw, memory.size))
