"""Addresses, page numbers and half-open ranges, which type checkers keep apart."""

from dataclasses import dataclass
from typing import NewType

VirtAddr = NewType("VirtAddr", int)
"""A byte address in one address space."""
Vpn = NewType("Vpn", int)
"""Virtual page number: address >> page_shift."""
PageIndex = NewType("PageIndex", int)
"""Index of a page inside a memory object."""


@dataclass(frozen=True, slots=True, order=True)
class VirtRange:
    """[start, end) in bytes, never empty."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"empty or reversed range {self.start:#x}-{self.end:#x}")

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start

    def overlaps(self, other: "VirtRange") -> bool:
        """Whether the two ranges share a byte."""
        return self.start < other.end and other.start < self.end

    def covers(self, other: "VirtRange") -> bool:
        """Whether every byte of `other` is in this range."""
        return self.start <= other.start and other.end <= self.end

    def __str__(self) -> str:
        return f"{self.start:08x}-{self.end:08x}"
