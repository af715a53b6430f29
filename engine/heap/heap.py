"""malloc and free: two-level segregated fit (TLSF) over blocks in a segment's bytes.

O(1): a call looks at a few blocks, however many there are. Free neighbours are joined at once, so two free blocks never
touch and the last block is live; what lies behind it was never used and is taken when no free list has what is wanted.
"""

from dataclasses import dataclass

from engine.heap.draft import Draft, HeapMemory, open_draft
from engine.heap.layout import (
    BLOCK_HEADER,
    MIN_BLOCK,
    UNIT,
    Block,
    DamagedError,
    Header,
    Links,
    class_of,
    first_block,
    rounded,
)
from engine.heap.suspect import refuse

SCAN_MAX = 32
"""Free blocks of one list that are looked at before a heap counts as full."""


@dataclass(frozen=True, slots=True)
class HeapUsage:
    """Of one heap, in bytes. `size` is the segment's: its `overhead`, `allocated` and `free` together.

    `allocated` counts `blocks` live blocks with their headers; `largest_free` is the most that one malloc surely gets.
    """

    size: int
    overhead: int
    allocated: int
    free: int
    largest_free: int
    blocks: int
    free_blocks: int


class NoRoomError(Exception):
    """No block of the wanted size is free."""


class ForeignError(Exception):
    """What was to be freed is not what malloc gave. The message says why."""


def malloc(memory: HeapMemory, size: int) -> int:
    """The offset of `size` > 0 new bytes, on a multiple of 16; the first one makes the heap. NoRoomError, DamagedError."""
    wanted = max(MIN_BLOCK, (size + BLOCK_HEADER + UNIT - 1) & -UNIT)
    if first_block(memory.size) + wanted > memory.size:
        raise NoRoomError
    draft = open_draft(memory) or Draft(memory, Header(memory.size, first_block(memory.size)))
    header = draft.header
    generous = rounded(wanted)
    offset = _fitting(draft, generous)
    if offset is None:
        room = (header.size - header.top) & -UNIT
        if room >= wanted:
            return _from_top(draft, generous if room >= generous else wanted)
        offset = _exact(draft, wanted)
        generous = wanted
    if offset is None:
        raise NoRoomError
    _unlink(draft, offset)
    block = draft.block(offset)
    _give(draft, offset, block, generous if block.size - generous >= MIN_BLOCK else block.size)
    draft.write()
    return offset + BLOCK_HEADER


def free(memory: HeapMemory, where: int) -> None:
    """Take back what malloc gave at offset `where`. ForeignError, DamagedError."""
    draft = open_draft(memory)
    if draft is None:
        raise ForeignError("nothing was allocated here")
    header, offset = draft.header, where - BLOCK_HEADER
    if where % UNIT or not draft.first <= offset < header.top:
        raise ForeignError("no block begins there")
    block = draft.find_block(offset)
    if block is None:
        refuse(draft, offset)
        raise ForeignError("no block begins there")
    if not block.live:
        raise ForeignError("it is free already")
    if block.size > header.allocated or not header.blocks:
        raise DamagedError(0, "a heap header that counts less than there is")
    header.allocated -= block.size
    header.blocks -= 1
    _take_back(draft, offset, block)
    draft.put_header()
    draft.write()


def usage(memory: HeapMemory) -> HeapUsage:
    """How full it is; a heap that is not there yet is empty. DamagedError."""
    first = first_block(memory.size)
    draft = open_draft(memory) or Draft(memory, Header(memory.size, min(first, memory.size)))
    header = draft.header
    largest = (header.size - header.top) & -UNIT
    if header.row_map:
        row = draft.row(header.row_map.bit_length() - 1)
        offset = row.heads[row.map.bit_length() - 1]
        for _ in range(SCAN_MAX):
            if not offset:
                break
            largest = max(largest, _listed(draft, offset).size)
            offset = draft.links(offset).next
    overhead = min(first, header.size)
    free_bytes = header.size - overhead - header.allocated
    return HeapUsage(
        header.size,
        overhead,
        header.allocated,
        free_bytes,
        largest - BLOCK_HEADER if largest >= MIN_BLOCK else 0,
        header.blocks,
        header.free_blocks,
    )


# -- finding -----------------------------------------------------------------------------------------------------


def _fitting(draft: Draft, size: int) -> int | None:
    """A free block of a list whose blocks all have `size` bytes, a rounded size, at least."""
    number, column = class_of(size)
    row_map = draft.header.row_map
    found = draft.row(number).map >> column << column if row_map >> number & 1 else 0
    if not found:
        rows = row_map >> (number + 1) << (number + 1)
        if not rows:
            return None
        number = _lowest(rows)
        found = draft.row(number).map
    return draft.row(number).heads[_lowest(found)]


