"""Core files: ELF as Linux writes it, of what a task's thread sees and of a space."""

import io
import struct

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from everspace import MADV_DONTDUMP, MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
NO_ID = 2_000_000_000


def core(world: World, path: str, account: str = "owner") -> ELFFile:
    answer = world.http(account).call("GET", f"/v1{path}/core", status=200)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="core.')
    return ELFFile(io.BytesIO(answer.body))


def memory(elf: ELFFile, address: int, length: int) -> bytes | None:
    """The bytes at an address as a debugger sees them; None: there is no such memory."""
    for segment in elf.iter_segments("PT_LOAD"):
        low = address - segment["p_vaddr"]
        if 0 <= low < segment["p_memsz"]:
            return bytes(segment.data()[low : low + length]).ljust(length, b"\0")
    return None


@row("CORE-TASK-1", "http")
def test_the_core_of_a_task_is_what_its_thread_sees(world: World) -> None:
    vid, sid = world.inside()
    world.owner.write(BASE + PAGE, b"in the segment")
    own = world.owner.mmap(0, 3 * PAGE, RW, ANON)
    world.owner.write(own + PAGE, b"in the space")
    elf = core(world, f"/tasks/{world.owner.pid}")
    assert (elf.header.e_type, elf.header.e_machine) == ("ET_CORE", "EM_X86_64")
    regions = {}
    for segment in elf.iter_segments("PT_LOAD"):
        regions[segment["p_vaddr"]] = segment["p_memsz"]
    shown = 0
    for line in world.owner.maps().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        assert sum(size for at, size in regions.items() if start <= at < end) == end - start, line
        shown += end - start
    assert sum(regions.values()) == shown
    assert memory(elf, BASE + PAGE, 14) == b"in the segment"
    assert memory(elf, own + PAGE, 12) == b"in the space"
    assert memory(elf, own, 4) == bytes(4)
    world.owner.vas_switch(0)
    assert memory(core(world, f"/tasks/{world.owner.pid}"), BASE + PAGE, 14) is None
    assert (vid, sid) > (0, 0)


@row("CORE-NOTES-1", "http")
def test_the_notes_of_a_core(world: World) -> None:
    world.inside()
    thread = world.owner.thread()
    elf = core(world, f"/tasks/{world.owner.pid}")
    notes = [n for s in elf.iter_segments("PT_NOTE") if isinstance(s, NoteSegment) for n in s.iter_notes()]
    kinds = ["NT_PRSTATUS", "NT_PRPSINFO", "NT_FILE", "NT_PRSTATUS"]
    assert [(n["n_name"], n["n_type"]) for n in notes] == [("CORE", kind) for kind in kinds]
    tids = [struct.unpack_from("<i", n["n_descdata"], 32)[0] for n in (notes[0], notes[3])]
    assert tids == [world.owner.tid, thread.tid]
    assert notes[1]["n_desc"]["pr_pid"] == world.owner.pid
    (file,) = notes[2]["n_desc"]["Elf_Nt_File_Entry"]
    assert (file.vm_start, file.vm_end, file.page_offset) == (BASE, BASE + 4 * PAGE, 0)
    assert notes[2]["n_desc"]["filename"][0].startswith(b"[segment:")


@row("CORE-VAS-1", "http")
def test_the_core_of_a_space_is_its_own_regions(world: World) -> None:
    vid, _ = world.inside()
    world.owner.write(BASE, b"in the segment")
    elf = core(world, f"/vas/{vid}")
    assert memory(elf, BASE, 14) == b"in the segment"
    assert [(s["p_vaddr"], s["p_memsz"]) for s in elf.iter_segments("PT_LOAD")] == [(BASE, 4 * PAGE)]
    assert list(core(world, f"/vas/{world.space()}").iter_segments("PT_LOAD")) == []


@row("CORE-SPARSE-1", "http")
def test_a_core_holds_what_was_written_only(world: World) -> None:
    start = world.owner.mmap(BASE, 1 << 30, RW, ANON)
    world.owner.write(start + (1 << 29), b"x")
    answer = world.http("owner").call("GET", f"/v1/tasks/{world.owner.pid}/core", status=200)
    assert len(answer.body) <= 3 * PAGE
    elf = ELFFile(io.BytesIO(answer.body))
    assert memory(elf, start + (1 << 29), 2) == b"x\0"
    assert memory(elf, start + (1 << 30) - 1, 1) == b"\0"


@row("CORE-DUMP-1", "http")
def test_advice_and_protection_in_a_core(world: World) -> None:
    start = world.owner.mmap(BASE, 4 * PAGE, RW, ANON)
    world.owner.write(start, b"left out")
    world.owner.write(start + 2 * PAGE, b"kept")
    world.owner.madvise(start, PAGE, MADV_DONTDUMP)
    world.owner.mprotect(start + 2 * PAGE, PAGE, PROT_NONE)
    elf = core(world, f"/tasks/{world.owner.pid}")
    assert memory(elf, start, 1) is None
    assert memory(elf, start + 2 * PAGE, 4) == b"kept"


@row("CORE-EPERM-1", "http")
def test_the_core_of_another_s_task(world: World) -> None:
    world.fails("EPERM", world.http("other").call, "GET", f"/v1/tasks/{world.owner.pid}/core")
    world.fails("EPERM", world.http("member").call, "GET", f"/v1/tasks/{world.owner.pid}/core")
    core(world, f"/tasks/{world.owner.pid}", "root")


@row("CORE-EACCES-1", "http")
def test_the_core_of_a_space_needs_read_permission(world: World) -> None:
    vid = world.space(0o640)
    core(world, f"/vas/{vid}", "member")
    world.fails("EACCES", world.http("other").call, "GET", f"/v1/vas/{vid}/core")
    world.owner.vas_setattr(vid, mode=0o200)
    world.fails("EACCES", world.http("owner").call, "GET", f"/v1/vas/{vid}/core")
    core(world, f"/vas/{vid}", "root")


@row("CORE-ESRCH-1", "http")
def test_the_core_of_nobody(world: World) -> None:
    http = world.http("owner")
    world.fails("ESRCH", http.call, "GET", f"/v1/tasks/{NO_ID}/core")
    world.fails("ESRCH", http.call, "GET", f"/v1/tasks/{world.owner.pid}/core?tid={NO_ID}")
    world.fails("EINVAL", http.call, "GET", f"/v1/vas/{NO_ID}/core")
