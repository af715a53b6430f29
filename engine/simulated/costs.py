"""What each piece of work costs on a simulated machine, and the clock that adds it up.

Simulated time is a type of its own: it is advanced by charged costs only, and cannot be added to or compared with
anything measured. docs/simulation.md explains the figures.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

COST_MAX_NS: Final = 10**12
"""The dearest piece of work that is taken for meant: a quarter of an hour."""
CALIBRATED: Final = "calibrated"
"""The beginning of the source of a cost that was chosen so that a known total comes out."""


class CostError(ValueError):
    """A table of costs that cannot be meant. The message is one line."""


@dataclass(frozen=True, slots=True, order=True)
class SimTime:
    """A span of simulated time in ns. It mixes with itself and with whole numbers as factors, with nothing else."""

    ns: int

    def __add__(self, other: "SimTime") -> "SimTime":
        if not isinstance(other, SimTime):
            return NotImplemented
        return SimTime(self.ns + other.ns)

    def __sub__(self, other: "SimTime") -> "SimTime":
        if not isinstance(other, SimTime):
            return NotImplemented
        return SimTime(self.ns - other.ns)

    def __mul__(self, factor: int) -> "SimTime":
        if not isinstance(factor, int):
            return NotImplemented
        return SimTime(self.ns * factor)

    def each(self, count: int) -> "SimTime":
        """The share of one of `count` equal parts, rounded to the nearest ns."""
        return SimTime((2 * self.ns + count) // (2 * count))

    def __str__(self) -> str:
        return f"{self.ns} simulated ns"


class Work(StrEnum):
    """The kinds of work that cost time. The value is the name in a file of costs."""

    SYSCALL = "syscall"
    CONTEXT_SWITCH = "context_switch"
    SPACE_SWITCH = "space_switch"
    ROOT_LOAD = "root_load"
    TLB_FLUSH = "tlb_flush"
    TAG_ASSIGN = "tag_assign"
    WALK_LEVEL = "walk_level"
    PAGE_INVALIDATE = "page_invalidate"
    IPI = "ipi"
    FAULT = "fault"
    PAGE_FETCH = "page_fetch"
    ENTRY_BUILD = "entry_build"
    ENTRY_DROP = "entry_drop"
    PAGE_ZERO = "page_zero"
    PAGE_COPY = "page_copy"
    REGION_INSERT = "region_insert"
    REGION_REMOVE = "region_remove"
    REGION_COPY = "region_copy"
    SPACE_CREATE = "space_create"
    SPACE_ATTACH = "space_attach"
    SPACE_DETACH = "space_detach"
    THREAD_CREATE = "thread_create"
    PROCESS_FORK = "process_fork"
    PROCESS_EXEC = "process_exec"
    PROCESS_EXIT = "process_exit"


@dataclass(frozen=True, slots=True)
class Cost:
    """The default of one kind of work: ns each time, what is counted, and where the figure is from."""

    work: Work
    ns: int
    each: str
    source: str


_CLOCK = "at the 2.4 GHz of the RFC's machine"
_FLUSH_MAIL = f"Molnar, linux-mm, 8 June 2015, {_CLOCK}"
_FAULT_POST = (
    f"Torvalds, April 2014 (Haswell: 1050 cycles to fault and return, 1301 with the handler), {_CLOCK}"
)
_PCID = "Linux commit 10af6235e0d3 (1.33 to 1.22 us a switch with tags)"

DEFAULTS: Final = (
    Cost(Work.SYSCALL, 100, "system call: entry and exit", "estimate; 110 to 130 ns was measured in 2026"),
    Cost(
        Work.CONTEXT_SWITCH,
        1723,
        "switch to another thread by the scheduler: choice, registers, FPU",
        f"{CALIBRATED}: process switch 1944 ns",
    ),
    Cost(
        Work.SPACE_SWITCH,
        247,
        "vas_switch: finding the attachment, locks, bookkeeping of switch_mm",
        f"{CALIBRATED}: VAS switch 468 ns",
    ),
    Cost(
        Work.ROOT_LOAD,
        11,
        "load of the page table's root",
        f"40 ns (96 cycles) with its flush: {_FLUSH_MAIL}",
    ),
    Cost(Work.TLB_FLUSH, 29, "flush of everything or of one tag", f"{CALIBRATED}: {_PCID}"),
    Cost(Work.TAG_ASSIGN, 10, "tag given to a space", "estimate: search of a bitmap"),
    Cost(Work.WALK_LEVEL, 9, "level of the page table read at a TLB miss", f"{CALIBRATED}: {_PCID}"),
    Cost(Work.PAGE_INVALIDATE, 108, "page taken out of a TLB", f"260 cycles, {_FLUSH_MAIL}"),
    Cost(Work.IPI, 1500, "other processor interrupted for a shootdown", "estimate: 1 to 3 us are usual"),
    Cost(Work.FAULT, 500, "page fault: exception, handler, return", _FAULT_POST),
    Cost(Work.PAGE_FETCH, 100_000, "major fault: read from store or swap", "estimate: solid state disk"),
    Cost(
        Work.ENTRY_BUILD,
        40,
        "page-table entry filled in",
        "estimate: 71 ns to copy one and drop it in fork and exit",
    ),
    Cost(Work.ENTRY_DROP, 30, "page-table entry taken out", "estimate: the rest of those 71 ns"),
    Cost(Work.PAGE_ZERO, 400, "new page of zeros", "estimate: 10 GB/s"),
    Cost(Work.PAGE_COPY, 800, "page copied", "estimate: 5 GB/s"),
    Cost(Work.REGION_INSERT, 400, "region put into a map", "estimate"),
    Cost(Work.REGION_REMOVE, 300, "region taken out of a map", "estimate"),
    Cost(Work.REGION_COPY, 1200, "region copied by fork", "estimate"),
    Cost(
        Work.SPACE_CREATE, 19_903, "vas_create: all but the system call", f"{CALIBRATED}: VAS create 20003 ns"
    ),
    Cost(
        Work.SPACE_ATTACH, 2000, "vas_attach: all but page-table entries", "estimate; the RFC gives no figure"
    ),
    Cost(
        Work.SPACE_DETACH, 2000, "vas_detach: all but page-table entries", "estimate; the RFC gives no figure"
    ),
    Cost(Work.THREAD_CREATE, 12_000, "thread made", "estimate"),
    Cost(
        Work.PROCESS_FORK,
        146_377,
        "fork: all but regions and page-table entries",
        f"{CALIBRATED}: fork 150491 ns",
    ),
    Cost(Work.PROCESS_EXEC, 200_000, "exec: all but regions", "estimate"),
    Cost(Work.PROCESS_EXIT, 30_000, "exit: all but regions and page-table entries", "estimate"),
)
"""One entry for each kind of work, in the order of `Work`."""


class Costs:
    """What each kind of work costs in simulated ns."""

    __slots__ = ("_ns",)

    def __init__(self, given: Mapping[str, object] | None = None) -> None:
        """`given` replaces defaults by name. CostError: an unknown name, or not a whole number from 0 up."""
        ns = {cost.work: cost.ns for cost in DEFAULTS}
        for name, value in (given or {}).items():
            if name not in ns:
                raise CostError(f"{name!r} is no cost")
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COST_MAX_NS:
                raise CostError(f"{name} is not a whole number of ns from 0 to {COST_MAX_NS}")
            ns[Work(name)] = value
        self._ns: Mapping[Work, int] = MappingProxyType(ns)

    def of(self, work: Work) -> SimTime:
        """What doing it once costs."""
        return SimTime(self._ns[work])

    def as_dict(self) -> dict[str, int]:
        """ns by name."""
        return {work.value: ns for work, ns in self._ns.items()}


@dataclass(frozen=True, slots=True)
class Bill:
    """What something cost, and how often each kind of work was done for it."""

    time: SimTime
    done: Mapping[Work, int]


class Clock:
    """Simulated time since the start, an integer of ns that only `charge` advances."""

    __slots__ = ("_costs", "_done", "_now")

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._now = SimTime(0)
        self._done: Counter[Work] = Counter()

    @property
    def now(self) -> SimTime:
        """Time since the start."""
        return self._now

    def charge(self, work: Work, times: int = 1) -> None:
        """`times` pieces of work were done; `times` is not negative."""
        if times < 0:
            raise ValueError(f"{work} was done {times} times")
        if times:
            self._now += self._costs.of(work) * times
            self._done[work] += times

    def bill(self) -> Bill:
        """Everything since the start."""
        return Bill(self._now, MappingProxyType(dict(self._done)))

    def since(self, start: Bill) -> Bill:
        """Everything since an earlier `bill`."""
        done = {
            work: count - start.done.get(work, 0)
            for work, count in self._done.items()
            if count != start.done.get(work, 0)
        }
        return Bill(self._now - start.time, MappingProxyType(done))
