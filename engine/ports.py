"""What the engine asks of the outside."""

from collections.abc import Sequence
from typing import Protocol


class SwapArea(Protocol):
    """Slots of one page each, for memory that nothing else remembers. What a slot holds does not outlive the service."""

    capacity: int

    def store(self, slots: Sequence[int], data: memoryview) -> None:
        """Put pages into slots, in order. OSError: it could not; the slots then have no meaning."""

    def load(self, slots: Sequence[int]) -> bytes:
        """The pages of slots, in order. OSError: they cannot be read, or are not what was stored."""
