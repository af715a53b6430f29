"""mremap: sizes, places, refusals and their order, in tasks and in spaces."""

from collections.abc import Callable

import pytest

from engine.constants import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from engine.credentials import ROOT
from engine.errors import Collision, EngineError
from tests.engine.host import EVE, SHARED_MAP, Host
from tests.engine.lockstep import regions

MAY, FIXED, KEEP = MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_DONTUNMAP


@pytest.fixture
def pid(host: Host) -> int:
    """A task with pages 0 and 1 of the arena, "0…" and "1…", and page 3."""
    pid = host.task()
    start = host.map_at(pid, 0, 2)
    host.map_at(pid, 3, 4, prot=1)
    host.do("write", pid, None, start, b"0" * host.page + b"1" * host.page)
    return pid


def remap(host: Host, pid: int, first: int, old: int, new: int, flags: int = 0, to: int = 0) -> int:
    """In pages; the page that the memory is at afterwards."""
    page, base = host.page, host.base
    where: int = host.do(
        "mremap", pid, None, base + first * page, old * page, new * page, flags, base + to * page
    )
    return (where - base) // page


def shown(host: Host, pid: int, *numbers: int) -> str:
    """The first letter of pages, "-" for what cannot be read, "." for zeros."""
    letters = []
    for number in numbers:
        where = host.base + number * host.page
        refused = host.refused("read", pid, None, where, 1)
        letters.append("-" if refused else host.do("read", pid, None, where, 1).decode().replace("\0", "."))
    return "".join(letters)


# -- refusals ----------------------------------------------------------------------------------------------------

Bytes = Callable[[int, int], tuple[int, ...]]
"""(base, page) -> old address, old size, new size, flags, new address."""
REFUSED: list[tuple[str, str, Bytes]] = [
    ("EINVAL", "an unknown flag", lambda b, p: (b, p, p, 8, 0)),
    ("EINVAL", "not aligned", lambda b, p: (b + 1, p, p, 0, 0)),
    ("EINVAL", "no new size", lambda b, p: (b, p, 0, 0, 0)),
    ("EINVAL", "sizes wrap: a new size of nothing", lambda b, p: (b, p, 2**64 - 1, 0, 0)),
    ("EINVAL", "longer than everything", lambda b, p: (b, p, 1 << 62, 0, 0)),
    ("EINVAL", "FIXED without MAYMOVE", lambda b, p: (b, p, p, MREMAP_FIXED, b + 4 * p)),
    ("EINVAL", "DONTUNMAP without MAYMOVE", lambda b, p: (b, p, p, MREMAP_DONTUNMAP, 0)),
    ("EINVAL", "DONTUNMAP keeps the size", lambda b, p: (b, p, 2 * p, KEEP, 0)),
    ("EINVAL", "the new address is not aligned", lambda b, p: (b, p, p, FIXED, b + 4 * p + 1)),
    ("EINVAL", "the new address is beyond the end", lambda b, p: (b, p, p, FIXED, 1 << 60)),
    ("EINVAL", "the places overlap", lambda b, p: (b, 2 * p, 2 * p, FIXED, b + p)),
    ("EINVAL", "the places overlap, the other way", lambda b, p: (b + p, p, 2 * p, FIXED, b)),
    ("EINVAL", "private memory is not shown twice", lambda b, p: (b, 0, p, MAY, 0)),
    ("EFAULT", "a hole", lambda b, p: (b + 2 * p, p, p, 0, 0)),
    ("EFAULT", "a hole, before the size", lambda b, p: (b + 2 * p, 0, p, MAY, 0)),
    ("EFAULT", "growing over two regions", lambda b, p: (b, 4 * p, 5 * p, MAY, 0)),
    ("EFAULT", "what moves begins in a hole", lambda b, p: (b + 2 * p, 2 * p, 2 * p, FIXED, b + 5 * p)),
    ("ENOMEM", "no room, and it may not move", lambda b, p: (b, 2 * p, 4 * p, 0, 0)),
    ("ENOMEM", "not its end, and it may not move", lambda b, p: (b, p, 2 * p, 0, 0)),
]


@pytest.mark.parametrize(("errno", "why", "call"), REFUSED, ids=[f"{row[0]}: {row[1]}" for row in REFUSED])
def test_what_is_refused_changes_nothing(host: Host, pid: int, errno: str, why: str, call: Bytes) -> None:
    before = host.pages_of(pid)
    assert host.refused("mremap", pid, None, *call(host.base, host.page)) == errno
    assert (host.pages_of(pid), shown(host, pid, 0, 1, 2, 3)) == (before, "01-.")


