"""Differences between spaces and between segments, against comparing every visible byte."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.check import check
from engine.credentials import ROOT, Credentials
from engine.errors import EngineError, PagesNeeded
from engine.geometry import X86_64
from engine.memory.page_map import LEAF_PAGES
from engine.spaces.diff import CHANGED, LEFT, RIGHT, Difference, Question, Run, append
from tests.engine.host import ALICE, BOB, EVE, FIXED, PRIVATE, ROUNDS_MAX, RW, SHARED_MAP, Host

T = TypeVar("T")
Look = Callable[[], Difference]
EVERYTHING = 1 << 40


def run(host: Host, call: Callable[[], T]) -> T:
    """A call in a transaction of its own, with the pages that it needs."""
    for _ in range(ROUNDS_MAX):
        try:
            with host.machine.transaction() as txn:
                value = call()
        except PagesNeeded as need:
            host.fetches += 1
            host.machine.supply(need, host.store.fetch(need.object_id, need.pages))
        else:
            host.settle(txn)
            return value
    raise AssertionError("it never had all its pages")


def answer(host: Host, asked: Question) -> list[int]:
    """As the service answers it."""
    if not asked.shift:
        return host.store.differing(asked.left, asked.right, asked.first, asked.count)
    here = host.store.stored_pages(asked.left, asked.first, asked.count)
    there = host.store.stored_pages(asked.right, asked.first + asked.shift, asked.count)
    return sorted({*here, *(page - asked.shift for page in there)})


def compare(host: Host, look: Look, window: int = EVERYTHING, block: int = 16) -> tuple[list[Run], int]:
    """All runs, and how many pages were candidates."""
    found: list[Run] = []
    position: int | None = 0
    count = 0
    while position is not None:
        start = position
        survey = run(host, lambda: look().survey(start, window))  # noqa: B023 - it is called at once
        pages = survey.candidates([answer(host, asked) for asked in survey.questions()])
        count += len(pages)
        changed: list[Run] = []
        for low in range(0, len(pages), block):
            some = pages[low : low + block]
            changed += run(host, lambda: look().compare(some))  # noqa: B023
        for each in sorted([*survey.alone, *changed]):
            append(found, each)
        position = survey.stop
    return found, count


def spaces(host: Host, left: int, right: int, **options: Any) -> list[Run]:
    return compare(host, lambda: host.machine.vas_diff(ROOT, left, right), **options)[0]


def segments(host: Host, left: int, right: int, **options: Any) -> list[Run]:
    return compare(host, lambda: host.machine.vas_seg_diff(ROOT, left, right), **options)[0]


def in_pages(host: Host, runs: list[Run]) -> list[tuple[int, int, str]]:
    """Runs in pages above the arena's start."""
    return [((r.start - host.base) // host.page, (r.end - host.base) // host.page, r.kind) for r in runs]


# -- spaces --------------------------------------------------------------------------------------------------------


def two(host: Host, pages: int = 6) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two tasks, each inside a space of its own with some pages."""
    return host.inside(pages), host.inside(pages)


def test_pages_that_differ_are_runs_and_zeros_are_as_good_as_nothing(host: Host) -> None:
    (pid, vid), (other, second) = two(host)
    page, base = host.page, host.base
    assert spaces(host, vid, second) == []
    for task in (pid, other):
        host.do("write", task, None, base, b"same")
    host.do("write", pid, None, base + page, b"x")
    host.do("write", other, None, base + 3 * page - 1, b"yy")
    host.do("write", other, None, base + 5 * page, bytes(page))
    host.do("read", pid, None, base + 4 * page, 1)
    assert in_pages(host, spaces(host, vid, second)) == [(1, 4, CHANGED)]
    assert spaces(host, second, vid) == spaces(host, vid, second)
    assert spaces(host, vid, vid) == []
    host.restart()
    assert in_pages(host, spaces(host, vid, second)) == [(1, 4, CHANGED)]


def test_what_only_one_maps_is_told_by_side_whatever_its_bytes(host: Host) -> None:
    (pid, vid), (other, second) = two(host, 0)
    host.map_at(pid, 0, 3)
    host.map_at(pid, 3, 4, prot=1)
    host.map_at(other, 2, 6)
    assert in_pages(host, spaces(host, vid, second)) == [(0, 2, LEFT), (4, 6, RIGHT)]
    assert in_pages(host, spaces(host, second, vid)) == [(0, 2, RIGHT), (4, 6, LEFT)]
    host.do("write", pid, None, host.base + 2 * host.page, b"x")
    assert in_pages(host, spaces(host, vid, second)) == [(0, 2, LEFT), (2, 3, CHANGED), (4, 6, RIGHT)]
    host.do("munmap", pid, None, host.base + 2 * host.page, host.page)
    host.map_at(pid, 2, 3)
    assert in_pages(host, spaces(host, vid, second)) == [(0, 2, LEFT), (4, 6, RIGHT)]


def test_a_page_written_relaxed_is_seen_and_so_is_one_that_was_let_go(host: Host) -> None:
    (pid, vid), (_, second) = two(host)
    host.do("write", pid, None, host.base, b"relaxed", False)
    assert in_pages(host, spaces(host, vid, second)) == [(0, 1, CHANGED)]
    assert in_pages(host, spaces(host, second, vid)) == [(0, 1, CHANGED)]
    look: Look = lambda: host.machine.vas_diff(ROOT, vid, second)
    survey = run(host, lambda: look().survey(0, EVERYTHING))
    early = [answer(host, asked) for asked in survey.questions()]
    with host.machine.transaction() as txn:
        host.machine.flush()
    host.settle(txn)
    host.machine.objects.evict(64)
    found = run(host, lambda: look().compare(survey.candidates(early)))
    assert in_pages(host, found) == [(0, 1, CHANGED)], "asked before it was stored, compared after"


def test_segments_are_seen_where_they_are_attached(host: Host) -> None:
    (pid, vid), (_, second) = two(host, 2)
    sid, twin = host.segment("log", pages=2, at=4), host.segment("twin", pages=2, at=4)
    for where, which in ((vid, sid), (second, sid)):
        host.do("vas_seg_attach", where, which, 2)
    host.do("write", pid, None, host.base + 4 * host.page, b"in both")
    assert spaces(host, vid, second) == []
    host.do("vas_seg_attach", third := host.space("third"), twin, 0)
    assert in_pages(host, spaces(host, vid, third)) == [(0, 2, LEFT), (4, 5, CHANGED)]
    assert in_pages(host, segments(host, sid, twin)) == [(4, 5, CHANGED)]
    host.do("seg_write", twin, 0, b"in both")
    assert segments(host, sid, twin) == spaces(host, third, third) == []


def test_memory_shown_at_another_distance_is_compared_too(host: Host) -> None:
    """A space's own page 5 beside page 2 of a segment."""
    (pid, vid), (other, second) = two(host, 0)
    host.map_at(pid, 3, 8)
    for number, text in ((4, b"one"), (5, b"two"), (7, b"four")):
        host.do("write", pid, None, host.base + number * host.page, text)
    sid = host.segment("log", pages=5, at=3)
    host.do("vas_seg_attach", second, sid, 2)
    for number, text in ((4, b"one"), (5, b"TWO"), (6, b"three"), (7, b"four")):
        host.do("write", other, None, host.base + number * host.page, text)
    for _ in range(2):
        assert in_pages(host, spaces(host, vid, second)) == [(5, 7, CHANGED)]
        assert in_pages(host, spaces(host, second, vid)) == [(5, 7, CHANGED)]
        host.restart()
    for which in (vid, second):
        host.enter(pid := host.task(), which)
        host.do("write", pid, None, host.base + 5 * host.page, b"six", False)
        host.do("write", pid, None, host.base + 6 * host.page, bytes([which]), False)
    host.do("write", pid, None, host.base + 3 * host.page, b"in neither", False)
    assert in_pages(host, spaces(host, vid, second)) == [(3, 4, CHANGED), (6, 7, CHANGED)]
    assert in_pages(host, spaces(host, second, vid)) == [(3, 4, CHANGED), (6, 7, CHANGED)]


@pytest.mark.roomy
def test_clones_cost_what_was_written_since(x86: Host) -> None:
    pid, vid = x86.inside(pages=0)
    x86.do("mmap", pid, None, x86.base, 1 << 30, RW, PRIVATE | FIXED)
    for number in range(200):
        x86.do("write", pid, None, x86.base + number * 1000 * x86.page, b"kept")
    clone = x86.do("vas_clone", vid, "clone")
    look: Look = lambda: x86.machine.vas_diff(ROOT, vid, clone)
    assert compare(x86, look) == ([], 0)
    for number in (0, 7001, 200_000):
        x86.do("write", pid, None, x86.base + number * x86.page, b"new")
    for _ in range(2):
        runs, count = compare(x86, look)
        assert in_pages(x86, runs) == [(n, n + 1, CHANGED) for n in (0, 7001, 200_000)]
        assert count == 3
        x86.restart()
        fetched = x86.fetches
        compare(x86, look)
        assert x86.fetches - fetched <= 2, "one for each side"


def test_a_window_bounds_what_one_step_looks_at(host: Host) -> None:
    (pid, vid), (other, second) = two(host, 0)
    host.map_at(pid, 0, 6)
    host.map_at(other, 1, 7)
    for number in (1, 2, 4):
        host.do("write", pid, None, host.base + number * host.page, b"x")
    whole = spaces(host, vid, second)
    assert in_pages(host, whole) == [(0, 1, LEFT), (1, 3, CHANGED), (4, 5, CHANGED), (6, 7, RIGHT)]
    for window in (1, 2, 3):
        assert spaces(host, vid, second, window=window, block=1) == whole
        survey = run(host, lambda: host.machine.vas_diff(ROOT, vid, second).survey(0, window))  # noqa: B023
        assert survey.stop == host.base + (1 + window) * host.page


def test_a_candidate_whose_map_has_changed_meanwhile_is_told_as_it_is(host: Host) -> None:
    (pid, vid), (other, second) = two(host, 8)
    for number in range(8):
        host.do("write", pid, None, host.base + number * host.page, b"x")
    look: Look = lambda: host.machine.vas_diff(ROOT, vid, second)
    survey = run(host, lambda: look().survey(0, EVERYTHING))
    pages = survey.candidates([answer(host, asked) for asked in survey.questions()])
    for task, first, count in ((other, 0, 2), (pid, 3, 2), (other, 4, 1), (pid, 6, 1)):
        host.do("munmap", task, None, host.base + first * host.page, count * host.page)
    found = in_pages(host, run(host, lambda: look().compare(pages)))
    assert found == [
        (0, 2, LEFT),
        (2, 3, CHANGED),
        (3, 4, RIGHT),
        (5, 6, CHANGED),
        (6, 7, RIGHT),
        (7, 8, CHANGED),
    ]


# -- who may, and what there is to compare --------------------------------------------------------------------------


def refusal(host: Host, call: str, cred: Credentials, left: int, right: int) -> str:
    try:
        run(host, lambda: getattr(host.machine, call)(cred, left, right))
    except EngineError as refused:
        return refused.errno
    return ""


def test_reading_is_needed_on_both_sides(host: Host) -> None:
    free = host.space("free", 0o604)
    hers = host.do("vas_create", "hers", 0o640, cred=ALICE)
    for left, right in ((free, hers), (hers, free)):
        found = [refusal(host, "vas_diff", cred, left, right) for cred in (ROOT, ALICE, BOB, EVE)]
        assert found == ["", "", "", "EACCES"]
    open_, closed = host.segment("open", mode=0o604), host.segment("closed", mode=0o602)
    for left, right in ((open_, closed), (closed, open_)):
        assert [refusal(host, "vas_seg_diff", cred, left, right) for cred in (ROOT, EVE)] == ["", "EACCES"]


def test_what_cannot_be_compared_is_einval(host: Host) -> None:
    vid, sid = host.space(), host.segment("a", pages=2)
    shorter, elsewhere = host.segment("b", pages=1), host.segment("c", pages=2, at=2)
    for call, mine, others in (
        ("vas_diff", vid, (99, 0, -1)),
        ("vas_seg_diff", sid, (99, 0, -1, shorter, elsewhere)),
    ):
        for other in others:
            assert refusal(host, call, ROOT, mine, other) == "EINVAL"
            assert refusal(host, call, ROOT, other, mine) == "EINVAL"


# -- anything at all -------------------------------------------------------------------------------------------------

PLACES = (0, 1, 2, 3, LEAF_PAGES - 1, LEAF_PAGES, LEAF_PAGES + 1, 100_000, 100_001)
NEAR = sorted({place + more for place in PLACES for more in range(4)})
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.sampled_from(PLACES), st.binary(min_size=1, max_size=2), st.booleans()),
    st.tuples(st.just("map"), st.integers(0, 3), st.sampled_from(PLACES), st.integers(1, 3), st.sampled_from((PRIVATE, SHARED_MAP))),
    st.tuples(st.just("unmap"), st.integers(0, 3), st.sampled_from(PLACES), st.integers(1, 3)),
    st.tuples(st.just("clone"), st.integers(0, 3)),
    st.tuples(st.just("attach"), st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("touch"), st.integers(0, 3), st.sampled_from(PLACES)),
    st.tuples(st.sampled_from(("evict", "flush", "restart"))),
)  # fmt: skip


