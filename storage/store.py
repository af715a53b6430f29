"""The port behind which memory is remembered. `MemoryStore` is its executable specification."""

from collections.abc import Sequence
from typing import Protocol

from engine.changes import Change, Image
from storage.errors import StoreError
from storage.statistics import Statistics


class Store(Protocol):
    """What every store promises.

    Threads: `fetch`, `stored_pages`, `usage`, `pages_held`, `pages_new`, `statistics`, `differing` and `failing` from any thread at
    any time; `load`, `commit`, `maintain`, `probe` and `close` from one thread at a time.
    Ids: object ids, vids and sids are never reused, and nothing names an object after its owner, or itself, was dropped.
    An object exists from the first change that names it as a space's, a segment's or a birth's, puts pages of it or
    clones onto it. Objects are below 2**63.
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

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        """(logical, shared) pages of `objects[0]`: those that exist, and those of them that are stored once for it and
        for an object that is not in `objects`.

        Pages that were overwritten everywhere else since they were shared may still be counted as shared. Post: as
        that of `fetch`, for each page.
        """

    def pages_held(self, objects: Sequence[int]) -> int:
        """Pages kept for these objects, those included that only what they were cloned from still shows.

        What several of them share counts once. Not less than the pages that exist of them; overwritten and dropped
        pages that something else shows, or that nothing has collected yet, may be among them. Costs the number of
        objects and what they were cloned from, never pages; does not wait for the disk.
        """

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        """By how much `pages_held` would grow if these pages (ascending, each once) were put now.

        All of them count for an object that does not exist, and after it was cloned those that it has not put since.
        Post: as that of `fetch`.
        """

    def statistics(self) -> Statistics:
        """How much is stored. Cheap."""

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        """Which of the pages [first, first + count) of two objects are not stored at the same place, ascending.

        Those whose bytes or existence differ are among them; others may be. Of a clone and its source these are the
        pages that were put or dropped since; it costs what was, and what their page maps take. Post: as that of
        `fetch`, for each page.
        """

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        """Make the changes of all `transactions` durable, in order, as one atomic step: after a crash all or none.

        Pre: each DropSpace, DropSegment and change of a region, root or birth names a space or segment that exists at
        that point (the region of a DropRegion and the root of a DropRoot need not); `data` of PutPages is
        `len(pages)` pages long. The source of a CloneObject exists and is not its target; DropObject names an object
        that exists and has no owner. Keys of receipts have 1 to RECEIPT_KEY_MAX bytes, values RECEIPT_VALUE_MAX at
        most. A breach raises ValueError.
        Post: on return everything is on stable storage. Any exception means that nothing was changed;
        StoreFull (ENOSPC) and StoreFailed (EIO) are the disk's fault.
        """

    def maintain(self, *, urgent_only: bool = False) -> bool:
        """One bounded step of housekeeping; whether another step is worth taking.

        Changes nothing that `load` or `fetch` can show. With `urgent_only` only work that must not wait for an idle
        moment is done. Raises StoreFull or StoreFailed; nothing is lost and the step may be tried again.
        """

    @property
    def failing(self) -> StoreError | None:
        """Why the last write failed, while none has worked since; None when writing works. Reading may go on."""

    def probe(self) -> None:
        """After a failure: try whether writing works again, `failing` tells; changes nothing. Raises as `commit`."""

    def close(self) -> None:
        """Release everything. Idempotent; the store is of no use afterwards."""
