"""Rules of Linux that decide most of what is compared, each as the shortest sequence that shows it, with its outcome.

They are run on both sides like every other sequence. A kernel that does not keep them is another Linux than the one
the engine follows: support.py says so.
"""

from dataclasses import dataclass

from engine import constants as c
from tests.oracle.calls import CORE, PAGE, RESOURCES, Call

ANYWHERE = c.MAP_PRIVATE | c.MAP_ANONYMOUS
FIXED = ANYWHERE | c.MAP_FIXED
SHARED = c.MAP_SHARED | c.MAP_ANONYMOUS | c.MAP_FIXED
MOVE = c.MREMAP_MAYMOVE | c.MREMAP_FIXED
READ, RW = c.PROT_READ, c.PROT_READ | c.PROT_WRITE


@dataclass(frozen=True, slots=True)
class Rule:
    """`outcome` is what the last call answers, and the map then."""

    name: str
    calls: tuple[Call, ...]
    outcome: str
    mode: str = "plain"

    @property
    def needs_heap(self) -> bool:
        """Whether the heap must be where the rule has it."""
        return any(call.name == "brk" for call in self.calls)


def at(page: int) -> int:
    """The address of a page of the core."""
    return CORE + page * PAGE


def mmap(page: int, pages: int, prot: int = RW, flags: int = FIXED) -> Call:
    return Call("mmap", (at(page), pages * PAGE, prot, flags, at(0)))


def anywhere(pages: int) -> Call:
    """mmap where the system likes."""
    return Call("mmap", (0, pages * PAGE, RW, ANYWHERE, at(0)))


def mremap(page: int, old: int, new: int, flags: int = 0, target: int = 0) -> Call:
    return Call("mremap", (at(page), old * PAGE, new * PAGE, flags, at(target), at(0)))


def store(page: int) -> Call:
    return Call("store", (at(page), 1, 1))


def part(name: str, page: int, pages: int, last: int) -> Call:
    """mprotect, madvise or mlock of pages."""
    return Call(name, (at(page), pages * PAGE, last))


def limit(resource: str, pages: int) -> Call:
    return Call("limit", (RESOURCES.index(resource), pages))