class World:
    """A few spaces; what a step cannot do in one of them is passed over."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.vids = [host.space(f"space-{number}") for number in range(2)]
        self.sids = [
            host.segment(f"segment-{number}", pages=3, at=at) for number, at in enumerate((1, 1, 511))
        ]
        self.tasks: dict[int, int] = {}
        for vid in self.vids:
            self.host.map_at(self.inside(vid), 0, LEAF_PAGES + 2)

    def inside(self, vid: int) -> int:
        """A task that is inside the space."""
        if vid not in self.tasks:
            self.tasks[vid] = self.host.task()
            self.host.enter(self.tasks[vid], vid)
        return self.tasks[vid]

    def step(self, name: str, *args: Any) -> None:
        host = self.host
        if name == "evict":
            host.machine.objects.evict(1 << 20)
        elif name == "flush":
            with host.machine.transaction() as txn:
                host.machine.flush()
            host.settle(txn)
        elif name == "restart":
            host.restart()
            self.tasks.clear()
        else:
            which, *rest = args
            self.act(name, self.vids[which % len(self.vids)], *rest)

    def act(self, name: str, vid: int, *args: Any) -> None:
        host, pid = self.host, self.inside(vid)
        address = host.base + args[0] * host.page if args else 0
        if name == "write":
            host.refused("write", pid, None, address + host.page - 1, args[1], args[2])
        elif name == "touch":
            host.refused("read", pid, None, address, 1)
        elif name == "map":
            host.refused("mmap", pid, None, address, args[1] * host.page, RW, args[2] | FIXED)
        elif name == "unmap":
            host.refused("munmap", pid, None, address, args[1] * host.page)
        elif name == "clone" and len(self.vids) < 4:
            self.vids.append(host.do("vas_clone", vid, f"clone-{len(self.vids)}"))
        elif name == "attach":
            host.refused("vas_seg_attach", vid, self.sids[args[0]], 2)

    def naive(self, left: int, right: int) -> dict[int, str]:
        """How each page differs, one by one; those that no step touches are left out."""
        found = {}
        for number in NEAR:
            start = self.host.base + number * self.host.page
            here, there = (self.bytes_at(vid, start) for vid in (left, right))
            if here != there:
                found[number] = LEFT if there is None else RIGHT if here is None else CHANGED
        return found

    def bytes_at(self, vid: int, address: int) -> bytes | None:
        host = self.host
        vma = host.machine.spaces.registry.get(vid).memory.vmas.find(address)
        if vma is None:
            return None
        offset = (vma.offset << X86_64.page_shift) + address - vma.start
        return run(host, lambda: vma.obj.read(offset, host.page))


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.lists(STEPS, min_size=3, max_size=30), st.sampled_from((1, 7, EVERYTHING)))
def test_it_is_what_comparing_every_page_gives(steps: list[tuple[Any, ...]], window: int) -> None:
    host = Host(X86_64, frames=96)
    world = World(host)
    for number, each in enumerate(steps, 1):
        world.step(*each)
        if number % 10 and number < len(steps):
            continue
        vids = world.vids
        for left, right in {(vids[0], vids[-1]), (vids[-1], vids[0]), (vids[0], vids[1])}:
            found = spaces(host, left, right, window=window)
            pages = {number: kind for low, high, kind in in_pages(host, found) for number in range(low, high)}
            assert {number: pages[number] for number in NEAR if number in pages} == world.naive(left, right)
            assert all(a.end < b.start or (a.end == b.start and a.kind != b.kind) for a, b in pairwise(found))
            assert spaces(host, left, right) == found
    for sid in world.sids[:2]:
        assert segments(host, sid, world.sids[0]) == segments(host, world.sids[0], sid)
    assert list(check(host.machine)) == []
