"""What of a machine core files show, and of which moment."""

import io
import random

import pytest
from elftools.elf.elffile import ELFFile

from engine import constants as c
from engine.credentials import ROOT
from engine.geometry import GEOMETRIES, I386, TOY, X86_64
from engine.inspection import core_file
from tests.engine.conftest import MakeHost
from tests.engine.core_reading import dump, loads, memory, notes, read, tids
from tests.engine.host import ALICE, BOB, FIXED, PRIVATE, RW, SHARED_MAP, Host

pytestmark = pytest.mark.roomy  # the toy has no core files


def test_a_task_with_little_in_much(host: Host) -> None:
    pid = host.task(ALICE)
    base, page = host.base, host.page
    host.do("mmap", pid, None, base, 1 << 30, RW, PRIVATE | FIXED)
    host.do("write", pid, None, base + 1000 * page, b"needle")
    host.do("read", pid, None, base + 5 * page, 10)  # maps the zero page, which is nothing to keep
    image = host.do("task_core", pid, cred=ALICE)
    content = dump(host, image)
    image.release()
    assert len(content) < 4 * page
    assert memory(content, base + 1000 * page, 8) == b"needle\0\0"
    assert memory(content, base, 4) == memory(content, base + (1 << 30) - 4, 4) == bytes(4)
    assert memory(content, base - 1, 1) is None
    assert memory(content, base + (1 << 30), 1) is None


def test_every_page_is_where_it_was(host: Host) -> None:
    pid, vid = host.inside(pages=20)
    for number in (0, 1, 4, 6, 7, 19):
        host.do("write", pid, None, host.base + number * host.page, bytes([number + 1]) * host.page)
    host.do("vas_seg_attach", vid, host.segment("log", pages=6, at=30), 2)
    host.do("write", pid, None, host.base + 32 * host.page + 10, b"in the log")
    for image in (host.do("task_core", pid), host.do("vas_core", vid)):
        content = dump(host, image)
        image.release()
        for number in range(20):
            wanted = host.do("read", pid, None, host.base + number * host.page, host.page)
            assert memory(content, host.base + number * host.page, host.page) == wanted
        assert memory(content, host.base + 32 * host.page + 10, 10) == b"in the log"
        assert memory(content, host.base + 21 * host.page, 1) is None
        listed = next(n["n_desc"] for n in notes(ELFFile(io.BytesIO(content))) if n["n_type"] == "NT_FILE")
        assert b"[segment:log]" in listed["filename"]


def test_a_task_s_core_shows_what_the_thread_sees(host: Host) -> None:
    pid, _ = host.inside(pages=1)
    host.do("write", pid, None, host.base, b"inside")
    outside = host.do("thread", pid)
    found = {}
    for tid in (None, outside):
        image = host.do("task_core", pid, tid)
        content = dump(host, image)
        image.release()
        found[tid] = tids(ELFFile(io.BytesIO(content))), memory(content, host.base, 6)
    assert found == {None: ([pid, outside], b"inside"), outside: ([outside, pid], None)}


def test_the_moment_of_volatile_memory_is_kept(host: Host) -> None:
    pid, base, page = host.task(), host.base, host.page
    host.do("mmap", pid, None, base, 4 * page, RW, PRIVATE | FIXED)
    host.do("mmap", pid, None, base + 8 * page, 2 * page, RW, SHARED_MAP | FIXED)
    for place in (base, base + 8 * page):
        host.do("write", pid, None, place, b"before")
    image = host.do("task_core", pid)
    for place in (base, base + 2 * page, base + 8 * page):
        host.do("write", pid, None, place, b"after!")
    host.do("exit", pid)
    content = dump(host, image)
    image.release()
    assert memory(content, base, 6) == memory(content, base + 8 * page, 6) == b"before"
    assert memory(content, base + 2 * page, 6) == bytes(6)


def test_persistent_memory_is_read_when_its_turn_comes(host: Host) -> None:
    pid, vid = host.inside(pages=4)
    host.do("write", pid, None, host.base, b"before")
    image = host.do("vas_core", vid)
    host.do("write", pid, None, host.base, b"after!")
    host.do("write", pid, None, host.base + 2 * host.page, b"too late")
    content = dump(host, image)
    image.release()
    assert memory(content, host.base, 6) == b"after!"
    assert memory(content, host.base + 2 * host.page, 8) == bytes(8)


