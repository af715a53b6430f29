"""smaps and status: the shape of Linux's own, read by psutil and procps, and numbers that are right."""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import FrameType

import psutil
import pytest

from engine import constants as c
from engine.credentials import ROOT
from engine.frames import ZERO_FRAME
from engine.geometry import AARCH64, I386, X86_64
from tests.engine.conftest import MakeHost
from tests.engine.host import ALICE, BOB, FIXED, PRIVATE, RW, SHARED_MAP, Host

KIB = 1024
MIB = 1 << 20
KERNEL_SMAPS = Path("/proc/self/smaps")
HEADER = re.compile(r"([0-9a-f]{8,})-([0-9a-f]{8,}) ([r-][w-][x-][sp]) ([0-9a-f]{8}) 00:00 0 (?: *(\S.*))?")


@pytest.fixture
def host(x86: Host) -> Host:
    """Numbers in kB depend on the size of pages."""
    return x86


def blocks(text: str) -> dict[int, dict[str, str]]:
    """smaps by the start of each region; the header's parts are under their own names."""
    found: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        header = HEADER.fullmatch(line)
        if header is not None:
            current = found[int(header[1], 16)] = {"perms": header[3], "name": header[5] or ""}
        else:
            key, value = line.split(":", 1)
            current[key] = value.strip()
    return found


def kib(block: dict[str, str]) -> dict[str, int]:
    """The sizes of a block, without those that are 0."""
    sizes = {key: int(value.removesuffix(" kB")) for key, value in block.items() if value.endswith(" kB")}
    return {key: size for key, size in sizes.items() if size and key not in ("KernelPageSize", "MMUPageSize")}


def smaps(host: Host, pid: int, tid: int | None = None) -> dict[int, dict[str, str]]:
    return blocks(host.do("smaps_text", pid, tid))


def status(host: Host, pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in host.do("status_text", pid).splitlines())


def used(host: Host, pid: int, address: int | None = None) -> dict[str, int]:
    """The sizes of the region at an address, by default the base."""
    return kib(smaps(host, pid)[host.base if address is None else address])


def mapped(host: Host, pages: int, flags: int = PRIVATE) -> int:
    """A new task with so many pages at the base."""
    pid = host.task()
    host.do("mmap", pid, None, host.base, pages * host.page, RW, flags | FIXED)
    return pid


# -- shape ---------------------------------------------------------------------------------------------------------


def kernel_lines() -> list[str]:
    """One block of this kernel's smaps: the stack's, which every process has."""
    lines = KERNEL_SMAPS.read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("[stack]"))
    rest = [i for i in range(at + 1, len(lines)) if re.match(r"[0-9a-f]+-", lines[i])]
    return lines[at : rest[0] if rest else len(lines)]


@pytest.mark.skipif(not KERNEL_SMAPS.exists(), reason="no Linux to compare with")
def test_smaps_has_the_shape_of_this_kernel_s(host: Host) -> None:
    pid = host.task()
    host.do("write", pid, None, host.geometry.user_end - 100, b"x")
    text = host.do("smaps_text", pid)
    ours = text[text.index("\n7ffff") + 1 :].splitlines()
    theirs = kernel_lines()
    assert ours[0].index("[stack]") == theirs[0].index("[stack]")
    by_key = {line.split(":")[0]: line for line in theirs[1:]}
    for line in ours[1:]:
        key, value = line.split(":", 1)
        if key in by_key:
            number = re.compile(r" *(\d+|(?:\w\w )+)(?= kB$|$)")
            assert number.sub("#", value) == number.sub("#", by_key[key].split(":", 1)[1])
            if key != "VmFlags":
                assert len(line) == len(by_key[key])
    common = [key for key in (line.split(":")[0] for line in ours[1:]) if key in by_key]
    assert common == [key for key in by_key if key in common]
    assert ours[-1] == "VmFlags: rd wr mr mw me gd ac "
    assert {"Size", "Rss", "Pss", "Private_Dirty", "Swap", "VmFlags"} <= set(common)


@pytest.mark.skipif(not KERNEL_SMAPS.exists(), reason="no Linux to compare with")
def test_status_has_the_shape_of_this_kernel_s(host: Host) -> None:
    ours = host.do("status_text", host.task()).splitlines()
    theirs = {line.split(":")[0]: line for line in Path("/proc/self/status").read_text().splitlines()}
    shared = [line for line in ours if line.split(":")[0] in theirs]
    assert len(shared) > 20
    for line in shared:
        key = line.split(":")[0]
        if line.endswith(" kB"):
            assert re.sub(r" *\d+", "#", line) == re.sub(r" *\d+", "#", theirs[key])
            assert len(line) == len(theirs[key])
    keys = [line.split(":")[0] for line in shared]
    assert keys == [key for key in theirs if key in keys]


