"""The port behind which memory is remembered. `MemoryStore` is its executable specification."""

from collections.abc import Sequence
from typing import Protocol

from engine.changes import Change, Image


class Store(Protocol):
    """What every store promises.

    Threads: `fetch` and `stored_pages` from any thread at any time; `load`, `commit`, `maintain` and `close` from one thread at a time.
    Ids: object ids, vids and sids are never reused, and nothing names an object after its owner was dropped.
    """

    def load(self) -> Image:
        """All that is kept, without page bytes.

        Post: spaces and segments ascend by id; `regions` has an entry for each space, ascending by start; each
        `next_*` is one more than the greatest id ever put, deleted ones included.
        """

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        """The bytes of those of `pages` (page indexes) that exist; the others read as zeros.

        Post: every value is exactly one page long and was current at some moment of the call; a commit that returned
        before the call began is seen. Raises StoreFailed (EIO) rather than return a byte that was not stored.
        """

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        """Which of the pages [first, first + count) exist, ascending; costs what exists, not what is asked for.

        Post: as that of `fetch`.
        """

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        """Make the changes of all `transactions` durable, in order, as one atomic step: after a crash all or none.

        Pre: each DropSpace, DropSegment, PutRegion and DropRegion names a space or segment that exists at that point
        (the region of a DropRegion need not); `data` of PutPages is `len(pages)` pages long. A breach raises
        ValueError.
        Post: on return everything is on stable storage. Any exception means that nothing was changed;
        StoreFull (ENOSPC) and StoreFailed (EIO) are the disk's fault.
        """

    def maintain(self, *, urgent_only: bool = False) -> bool:
        """One bounded step of housekeeping; whether another step is worth taking.

        Changes nothing that `load` or `fetch` can show. With `urgent_only` only work that must not wait for an idle
        moment is done. Raises StoreFull or StoreFailed; nothing is lost and the step may be tried again.
        """

    def close(self) -> None:
        """Release everything. Idempotent; the store is of no use afterwards."""