def test_only_who_may_act_on_the_task(host: Host, pid: int) -> None:
    assert host.refused("mremap", pid, None, host.base, host.page, host.page, cred=EVE) == "EPERM"
    assert host.refused("mremap", pid, 10**6, host.base, host.page, host.page) == "ESRCH"
    assert host.refused("mremap", 10**6, None, host.base, host.page, host.page) == "ESRCH"


# -- sizes -------------------------------------------------------------------------------------------------------


def test_the_same_size_is_nothing_to_do_whatever_lies_there(host: Host, pid: int) -> None:
    assert remap(host, pid, 0, 4, 4) == 0
    assert remap(host, pid, 1, 1, 1) == 1
    assert host.pages_of(pid) == [(0, 2, "rw-"), (3, 4, "r--")]


def test_it_shrinks_where_it_is_over_several_regions_too(host: Host, pid: int) -> None:
    assert remap(host, pid, 0, 4, 1) == 0
    assert host.pages_of(pid) == [(0, 1, "rw-")]
    assert shown(host, pid, 0, 1, 3) == "0--"


def test_it_grows_where_it_is_up_to_the_next_region(host: Host, pid: int) -> None:
    assert remap(host, pid, 1, 1, 2) == 1
    assert host.pages_of(pid) == [(0, 3, "rw-"), (3, 4, "r--")]
    assert shown(host, pid, 0, 1, 2) == "01."
    assert host.refused("mremap", pid, None, host.base, 3 * host.page, 4 * host.page) == "ENOMEM"


def test_sizes_are_rounded_up(host: Host, pid: int) -> None:
    assert host.do("mremap", pid, None, host.base, host.page + 1, 2 * host.page + 1) == host.base
    assert host.pages_of(pid) == [(0, 3, "rw-"), (3, 4, "r--")]


@pytest.mark.roomy
def test_without_room_it_moves_and_leaves_nothing_behind(host: Host, pid: int) -> None:
    to = remap(host, pid, 0, 2, 4, MAY)
    top = (host.geometry.mmap_top - host.base) // host.page
    assert to == top - 4
    assert shown(host, pid, 0, 1, to, to + 1, to + 2) == "--01."
    host.map_at(pid, 0, 2)
    assert shown(host, pid, 0, 1) == ".."
    assert host.machine.pool.free_count == host.frames - 2


# -- places ------------------------------------------------------------------------------------------------------


def test_a_fixed_place_is_emptied_first(host: Host, pid: int) -> None:
    assert remap(host, pid, 0, 1, 1, FIXED, to=3) == 3
    assert host.pages_of(pid) == [(1, 2, "rw-"), (3, 4, "rw-")]
    assert shown(host, pid, 0, 1, 3) == "-10"


def test_a_fixed_place_may_be_longer_or_shorter(host: Host, pid: int) -> None:
    assert remap(host, pid, 0, 2, 1, FIXED, to=5) == 5
    assert (host.pages_of(pid), shown(host, pid, 5)) == ([(3, 4, "r--"), (5, 6, "rw-")], "0")
    assert remap(host, pid, 5, 1, 2, FIXED, to=0) == 0
    assert (host.pages_of(pid), shown(host, pid, 0, 1)) == ([(0, 2, "rw-"), (3, 4, "r--")], "0.")


def test_several_regions_move_together_with_the_holes_between(host: Host, pid: int) -> None:
    assert remap(host, pid, 0, 4, 4, FIXED, to=4) == 4
    assert host.pages_of(pid) == [(4, 6, "rw-"), (7, 8, "r--")]
    assert shown(host, pid, 0, 1, 4, 5, 7) == "--01."


def test_dontunmap_leaves_an_empty_region(host: Host, pid: int) -> None:
    assert remap(host, pid, 0, 2, 2, KEEP, to=5) == 5
    assert host.pages_of(pid) == [(0, 2, "rw-"), (3, 4, "r--"), (5, 7, "rw-")]
    assert shown(host, pid, 0, 1, 5, 6) == "..01"


def test_shared_memory_of_size_0_is_shown_twice(host: Host, pid: int) -> None:
    where = host.map_at(pid, 4, 6, flags=SHARED_MAP)
    assert remap(host, pid, 4, 0, 2, FIXED, to=0) == 0
    host.do("write", pid, None, where + host.page, b"s")
    assert shown(host, pid, 0, 1, 5) == ".ss"


def test_shared_memory_ends_where_it_was_made_to_end(host: Host, pid: int) -> None:
    host.map_at(pid, 4, 6, flags=SHARED_MAP)
    assert remap(host, pid, 4, 2, 4) == 4
    assert host.pages_of(pid)[-1] == (4, 8, "rw-")
    assert shown(host, pid, 4, 5, 6, 7) == "..--"
    assert host.refused("write", pid, None, host.base + 6 * host.page - 1, b"xx") == "EFAULT"
    assert shown(host, pid, 5) == "."


