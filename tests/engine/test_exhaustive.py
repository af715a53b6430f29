"""Every history of three calls on three pages: the model agrees, every rule holds, and going back goes back exactly.

A tree walk: each call is made in a transaction of its own, its successors are tried, and it is taken back.
"""

from collections.abc import Sequence
from itertools import product

import pytest

from engine.check import check
from engine.constants import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import TOY
from engine.journal import Transaction
from tests.engine.lockstep import Lockstep
from tests.engine.model_state import Refused

PAGE = TOY.page_size
BASE = TOY.arena_start
PARTS = [(first, count) for first, count in product(range(3), range(1, 4)) if first + count <= 3]
SOME_PARTS = [(0, 1), (1, 1), (1, 2)]
"""For what would only take longer on all: test_sequences.py has every range."""
FIXED = MAP_ANONYMOUS | MAP_FIXED
DEPTH = 3

Call = tuple[str, tuple[object, ...]]


def calls(*, inside: bool) -> list[Call]:
    """All calls, on each run of pages: map, unmap, protect; stores to see where bytes go; moves, and a heap beside it."""
    made: list[Call] = [
        ("write", (BASE + PAGE // 2, b"*" * (2 * PAGE), True)),
        ("write", (BASE + PAGE, b"#", False)),
        ("mremap", (BASE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 2 * PAGE)),
        ("mremap", (BASE + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0)),
        ("mremap", (BASE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, BASE + 3 * PAGE)),
        ("madvise", (BASE + PAGE, 2 * PAGE, MADV_DONTNEED)),
    ]
    if not inside:
        made.append(("brk", (TOY.text_start + 4 * PAGE,)))
    for first, count in PARTS:
        place = BASE + first * PAGE, count * PAGE
        made.append(("munmap", place))
        made.append(("mmap", (*place, 3, FIXED | MAP_PRIVATE)))
        if (first, count) in SOME_PARTS:
            made.append(("mprotect", (*place, 1)))
        if (first, count) in SOME_PARTS and not inside:
            made.append(("mmap", (*place, 3, FIXED | MAP_SHARED)))
    return made


def start(*, inside: bool) -> Lockstep:
    """A task with the three pages mapped: its own, or in a space that has been through a restart."""
    world = Lockstep(1, TOY, 64)
    world.call("spawn", ROOT)
    [pid] = world.model.tasks
    if inside:
        world.call("vas_create", ROOT, "space", 0o600, "shared")
        world.call("vas_attach", ROOT, pid, 1, 2, True)
        world.call("vas_switch", ROOT, pid, None, 1)
    world.call("mmap", ROOT, pid, None, BASE, 3 * PAGE, 3, FIXED | MAP_PRIVATE)
    world.call("write", ROOT, pid, None, BASE, bytes(range(1, 3 * PAGE + 1)), True)
    if inside:
        world.restart(crashed=True)
        world.call("spawn", ROOT)
        [pid] = world.model.tasks
        world.call("vas_attach", ROOT, pid, 1, 2, True)
        world.call("vas_switch", ROOT, pid, None, 1)
        world.call("read", ROOT, pid, None, BASE, 3 * PAGE)
    world.commit(len(world.waiting))
    return world


class Walk:
    """The tree of histories below one start."""

    def __init__(self, world: Lockstep, calls: Sequence[Call]) -> None:
        self.world = world
        self.calls = calls
        self.histories = 0
        [self.pid] = world.model.tasks

    def below(self, depth: int) -> None:
        """Try every call here; what lies above has been compared already."""
        for name, args in self.calls:
            before = self.world.model.copy()
            txn = self.make(name, args)
            self.world.compare_memory()
            self.histories += 1
            if depth > 1:
                self.below(depth - 1)
            else:
                assert list(check(self.world.machine, pending=True)) == []
            txn.rollback()
            self.world.model = before
        self.world.compare_memory()
        assert list(check(self.world.machine, pending=depth < DEPTH)) == []

    def make(self, name: str, args: Sequence[object]) -> Transaction:
        errno = ideal = ""
        try:
            with self.world.machine.transaction() as txn:
                getattr(self.world.machine, name)(ROOT, self.pid, None, *args)
        except EngineError as error:
            errno = error.errno
        before = self.world.model.copy()
        try:
            getattr(self.world.model, name)(ROOT, self.pid, None, *args, given=None)
        except Refused as refused:
            ideal = refused.errno
            if not refused.partial:
                self.world.model = before
        assert errno == ideal
        return txn


@pytest.mark.parametrize("inside", [False, True], ids=["a-task's-pages", "a-space's-pages"])
def test_all_histories_of_three_calls_agree_and_can_be_taken_back(inside: bool) -> None:
    world = start(inside=inside)
    walk = Walk(world, calls(inside=inside))
    walk.below(DEPTH)
    count = len(walk.calls)
    assert walk.histories == count + count**2 + count**3
    world.compare()
