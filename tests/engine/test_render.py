"""Text as procfs and sysfs write it, byte for byte."""

import pytest

from engine.constants import MAP_GROWSDOWN
from engine.credentials import ROOT
from engine.errors import EngineError
from tests.engine.host import ALICE, FIXED, PRIVATE, RW, SHARED_MAP, Host


@pytest.fixture
def host(x86: Host) -> Host:
    """Addresses are part of the text: one machine."""
    return x86


def test_maps_of_a_new_task(host: Host) -> None:
    pid = host.task()
    assert host.do("maps_text", pid) == (
        "00400000-00401000 r-xp 00000000 00:00 0 \n"
        "00401000-00402000 rw-p 00000000 00:00 0 \n"
        "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n"
    )


def test_maps_name_heap_spaces_and_segments(host: Host) -> None:
    pid, vid = host.inside(pages=1)
    host.do("vas_seg_attach", vid, host.segment("log", pages=2, at=2), 2)
    heap = host.do("brk", pid, None)
    host.do("brk", pid, None, heap + host.page)
    host.do("mprotect", pid, None, heap, host.page, 1)
    host.do("mprotect", pid, None, host.base + 3 * host.page, host.page, 1)
    lines = host.do("maps_text", pid).splitlines(keepends=True)
    assert lines[2:-1] == [
        "00403000-00404000 r--p 00000000 00:00 0                                  [heap]\n",
        "100000000000-100000001000 rw-p 00000000 00:00 0                          [vas:space-0]\n",
        "100000002000-100000003000 rw-s 00000000 00:00 0                          [segment:log]\n",
        "100000003000-100000004000 r--s 00001000 00:00 0                          [segment:log]\n",
    ]
    host.do("vas_switch", pid, None, 0)
    assert "[vas" not in host.do("maps_text", pid)


def test_maps_show_the_rights_that_an_attachment_leaves(host: Host) -> None:
    _, vid = host.inside(pages=1)
    reader = host.task()
    host.enter(reader, vid, 0)
    assert "100000000000-100000001000 r--p" in host.do("maps_text", reader)


def test_shared_memory_and_stacks_of_one_s_own(host: Host) -> None:
    pid, page = host.task(), host.page
    host.do("mmap", pid, None, host.base, 2 * page, RW, SHARED_MAP | FIXED)
    host.do("munmap", pid, None, host.base, page)
    host.do("mmap", pid, None, host.base + 4 * page, page, RW, PRIVATE | FIXED | MAP_GROWSDOWN)
    assert host.do("maps_text", pid).splitlines()[2:4] == [
        "100000001000-100000002000 rw-s 00001000 00:00 0 ",
        "100000004000-100000005000 rw-p 00000000 00:00 0 ",
    ]


def test_status_of_a_task(host: Host) -> None:
    pid = host.do("spawn", "worker", 60, cred=ALICE).pid
    heap = host.do("brk", pid, None)
    host.do("brk", pid, None, heap + 5000)
    host.do("write", pid, None, heap, b"x")
    host.do("thread", pid)
    for name in ("first", "second"):
        host.do("vas_attach", pid, host.space(name), 2)
    assert host.do("status_text", pid) == (
        "Name:\tworker\n"
        "State:\tS (sleeping)\n"
        f"Tgid:\t{pid}\n"
        f"Pid:\t{pid}\n"
        "PPid:\t0\n"
        "TracerPid:\t0\n"
        "Uid:\t1000\t1000\t1000\t1000\n"
        "Gid:\t100\t100\t100\t100\n"
        "Groups:\t100 \n"
        "Kthread:\t0\n"
        "VmSize:\t     148 kB\n"
        "VmLck:\t       0 kB\n"
        "VmRSS:\t       4 kB\n"
        "RssAnon:\t       4 kB\n"
        "RssFile:\t       0 kB\n"
        "RssShmem:\t       0 kB\n"
        "VmData:\t      12 kB\n"
        "VmStk:\t     132 kB\n"
        "VmExe:\t       4 kB\n"
        "VmLib:\t       0 kB\n"
        "VmSwap:\t       0 kB\n"
        "HugetlbPages:\t       0 kB\n"
        "THP_enabled:\t1\n"
        "Threads:\t2\n"
        "VasAttached:\t1 2\n"
        "VasSwitches:\t0\n"
        "MinorFaults:\t1\n"
        "MajorFaults:\t0\n"
        "PageTableEntries:\t1\n"
    )


