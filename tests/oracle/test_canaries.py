"""An engine that is wrong on purpose is found out, and what is printed says where it is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from engine import constants as c
from engine.credentials import Credentials
from engine.errors import EngineError
from engine.machine import Machine
from engine.memory.page_map import PageMap
from engine.regions import placement
from engine.regions.vma import Vma
from tests.oracle.calls import PAGE
from tests.oracle.compare import Difference
from tests.oracle.conftest import OpenOracle
from tests.oracle.oracle import Oracle

Patch = Callable[[pytest.MonkeyPatch], None]
SEQUENCES_MAX = 300
CALLS_MAX = 8
"""A shrunk counterexample of any canary is not longer."""


def writes_do_not_matter_to_merging(patch: pytest.MonkeyPatch) -> None:
    def merges_with(left: Vma, right: Vma, page_shift: int) -> bool:
        return left.access == right.access and left.follows_on(right, page_shift)

    patch.setattr(Vma, "merges_with", merges_with)


def neighbours_do_not_merge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Vma, "merges_with", lambda left, right, page_shift: False)


def mprotect_is_all_or_nothing(patch: pytest.MonkeyPatch) -> None:
    real: Any = Machine.mprotect

    def mprotect(machine: Machine, *args: Any) -> None:
        try:
            real(machine, *args)
        except EngineError as error:
            error.partial = False
            raise

    patch.setattr(Machine, "mprotect", mprotect)


def dontneed_keeps_bytes(patch: pytest.MonkeyPatch) -> None:
    real: Any = Machine.madvise

    def madvise(machine: Machine, *args: Any) -> None:
        *place, advice = args
        real(machine, *place, c.MADV_WILLNEED if advice == c.MADV_DONTNEED else advice)

    patch.setattr(Machine, "madvise", madvise)


def moved_memory_stays_at_its_old_place(patch: pytest.MonkeyPatch) -> None:
    real: Any = Machine.mremap

    def mremap(machine: Machine, *args: Any) -> int:
        *place, size, new, flags, target = args
        stays = flags == c.MREMAP_MAYMOVE | c.MREMAP_FIXED and size == new
        value: int = real(machine, *place, size, new, flags | stays * c.MREMAP_DONTUNMAP, target)
        return value

    patch.setattr(Machine, "mremap", mremap)


def forks_share_pages(patch: pytest.MonkeyPatch) -> None:
    real = PageMap.writable_leaf

    def writable_leaf(pages: PageMap, number: int) -> Any:
        found = pages.leaf(number)
        return real(pages, number) if found is None else found

    patch.setattr(PageMap, "writable_leaf", writable_leaf)


def everything_is_resident(patch: pytest.MonkeyPatch) -> None:
    real = Machine.mincore
    patch.setattr(Machine, "mincore", lambda machine, *args: b"\1" * len(real(machine, *args)))


def hints_are_ignored(patch: pytest.MonkeyPatch) -> None:
    real: Any = Machine.mmap

    def mmap(machine: Machine, *args: Any) -> int:
        *who, addr, length, prot, flags = args
        fixed = flags & (c.MAP_FIXED | c.MAP_FIXED_NOREPLACE)
        value: int = real(machine, *who, addr if fixed else 0, length, prot, flags)
        return value

    patch.setattr(Machine, "mmap", mmap)


def unmapping_forgets_the_last_page(patch: pytest.MonkeyPatch) -> None:
    real: Any = Machine.munmap

    def munmap(machine: Machine, *args: Any) -> None:
        *place, length = args
        real(machine, *place, max(length - PAGE, 1))

    patch.setattr(Machine, "munmap", munmap)


def locking_does_nothing(patch: pytest.MonkeyPatch) -> None:
    real = Machine.mlock

    def mlock(machine: Machine, *args: Any) -> None:
        txn = machine.journal.current
        assert txn is not None
        real(machine, *args)
        txn.rollback()

    patch.setattr(Machine, "mlock", mlock)


def the_heap_never_shrinks(patch: pytest.MonkeyPatch) -> None:
    real = Machine.brk

    def brk(machine: Machine, cred: Credentials, pid: int, tid: int | None, addr: int = 0) -> int:
        return real(machine, cred, pid, tid, max(addr, real(machine, cred, pid, tid, 0)))

    patch.setattr(Machine, "brk", brk)


def the_lowest_place_is_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(placement, "_downwards", placement._upwards)


def stacks_have_no_guard_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(placement, "gap_start", lambda owner, vma: vma.start)


def limits_do_not_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Machine, "prlimit", lambda machine, cred, pid, resource, value=None: 0)


CANARIES: dict[Patch, str] = {
    writes_do_not_matter_to_merging: "plain",
    neighbours_do_not_merge: "plain",
    mprotect_is_all_or_nothing: "plain",
    dontneed_keeps_bytes: "plain",
    moved_memory_stays_at_its_old_place: "plain",
    forks_share_pages: "plain",
    everything_is_resident: "plain",
    hints_are_ignored: "plain",
    unmapping_forgets_the_last_page: "plain",
    locking_does_nothing: "plain",
    the_heap_never_shrinks: "plain",
    the_lowest_place_is_taken: "downwards",
    stacks_have_no_guard_gap: "downwards",
    limits_do_not_limit: "limited",
}
"""With the mode that shows it."""


def first_difference(oracle: Oracle) -> Difference | None:
    sequences = (oracle.generate(seed) for seed in range(SEQUENCES_MAX))
    return next((found for calls in sequences if (found := oracle.difference(calls))), None)


@pytest.mark.parametrize(("break_it", "mode"), CANARIES.items(), ids=lambda it: getattr(it, "__name__", it))
def test_a_wrong_engine_is_caught(
    break_it: Patch, mode: str, open_oracle: OpenOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = open_oracle(mode)
    break_it(monkeypatch)
    found = first_difference(oracle)
    assert found is not None
    shrunk = oracle.shrunk(found)
    print(shrunk)
    assert len(shrunk.calls) <= CALLS_MAX
    monkeypatch.undo()
    assert oracle.difference(shrunk.calls) is None


def test_a_counterexample_can_be_read(open_oracle: OpenOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours_do_not_merge(monkeypatch)
    oracle = open_oracle("plain")
    found = first_difference(oracle)
    assert found is not None
    shrunk = oracle.shrunk(found)
    assert len(shrunk.calls) == 2
    lines = str(shrunk).splitlines()
    assert "addr=P" in lines[0]
    assert "1 pages" in lines[1]
    assert [line.split() for line in lines if "kernel  " in line] == [["kernel", "engine"]]
    marked = [line for line in lines if line.strip().startswith("!")]
    assert len(marked) == 3
    assert all("p" in line for line in marked)
