"""Which chunks are alive: how many slots of each are still the location of some page."""

import heapq
from collections import Counter, deque
from collections.abc import Container, Iterable
from itertools import islice
from typing import Final

import numpy as np

from storage.rows.chunks import chunk_cost, chunk_slots
from storage.rows.format import U64
from storage.rows.nodes import SLOT_BITS, SLOT_MASK

SAMPLE: Final = 4096
"""Sparse chunks that a choice looks at, at most."""
FEW: Final = 32
"""Up to this many locations are counted faster one by one."""
SPARSE_SHARE: Final = 0.75
"""A chunk is sparse when its live pages, in full chunks, would occupy less than this share of what it does."""


class LiveCounts:
    """Live slots by chunk. Exact: counted from the page maps at opening, then kept by every commit.

    `live` counts the live pages of all chunks, `cost` the LMDB pages that all chunks occupy.
    """

    def __init__(self, page_size: int) -> None:
        full = chunk_slots(page_size)
        self._page_size = page_size
        self._page_cost = chunk_cost(full, page_size) / full
        self._slots: dict[int, int] = {}
        self._live: dict[int, int] = {}
        self.dead: deque[int] = deque()
        """Chunks without a live slot, in the order of their death; their rows are still there."""
        self.live = 0
        self.cost = 0
        self._sparse: set[int] = set()

    def add(self, lsn: int, slots: int, live: int) -> None:
        """A chunk that the log holds."""
        self._slots[lsn] = slots
        self._live[lsn] = self._live.get(lsn, 0) + live
        self.live += live
        self.cost += chunk_cost(slots, self._page_size)
        self._weigh(lsn)

    def count(self, locations: Iterable[U64], sign: int) -> None:
        """While the map is being read: some locations came (+1) or went (-1). Ends with `settle`."""
        for lsn, slots in _by_chunk(locations):
            self._live[lsn] = self._live.get(lsn, 0) + sign * slots
            self.live += sign * slots

    def settle(self) -> list[int]:
        """Find the dead after `count`. Returns chunks that have live slots but are not in the log: damage."""
        missing = [lsn for lsn, live in self._live.items() if live and lsn not in self._slots]
        self._live = {lsn: self._live.get(lsn, 0) for lsn in self._slots}
        self.dead = deque(lsn for lsn, live in self._live.items() if not live)
        for lsn in self._live:
            self._weigh(lsn)
        return missing

    def release(self, locations: Iterable[U64]) -> None:
        """These locations are no longer those of any page."""
        for lsn, slots in _by_chunk(locations):
            left = self._live[lsn] = self._live[lsn] - slots
            self.live -= slots
            self._weigh(lsn)
            if not left:
                self.dead.append(lsn)

    def remove(self, lsns: Iterable[int]) -> None:
        """The rows of these dead chunks were deleted; they were the first of `dead`."""
        for lsn in lsns:
            self.dead.popleft()
            del self._live[lsn]
            self.cost -= chunk_cost(self._slots.pop(lsn), self._page_size)

    def __contains__(self, lsn: int) -> bool:
        """Whether there is such a chunk, dead or not."""
        return lsn in self._slots

    def __len__(self) -> int:
        """Chunks, dead ones included."""
        return len(self._slots)

    def slots(self, lsn: int) -> int:
        """Slots of a chunk, dead ones included."""
        return self._slots[lsn]

    def live_slots(self, lsn: int) -> int:
        """Live slots of a chunk."""
        return self._live[lsn]

    def live_cost(self) -> float:
        """LMDB pages that the live pages would occupy in full chunks."""
        return self.live * self._page_cost

    def sparsest(self, count: int, avoid: Container[int]) -> list[int]:
        """Up to `count` sparse chunks that are not dead, from a sample those with the smallest live share first."""
        sample = islice((lsn for lsn in self._sparse if lsn not in avoid), SAMPLE)
        return heapq.nsmallest(count, sample, self._share)

    def _share(self, lsn: int) -> float:
        """Of what the chunk occupies, the part that its live pages would in full chunks."""
        return self._live[lsn] * self._page_cost / chunk_cost(self._slots[lsn], self._page_size)

    def _weigh(self, lsn: int) -> None:
        if self._live[lsn] and self._share(lsn) < SPARSE_SHARE:
            self._sparse.add(lsn)
        else:
            self._sparse.discard(lsn)


def _by_chunk(locations: Iterable[U64]) -> Iterable[tuple[int, int]]:
    """(chunk, slots) for all locations; holes are none."""
    parts = list(locations)
    if sum(map(len, parts)) <= FEW:
        few = Counter(
            location >> SLOT_BITS for part in parts for location in part.tolist() if location > SLOT_MASK
        )
        return few.items()
    joined = np.concatenate(parts)
    lsns, counts = np.unique(joined[joined > SLOT_MASK] >> np.uint64(SLOT_BITS), return_counts=True)
    return zip(lsns.tolist(), counts.tolist(), strict=True)