def _exact(draft: Draft, size: int) -> int | None:
    """A block of `size` bytes at least in the list where such a block would itself be."""
    number, column = class_of(size)
    offset = draft.row(number).heads[column]
    for _ in range(SCAN_MAX):
        if not offset:
            break
        if _listed(draft, offset).size >= size:
            return offset
        offset = draft.links(offset).next
    return None


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _listed(draft: Draft, offset: int) -> Block:
    """A block that a list names. DamagedError: it is not free."""
    block = draft.block(offset)
    if block.live:
        raise DamagedError(offset, "a live block in a list of free ones")
    return block


# -- giving and taking -------------------------------------------------------------------------------------------


def _from_top(draft: Draft, size: int) -> int:
    """A block of `size` bytes out of what was never used."""
    header = draft.header
    offset = header.top
    header.top += size
    draft.put_block(offset, Block(size, header.last, live=True))
    header.last = offset
    header.allocated += size
    header.blocks += 1
    draft.put_header()
    draft.write()
    return offset + BLOCK_HEADER


def _give(draft: Draft, offset: int, block: Block, size: int) -> None:
    """Make the first `size` bytes of a block live that is in no list any more; what remains is a free block."""
    header, end = draft.header, offset + block.size
    if end == header.top:
        raise DamagedError(offset, "a free block at the end")
    behind = _follower(draft, end, offset)
    if size < block.size:
        rest = offset + size
        _link(draft, rest, Block(block.size - size, offset, live=False))
        behind.prev = rest
        draft.put_block(end, behind)
    draft.put_block(offset, Block(size, block.prev, live=True))
    header.allocated += size
    header.blocks += 1
    draft.put_header()


def _take_back(draft: Draft, offset: int, block: Block) -> None:
    """Free a block, and join it with what is free on either side."""
    header, end = draft.header, offset + block.size
    start, size, prev = offset, block.size, block.prev
    behind = None if end == header.top else _follower(draft, end, offset)
    if behind is None and header.last != offset:
        raise DamagedError(offset, "a last block that the header does not know")
    if prev:
        before = draft.block(prev)
        if prev + before.size != offset:
            raise DamagedError(offset, "a block that does not begin where the one before it ends")
        if not before.live:
            _unlink(draft, prev)
            draft.wipe(offset)
            start, size, prev = prev, before.size + size, before.prev
    elif offset != draft.first:
        raise DamagedError(offset, "a block that is said to be the first one")
    if behind is None:
        draft.wipe(start)
        header.top, header.last = start, prev
        return
    if not behind.live:
        _unlink(draft, end)
        draft.wipe(end)
        size += behind.size
        end += behind.size
        if end == header.top:
            raise DamagedError(end - behind.size, "a free block at the end")
        behind = _follower(draft, end, end - behind.size)
    behind.prev = start
    draft.put_block(end, behind)
    _link(draft, start, Block(size, prev, live=False))


def _follower(draft: Draft, end: int, offset: int) -> Block:
    """The block at `end`, behind the one at `offset`. DamagedError: it knows another one before it."""
    behind = draft.block(end)
    if behind.prev != offset:
        raise DamagedError(end, "a block that does not know the one before it")
    return behind


# -- free lists --------------------------------------------------------------------------------------------------


def _link(draft: Draft, offset: int, block: Block) -> None:
    """A free block becomes the first one of its list."""
    number, column = class_of(block.size)
    row = draft.row(number)
    head = row.heads[column]
    if head:
        _listed(draft, head)
        links = draft.links(head)
        if links.prev:
            raise DamagedError(head, "a list of free blocks that begins elsewhere")
        draft.put_links(head, Links(links.next, offset))
    row.heads[column] = offset
    draft.put_row(number, row)
    draft.put_block(offset, block)
    draft.put_links(offset, Links(head, 0))
    draft.header.free_blocks += 1


def _unlink(draft: Draft, offset: int) -> None:
    """A free block leaves its list. DamagedError: the list does not know it."""
    block, links = _listed(draft, offset), draft.links(offset)
    number, column = class_of(block.size)
    row = draft.row(number)
    if links.next:
        _listed(draft, links.next)
        after = draft.links(links.next)
        if after.prev != offset:
            raise DamagedError(links.next, "a list of free blocks that does not lead back")
        draft.put_links(links.next, Links(after.next, links.prev))
    if links.prev:
        _listed(draft, links.prev)
        before = draft.links(links.prev)
        if before.next != offset:
            raise DamagedError(links.prev, "a list of free blocks that does not lead on")
        draft.put_links(links.prev, Links(links.next, before.prev))
    elif row.heads[column] != offset:
        raise DamagedError(offset, "a free block that its list does not have")
    else:
        row.heads[column] = links.next
        draft.put_row(number, row)
    if not draft.header.free_blocks:
        raise DamagedError(0, "a heap header that counts less than there is")
    draft.header.free_blocks -= 1
