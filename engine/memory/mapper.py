"""Who shows an object's pages and caches where they are."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.memory.paged_memory import PagedMemory


class Mapper(Protocol):
    """Something that caches translations of an object's pages. `vid`: the space it belongs to, 0 for a task."""

    vid: int

    def zap_object(self, obj: "PagedMemory", first: int, count: int) -> None:
        """Forget the translations of pages [first, first + count) of `obj`."""

    def locked_pages(self, obj: "PagedMemory") -> Iterable[tuple[int, int]]:
        """Pages of `obj` that locked regions show: (first, count)."""
