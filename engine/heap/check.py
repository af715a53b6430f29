"""A walk through a whole heap that names everything that is wrong with it. Costs every block; for tests and inspection."""

from collections.abc import Iterator

from engine.heap.draft import Draft, HeapMemory, open_draft
from engine.heap.layout import COLUMNS, Block, DamagedError, class_of, rows_for


def problems(memory: HeapMemory) -> Iterator[str]:
    """What is wrong; nothing when all is well, or when there is no heap."""
    try:
        draft = open_draft(memory)
        if draft is not None:
            yield from _chain(draft)
            yield from _lists(draft)
    except DamagedError as damaged:
        yield str(damaged)


def walk(draft: Draft) -> Iterator[tuple[int, Block]]:
    """Every block with its offset, ascending. DamagedError."""
    offset = draft.first
    while offset < draft.header.top:
        block = draft.block(offset)
        yield offset, block
        offset += block.size


def _chain(draft: Draft) -> Iterator[str]:
    """Blocks follow each other without a gap up to the top, know each other, and are what the header counts."""
    header = draft.header
    prev, was_live, live, count, allocated = 0, True, 0, 0, 0
    for offset, block in walk(draft):
        if block.prev != prev:
            yield f"the block at {offset:#x} follows {block.prev:#x}, not {prev:#x}"
        if not block.live and not was_live:
            yield f"two free blocks touch at {offset:#x}"
        prev, was_live, count = offset, block.live, count + 1
        live += block.live
        allocated += block.size if block.live else 0
    if not was_live:
        yield "the last block is free"
    found = (prev, live, count - live, allocated)
    told = (header.last, header.blocks, header.free_blocks, header.allocated)
    if found != told:
        yield f"(last, live, free, allocated) are {found}, the header says {told}"


def _lists(draft: Draft) -> Iterator[str]:
    """Each free block is in the list of its size, once; links lead both ways; maps name what is not empty."""
    free = {offset: block for offset, block in walk(draft) if not block.live}
    seen: set[int] = set()
    for number in range(rows_for(draft.header.size)):
        row = draft.row(number)
        for column in range(COLUMNS):
            before, offset = 0, row.heads[column]
            while offset:
                if offset in seen or offset not in free:
                    yield f"list {number}, {column} has {offset:#x}, which is in another or not free"
                    break
                seen.add(offset)
                links = draft.links(offset)
                if class_of(free[offset].size) != (number, column) or links.prev != before:
                    yield f"list {number}, {column} has {offset:#x} in the wrong place"
                before, offset = offset, links.next
    for offset in free.keys() - seen:
        yield f"the free block at {offset:#x} is in no list"