# -- what merges -------------------------------------------------------------------------------------------------


def test_memory_never_written_merges_at_its_new_place_and_written_memory_does_not(host: Host) -> None:
    pid = host.task()
    host.map_at(pid, 0, 1)
    host.map_at(pid, 4, 5)
    remap(host, pid, 0, 1, 1, FIXED, to=5)
    assert host.pages_of(pid) == [(4, 6, "rw-")]
    host.do("write", pid, None, host.base + 4 * host.page, b"x")
    remap(host, pid, 5, 1, 1, FIXED, to=0)
    remap(host, pid, 0, 1, 1, FIXED, to=3)
    assert host.pages_of(pid) == [(3, 4, "rw-"), (4, 5, "rw-")]
    remap(host, pid, 3, 1, 1, FIXED, to=5)
    assert host.pages_of(pid) == [(4, 6, "rw-")]


def test_a_fork_shows_moved_memory_and_moves_only_its_own(host: Host, pid: int) -> None:
    remap(host, pid, 0, 2, 2, FIXED, to=4)
    child = host.do("fork", pid).pid
    host.do("mremap", child, None, host.base + 4 * host.page, host.page, host.page, FIXED, host.base)
    assert (shown(host, pid, 0, 4, 5), shown(host, child, 0, 4, 5)) == ("-01", "0-1")


# -- spaces ------------------------------------------------------------------------------------------------------


def in_space(host: Host) -> tuple[int, int]:
    """(pid, vid) inside a space with pages 0 and 1, "0…" and "1…", written relaxed."""
    pid, vid = host.inside(pages=2)
    host.do("write", pid, None, host.base, b"0" * host.page + b"1" * host.page, durable=False)
    return pid, vid


def again(host: Host, vid: int) -> int:
    """A new task inside, after a restart."""
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    return pid


@pytest.mark.parametrize("flags", [FIXED, FIXED | MREMAP_DONTUNMAP])
def test_a_move_in_a_space_is_durable(host: Host, flags: int) -> None:
    pid, vid = in_space(host)
    assert remap(host, pid, 0, 2, 2, flags, to=4) == 4
    rest = "--" if flags == FIXED else ".."
    for _ in range(2):
        assert shown(host, pid, 0, 1, 4, 5) == f"{rest}01"
        before = host.do("vas_regions", vid)
        pid = again(host, vid)
        assert host.do("vas_regions", vid) == before
    host.do("mremap", pid, None, host.base + 4 * host.page, 2 * host.page, host.page, 0)
    assert shown(host, again(host, vid), 4, 5) == "0-"


def test_memory_in_the_store_only_is_fetched_to_be_moved(host: Host) -> None:
    _, vid = in_space(host)
    pid = again(host, vid)
    remap(host, pid, 0, 2, 3, MAY | MREMAP_FIXED, to=3)
    assert host.fetches == 1
    assert shown(host, pid, 0, 3, 4, 5) == "-01."
    assert shown(host, again(host, vid), 0, 3, 4, 5) == "-01."


def test_all_inside_see_the_move(host: Host) -> None:
    pid, vid = in_space(host)
    other = host.task()
    host.enter(other, vid)
    assert shown(host, other, 0, 1) == "01"
    remap(host, pid, 0, 1, 1, FIXED, to=5)
    assert shown(host, other, 0, 1, 5) == "-10"
    host.do("write", other, None, host.base + 5 * host.page, b"z")
    assert shown(host, pid, 5) == "z"


def test_a_read_only_attachment_moves_nothing(host: Host) -> None:
    _, vid = in_space(host)
    reader = host.task()
    host.enter(reader, vid, 0)
    for wish in ((host.page, host.page), (host.page, 2 * host.page), (2 * host.page, host.page)):
        assert (
            host.refused("mremap", reader, None, host.base, *wish, FIXED, host.base + 4 * host.page)
            == "EACCES"
        )


def test_a_segment_s_window_stays_where_it_is(host: Host) -> None:
    pid, vid = in_space(host)
    host.do("vas_seg_attach", vid, host.segment(at=3, pages=2), 2)
    where = host.base + 3 * host.page
    for old, new, flags in ((2, 2, FIXED), (2, 3, MAY), (0, 2, MAY), (2, 2, KEEP)):
        with pytest.raises(Collision) as refused:
            host.do(
                "mremap", pid, None, where, old * host.page, new * host.page, flags, host.base + 6 * host.page
            )
        assert (refused.value.errno, refused.value.held.start) == ("EBUSY", where)
    assert host.refused("mremap", pid, None, where, 2 * host.page, host.page) == "EBUSY"
    assert host.refused("mremap", pid, None, host.base, host.page, host.page, FIXED, where) == "EEXIST"


