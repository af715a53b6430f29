"""Core files: their layout as pyelftools reads it, and what of a machine they show."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from engine import core_file
from engine.constants import MADV_DONTDUMP
from engine.core_file import Process, Regions
from engine.core_image import CoreImage
from engine.credentials import ROOT
from engine.errors import PagesNeeded
from engine.geometry import AARCH64, GEOMETRIES, I386, TOY, X86_64, Geometry
from tests.engine.conftest import MakeHost
from tests.engine.host import ALICE, BOB, FIXED, PRIVATE, ROUNDS_MAX, RW, SHARED_MAP, Host

pytestmark = pytest.mark.x86_64  # what `host` is: a core file has a processor

WORKER = Process(7, "worker", 1000, 100, (9, 7))
SHAPES = [X86_64, I386, *AARCH64]

pytestmark = pytest.mark.roomy  # the toy has no core files


@dataclass
class Part:
    """A region of a test."""

    start: int
    end: int
    runs: tuple[tuple[int, int], ...]
    access: int
    name: str
    offset: int


def part(
    start: int, end: int, *runs: tuple[int, int], access: int = RW, name: str = "", offset: int = 0
) -> Part:
    return Part(start, end, runs, access, name, offset)


def opened(
    geometry: Geometry, parts: Sequence[Part], process: Process = WORKER
) -> tuple[ELFFile, core_file.Layout]:
    """The headers of such a file as pyelftools sees them."""
    target = core_file.target_of(geometry)
    assert target is not None
    table = np.array([(p.start, p.end, p.access) for p in parts], np.int64).reshape(-1, 3)
    names = [(number, p.name, p.offset) for number, p in enumerate(parts) if p.name]
    runs = [(number, *run) for number, p in enumerate(parts) for run in p.runs]
    layout = core_file.layout(
        geometry,
        target,
        process,
        Regions(table[:, 0], table[:, 1], table[:, 2], names),
        np.array(runs, np.int64).reshape(-1, 3),
    )
    return ELFFile(io.BytesIO(layout.header)), layout


def loads(elf: ELFFile) -> list[tuple[int, int, int, int]]:
    """(address, bytes in the file, bytes in memory, flags)."""
    headers = [s.header for s in elf.iter_segments("PT_LOAD")]
    return [(h.p_vaddr, h.p_filesz, h.p_memsz, h.p_flags) for h in headers]


def notes(elf: ELFFile) -> list[Any]:
    return [n for s in elf.iter_segments("PT_NOTE") if isinstance(s, NoteSegment) for n in s.iter_notes()]


def tids(elf: ELFFile) -> list[int]:
    """The threads, in order."""
    place = slice(32, 36) if elf.elfclass == 64 else slice(24, 28)
    statuses = [note["n_descdata"] for note in notes(elf) if note["n_type"] == "NT_PRSTATUS"]
    return [int.from_bytes(status[place], "little") for status in statuses]


def dump(host: Host, image: CoreImage) -> bytes:
    """The whole file, written as the service writes it."""
    stored = {u.object_id: host.store.stored_pages(u.object_id, u.first, u.count) for u in image.unknown()}
    layout = image.layout(stored)()
    pieces = [layout.header]
    pieces += [read(host, image, *run) for run in layout.runs.tolist()]
    content = b"".join(pieces)
    assert len(content) == layout.size
    return content


def read(host: Host, image: CoreImage, number: int, first: int, count: int) -> bytes:
    """Pages of a region, fetched if need be."""
    for _ in range(ROUNDS_MAX):
        try:
            return image.read(number, first, count)
        except PagesNeeded as need:
            host.machine.supply(need, host.store.fetch(need.object_id, need.pages))
    raise AssertionError("the pages never came")


def memory(content: bytes, address: int, length: int) -> bytes | None:
    """The bytes at an address as a debugger sees them; None: there is no such memory."""
    elf = ELFFile(io.BytesIO(content))
    for segment in elf.iter_segments("PT_LOAD"):
        low = address - segment["p_vaddr"]
        if 0 <= low < segment["p_memsz"]:
            held = segment.data()[low : low + length]
            return bytes(held).ljust(length, b"\0")
    return None


# -- layout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", SHAPES, ids=lambda g: g.name)
def test_the_headers_of_each_machine(geometry: Geometry) -> None:
    page, base = geometry.page_size, geometry.arena_start
    elf, layout = opened(geometry, [part(base, base + 4 * page, (0, 4))])
    machine, bits = {"x86_64": ("EM_X86_64", 64), "i386": ("EM_386", 32)}.get(
        geometry.name, ("EM_AARCH64", 64)
    )
    assert (elf.header.e_type, elf.header.e_machine, elf.elfclass) == ("ET_CORE", machine, bits)
    assert elf.little_endian
    assert loads(elf) == [(base, 4 * page, 4 * page, 6)]
    assert layout.size == len(layout.header) + 4 * page
    assert next(elf.iter_segments("PT_LOAD"))["p_offset"] % page == 0


@pytest.mark.parametrize("geometry", SHAPES, ids=lambda g: g.name)
def test_the_notes_of_each_machine(geometry: Geometry) -> None:
    page, base = geometry.page_size, geometry.arena_start
    parts = [
        part(base, base + page, name="[segment:log]", offset=3),
        part(base + page, base + 2 * page),
        part(base + 2 * page, base + 4 * page, name="[vas:näme]"),
    ]
    elf, _ = opened(geometry, parts)
    first, info, files, second = notes(elf)
    assert [n["n_type"] for n in (first, info, files, second)] == [
        "NT_PRSTATUS",
        "NT_PRPSINFO",
        "NT_FILE",
        "NT_PRSTATUS",
    ]
    assert {n["n_name"] for n in (first, info, files, second)} == {"CORE"}
    size = {"x86_64": 336, "i386": 144}.get(geometry.name, 392)
    assert (first["n_descsz"], second["n_descsz"]) == (size, size)
    described = info["n_desc"]
    assert (described["pr_pid"], described["pr_uid"], described["pr_gid"]) == (7, 1000, 100)
    assert described["pr_fname"].rstrip(b"\0") == described["pr_psargs"].rstrip(b"\0") == b"worker"
    listed = files["n_desc"]
    assert (listed["num_map_entries"], listed["page_size"]) == (2, page)
    windows = [(e.vm_start, e.vm_end, e.page_offset) for e in listed["Elf_Nt_File_Entry"]]
    assert windows == [(base, base + page, 3), (base + 2 * page, base + 4 * page, 0)]
    assert listed["filename"] == [b"[segment:log]", "[vas:näme]".encode()]


def test_threads_start_where_the_program_does() -> None:
    elf, _ = opened(X86_64, [])
    assert tids(elf) == [9, 7]
    first = notes(elf)[0]
    registers = np.frombuffer(first["n_descdata"][112:328], "<u8")
    assert (registers[16], registers[19]) == (X86_64.text_start, X86_64.user_end - 16)


@pytest.mark.parametrize(("uid", "kept"), [(65535, 65535), (65536, 65534), (2**32 - 2, 65534)])
def test_ids_that_do_not_fit_a_32_bit_core_file(uid: int, kept: int) -> None:
    elf, _ = opened(I386, [], Process(7, "a" * 200, uid, 5, (7,)))
    described = notes(elf)[1]["n_desc"]
    assert (described["pr_uid"], described["pr_gid"]) == (kept, 5)
    assert described["pr_fname"] == b"a" * 15 + b"\0"
    wide, _ = opened(X86_64, [], Process(7, "w", uid, 5, (7,)))
    assert notes(wide)[1]["n_desc"]["pr_uid"] == uid


def test_what_lies_between_runs_is_not_in_the_file() -> None:
    base, page = X86_64.arena_start, X86_64.page_size
    elf, layout = opened(
        X86_64, [part(base, base + 16 * page, (2, 1), (5, 3)), part(base + 32 * page, base + 40 * page)]
    )
    assert loads(elf) == [
        (base, 0, 2 * page, 6),
        (base + 2 * page, page, 3 * page, 6),
        (base + 5 * page, 3 * page, 11 * page, 6),
        (base + 32 * page, 0, 8 * page, 6),
    ]
    offsets = [s["p_offset"] for s in elf.iter_segments("PT_LOAD")]
    data = len(layout.header)
    assert offsets == [data, data, data + page, data + 4 * page]


@pytest.mark.parametrize("prot", range(8))
def test_rights(prot: int) -> None:
    base, page = X86_64.arena_start, X86_64.page_size
    elf, _ = opened(X86_64, [part(base, base + page, access=prot)])
    flags = loads(elf)[0][3]
    assert [bool(flags & bit) for bit in (4, 2, 1)] == [bool(prot & bit) for bit in (1, 2, 4)]


@pytest.mark.parametrize(("geometry", "count"), [(X86_64, 0xFFFD), (X86_64, 0xFFFE), (I386, 70000)])
def test_more_regions_than_the_header_can_count(geometry: Geometry, count: int) -> None:
    page, base = geometry.page_size, geometry.arena_start
    elf, layout = opened(
        geometry, [part(base + 2 * i * page, base + (2 * i + 1) * page) for i in range(count)]
    )
    assert (elf.header.e_phnum == core_file.PN_XNUM) == (count + 1 >= core_file.PN_XNUM)
    assert elf.num_segments() == count + 1
    assert elf.get_segment(count)["p_vaddr"] == base + 2 * (count - 1) * page
    assert notes(elf)[0]["n_type"] == "NT_PRSTATUS"
    assert layout.size == len(layout.header)


def test_runs_that_are_too_many_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_file, "HEADERS_MAX", 10)
    base, page = X86_64.arena_start, X86_64.page_size
    near = [(i * 2, 1) for i in range(8)]
    parts = [
        part(base, base + 100 * page, *near, (60, 2), (90, 1)),
        part(base + 200 * page, base + 210 * page, (0, 1), (9, 1)),
    ]
    _, layout = opened(X86_64, parts)
    assert layout.runs.tolist() == [[0, 0, 15], [0, 60, 2], [0, 90, 1], [1, 0, 1], [1, 9, 1]]


def test_runs_of_pages() -> None:
    def runs(*pages: tuple[int, int]) -> list[list[int]]:
        columns = np.array(pages, np.int64).reshape(-1, 2).T
        found: list[list[int]] = core_file.runs_of(*columns).tolist()
        return found

    assert runs() == []
    assert runs((3, 4)) == [[3, 4, 1]]
    assert runs((0, 0), (0, 1), (0, 2), (0, 5), (1, 6), (1, 7)) == [[0, 0, 3], [0, 5, 1], [1, 6, 2]]


# -- images --------------------------------------------------------------------------------------------------------


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
    host.do("madvise", pid, None, base, 2 * page, MADV_DONTDUMP)
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
