"""Where a clone finds its pages before the store knows of it: in the memory that it was cloned from."""

from dataclasses import dataclass
from typing import Protocol

from engine.errors import EAGAIN, EngineError
from engine.memory.frames import Frames
from engine.memory.page_map import PageNumbers


class Parent(Protocol):
    """Memory that can be cloned. `dirty` maps pages to the version that wrote them last.

    `redrawn` is the version that last changed many pages at once, by a reset, a move or by discarding them.
    """

    dirty: dict[int, int]
    redrawn: int

    def resident(self, pages: PageNumbers) -> Frames | None:
        """The frames of ascending pages; None if some are neither here nor in the store. PagesNeeded."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The memory that was cloned, its version then, and the serial of the transaction that did it.

    It counts as long as transaction `until` is open: of a clone of a clone the one that made the first. What changes in
    the parent afterwards may be durable before this clone is, and is then no longer marked as dirty.
    """

    memory: Parent
    version: int
    serial: int
    until: int

    def of_clone(self, serial: int) -> "Origin":
        """Of what transaction `serial` clones from the clone: what that lacks is its parent's."""
        return Origin(self.memory, self.version, serial, self.until)

    def frames(self, pages: PageNumbers, serial: int) -> Frames | None:
        """The frames of ascending pages, which transaction `serial` asks for. PagesNeeded by the parent.

        None: the parent has changed them since, so they are the store's to give. EAGAIN: that was this transaction.
        """
        memory, version = self.memory, self.version
        if memory.redrawn <= version and not any(
            memory.dirty.get(page, 0) > version for page in pages.tolist()
        ):
            found = memory.resident(pages)
            if found is not None:
                return found
        if serial != self.serial:
            return None
        raise EngineError(EAGAIN, "what was cloned has been changed since, in one transaction: make it two")