def test_pages_that_only_the_store_has(make_host: MakeHost) -> None:
    host = make_host(X86_64, 64)
    pid, vid = host.inside(pages=0)
    host.do("mmap", pid, None, host.base, 1 << 30, RW, PRIVATE | FIXED)
    for number in (3, 700, 262143):
        host.do("write", pid, None, host.base + number * host.page, b"page %d" % number)
    host.do("munmap", pid, None, host.base + 700 * host.page, host.page)
    host.restart()
    pid = host.task()
    host.enter(pid, vid)
    host.do("write", pid, None, host.base + 9 * host.page, b"since")
    host.do("munmap", pid, None, host.base + 3 * host.page, host.page)
    host.do("mmap", pid, None, host.base + 3 * host.page, host.page, RW, PRIVATE | FIXED)
    image = host.do("vas_core", vid)
    content = dump(host, image)
    image.release()
    assert len(content) < 4 * host.page
    assert memory(content, host.base + 262143 * host.page, 12) == b"page 262143\0"
    assert memory(content, host.base + 9 * host.page, 5) == b"since"
    assert memory(content, host.base + 3 * host.page, 6) == bytes(6)
    assert memory(content, host.base + 700 * host.page, 1) is None


def test_more_than_fits_into_memory(make_host: MakeHost) -> None:
    host = make_host(X86_64, 16)
    pid, vid = host.inside(pages=100)
    for number in range(100):
        host.do("write", pid, None, host.base + number * host.page, b"page %d" % number)
    image = host.do("vas_core", vid)
    layout = image.layout(
        {u.object_id: host.store.stored_pages(u.object_id, u.first, u.count) for u in image.unknown()}
    )()
    assert layout.runs.tolist() == [[0, 0, 100]]
    for number in range(100):
        assert read(host, image, 0, number, 1).startswith(b"page %d\0" % number)
    image.release()


@pytest.mark.parametrize("meanwhile", ["nothing", "write", "exit"])
def test_pages_in_the_swap_area(make_host: MakeHost, meanwhile: str) -> None:
    host = make_host(X86_64, 64, 600)
    pid = host.task()
    host.do("mmap", pid, None, host.base, 200 * host.page, RW, PRIVATE | FIXED)
    for number in range(200):
        host.do("write", pid, None, host.base + number * host.page, b"page %d" % number)
    image = host.do("task_core", pid)
    if meanwhile == "write":
        for number in range(200):
            host.do("write", pid, None, host.base + number * host.page, b"changed")
    if meanwhile == "exit":
        host.do("exit", pid)
    layout = image.layout({})()
    assert layout.runs.tolist() == [[2, 0, 200]]
    for number in range(200):
        assert read(host, image, 2, number, 1).startswith(b"page %d\0" % number)
    image.release()


@pytest.mark.parametrize("seed", range(8))
def test_random_memory_is_in_the_core_as_it_is_read(make_host: MakeHost, seed: int) -> None:
    """Private, shared, forked, swapped, stored, evicted: what a load gives is what the file has."""
    chance = random.Random(seed)
    host = make_host((X86_64, I386)[seed % 2], 32, 900)
    pids, page = [], host.page
    sid = host.segment("log", pages=40, at=200)
    vid = host.space("lab")
    host.do("vas_seg_attach", vid, sid, 2)
    for _ in range(3):
        pids.append(host.task())
        host.enter(pids[-1], vid)
    for step in range(700):
        pid = chance.choice(pids)
        at = host.base + chance.randrange(240) * page
        match chance.randrange(24):
            case 0 | 1:
                host.refused("vas_switch", pid, None, chance.choice((0, vid)))
                kind = chance.choice((PRIVATE, PRIVATE, SHARED_MAP))
                host.refused("mmap", pid, None, at, chance.randrange(1, 60) * page, RW, kind | FIXED)
            case 2:
                host.refused("munmap", pid, None, at, chance.randrange(1, 10) * page)
            case 3 if len(pids) < 6:
                pids.append(host.do("fork", pid).pid)
            case 4:
                host.refused(
                    "madvise", pid, None, at, 4 * page, chance.choice((c.MADV_DONTNEED, c.MADV_PAGEOUT))
                )
            case _:
                data = b"%d" % step * chance.randrange(1, 900)
                host.refused("write", pid, None, at, data[:page])
    for pid in pids:
        image = host.do("task_core", pid)
        content = dump(host, image)
        image.release()
        segments = list(ELFFile(io.BytesIO(content)).iter_segments("PT_LOAD"))
        shown = {s["p_vaddr"]: bytes(s.data()).ljust(s["p_memsz"], b"\0") for s in segments}
        for vma, access in host.machine.tasks_table.get(pid).threads[pid].union.regions():
            if access & 1:
                parts = [shown[at] for at in sorted(shown) if vma.start <= at < vma.end]
                pages = [host.do("read", pid, None, at, page) for at in range(vma.start, vma.end, page)]
                assert b"".join(parts) == b"".join(pages)


