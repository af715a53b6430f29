"""Every sequence of calls on ranges of the toy's arena, as many at a time as behave alike.

The calls take ranges of whole pages. How long a range is does not matter to them, only how its two ends lie to the ends
of the ranges before it: two sequences whose ends are in the same order, equal ones included, do the same. Four ranges
have at most eight ends, and the arena's eight pages have nine places for ends: so one sequence for each order is enough,
and each fits in.

Nor does it matter how a state was reached. So the search keeps one way to each state, and puts every next call behind
it: each kind, over every range whose ends are at an end of something that is there, or in between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import NamedTuple

from engine.check import check
from engine.constants import MADV_DONTNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import TOY
from engine.journal import Transaction
from engine.machine import Machine

PAGE, PAGES = TOY.page_size, 8
FRAMES = 3 * PAGES
FIRST = TOY.arena_start // PAGE
KINDS = ("map private", "map shared", "unmap", "protect", "write", "discard", "fork")
FIXED = MAP_ANONYMOUS | MAP_FIXED


class Call(NamedTuple):
    """Of one kind, on pages [first, end) of the arena. A fork has no range."""

    kind: str
    first: int
    end: int


Path = tuple[Call, ...]
Column = tuple[object, ...]
"""What all tasks have at one page."""


@dataclass
class Search:
    """`sequences[n]` counts the calls tried after n - 1 others, `states[n]` the states that are new after n calls."""

    sequences: list[int] = field(default_factory=lambda: [0])
    states: list[int] = field(default_factory=lambda: [1])


def make(machine: Machine, call: Call) -> None:
    """By the first task."""
    pid = min(task.pid for task in machine.tasks_table)
    start, length = (FIRST + call.first) * PAGE, (call.end - call.first) * PAGE
    match call.kind:
        case "map private":
            machine.mmap(ROOT, pid, None, start, length, 3, FIXED | MAP_PRIVATE)
        case "map shared":
            machine.mmap(ROOT, pid, None, start, length, 3, FIXED | MAP_SHARED)
        case "unmap":
            machine.munmap(ROOT, pid, None, start, length)
        case "protect":
            machine.mprotect(ROOT, pid, None, start, length, 1)
        case "write":
            machine.write(ROOT, pid, None, start, b"#" * length)
        case "discard":
            machine.madvise(ROOT, pid, None, start, length, MADV_DONTNEED)
        case _:
            machine.fork(ROOT, pid)


def attempt(machine: Machine, call: Call) -> Transaction:
    """A call that may fail."""
    try:
        with machine.transaction() as txn:
            make(machine, call)
    except EngineError:
        pass  # txn was rolled back, or keeps what is partial
    return txn


def columns(machine: Machine) -> list[tuple[Column, int]]:
    """The arena page by page: for each task kind of region, kind of frame, and translation; and where regions begin.

    That is a number with a bit for each task.
    """
    rows: list[list[object]] = []
    begins = [0] * PAGES
    memories: dict[int, int] = {}
    for bit, task in enumerate(machine.tasks_table):
        row: list[object] = [None] * PAGES
        marks = {0: 0}
        for vma in task.space.vmas.overlapping(TOY.arena_start, TOY.arena_end):
            memory = memories.setdefault(id(vma.obj), len(memories))
            mark = marks.setdefault(vma.anon, len(marks))
            kind = int(vma.access), vma.shared, vma.flags, vma.moved, mark, vma.forked, memory
            low, count = vma.start // PAGE, (vma.end - vma.start) // PAGE
            begins[low - FIRST] |= 1 << bit
            entries = vma.obj.pages.entries(vma.offset, count).tolist()
            cached = task.original.table.entries(low, count).tolist()
            for position, (entry, translation) in enumerate(zip(entries, cached, strict=True)):
                frame = entry if entry < 2 else 1 + int(machine.pool.refs[entry])
                row[low - FIRST + position] = kind, frame, translation & 3
        rows.append(row)
    return list(zip(zip(*rows, strict=True), begins, strict=True))


def shape(machine: Machine) -> tuple[tuple[Column, ...], list[int]]:
    """The state without lengths: runs of pages that are alike; and the pages where something begins or ends."""
    runs: list[Column] = []
    edges: list[int] = []
    nothing: Column = (None,) * len(machine.tasks_table)
    last = nothing
    for page, (column, begins) in enumerate([*columns(machine), (nothing, False)]):
        if begins or column != last:
            runs.append((begins, *column))
            edges.append(page)
        last = column
    return (nothing, *runs), edges


def places(path: Path, edges: list[int]) -> Iterator[tuple[Path, int, int]]:
    """Every range that differs in order: the path with its pages moved to make room, and the range's first and end.

    Places are numbered: odd ones are edges, even ones lie before, between and behind them.
    """
    ends = sorted({end for call in path for end in (call.first, call.end) if call.kind != "fork"})
    for low, high in combinations_with_replacement(range(2 * len(edges) + 1), 2):
        if low == high and low % 2:
            continue  # an empty range
        keys = [_key(low, edges, 1), _key(high, edges, 2 if low == high else 1)]
        order = sorted({*((end, 0) for end in ends), *keys})
        number = {key: position for position, key in enumerate(order)}
        moved = tuple(
            call if call.kind == "fork" else Call(call.kind, number[call.first, 0], number[call.end, 0])
            for call in path
        )
        yield moved, number[keys[0]], number[keys[1]]


def _key(place: int, edges: list[int], nth: int) -> tuple[int, int]:
    """Sorts a new end right behind the edge that it follows."""
    if place % 2:
        return edges[place // 2], 0
    return (edges[place // 2 - 1] if place else -1), nth


def broken_rules(path: Path, *, read: bool) -> list[str]:
    """What `check` says of a machine that made these calls, and after that read every page."""
    machine = Machine(TOY, FRAMES)
    machine.spawn(ROOT, None, 60)
    for call in path:
        attempt(machine, call).settle()
    problems = list(check(machine))
    for task in machine.tasks_table if read else ():
        for vma in list(task.space.vmas):
            if vma.access:
                machine.read(ROOT, task.pid, None, vma.start, vma.end - vma.start)
    return problems + list(check(machine)) if read else problems


def search(depth: int) -> Search:
    """Every sequence of up to `depth` calls. Raises AssertionError with the first that breaks a rule."""
    machine = Machine(TOY, FRAMES)
    machine.spawn(ROOT, None, 60)
    known = {shape(machine)[0]}
    done = Search()
    level: list[tuple[Path, list[int]]] = [((), [])]
    for length in range(1, depth + 1):
        found: list[tuple[Path, list[int]]] = []
        tried = 0
        for path, edges in level:
            by_layout: dict[Path, list[Call]] = {}
            for moved, first, end in places(path, edges):
                if end > PAGES:
                    raise AssertionError(f"{path} does not fit")
                by_layout.setdefault(moved, []).extend(Call(kind, first, end) for kind in KINDS[:-1])
            if all(call.kind != "fork" for call in path):
                by_layout[next(iter(by_layout))].append(Call("fork", 0, 0))
            for moved, calls in by_layout.items():
                tried += len(calls)
                found.extend(_after(machine, moved, calls, known, last=length == depth))
        done.sequences.append(tried)
        done.states.append(len(found))
        level = found
    return done


def _after(
    machine: Machine, path: Path, calls: list[Call], known: set[tuple[Column, ...]], *, last: bool
) -> Iterator[tuple[Path, list[int]]]:
    """The new states that one more call leads to; each is checked on a machine of its own, and taken back here.

    The `last` ones are not read as well: one more call would be.
    """
    before = [attempt(machine, call) for call in path]
    for call in calls:
        txn = attempt(machine, call)
        if txn.mutated:
            state, edges = shape(machine)
            if state not in known:
                known.add(state)
                longer = (*path, call)
                problems = broken_rules(longer, read=not last)
                assert not problems, f"{longer}: {problems}"
                yield longer, edges
        txn.rollback()
    for txn in reversed(before):
        txn.rollback()