@pytest.mark.parametrize(("kind", "word"), [(0, "ro"), (1, "wo"), (2, "rw")])
def test_status_and_directory_of_an_attachment(host: Host, kind: int, word: str) -> None:
    pid = host.task()
    for name in ("a", "b"):
        host.do("vas_attach", pid, host.space(name), kind)
    assert host.do("vas_status_text", pid, 2) == f"pid:  {pid}\nvid:  2\ntype: {word}\n"
    assert host.do("vas_dir", pid) == [1, 2]


def test_maps_of_an_attachment_tell_owner_and_tables(host: Host) -> None:
    pid, vid = host.inside(pages=1)
    host.do("vas_seg_attach", vid, host.segment("log", pages=2, at=2), 0)
    host.do("write", pid, None, host.base, b"x")
    host.do("write", pid, None, 0x401000, b"x")
    assert host.do("vas_maps_text", pid, vid) == (
        "00400000-00401000 r-xp [v:-] 00000000\n"
        "00401000-00402000 rw-p [v:a] 00000000\n"
        "100000000000-100000001000 rw-p [-:a] 00000000 [vas:space-0]\n"
        "100000002000-100000004000 r--s [-:-] 00000000 [segment:log]\n"
        "7ffffffde000-7ffffffff000 rw-p [v:-] 00000000 [stack]\n"
    )


def test_maps_tell_exactly_whether_a_huge_region_has_tables(host: Host) -> None:
    pid, vid = host.inside(pages=0)
    host.do("mmap", pid, None, host.base, 1 << 43, RW, PRIVATE | FIXED)
    host.do("write", pid, None, 0x401000, b"x")
    line = f"{host.base:x}-{host.base + (1 << 43):x} rw-p [-:{{}}] 00000000 [vas:space-0]\n"
    assert line.format("-") in host.do("vas_maps_text", pid, vid)
    host.do("write", pid, None, host.base + (1 << 42), b"x")
    assert line.format("a") in host.do("vas_maps_text", pid, vid)


def test_an_attachment_without_any_region_is_empty(host: Host) -> None:
    pid, vid = host.inside(pages=0)
    for start, end in ((0x400000, 0x402000), (host.geometry.user_end - (132 << 10), host.geometry.user_end)):
        host.do("munmap", pid, None, start, end - start)
    assert host.do("vas_maps_text", pid, vid) == "EMPTY\n"
    assert host.do("maps_text", pid) == ""


@pytest.mark.parametrize(
    ("mode", "text"), [(0, "000"), (0o6, "006"), (0o60, "060"), (0o600, "0600"), (0o777, "0666")]
)
def test_sysfs_files_of_a_space(host: Host, mode: int, text: str) -> None:
    vid = host.space("näme", mode, cred=ALICE)
    files = [host.machine.sys_vas_text(vid, file) for file in ("name", "mode", "user", "group")]
    assert files == ["näme\n", f"{text}\n", "1000\n", "100\n"]


def test_sysfs_files_of_a_segment(host: Host) -> None:
    sid = host.segment("log", mode=0o640)
    files = [host.machine.sys_seg_text(sid, file) for file in ("name", "mode", "user", "group", "region")]
    assert files == ["log\n", "0640\n", "0\n", "0\n", "100000000000-100000004000\n"]


def test_there_are_no_other_files(host: Host) -> None:
    vid, sid = host.space(), host.segment()
    for read, number in ((host.machine.sys_vas_text, vid), (host.machine.sys_seg_text, sid)):
        with pytest.raises(EngineError, match="ENOENT"):
            read(number, "size")
        with pytest.raises(EngineError, match="EINVAL"):
            read(99, "name")
    with pytest.raises(EngineError, match="ENOENT"):
        host.machine.sys_vas_text(vid, "region")


def test_reading_text_builds_and_changes_nothing(host: Host) -> None:
    pid, vid = host.inside()
    with host.machine.transaction() as txn:
        for _ in range(2):
            host.machine.maps_text(ROOT, pid)
            host.machine.vas_maps_text(ROOT, pid, vid)
            host.machine.status_text(ROOT, pid)
    assert not txn.mutated
    assert not txn.changes
    assert host.counters(pid)["page_table_entries_built"] == 0
