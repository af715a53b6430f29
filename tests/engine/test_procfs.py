"""smaps and status have the shape of Linux's own, and are read by psutil and procps."""

import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from engine.geometry import I386
from tests.engine.conftest import MakeHost
from tests.engine.host import ALICE, FIXED, PRIVATE, RW, Host
from tests.engine.proc_text import kib, smaps, status

KIB = 1024
KERNEL_SMAPS = Path("/proc/self/smaps")


@pytest.fixture
def host(x86: Host) -> Host:
    """Numbers in kB depend on the size of pages."""
    return x86


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