def test_memory_that_is_gone_reads_as_zeros(host: Host) -> None:
    sid, vid = host.segment("log", pages=2), host.space()
    host.do("vas_seg_attach", vid, sid, 2)
    host.do("seg_write", sid, 0, b"written")
    host.restart()
    image = host.do("vas_core", vid)
    stored = {u.object_id: host.store.stored_pages(u.object_id, u.first, u.count) for u in image.unknown()}
    layout = image.layout(stored)()
    assert layout.runs.tolist() == [[0, 0, 1]]
    host.do("vas_seg_detach", vid, sid)
    host.do("vas_seg_delete", sid)
    assert read(host, image, 0, 0, 1) == bytes(host.page)
    image.release()


def test_what_a_core_leaves_out_and_what_not(host: Host) -> None:
    pid, base, page = host.task(), host.base, host.page
    for number in range(2):
        host.do("mmap", pid, None, base + 4 * number * page, 2 * page, RW, PRIVATE | FIXED)
        host.do("write", pid, None, base + 4 * number * page, b"here")
    host.do("madvise", pid, None, base, 2 * page, c.MADV_DONTDUMP)
    host.do("mprotect", pid, None, base + 4 * page, 2 * page, 0)
    image = host.do("task_core", pid)
    content = dump(host, image)
    image.release()
    assert memory(content, base, 4) is None
    assert memory(content, base + 4 * page, 4) == b"here"
    assert (base + 4 * page, page, 2 * page, 0) in loads(ELFFile(io.BytesIO(content)))


def test_an_empty_space(host: Host) -> None:
    image = host.do("vas_core", host.space("nothing", cred=ALICE))
    content = dump(host, image)
    image.release()
    elf = ELFFile(io.BytesIO(content))
    assert loads(elf) == []
    assert [n["n_type"] for n in notes(elf)] == ["NT_PRSTATUS", "NT_PRPSINFO"]
    assert notes(elf)[1]["n_desc"]["pr_uid"] == 1000


def test_who_may_have_a_core(host: Host) -> None:
    pid, vid = host.task(ALICE), host.space(mode=0o200, cred=ALICE)
    assert host.refused("task_core", pid, cred=BOB) == "EPERM"
    assert host.refused("task_core", pid + 99, cred=BOB) == "ESRCH"
    assert host.refused("task_core", pid, pid + 99, cred=ALICE) == "ESRCH"
    assert host.refused("vas_core", vid, cred=BOB) == host.refused("vas_core", vid, cred=ALICE) == "EACCES"
    assert host.refused("vas_core", 99, cred=BOB) == "EINVAL"
    host.do("vas_core", vid, cred=ROOT).release()
    host.do("task_core", pid, cred=ALICE).release()


def test_a_machine_without_core_files(toy: Host) -> None:
    assert toy.refused("task_core", toy.task()) == "EINVAL"
    assert toy.refused("vas_core", toy.space()) == "EINVAL"
    assert [name for name, geometry in GEOMETRIES.items() if core_file.target_of(geometry) is None] == [
        TOY.name
    ]


def test_a_refused_core_holds_nothing(host: Host) -> None:
    """The clones of a transaction that is rolled back are gone with it; check() counts the references."""
    pid, vid = host.inside(pages=2)
    host.do("write", pid, None, host.base, b"x")
    host.do("write", pid, None, host.data, b"x")
    with host.machine.transaction() as txn:
        host.machine.task_core(ROOT, pid)
        host.machine.vas_core(ROOT, vid)
    txn.rollback()
    free = host.machine.pool.free_count
    host.do("exit", pid)
    assert host.machine.pool.free_count == free + 1


def test_releasing_twice_is_once(host: Host) -> None:
    image = host.do("task_core", host.task())
    image.release()
    image.release()


def test_who_may_not_read_any_more_gets_zeros(host: Host) -> None:
    owner, vid = host.inside(pages=2)
    host.do("write", owner, None, host.base, b"then")
    reader = host.task(BOB)
    host.do("vas_attach", reader, vid, 0, cred=BOB)
    host.do("vas_switch", reader, None, vid, cred=BOB)
    images = [(host.do("task_core", reader, cred=BOB), host.do("vas_core", vid, cred=BOB)) for _ in range(3)]

    def shown(number: int) -> list[bytes | None]:
        return [memory(dump(host, image), host.base, 4) for image in images[number]]

    host.do("write", owner, None, host.base, b"now!")
    assert shown(0) == [b"now!", b"now!"]
    host.do("vas_setattr", vid, mode=0o600)
    assert shown(1) == [b"now!", bytes(4)]
    host.do("vas_switch", reader, None, 0, cred=BOB)
    host.do("vas_detach", reader, vid, cred=BOB)
    assert shown(2) == [bytes(4), bytes(4)]
    for pair in images:
        for image in pair:
            image.release()