def test_a_place_that_another_owner_has_is_refused(host: Host) -> None:
    pid, vid = in_space(host)
    host.do("vas_switch", pid, None, 0)
    host.map_at(pid, 4, 5)
    with pytest.raises(Collision) as refused:
        remap(host, pid, 4, 1, 1, FIXED, to=0)
    assert (refused.value.errno, refused.value.holder) == ("EEXIST", f"space {vid}")
    host.do("vas_switch", pid, None, vid)
    with pytest.raises(Collision) as refused:
        remap(host, pid, 0, 1, 1, FIXED, to=4)
    assert (refused.value.errno, refused.value.holder) == ("EEXIST", f"task {pid}")
    assert host.refused("mremap", pid, None, host.base, 2 * host.page, 5 * host.page) == "ENOMEM"
    assert shown(host, pid, 0, 1, 4) == "01."


def test_inside_a_space_the_task_s_own_memory_moves_as_ever(host: Host) -> None:
    pid, _ = in_space(host)
    host.do("write", pid, None, host.data, b"own")
    moved = host.do("mremap", pid, None, host.data, host.page, host.page, FIXED, host.base + 5 * host.page)
    assert host.changes == []
    assert host.do("read", pid, None, moved, 3) == b"own"


# -- what is taken back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "wish",
    [
        (0, 2, 2, FIXED, 4),
        (0, 2, 1, FIXED, 4),
        (0, 1, 2, FIXED, 4),
        (0, 2, 2, KEEP, 4),
        (1, 1, 2, 0, 0),
        (0, 2, 1, 0, 0),
    ],
)
def test_a_move_is_taken_back_byte_by_byte(
    host: Host, wish: tuple[int, int, int, int, int], inside: bool
) -> None:
    pid = in_space(host)[0] if inside else host.task()
    if not inside:
        host.do("write", pid, None, host.map_at(pid, 0, 2), b"0" * host.page + b"1" * host.page)
    page, base = host.page, host.base
    union = host.machine.require_task(ROOT, pid).threads[pid].union
    owner = union.space or union.own
    bytes_before, before = shown(host, pid, *range(6)), regions(owner)
    first, old, new, flags, to = wish
    with host.machine.transaction() as txn:
        wanted = base + first * page, old * page, new * page, flags, base + to * page
        host.machine.mremap(ROOT, pid, None, *wanted)
        host.machine.write(ROOT, pid, None, base + (to if flags else first) * page, b"changed")
    txn.rollback()
    assert regions(owner) == before
    assert shown(host, pid, *range(6)) == bytes_before


def test_a_refused_part_of_a_move_over_several_keeps_what_was_moved(host: Host) -> None:
    pid, vid = in_space(host)
    host.do("vas_seg_attach", vid, host.segment(at=2, pages=1), 2)
    with pytest.raises(EngineError) as refused:
        remap(host, pid, 0, 3, 3, FIXED, to=4)
    assert (refused.value.errno, refused.value.partial) == ("EBUSY", True)
    assert shown(host, pid, 0, 1, 4, 5) == "--01"


def test_limits_are_those_of_growth(host: Host, pid: int) -> None:
    mapped = host.machine.require_task(ROOT, pid).space.mapped()
    host.do("prlimit", pid, "address_space", mapped)
    assert host.refused("mremap", pid, None, host.base, 2 * host.page, 3 * host.page) == "ENOMEM"
    assert (
        host.refused("mremap", pid, None, host.base, host.page, host.page, KEEP, host.base + 5 * host.page)
        == "ENOMEM"
    )
    assert remap(host, pid, 0, 1, 1, FIXED, to=5) == 5
    host.do("mlock", pid, None, host.base + host.page, host.page)
    host.do("prlimit", pid, "address_space", 2**64 - 1)
    host.do("prlimit", pid, "locked", host.page)
    assert host.refused("mremap", pid, None, host.base + host.page, host.page, 2 * host.page) == "EAGAIN"


@pytest.mark.everywhere
@pytest.mark.roomy
def test_a_move_over_the_edge_of_a_leaf(host: Host) -> None:
    """Page maps are cut into leaves of 512 pages: what moves from one into another keeps its bytes and its order."""
    pid = host.task()
    where = host.map_at(pid, 510, 515)
    for number in range(5):
        host.do("write", pid, None, where + number * host.page, b"%d" % number)
    for first, to in ((510, 2), (2, 1021), (1021, 509)):
        assert remap(host, pid, first, 5, 5, FIXED, to=to) == to
        assert shown(host, pid, *range(to, to + 5)) == "01234"
