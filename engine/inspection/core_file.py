"""The layout of an ELF core file: every header as bytes, and which pages follow them. Pure arithmetic.

    ELF header | program headers | (section header) | notes | padding | pages of the first run | pages of the next ...

A region is one PT_LOAD if all of it or nothing of it is stored, else one for each run of stored pages. What lies
between the runs is not in the file: the PT_LOAD's size in memory is greater than that in the file, which reads as
zeros. Addresses, offsets and sizes are bytes; pages of a region are counted from its start.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Geometry

Runs = NDArray[np.int64]
"""Shape (n, 3): region, first page and number of pages of each run, ascending and apart."""
Column = NDArray[np.int64]
"""One number for each region."""

HEADERS_MAX: Final = 1 << 17
"""About as many program headers are written; runs that lie close together are joined until there are no more."""

ET_CORE: Final = 4
PT_LOAD: Final = 1
PT_NOTE: Final = 4
PN_XNUM: Final = 0xFFFF
"""The number of program headers does not fit its field: section header 0 tells it."""
NT_PRSTATUS: Final = 1
NT_PRPSINFO: Final = 3
NT_FILE: Final = 0x46494C45

_PF_OF_PROT = (0, 4, 2, 6, 1, 5, 3, 7)
"""PT_LOAD flags (X 1, W 2, R 4) by PROT bits (R 1, W 2, X 4)."""
_NAME_MAX: Final = 15
_ARGS_MAX: Final = 79


@dataclass(frozen=True, slots=True)
class Target:
    """What differs between machines. `status` and `info` are the struct formats of NT_PRSTATUS and NT_PRPSINFO."""

    machine: int
    bits: int
    status: struct.Struct
    info: struct.Struct
    registers: int
    """General registers in NT_PRSTATUS, each of `bits` bits."""
    pc: int
    sp: int
    """Positions of the program counter and the stack pointer among them."""
    fixed: tuple[tuple[int, int], ...] = ()
    """(position, value) of registers that user code always has so."""


_STATUS64 = struct.Struct("<3ih2xQQ4i8Q")
_INFO64 = struct.Struct("<4b4xQIIiiii16s80s")
TARGETS: Final = {
    "x86_64": Target(
        62, 64, _STATUS64, _INFO64, 27, pc=16, sp=19, fixed=((17, 0x33), (18, 0x202), (20, 0x2B))
    ),
    "i386": Target(
        3,
        32,
        struct.Struct("<3ih2xII4i8I"),
        struct.Struct("<4bIHHiiii16s80s"),
        17,
        pc=12,
        sp=15,
        fixed=((7, 0x2B), (8, 0x2B), (13, 0x23), (14, 0x202), (16, 0x2B)),
    ),
    "aarch64": Target(183, 64, _STATUS64, _INFO64, 34, pc=32, sp=31),
}
"""By the geometry's name up to its page size; a geometry that is not here has no core files."""


@dataclass(frozen=True, slots=True)
class Process:
    """Whose memory it is. The first of `threads` is the one whose view the file shows; there is at least one."""

    pid: int
    name: str
    uid: int
    gid: int
    threads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Regions:
    """[start, end) and PROT bits of each, ascending and apart; `names` are (region, name, page offset) for NT_FILE."""

    starts: Column
    ends: Column
    access: Column
    names: Sequence[tuple[int, str, int]] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """`header` is followed by the pages of `runs`, in order, and nothing else. `size` is that of the file."""

    header: bytes
    size: int
    runs: Runs = field(repr=False)


def target_of(geometry: Geometry) -> Target | None:
    """None: there is no ELF machine of this shape."""
    return TARGETS.get(geometry.name) or TARGETS.get(geometry.name.rpartition("_")[0])


def layout(geometry: Geometry, target: Target, process: Process, regions: Regions, runs: Runs) -> Layout:
    """The file of these regions, of which it holds the pages of `runs`."""
    runs = _joined(runs)
    loads = _loads(regions, runs, geometry.page_size)
    notes = _notes(geometry, target, process, regions)
    count = len(loads) + 1
    wide = target.bits == 64
    head_size, phdr_size, shdr_size = (64, 56, 64) if wide else (52, 32, 40)
    sections = 1 if count >= PN_XNUM else 0
    notes_at = head_size + count * phdr_size + sections * shdr_size
    data_at = geometry.align_up(notes_at + len(notes))
    header = b"".join(
        (
            _elf_header(target, count, head_size, phdr_size, shdr_size),
            _program_headers(loads, (notes_at, len(notes)), data_at, geometry.page_size, wide=wide),
            _section_header(count, wide=wide) if sections else b"",
            notes,
        )
    )
    return Layout(header.ljust(data_at, b"\0"), data_at + int(loads[:, 1].sum()), runs)


def runs_of(region: Column, pages: Column) -> Runs:
    """The runs of pages, given with their regions; both ascend."""
    if not len(pages):
        return np.empty((0, 3), np.int64)
    breaks = (np.diff(pages) != 1) | (np.diff(region) != 0)
    firsts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.concatenate([firsts, [len(pages)]]))
    return np.stack([region[firsts], pages[firsts], counts], axis=1)


def _joined(runs: Runs) -> Runs:
    """Let runs swallow the gaps between them, the least first, until there are few enough."""
    gap = 1
    while len(runs) > HEADERS_MAX and (np.diff(runs[:, 0]) == 0).any():
        region, first, end = runs[:, 0], runs[:, 1], runs[:, 1] + runs[:, 2]
        apart = (np.diff(region) != 0) | (first[1:] - end[:-1] > gap)
        starts, ends = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
        runs = np.stack([region[starts], first[starts], end[ends] - first[starts]], axis=1)
        gap *= 2
    return runs


