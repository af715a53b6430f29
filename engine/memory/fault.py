"""What a fault leads to, decided without touching anything."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.access import Access
from engine.memory.frames import ABSENT, STORED, ZERO_FRAME, Frames

Positions = NDArray[np.int64]
"""Positions in the range of pages that faulted."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What to do with each page of a range. Positions that no list names are mapped as they are."""

    fetch: Positions
    """The bytes are in the store and are needed: PagesNeeded. Nothing else is done then."""
    zero_map: Positions
    """Read of a page never written: map the shared zero page."""
    zero_fill: Positions
    """Write to a page never written: a fresh frame of zeros."""
    copy: Positions
    """Write to a frame that others hold too: a fresh frame with its bytes."""
    replace: Positions
    """The whole page will be overwritten and has no frame of its own: a fresh frame, bytes do not matter."""


_STORE = int(Access.WRITE)
_LOAD = int(Access.READ | Access.WRITE)
_NONE: Positions = np.empty(0, np.int64)
NOTHING_TO_DO = FaultPlan(_NONE, _NONE, _NONE, _NONE, _NONE)


def deny(held: int, wanted: int) -> str | None:
    """Why a region with rights `held` refuses the access, or None. As on x86, what can be written can be read."""
    if held & (_STORE if wanted & _STORE else _LOAD):
        return None
    return f"region is {Access(held)}"


def plan_read_fault(entries: Frames) -> FaultPlan:
    """Decide a read of pages with these page-map entries."""
    if int(entries.min()) > ABSENT:
        return NOTHING_TO_DO
    return FaultPlan(
        np.flatnonzero(entries == STORED), np.flatnonzero(entries == ABSENT), _NONE, _NONE, _NONE
    )


def owned_frames(entries: Frames, refs: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of a map's entries are frames that nobody else holds; the leaf itself must not be shared."""
    owned: NDArray[np.bool_] = (entries > ZERO_FRAME) & (refs[np.maximum(entries, 0)] == 1)
    return owned


def plan_write_fault(entries: Frames, refs: NDArray[np.int32], whole: slice) -> FaultPlan:
    """Decide a write to pages with these entries.

    `refs` are the pool's counts; `whole` are the positions that will be overwritten from first to last byte.
    A frame that nobody else holds is written where it is (reuse by the sole owner).
    """
    owned = owned_frames(entries, refs)
    if owned.all():
        return NOTHING_TO_DO
    replaceable = np.zeros(len(entries), np.bool_)
    replaceable[whole] = True
    kept = ~owned & ~replaceable
    return FaultPlan(
        fetch=np.flatnonzero(kept & (entries == STORED)),
        zero_map=_NONE,
        zero_fill=np.flatnonzero(kept & ((entries == ABSENT) | (entries == ZERO_FRAME))),
        copy=np.flatnonzero(kept & (entries > ZERO_FRAME)),
        replace=np.flatnonzero(~owned & replaceable),
    )


REUSE: Final = 0
"""Write the frame where it is."""
ZERO_FILL: Final = 1
COPY: Final = 2
REPLACE: Final = 3
FETCH: Final = 4


def plan_page_write(entry: int, refs: int, *, whole: bool) -> int:
    """`plan_write_fault` of one page: the name of the list that it would be in, or REUSE. `refs` are its frame's."""
    if entry > ZERO_FRAME and refs == 1:
        return REUSE
    if whole:
        return REPLACE
    if entry > ZERO_FRAME:
        return COPY
    return FETCH if entry == STORED else ZERO_FILL
