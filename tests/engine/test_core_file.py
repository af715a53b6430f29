"""The layout of core files, as pyelftools reads it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from engine.geometry import AARCH64, I386, X86_64, Geometry
from engine.inspection import core_file
from engine.inspection.core_file import Process, Regions
from tests.engine.core_reading import loads, notes, tids
from tests.engine.host import RW

WORKER = Process(7, "worker", 1000, 100, (9, 7))
SHAPES = [X86_64, I386, *AARCH64]


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
