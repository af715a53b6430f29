"""Pages that are not in memory: fetched from the store after a restart, put aside on disk when memory is short."""

import random
import stat
from pathlib import Path

import pytest

import everspace
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.http import Problem
from tests.conformance.support.memory import ANON, RW
from tests.conformance.support.service import EVERSPACED, Service, run

BASE = 0x1000_0000_0000
MIB = 1 << 20
SMALL = {"EVERSPACE_MEMORY": str(4 * MIB), "EVERSPACE_SWAP_BYTES": str(32 * MIB)}


def major_faults(task: HttpTask) -> int:
    return int(task.http.get(f"/v1/tasks/{task.pid}")["counters"]["major_faults"])


def test_pages_come_from_the_store_by_major_faults(service: Service) -> None:
    task = HttpTask.spawn(service.http())
    vid = task.vas_create("kept", 0o600)
    sid = task.vas_seg_create("kept", BASE, BASE + 64 * PAGE, 0o600)
    task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    data = random.Random(5).randbytes(64 * PAGE)
    task.write(BASE, data)
    assert major_faults(task) == 0
    service.kill()
    service.start()
    task = HttpTask.spawn(service.http())
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    assert task.mincore(BASE, 64 * PAGE) == bytes(64)
    assert task.read(BASE, 64 * PAGE) == data
    faults = major_faults(task)
    assert 0 < faults <= 64
    assert task.read(BASE, 64 * PAGE) == data
    assert major_faults(task) == faults
    assert task.mincore(BASE, 64 * PAGE) == bytes([1]) * 64


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_memory_that_was_put_aside_is_gone_with_the_service(tmp_path: Path, how: str) -> None:
    service, swap = Service(tmp_path / "data", SMALL), tmp_path / "data" / "swap"
    data = random.Random(6).randbytes(16 * MIB)
    with service:
        task = HttpTask.spawn(service.http())
        own = task.mmap(0, len(data), RW, ANON)
        for place in range(0, len(data), MIB):
            task.write(own + place, data[place : place + MIB])
        for place in range(0, len(data), MIB):
            assert task.read(own + place, MIB) == data[place : place + MIB]
        assert stat.S_IMODE(swap.stat().st_mode) == 0o600
        assert swap.stat().st_size >= 12 * MIB
        if how == "kill":
            service.kill()
            assert swap.exists()
        else:
            assert service.stop() == 0
            assert not swap.exists()
        assert run([EVERSPACED, "fsck", str(service.data_dir)]).returncode == 0
        service.start()
        assert swap.stat().st_size == 0


def test_limits_are_options_and_settings(tmp_path: Path) -> None:
    with Service(tmp_path / "data", {"EVERSPACE_LIMIT_DATA": str(64 * PAGE)}) as service:
        token = service.account(1001, 1001)
        task = HttpTask.spawn(service.http(token))
        assert task.prlimit("data") == 64 * PAGE
        task.mmap(0, 32 * PAGE, RW, ANON)
    for option, value in (("--limit-stack", "-1"), ("--limit-data", "much"), ("--swap-bytes", "-5")):
        done = run([EVERSPACED, "serve", "--data-dir", str(tmp_path / "none"), option, value])
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert option in done.stderr


def test_an_image_has_room_in_the_page_frames(tmp_path: Path) -> None:
    """A task's memory may be larger than the frames, thanks to swap; an image of it may not, and nothing is half made."""
    with Service(tmp_path / "data", SMALL) as service:
        task = HttpTask.spawn(service.http())
        own = task.mmap(0, 8 * MIB, RW, ANON)
        for place in range(0, 8 * MIB, MIB):
            task.write(own + place, b"x" * MIB)
        with pytest.raises(Problem) as raised:
            task.vas_fork("too large")
        assert raised.value.errno == "ENOMEM"
        assert service.http().get("/v1/vas")["items"] == []
        assert task.read(own, MIB) == b"x" * MIB
        task.munmap(own + 2 * MIB, 6 * MIB)
        image = task.vas_fork("fits")
        second = HttpTask.spawn(service.http())
        second.vas_exec(image)
        assert second.read(own + MIB, MIB) == b"x" * MIB
