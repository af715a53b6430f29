"""Tasks' memory beyond the resident limit: kept byte for byte, refused clearly when nothing is left, gone with the service."""

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StoreUnusable
from storage.swap_area import SWAP_FILE
from storage.upkeep.fsck import check_dir
from tests.app.metered import metric
from tests.app.support import BASE, PAGE, Site, running

MIB = 1 << 20
MEMORY = 2 * MIB
SWAP = 6 * MIB
OPTIONS: Mapping[str, Any] = {"memory": MEMORY, "swap_bytes": SWAP}


async def fill(site: Site, pid: int, mibs: int, addr: int = BASE) -> None:
    """Map and store: each MiB holds its number."""
    await site.mmap(pid, mibs * MIB // PAGE, addr)
    for number in range(mibs):
        answer = await site.write(pid, addr + number * MIB, bytes([number + 1]) * MIB)
        assert answer.status == 204, (number, answer)


async def require_filled(site: Site, pid: int, mibs: int, addr: int = BASE) -> None:
    for number in range(mibs):
        assert (await site.read(pid, addr + number * MIB, MIB)).body == bytes([number + 1]) * MIB, number


async def test_more_than_memory_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path, **OPTIONS) as site:
        pid = await site.task()
        await fill(site, pid, 5)
        await require_filled(site, pid, 5)
        assert await metric(site, "swap_pages") == SWAP // PAGE
        assert await metric(site, "swap_pages_used") >= (5 * MIB - MEMORY) // PAGE
        counters = (await site.ok("GET", f"/tasks/{pid}"))["counters"]
        assert counters["major_faults"] > 0
        await site.ok("DELETE", f"/tasks/{pid}")
        assert await metric(site, "swap_pages_used") == 0


async def test_forks_see_what_is_put_aside_and_copy_it_on_write(tmp_path: Path) -> None:
    async with running(tmp_path, memory=MEMORY, swap_bytes=2 * SWAP) as site:
        parent = await site.task()
        await fill(site, parent, 4)
        child: int = (await site.ok("POST", f"/tasks/{parent}/fork", {}))["pid"]
        for number in range(4):
            assert (await site.write(child, BASE + number * MIB, b"child")).status == 204
        await require_filled(site, parent, 4)
        for number in range(4):
            got = (await site.read(child, BASE + number * MIB, MIB)).body
            assert got == b"child" + bytes([number + 1]) * (MIB - 5)
        await site.ok("DELETE", f"/tasks/{parent}")
        assert (await site.read(child, BASE, 6)).body == b"child\x01"


async def test_memory_of_spaces_is_put_aside_beside_it(tmp_path: Path) -> None:
    """What a space holds goes to the store, what a task holds to the swap area, and both are seen together."""
    async with running(tmp_path, **OPTIONS) as site:
        pid, _ = await site.inside(4 * MIB // PAGE)
        own = BASE + (1 << 32)
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 0})
        await fill(site, pid, 4, own)
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 1})
        for number in range(4):
            assert (await site.write(pid, BASE + number * MIB, bytes([100 + number]) * MIB)).status == 204
        await require_filled(site, pid, 4, own)
        for number in range(4):
            body = (await site.read(pid, BASE + number * MIB, MIB)).body
            assert body == bytes([100 + number]) * MIB


