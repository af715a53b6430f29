"""Telling a pointer that was never given out from one whose block header was overwritten.

A header does not say so itself once it is damaged. But its neighbours do: the block before it ends there, the block
behind it names it. Only the surroundings are looked at, so that a wrong pointer costs no more than a right one.
"""

from engine.heap.draft import Draft
from engine.heap.layout import BLOCK_HEADER, UNIT, DamagedError, claimed, decode_block

REACH = 4096
"""Bytes to either side that are searched for a neighbour."""


def refuse(draft: Draft, offset: int) -> None:
    """DamagedError if a block begins at `offset`, where no sound header is, or if one nearby is damaged as well."""
    if offset == draft.first or _claims_hold(draft, offset):
        raise DamagedError(offset, "a damaged block header")
    low = max(draft.first, offset - REACH)
    near = draft.memory.read(low, offset - low)
    for at in range(offset - UNIT, low - 1, -UNIT):
        block = decode_block(near[at - low : at - low + BLOCK_HEADER], at)
        if block is not None:
            if at + block.size <= offset:
                raise DamagedError(at + block.size, "a damaged block header")
            return
    start = offset + UNIT
    near = (
        draft.memory.read(start, min(REACH, draft.header.top - start) & -UNIT)
        if start < draft.header.top
        else b""
    )
    for at in range(start, start + len(near), UNIT):
        block = decode_block(near[at - start : at - start + BLOCK_HEADER], at)
        if block is not None:
            if block.prev >= offset:
                raise DamagedError(block.prev, "a damaged block header")
            return


def _claims_hold(draft: Draft, offset: int) -> bool:
    """Whether a neighbour that the damaged header names knows it."""
    size, prev = claimed(draft.memory.read(offset, BLOCK_HEADER))
    before = draft.find_block(prev)
    if before is not None and prev + before.size == offset:
        return True
    end = offset + size
    behind = draft.find_block(end)
    if behind is not None and behind.prev == offset:
        return True
    return draft.header.last == offset
