"""The shape of an architecture's address space, as data.

A task's own regions lie below `arena_start` and above `arena_end`; the arena between them is left to spaces and
segments, so that what is placed there collides with no task.
"""

from dataclasses import dataclass
from typing import Final

HUGE_PAGE_SHIFT: Final = 9
"""Pages of a huge page, as a power of two: 2 MiB of 4 KiB pages."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Page size, page-table levels and the user's range. All addresses and sizes are bytes."""

    name: str
    page_shift: int
    level_bits: tuple[int, ...]
    """Index bits of each page-table level, root first."""
    user_start: int
    user_end: int
    arena_start: int
    arena_end: int
    text_start: int
    """Where a program's text starts; data and heap follow."""
    mmap_top: int
    """A task's own mappings are placed below this, top down."""
    stack_size: int
    """Bytes of a new task's stack, which ends at `user_end`."""
    stack_limit: int
    """Bytes up to which a stack grows, unless the task is given another limit."""
    stack_guard_gap: int
    """Bytes that a growing stack keeps free below it, and that mappings which may go anywhere keep free too."""

    def __post_init__(self) -> None:
        bounds = (
            self.user_start,
            self.text_start,
            self.arena_start,
            self.arena_end,
            self.mmap_top,
            self.user_end - self.stack_size,
        )
        if list(bounds) != sorted(bounds) or any(bound & (self.page_size - 1) for bound in bounds):
            raise ValueError(f"geometry {self.name}: bounds must ascend and be page aligned")
        if self.user_end > 1 << (self.page_shift + sum(self.level_bits)):
            raise ValueError(f"geometry {self.name}: the user range does not fit the levels")

    @property
    def page_size(self) -> int:
        """Bytes."""
        return 1 << self.page_shift

    @property
    def has_huge_pages(self) -> bool:
        """Whether memory may be in huge pages: where one entry of the last level but one is one leaf of a page map."""
        return len(self.level_bits) > 2 and self.level_bits[-1] == HUGE_PAGE_SHIFT

    def align_up(self, length: int) -> int:
        """`length` rounded up to whole pages."""
        return (length + self.page_size - 1) & -self.page_size

    def is_aligned(self, address: int) -> bool:
        """Whether `address` is on a page boundary."""
        return not address & (self.page_size - 1)


_STACK = 132 << 10
_GAP = 128 << 20
"""Linux keeps at least this much below the stack free for its growth."""


def _linux(
    name: str, page_shift: int, level_bits: tuple[int, ...], bounds: tuple[int, int, int, int], text: int
) -> Geometry:
    user_start, user_end, arena_start, arena_end = bounds
    page = 1 << page_shift
    stack = (_STACK + page - 1) & -page
    return Geometry(
        name,
        page_shift,
        level_bits,
        user_start,
        user_end,
        arena_start,
        arena_end,
        text,
        user_end - _GAP,
        stack,
        8 << 20,
        256 * page,
    )


_ARM64_END: Final = 1 << 48
X86_64: Final = _linux(
    "x86_64", 12, (9, 9, 9, 9), (0x10000, 0x7FFF_FFFF_F000, 0x1000_0000_0000, 0x7000_0000_0000), 0x40_0000
)
I386: Final = _linux("i386", 12, (10, 10), (0x10000, 0xC000_0000, 0x2000_0000, 0xA000_0000), 0x804_8000)
AARCH64: Final = tuple(
    _linux(
        name, shift, bits, (0x10000, _ARM64_END - (1 << shift), 0x1000_0000_0000, 0xF000_0000_0000), 0x40_0000
    )
    for name, shift, bits in (
        ("aarch64", 12, (9, 9, 9, 9)),
        ("aarch64_16k", 14, (1, 11, 11, 11)),
        ("aarch64_64k", 16, (6, 13, 13)),
    )
)
TOY: Final = Geometry("toy", 4, (2, 2), 0x00, 0x100, 0x40, 0xC0, 0x00, 0xE0, 0x10, 0x20, 0x10)
"""Sixteen pages of 16 bytes: small enough for exhaustive tests."""

GEOMETRIES: Final = {g.name: g for g in (X86_64, I386, *AARCH64, TOY)}