async def test_when_nothing_is_left_the_call_is_enomem_and_others_go_on(tmp_path: Path) -> None:
    async with running(tmp_path, **OPTIONS) as site:
        calm, greedy = await site.task(), await site.task()
        await fill(site, calm, 1)
        await site.mmap(greedy, 64 * MIB // PAGE)
        stored = 0
        for number in range(64):
            answer = await site.write(greedy, BASE + number * MIB, bytes([number + 1]) * MIB)
            if answer.status != 204:
                assert (answer.status, answer.errno) == (507, "ENOMEM")
                assert "swap" in answer.json["detail"]
                break
            stored += 1
        assert (MEMORY + SWAP) // MIB - 3 <= stored < (MEMORY + SWAP) // MIB
        assert (await site.read(greedy, BASE + stored * MIB, 16)).body == bytes(16)
        await site.space("still answered")
        await site.ok("DELETE", f"/tasks/{greedy}")
        await require_filled(site, calm, 1)
        await fill(site, calm, 5)


async def test_without_a_swap_area_memory_ends_earlier(tmp_path: Path) -> None:
    async with running(tmp_path, memory=MEMORY, swap_bytes=0) as site:
        assert not (tmp_path / SWAP_FILE).exists()
        pid = await site.task()
        await fill(site, pid, 1)
        await site.mmap(pid, 4 * MIB // PAGE, BASE + (1 << 32))
        answer = await site.write(pid, BASE + (1 << 32), bytes(2 * MIB))
        assert (answer.status, answer.errno) == (507, "ENOMEM")
        await require_filled(site, pid, 1)


async def test_a_full_disk_is_enomem_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, **OPTIONS) as site:
        pid = await site.task()
        await fill(site, pid, 1)
        await site.mmap(pid, 4 * MIB // PAGE, BASE + (1 << 32))

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "pwrite", full)
        for number in range(4):
            answer = await site.write(pid, BASE + (1 << 32) + number * MIB, b"x" * MIB)
        assert (answer.status, answer.errno) == (507, "ENOMEM")
        assert await metric(site, "swap_failures_total") > 0
        monkeypatch.undo()
        assert (await site.write(pid, BASE + (1 << 32) + 3 * MIB, b"x" * MIB)).status == 204
        await require_filled(site, pid, 1)


async def test_a_damaged_page_is_eio_for_the_call_that_needs_it(tmp_path: Path) -> None:
    async with running(tmp_path, **OPTIONS) as site:
        pid = await site.task()
        await fill(site, pid, 4)
        with (tmp_path / SWAP_FILE).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(b"\xff" * size)
        answers = [await site.read(pid, BASE + page * PAGE, PAGE) for page in range(4 * MIB // PAGE)]
        failed = [answer for answer in answers if answer.status != 200]
        assert failed
        assert {(answer.status, answer.errno) for answer in failed} == {(500, "EIO")}
        assert all(
            answer.body == bytes([1 + page * PAGE // MIB]) * PAGE
            for page, answer in enumerate(answers)
            if answer.status == 200
        )
        await site.space("still answered")


async def test_the_file_is_private_and_gone_with_the_service(tmp_path: Path) -> None:
    (tmp_path / SWAP_FILE).write_bytes(b"what a crash left")
    async with running(tmp_path, **OPTIONS) as site:
        found = (tmp_path / SWAP_FILE).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_size) == (0o600, 0)
        await fill(site, await site.task(), 4)
        assert (tmp_path / SWAP_FILE).stat().st_size > 0
    assert not (tmp_path / SWAP_FILE).exists()
    (tmp_path / SWAP_FILE).write_bytes(b"what a crash left")
    assert list(check_dir(tmp_path)) == []


async def test_a_link_in_its_place_keeps_the_service_from_starting(tmp_path: Path) -> None:
    async with running(tmp_path, **OPTIONS):
        pass
    victim = tmp_path.with_name("victim")
    victim.write_bytes(b"precious")
    (tmp_path / SWAP_FILE).symlink_to(victim)
    with pytest.raises(StoreUnusable, match="not a plain file"):
        async with running(tmp_path, **OPTIONS):
            pass
    assert victim.read_bytes() == b"precious"
    (tmp_path / SWAP_FILE).unlink()
    async with running(tmp_path, **OPTIONS) as site:  # the directory was let go
        await site.space()


async def test_exec_and_discarding_give_their_swap_back(tmp_path: Path) -> None:
    async with running(tmp_path, **OPTIONS) as site:
        pid = await site.task()
        await fill(site, pid, 5)
        await site.ok("POST", f"/tasks/{pid}/madvise", {"addr": hex(BASE), "length": 3 * MIB, "advice": 4})
        assert (await site.read(pid, BASE, MIB)).body == bytes(MIB)
        assert (await site.read(pid, BASE + 4 * MIB, MIB)).body == b"\x05" * MIB
        await site.ok("POST", f"/tasks/{pid}/exec")
        assert await metric(site, "swap_pages_used") == 0
