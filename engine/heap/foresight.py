"""Which pages of a heap are likely to be needed soon, for a batch of calls that would else ask for them one by one."""

from engine.errors import PagesNeeded
from engine.heap.draft import Draft, HeapMemory, open_draft
from engine.heap.layout import DamagedError, rows_for

BLOCKS_MAX = 4096
"""Free blocks that are looked at."""
BLOCK_PAGES = 32
"""Pages of one free block that are looked at: headers come to lie in it when it is given out in parts."""
TOP_PAGES = 1024
"""The same behind the last block."""


def foresee(memory: HeapMemory, most: int) -> set[int]:
    """Pages, `most` at most: those with the next block of each list that is not resident, and those to be cut up next."""
    found: set[int] = set()
    try:
        draft = open_draft(memory)
        if draft is not None:
            _span(draft, draft.header.top, draft.header.size, TOP_PAGES, found)
            places = _heads(draft, found)
            for _ in range(BLOCKS_MAX):
                if not places or len(found) >= most:
                    break
                following = _visit(draft, places.pop(0), found)
                if following:
                    places.append(following)
    except PagesNeeded as need:
        found.update(need.pages)
    except DamagedError:
        return found  # the call itself says so
    return set(sorted(found)[:most])


def _span(draft: Draft, start: int, end: int, pages: int, found: set[int]) -> None:
    """`found` gets what is not resident of the first `pages` pages of [start, end)."""
    memory = draft.memory
    for offset in range(start, min(end, start + pages * memory.page_size), memory.page_size):
        try:
            memory.read(offset, 1)
        except PagesNeeded as need:
            found.update(need.pages)


def _heads(draft: Draft, found: set[int]) -> list[int]:
    """The first block of each list; `found` gets the pages of rows that are not resident."""
    heads: list[int] = []
    for number in range(rows_for(draft.memory.size)):
        try:
            heads += [head for head in draft.row(number).heads if head]
        except PagesNeeded as need:
            found.update(need.pages)
    return heads


def _visit(draft: Draft, offset: int, found: set[int]) -> int:
    """The block behind a free one in its list, 0 if there is none; `found` gets the pages that lack."""
    try:
        block = draft.block(offset)
        following = draft.links(offset).next
    except PagesNeeded as need:
        found.update(need.pages)
        return 0
    end = offset + block.size
    _span(draft, offset, end, BLOCK_PAGES, found)
    _span(draft, end, end + 1, 1, found)
    return following