def _loads(regions: Regions, runs: Runs, page: int) -> NDArray[np.int64]:
    """(address, bytes in the file, bytes in memory, flags) of each PT_LOAD: of a region's runs, and of what precedes them."""
    count = len(regions.starts)
    begins = np.zeros(count, np.bool_)
    begins[runs[runs[:, 1] == 0, 0]] = True
    bare = np.flatnonzero(~begins)
    leading = np.stack([bare, np.zeros_like(bare), np.zeros_like(bare)], axis=1)
    every = np.concatenate([leading, runs])
    every = every[np.lexsort((every[:, 1], every[:, 0]))]
    region, first = every[:, 0], every[:, 1]
    next_first = np.append(first[1:], 0)
    last = np.append(region[1:] != region[:-1], [True] * (len(region) > 0)).astype(np.bool_)
    pages = (regions.ends - regions.starts) // page
    memory = np.where(last, pages[region], next_first) - first
    flags = np.array(_PF_OF_PROT, np.int64)[regions.access[region] & 7]
    return np.stack([regions.starts[region] + first * page, every[:, 2] * page, memory * page, flags], axis=1)


def _elf_header(target: Target, count: int, head_size: int, phdr_size: int, shdr_size: int) -> bytes:
    wide = target.bits == 64
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1, 0]) + bytes(8)
    crowded = count >= PN_XNUM
    return identity + struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        ET_CORE,
        target.machine,
        1,
        0,
        head_size,
        head_size + count * phdr_size if crowded else 0,
        0,
        head_size,
        phdr_size,
        PN_XNUM if crowded else count,
        shdr_size if crowded else 0,
        1 if crowded else 0,
        0,
    )


def _program_headers(
    loads: NDArray[np.int64], notes: tuple[int, int], data_at: int, page_size: int, *, wide: bool
) -> bytes:
    word = "<u8" if wide else "<u4"
    names = ["offset", "vaddr", "paddr", "filesz", "memsz"]
    order = ["type", "flags", *names, "align"] if wide else ["type", *names, "flags", "align"]
    table = np.zeros(
        len(loads) + 1, np.dtype([(name, "<u4" if name in ("type", "flags") else word) for name in order])
    )
    table["type"][0], table["offset"][0], table["filesz"][0], table["align"][0] = PT_NOTE, *notes, 4
    rest = table[1:]
    rest["type"], rest["align"] = PT_LOAD, page_size
    rest["vaddr"], rest["filesz"], rest["memsz"], rest["flags"] = loads.T
    rest["offset"] = data_at + np.cumsum(loads[:, 1]) - loads[:, 1]
    return table.tobytes()


def _section_header(count: int, *, wide: bool) -> bytes:
    """Section 0, which tells what the ELF header has no room for."""
    return struct.pack("<IIQQQQIIQQ" if wide else "<10I", 0, 0, 0, 0, 0, 1, 0, count, 0, 0)


def _notes(geometry: Geometry, target: Target, process: Process, regions: Regions) -> bytes:
    """NT_PRSTATUS of the first thread, NT_PRPSINFO, NT_FILE, then the other threads, as Linux orders them."""
    first, *others = [_note(NT_PRSTATUS, _status(geometry, target, process, tid)) for tid in process.threads]
    name = process.name.encode("utf-8")
    info = target.info.pack(
        0,
        ord("S"),
        0,
        0,
        0,
        *(_narrow(number, target.bits) for number in (process.uid, process.gid)),
        process.pid,
        0,
        process.pid,
        process.pid,
        name[:_NAME_MAX],
        name[:_ARGS_MAX],
    )
    files = [_note(NT_FILE, _files(geometry, target, regions))] if regions.names else []
    return b"".join([first, _note(NT_PRPSINFO, info), *files, *others])


def _note(kind: int, content: bytes) -> bytes:
    padded = content.ljust((len(content) + 3) & -4, b"\0")
    return struct.pack("<3I8s", 5, len(content), kind, b"CORE") + padded


def _status(geometry: Geometry, target: Target, process: Process, tid: int) -> bytes:
    """elf_prstatus: a thread that was stopped where its program starts, with its stack empty."""
    registers = [0] * target.registers
    for position, value in target.fixed:
        registers[position] = value
    registers[target.pc] = geometry.text_start
    registers[target.sp] = geometry.user_end - 16
    head = target.status.pack(0, 0, 0, 0, 0, 0, tid, 0, process.pid, process.pid, *[0] * 8)
    if target.bits == 32:
        return head + struct.pack(f"<{target.registers}Ii", *registers, 0)
    return head + struct.pack(f"<{target.registers}Qi4x", *registers, 0)


def _files(geometry: Geometry, target: Target, regions: Regions) -> bytes:
    """NT_FILE: number and page size, (start, end, page offset) of each, then the names."""
    words = [len(regions.names), geometry.page_size]
    for number, _, offset in regions.names:
        words += [int(regions.starts[number]), int(regions.ends[number]), offset]
    packed = struct.pack(f"<{len(words)}{'Q' if target.bits == 64 else 'I'}", *words)
    return packed + b"".join(name.encode("utf-8") + b"\0" for _, name, _ in regions.names)


def _narrow(number: int, bits: int) -> int:
    """Ids have 16 bits in 32-bit core files; Linux writes 65534 for those that do not fit."""
    return number if bits == 64 or number < 1 << 16 else 65534
