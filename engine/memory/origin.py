"""Where a clone finds its pages before the store knows of it: in the memory that it was cloned from."""

from dataclasses import dataclass
from typing import Protocol

from engine.errors import EAGAIN, EngineError
from engine.memory.frames import Frames
from engine.memory.page_map import PageNumbers


class Parent(Protocol):
    """Memory that can be cloned. `dirty` maps pages to the version that wrote them last."""

    dirty: dict[int, int]

    def resident(self, pages: PageNumbers) -> Frames | None:
        """The frames of ascending pages; None if some are neither here nor in the store. PagesNeeded."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The memory that was cloned, its version then, and the serial of the transaction that did it."""

    memory: Parent
    version: int
    serial: int

    def frames(self, pages: PageNumbers, serial: int) -> Frames | None:
        """The frames of ascending pages, which transaction `serial` asks for. PagesNeeded by the parent.

        None: the parent has changed them since, so they are the store's to give. EAGAIN: that was this transaction.
        """
        found = self.memory.resident(pages)
        changed = any(self.memory.dirty.get(page, 0) > self.version for page in pages.tolist())
        if found is not None and not changed:
            return found
        if serial != self.serial:
            return None
        raise EngineError(EAGAIN, "what was cloned has been changed since, in one transaction: make it two")
