"""Core files of tests: written as the service writes them, read by pyelftools."""

import io
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from engine.errors import PagesNeeded
from engine.inspection.core_image import CoreImage
from tests.engine.host import ROUNDS_MAX, Host


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