def test_the_path_stands_nearer_on_a_32_bit_machine(make_host: MakeHost) -> None:
    host = make_host(I386, 16)
    line = next(line for line in host.do("maps_text", host.task()).splitlines() if "[stack]" in line)
    assert line == "bffdf000-c0000000 rw-p 00000000 00:00 0          [stack]"


# -- read by others ------------------------------------------------------------------------------------------------


def served(host: Host, pid: int, folder: Path) -> Path:
    """The files of one task, as a directory of /proc; `stat`, which we do not have, says only what must be there."""
    place = folder / str(pid)
    place.mkdir()
    for name in ("maps", "smaps", "status"):
        (place / name).write_text(host.do(f"{name}_text", pid))
    (place / "stat").write_text(f"{pid} (worker) S {' '.join(['0'] * 49)}\n")
    (place / "statm").write_text("0 0 0 0 0 0 0\n")
    (place / "cmdline").write_text("")
    (folder / "stat").write_text("btime 1700000000\n")
    return place


def scene(host: Host) -> int:
    """A task in a space with a segment, some of everything written."""
    pid = host.do("spawn", "worker", 60, cred=ALICE).pid
    vid = host.space("lab", cred=ALICE)
    host.do("vas_seg_attach", vid, host.segment("log", pages=8, at=64), 2)
    host.enter(pid, vid)
    host.do("thread", pid)
    host.do("mmap", pid, None, host.base, 16 * host.page, RW, PRIVATE | FIXED)
    host.do("write", pid, None, host.base, b"x" * 3 * host.page)
    host.do("write", pid, None, host.base + 65 * host.page, b"x")
    host.do("write", pid, None, host.geometry.text_start + host.page, b"x")
    heap = host.do("brk", pid, None)
    host.do("brk", pid, None, heap + 5 * host.page)
    host.do("write", pid, None, heap, b"x" * 2 * host.page)
    child = host.do("fork", pid).pid
    host.do("write", child, None, heap, b"x")
    return int(pid)


def test_psutil_reads_smaps_and_status(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = scene(host)
    served(host, pid, tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    process = psutil.Process(pid)
    assert process.uids()[:3] == (1000, 1000, 1000)
    assert process.gids()[:3] == (100, 100, 100)
    assert process.num_threads() == 2
    maps = process.memory_maps(grouped=False)
    assert [m.addr for m in maps] == [line.split()[0] for line in host.do("maps_text", pid).splitlines()]
    by_path = {m.path: m for m in maps}
    assert by_path["[segment:log]"].perms == "rw-s"
    assert by_path["[segment:log]"].size == 8 * host.page
    assert by_path["[segment:log]"].rss == host.page
    assert by_path["[vas:lab]"].rss == by_path["[vas:lab]"].private_clean == 3 * host.page
    heap = by_path["[heap]"]
    assert (heap.size, heap.rss, heap.pss) == (5 * host.page, 2 * host.page, host.page + host.page // 2)
    assert (heap.private_dirty, heap.shared_dirty, heap.anonymous) == (host.page, host.page, 2 * host.page)
    assert sum(m.size for m in maps) == sum(
        int(b["Size"].split()[0]) * KIB for b in smaps(host, pid).values()
    )


def procps(place: Path, pid: int, *command: str) -> str:
    """A command of procps in a mount namespace where this directory is that of a process."""
    script = f'mount --bind "$1" /proc/{pid} && shift && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(place), *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def may_mount() -> bool:
    """Whether procps is here and the system lets us show it other files."""
    if not all(shutil.which(tool) for tool in ("unshare", "mount", "pmap", "ps")):
        return False
    probe = ["unshare", "-rm", "mount", "--bind", "/tmp", "/proc/self"]
    return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="procps or mount namespaces are not to be had")
def test_procps_reads_smaps_and_status(host: Host, tmp_path: Path) -> None:
    pid = scene(host)
    place = served(host, pid, tmp_path)
    shown = 1  # a process that always exists, whose directory ours is mounted over
    lines = procps(place, shown, "pmap", "-x", str(shown)).splitlines()
    rows = {
        int(row[0], 16): row[1:4] for line in lines if len(row := line.split()) > 4 and row[0].startswith("0")
    }
    for start, block in smaps(host, pid).items():
        sizes = kib(block)
        dirty = sizes.get("Shared_Dirty", 0) + sizes.get("Private_Dirty", 0)
        assert rows[start] == [str(sizes["Size"]), str(sizes.get("Rss", 0)), str(dirty)]
    extended = procps(place, shown, "pmap", "-X", str(shown))
    assert "[segment:log]" in extended
    told = procps(place, shown, "ps", "-o", "vsz=,rss=,nlwp=", "-p", str(shown)).split()
    own = status(host, pid)
    assert told == [own["VmSize"].split()[0], own["VmRSS"].split()[0], "2"]


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