RULES = (
    Rule(
        "regions written apart do not merge",
        (mmap(0, 1), store(0), mmap(2, 1), store(2), mmap(1, 1)),
        "P1, P0-P2 rw-p, P2-P3 rw-p",
    ),
    Rule("regions never written merge over a filler", (mmap(0, 1), mmap(2, 1), mmap(1, 1)), "P1, P0-P3 rw-p"),
    Rule(
        "what was written before a fork merges with nothing new",
        (mmap(0, 2), store(0), Call("fork"), mmap(2, 1)),
        "P2, P0-P2 rw-p, P2-P3 rw-p",
    ),
    Rule(
        "growth in place joins what was never written, fork or not",
        (mmap(0, 2), store(0), mmap(3, 1), Call("fork"), mremap(1, 1, 2)),
        "P1, P0-P4 rw-p",
    ),
    Rule(
        "written memory that moved does not merge",
        (mmap(0, 1), store(0), mmap(4, 1), mremap(0, 1, 1, MOVE, 5)),
        "P5, P4-P5 rw-p, P5-P6 rw-p",
    ),
    Rule(
        "memory never written merges where it goes",
        (mmap(0, 1), mmap(4, 1), mremap(0, 1, 1, MOVE, 5)),
        "P5, P4-P6 rw-p",
    ),
    Rule(
        "several regions move at once",
        (mmap(0, 1), mmap(1, 1, READ), mremap(0, 2, 2, MOVE, 4)),
        "P4, P4-P5 rw-p, P5-P6 r--p",
    ),
    Rule(
        "a stack grows below an access",
        (mmap(20, 1, RW, FIXED | c.MAP_GROWSDOWN), store(10)),
        "0x1, P10-P21 rw-p",
    ),
    Rule(
        "a stack keeps its gap",
        (mmap(5, 1), mmap(20, 1, RW, FIXED | c.MAP_GROWSDOWN), store(10)),
        "EFAULT, P5-P6 rw-p, P20-P21 rw-p",
    ),
    Rule(
        "mprotect changes what lies before a hole",
        (mmap(0, 2), mmap(3, 1), part("mprotect", 0, 4, READ)),
        "ENOMEM, P0-P2 r--p, P3-P4 rw-p",
    ),
    Rule(
        "MAP_STACK is no place for huge pages",
        (mmap(0, 1), mmap(1, 1, RW, FIXED | c.MAP_STACK)),
        "P1, P0-P1 rw-p, P1-P2 rw-p",
    ),
    Rule(
        "DONTUNMAP unlocks without merging",
        (mmap(0, 3), part("mlock", 2, 1, 0), mremap(2, 1, 1, MOVE | c.MREMAP_DONTUNMAP, 8)),
        "P8, P0-P2 rw-p, P2-P3 rw-p, P8-P9 rw-p",
    ),
    Rule(
        "the heap joins nothing below it",
        (mmap(44, 4), Call("brk", (at(50),))),
        "P50, P44-P48 rw-p, P48-P50 rw-p",
    ),
    Rule(
        "shared memory ends where it was made to",
        (mmap(0, 1, RW, SHARED), mremap(0, 1, 2), store(1)),
        "EFAULT, P0-P2 rw-s",
    ),
    Rule(
        "populating past that end faults",
        (mmap(0, 1, RW, SHARED), mremap(0, 1, 2), part("madvise", 0, 2, c.MADV_POPULATE_READ)),
        "EFAULT, P0-P2 rw-s",
    ),
    Rule(
        "a mapping refused leaves its splits",
        (mmap(0, 2), limit("address_space", 0), mmap(1, 2)),
        "ENOMEM, P0-P1 rw-p, P1-P2 rw-p",
        "limited",
    ),
    Rule(
        "locked memory grows no further than its limit",
        (limit("locked", 1), mmap(0, 1, RW, FIXED | c.MAP_LOCKED), mremap(0, 1, 2)),
        "EAGAIN, P0-P1 rw-p",
        "limited",
    ),
    Rule(
        "splits stop at the limit",
        (mmap(0, 3), limit("map_count", 1), part("mprotect", 1, 1, READ)),
        "ENOMEM, P0-P1 rw-p, P1-P3 rw-p",
        "crowded",
    ),
    Rule(
        "advice cannot split there",
        (mmap(0, 3), limit("map_count", 1), part("madvise", 1, 1, 1)),
        "EAGAIN, P0-P1 rw-p, P1-P3 rw-p",
        "crowded",
    ),
    Rule(
        "a hole is made at the limit",
        (mmap(0, 3), limit("map_count", 0), Call("munmap", (at(1), PAGE))),
        "ENOMEM, P0-P3 rw-p",
        "crowded",
    ),
    Rule("the highest free range is taken", (mmap(60, 4), anywhere(2)), "P58, P58-P64 rw-p", "downwards"),
    Rule(
        "a gap that is large enough is taken first",
        (mmap(60, 2), mmap(56, 2), anywhere(2)),
        "P62, P56-P58 rw-p, P60-P64 rw-p",
        "downwards",
    ),
    Rule("the lowest free range is taken", (mmap(0, 4), anywhere(2)), "P4, P0-P6 rw-p", "upwards"),
    Rule(
        "nothing is placed in a stack's gap",
        (mmap(40, 1, RW, FIXED | c.MAP_GROWSDOWN), anywhere(24)),
        "ENOMEM, P40-P41 rw-p",
        "downwards",
    ),
    Rule(
        "a hint that is taken is forgotten",
        (mmap(10, 2), mmap(11, 2, RW, ANYWHERE)),
        "P62, P10-P12 rw-p, P62-P64 rw-p",
        "downwards",
    ),
    Rule(
        "a merge joins the next region, not the one after it",
        (mmap(0, 1), mmap(2, 2), part("mlock", 3, 1, c.MLOCK_ONFAULT), Call("fork"), mremap(0, 1, 2)),
        "P0, P0-P3 rw-p, P3-P4 rw-p",
    ),
    Rule(
        "a filler joins one region on either side",
        (mmap(0, 2), mmap(3, 2), part("mlock", 0, 1, 1), part("mlock", 4, 1, 1), Call("fork"), mmap(2, 1)),
        "P2, P0-P1 rw-p, P1-P4 rw-p, P4-P5 rw-p",
    ),
    Rule(
        "where no address space is left, data is not looked at",
        (mmap(0, 2, READ), limit("address_space", 1), limit("data", 1), part("mprotect", 0, 2, RW)),
        "0x0, P0-P2 rw-p",
        "limited",
    ),
    Rule(
        "who may lock nothing maps nothing locked",
        (limit("locked", 0), mmap(0, 1, RW, FIXED | c.MAP_LOCKED)),
        "EPERM",
        "limited",
    ),
    Rule(
        "a locked mapping counts whole",
        (limit("locked", 1), mmap(0, 2, RW, FIXED | c.MAP_LOCKED)),
        "EAGAIN",
        "limited",
    ),
    Rule(
        "who may lock nothing locks nothing",
        (mmap(0, 1), limit("locked", 0), part("mlock", 0, 1, 0)),
        "EPERM, P0-P1 rw-p",
        "limited",
    ),
)
