"""The faulty twin: any store, except that some of its operations fail as a disk would make them fail."""

from collections.abc import Callable, Sequence

from engine.changes import Change, Image
from storage.errors import StoreError, StoreFailed
from storage.statistics import Statistics
from storage.store import Store


class FaultyStore:
    """Passes everything on to `inner`; the operations whose number (from 1) is in `failing` raise instead.

    Every call but `statistics` and `close` is an operation. A failing one changes nothing, as the port demands.
    """

    def __init__(
        self, inner: Store, failing: Sequence[int], error: Callable[[str], StoreError] = StoreFailed
    ) -> None:
        self._inner = inner
        self._failing = frozenset(failing)
        self._error = error
        self.operations = 0
        """Operations so far."""
        self._failure: StoreError | None = None

    def load(self) -> Image:
        """See `Store.load`."""
        self._operate("load")
        return self._inner.load()

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        """See `Store.fetch`."""
        self._operate("fetch")
        return self._inner.fetch(object_id, pages)

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        """See `Store.stored_pages`."""
        self._operate("stored_pages")
        return self._inner.stored_pages(object_id, first, count)

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        """See `Store.usage`."""
        self._operate("usage")
        return self._inner.usage(objects)

    def pages_held(self, objects: Sequence[int]) -> int:
        """See `Store.pages_held`."""
        self._operate("pages_held")
        return self._inner.pages_held(objects)

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        """See `Store.pages_new`."""
        self._operate("pages_new")
        return self._inner.pages_new(object_id, pages)

    def statistics(self) -> Statistics:
        """See `Store.statistics`."""
        return self._inner.statistics()

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        """See `Store.differing`."""
        self._operate("differing")
        return self._inner.differing(a, b, first, count)

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        """See `Store.commit`."""
        self._write("commit")
        self._inner.commit(transactions)

    @property
    def failing(self) -> StoreError | None:
        """See `Store.failing`."""
        return self._failure or self._inner.failing

    def probe(self) -> None:
        """See `Store.probe`."""
        self._write("probe")
        self._inner.probe()

    def maintain(self, *, urgent_only: bool = False) -> bool:
        """See `Store.maintain`."""
        self._operate("maintain")
        return self._inner.maintain(urgent_only=urgent_only)

    def close(self) -> None:
        """See `Store.close`."""
        self._inner.close()

    def _write(self, name: str) -> None:
        try:
            self._operate(name)
        except StoreError as error:
            self._failure = error
            raise
        self._failure = None

    def _operate(self, name: str) -> None:
        self.operations += 1
        if self.operations in self._failing:
            raise self._error(f"operation {self.operations}, {name}, was made to fail")
