"""How much memory regions use: smaps and status tell what Linux would."""

import random
import sys
from types import FrameType

import pytest

from engine import constants as c
from engine.credentials import ROOT
from engine.geometry import AARCH64, I386, X86_64
from engine.memory.frames import ZERO_FRAME
from tests.engine.conftest import MakeHost
from tests.engine.host import BOB, FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.proc_text import kib, mapped, smaps, status, used

KIB = 1024
MIB = 1 << 20


@pytest.fixture
def host(x86: Host) -> Host:
    """Numbers in kB depend on the size of pages."""
    return x86


# -- numbers -------------------------------------------------------------------------------------------------------


def test_a_page_counts_when_it_is_written_and_not_when_it_is_read(host: Host) -> None:
    pid = mapped(host, 16)
    assert used(host, pid) == {"Size": 64}
    host.do("read", pid, None, host.base, 16 * host.page)
    assert used(host, pid) == {"Size": 64}, "the zero page is nobody's"
    host.do("write", pid, None, host.base + host.page, b"x" * 2 * host.page)
    names = ("Rss", "Pss", "Pss_Dirty", "Private_Dirty", "Referenced", "Anonymous")
    assert used(host, pid) == {"Size": 64, **dict.fromkeys(names, 8)}


def test_pages_are_divided_by_the_tasks_that_share_them(host: Host) -> None:
    pid = mapped(host, 3)
    host.do("write", pid, None, host.base, b"x" * 3 * host.page)
    children = [host.do("fork", pid).pid for _ in range(2)]
    for one in (pid, *children):
        found = used(host, one)
        assert (found["Rss"], found["Shared_Dirty"], found["Anonymous"]) == (12, 12, 12)
        assert found["Pss"] == 3, (
            "three thirds of a page are a byte less than a page, and kB are cut off: as on Linux"
        )
    host.do("write", children[0], None, host.base, b"y")
    assert {
        name: used(host, children[0])[name] for name in ("Rss", "Pss", "Shared_Dirty", "Private_Dirty")
    } == {
        "Rss": 12,
        "Pss": 4 + 8 // 3,
        "Shared_Dirty": 8,
        "Private_Dirty": 4,
    }
    assert used(host, pid)["Pss"] == (2 * 4 * KIB // 3 + 4 * KIB // 2) // KIB
    host.do("exit", children[1])
    assert used(host, pid)["Pss"] == 4 + 4
    assert "Private_Dirty" in used(host, pid)
    host.do("exit", children[0])
    assert used(host, pid)["Private_Dirty"] == 12


def test_shared_memory_counts_where_it_is_mapped(host: Host) -> None:
    pid = mapped(host, 4, SHARED_MAP)
    host.do("write", pid, None, host.base, b"x" * 2 * host.page)
    child = host.do("fork", pid).pid
    assert used(host, pid) == {
        "Size": 16,
        **dict.fromkeys(("Rss", "Pss", "Pss_Dirty", "Private_Dirty", "Referenced"), 8),
    }
    assert used(host, child) == {"Size": 16}, "the child has not touched it yet, as on Linux"
    host.do("read", child, None, host.base, 1)
    assert used(host, child) == {
        "Size": 16,
        **dict.fromkeys(("Rss", "Shared_Dirty", "Referenced"), 4),
        **dict.fromkeys(("Pss", "Pss_Dirty"), 2),
    }
    assert used(host, pid)["Pss"] == 4 + 2
    assert smaps(host, pid)[host.base]["VmFlags"] == "rd wr sh mr mw me ms"
    own = status(host, pid)
    assert (own["RssShmem"].strip(), own["RssAnon"].strip()) == ("8 kB", "0 kB")


def test_memory_of_spaces_is_clean_once_it_is_stored(host: Host) -> None:
    pid, _ = host.inside(pages=4)
    host.do("write", pid, None, host.base, b"x" * 2 * host.page)
    assert used(host, pid) == {"Size": 16, **dict.fromkeys(("Rss", "Pss", "Private_Clean", "Referenced"), 8)}
    host.do("write", pid, None, host.base, b"y", False)
    found = used(host, pid)
    assert (found["Private_Clean"], found["Private_Dirty"], found["Pss_Dirty"]) == (4, 4, 4)
    host.do("msync", pid, None)
    assert "Private_Dirty" not in used(host, pid)


def test_views_share_the_pages_of_a_segment(host: Host) -> None:
    sid = host.segment("log", pages=4)
    pids = []
    for name in ("one", "two"):
        vid = host.space(name)
        host.do("vas_seg_attach", vid, sid, 2)
        for kind in (2, 0):
            pids.append(host.task())
            host.enter(pids[-1], vid, kind)
    host.do("write", pids[0], None, host.base, b"x" * 3 * host.page)
    for pid in pids[1:]:
        assert used(host, pid) == {"Size": 16}, "attached lazily, not touched"
        host.do("read", pid, None, host.base, 1)
    assert used(host, pids[0])["Pss"] == 8 + 1
    assert used(host, pids[0])["Shared_Clean"] == 4
    assert used(host, pids[3]) == {"Size": 16, "Rss": 4, "Pss": 1, "Shared_Clean": 4, "Referenced": 4}
    flags = [smaps(host, pid)[host.base]["VmFlags"] for pid in pids]
    assert flags == ["rd wr sh mr mw me ms", "rd mr me ms"] * 2
    assert [smaps(host, pid)[host.base]["perms"] for pid in pids] == ["rw-s", "r--s"] * 2


def test_each_thread_s_smaps_are_those_of_what_it_sees(host: Host) -> None:
    pid, _ = host.inside(pages=4)
    tid = host.do("thread", pid)
    assert host.base in smaps(host, pid)
    assert host.base not in smaps(host, pid, tid)
    assert host.refused("smaps_text", pid, 999999) == "ESRCH"
    assert host.refused("smaps_text", pid, cred=BOB) == "EPERM"


ADVICE = [
    (c.MADV_SEQUENTIAL, "sr"),
    (c.MADV_RANDOM, "rr"),
    (c.MADV_DONTFORK, "dc"),
    (c.MADV_DONTDUMP, "dd"),
    (c.MADV_HUGEPAGE, "hg"),
    (c.MADV_NOHUGEPAGE, "nh"),
    (c.MADV_VAS_PRIVATE, "vp"),
]


@pytest.mark.parametrize(("advice", "word"), ADVICE)
def test_what_was_advised_is_told_by_two_letters(host: Host, advice: int, word: str) -> None:
    pid = mapped(host, 4)
    plain = smaps(host, pid)[host.base]["VmFlags"]
    assert plain == "rd wr mr mw me ac"
    host.do("madvise", pid, None, host.base, 4 * host.page, advice)
    told = smaps(host, pid)[host.base]["VmFlags"].split()
    assert told == [*plain.split(), word] if word in ("dd", "hg", "nh", "vp") else word in told
    assert set(told) == {*plain.split(), word}


@pytest.mark.parametrize(
    ("prot", "words"), [(0, "mr mw me"), (1, "rd mr mw me"), (5, "rd ex mr mw me"), (2, "wr mr mw me ac")]
)
def test_rights_are_told_by_two_letters(host: Host, prot: int, words: str) -> None:
    pid = host.task()
    host.do("mmap", pid, None, host.base, host.page, prot, PRIVATE | FIXED)
    assert smaps(host, pid)[host.base]["VmFlags"] == words


def test_locked_memory(host: Host) -> None:
    pid = mapped(host, 6)
    host.do("mlock", pid, None, host.base, 4 * host.page)
    found = smaps(host, pid)
    locked, free = found[host.base], found[host.base + 4 * host.page]
    assert locked["VmFlags"] == "rd wr mr mw me lo ac"
    assert (kib(locked)["Locked"], kib(locked)["Rss"]) == (16, 16)
    assert kib(free) == {"Size": 8}
    assert status(host, pid)["VmLck"].strip() == "16 kB"
    host.do("fork", pid)
    assert used(host, pid)["Locked"] == 8, "what is shared counts by half"


def test_a_region_is_eligible_for_huge_pages_when_advised_and_large_enough(host: Host) -> None:
    pid, huge = host.task(), 2 * MIB
    places = {host.base: huge, host.base + 2 * huge - host.page: huge, host.base + 4 * huge: huge}
    for start, size in places.items():
        host.do("mmap", pid, None, start, size, RW, PRIVATE | FIXED)
    for start in list(places)[:2]:
        host.do("madvise", pid, None, start, huge, c.MADV_HUGEPAGE)
    found = smaps(host, pid)
    assert [found[start]["THPeligible"] for start in places] == ["1", "0", "0"]


def test_sizes_by_linux_s_definitions(host: Host) -> None:
    pid, page = host.task(), host.page
    heap = host.do("brk", pid, None)
    host.do("brk", pid, None, heap + 3 * page)
    spots = [host.base + i * 64 * page for i in range(6)]
    host.do("mmap", pid, None, spots[0], 5 * page, RW, PRIVATE | FIXED)
    host.do("mmap", pid, None, spots[1], 7 * page, 1, PRIVATE | FIXED)
    host.do("mmap", pid, None, spots[2], 11 * page, RW, SHARED_MAP | FIXED)
    host.do("mmap", pid, None, spots[3], 13 * page, RW, PRIVATE | FIXED | c.MAP_GROWSDOWN)
    host.do("mmap", pid, None, spots[4], 17 * page, 5, PRIVATE | FIXED)
    host.do("mmap", pid, None, spots[5], 19 * page, 7, PRIVATE | FIXED)
    found = {key: int(value.split()[0]) for key, value in status(host, pid).items() if value.endswith(" kB")}
    pages = {key: size * KIB // page for key, size in found.items()}
    assert pages["VmData"] == 1 + 3 + 5 + 19, "private, writable, no stack"
    assert pages["VmStk"] == 33 + 13
    assert (pages["VmExe"], pages["VmLib"]) == (1, 17)
    assert pages["VmSize"] == 2 + 3 + 33 + 5 + 7 + 11 + 13 + 17 + 19


def test_status_is_of_the_original_address_space(host: Host) -> None:
    pid, _ = host.inside(pages=200)
    before = status(host, pid)
    host.do("write", pid, None, host.base, b"x" * 100 * host.page)
    after = status(host, pid)
    sizes = [key for key, value in before.items() if value.endswith(" kB")]
    assert {key: before[key] for key in sizes} == {key: after[key] for key in sizes}
    assert after["VasSwitches"] == "1"


def test_private_memory_is_hidden_from_smaps_inside_a_space(host: Host) -> None:
    pid = mapped(host, 2)
    host.do("madvise", pid, None, host.base, 2 * host.page, c.MADV_VAS_PRIVATE)
    assert host.base in smaps(host, pid)
    host.enter(pid, host.space())
    assert host.base not in smaps(host, pid)


def test_what_was_put_aside_is_swap(make_host: MakeHost) -> None:
    host = make_host(X86_64, 64, 400)
    pid = mapped(host, 200)
    for number in range(200):
        host.do("write", pid, None, host.base + number * host.page, b"%d" % number)
    found = used(host, pid)
    assert found["Rss"] + found["Swap"] == 800
    assert found["Swap"] == found["SwapPss"] >= 800 - 256
    assert (found["Rss"], found["Pss"], found["Anonymous"]) == (found["Rss"],) * 3
    assert status(host, pid)["VmSwap"] == f"{found['Swap']:8} kB"
    child = host.do("fork", pid).pid
    for one in (pid, child):
        shared = used(host, one)
        assert (shared["Swap"], shared["SwapPss"]) == (found["Swap"], found["Swap"] // 2)
        assert (shared["Rss"], shared["Pss"]) == (found["Rss"], found["Rss"] // 2)


def test_huge_pages_are_seen(make_host: MakeHost) -> None:
    host = make_host(X86_64, 2048)
    pid, huge = host.task(), 2 * MIB
    host.do("mmap", pid, None, host.base, 3 * huge, RW, PRIVATE | FIXED)
    host.do("madvise", pid, None, host.base, 3 * huge, c.MADV_HUGEPAGE)
    host.do("write", pid, None, host.base + huge + 5, b"x")
    found = used(host, pid)
    assert (found["AnonHugePages"], found["Rss"], found["Private_Dirty"]) == (2048, 2048, 2048)
    host.do("munmap", pid, None, host.base + huge, host.page)
    after = smaps(host, pid)[host.base + huge + host.page]
    assert (kib(after)["Rss"], kib(after).get("AnonHugePages", 0)) == (2044, 0)


def test_lazily_freed_pages_are_clean(host: Host) -> None:
    pid = mapped(host, 4)
    host.do("write", pid, None, host.base, b"x" * 4 * host.page)
    host.do("madvise", pid, None, host.base, 2 * host.page, c.MADV_FREE)
    found = used(host, pid)
    assert (found["LazyFree"], found["Private_Clean"], found["Private_Dirty"], found["Rss"]) == (8, 8, 8, 16)
    host.do("write", pid, None, host.base, b"y")
    assert used(host, pid)["LazyFree"] == 4


# -- against a count page by page ----------------------------------------------------------------------------------


def counted(host: Host, pid: int) -> dict[int, tuple[int, int, int]]:
    """(Rss, Pss, Private_Dirty) in kB of each region of a task outside spaces, page by page."""
    machine, shift = host.machine, host.geometry.page_shift
    tasks = list(machine.tasks_table)
    task = machine.tasks_table.get(pid)
    found = {}
    for vma in task.space.vmas:
        resident = private = 0
        share = 0
        for page in range(vma.offset, vma.offset + ((vma.end - vma.start) >> shift)):
            frame = int(vma.obj.pages.entries(page, 1)[0])
            if vma.obj is not task.space.memory:
                if not task.original.table.entry((vma.start >> shift) + page - vma.offset):
                    continue
                users = sum(
                    1
                    for other in tasks
                    for union in other.space.unions
                    for window in other.space.vmas
                    if window.obj is vma.obj
                    and window.offset <= page < window.offset + ((window.end - window.start) >> shift)
                    and union.table.entry((window.start >> shift) + page - window.offset)
                )
            else:
                leaves = [leaf for other in tasks for leaf in other.space.memory.pages.table.leaves.values()]
                users = sum(frame in leaf.entries for leaf in leaves)
            if frame > ZERO_FRAME:
                resident += 1
                private += users == 1
                share += (host.page << 12) // users
        found[vma.start] = resident * host.page >> 10, share >> 22, private * host.page >> 10
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_a_count_page_by_page(make_host: MakeHost, seed: int) -> None:
    chance = random.Random(seed)
    host = make_host((X86_64, I386, AARCH64[1])[seed % 3], 4096)
    page, pids = host.page, [host.task()]
    for _ in range(120):
        pid = chance.choice(pids)
        spot = host.base + chance.randrange(2000) * page
        size = chance.randrange(1, 40) * page
        match chance.randrange(8):
            case 0 | 1:
                kind = chance.choice((PRIVATE, PRIVATE, SHARED_MAP))
                host.do("mmap", pid, None, spot, size, RW, kind | FIXED)
            case 2:
                host.do("munmap", pid, None, spot, size)
            case 3 if len(pids) < 5:
                pids.append(host.do("fork", pid).pid)
            case 4 if len(pids) > 2:
                host.do("exit", pid)
                pids.remove(pid)
            case _:
                for vma in list(host.machine.tasks_table.get(pid).space.vmas):
                    if vma.access == RW and chance.random() < 0.4:
                        at = chance.randrange((vma.end - vma.start) // page) * page + vma.start
                        call = chance.choice(("read", "write", "write"))
                        host.do(call, pid, None, at, 1 if call == "read" else b"x")
    for pid in pids:
        shown = {
            start: tuple(kib(block).get(name, 0) for name in ("Rss", "Pss", "Private_Dirty"))
            for start, block in smaps(host, pid).items()
        }
        assert shown == counted(host, pid)
        rss = sum(sizes[0] for sizes in shown.values())
        assert status(host, pid)["VmRSS"] == f"{rss:8} kB"


def test_pages_are_counted_by_leaves_and_not_one_by_one(make_host: MakeHost) -> None:
    host = make_host(X86_64, 9000)
    pid = host.task()
    host.do("mmap", pid, None, host.base, 1 << 30, RW, PRIVATE | FIXED)
    host.do("write", pid, None, host.base, b"x" * 8192 * host.page)
    host.do("fork", pid)
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        host.machine.smaps_text(ROOT, pid)
    finally:
        sys.setprofile(None)
    assert calls < 3000
