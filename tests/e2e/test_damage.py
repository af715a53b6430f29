"""A page that the disk has damaged: who is told what, and what may be done about it, as docs/operations.md says."""

import errno
import random
from pathlib import Path

import pytest

import everspace
from storage.directory import STORE_FILE
from tests.conformance.support.service import EVERSPACED, Service, run

BASE = 0x1000_0000_0000
OWN = BASE + (1 << 30)
PAGE = 4096
READ_WRITE, FIXED_SHARED = 3, 0x31


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(PAGE)


def flip(data_dir: Path, page: bytes) -> None:
    """Change a bit of a stored page."""
    with (data_dir / STORE_FILE).open("r+b") as file:
        position = file.read().index(page)
        file.seek(position)
        file.write(bytes([page[0] ^ 1]))


def everspaced(*words: object) -> tuple[int, str]:
    """Exit status and all that it says."""
    done = run([EVERSPACED, *map(str, words)])
    return done.returncode, done.stdout + done.stderr


def test_a_damaged_page_is_told_by_its_address_and_heals_when_it_is_written(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    service = Service(data)
    with service, everspace.connect(service.url, service.root_token) as client:
        segment = client.segments.create("big", BASE, BASE + (1 << 24), 0o600)
        segment.pwrite(7 * PAGE, content(7) + content(8))
        with client.spawn() as task:
            vid = task.vas_create("mine", 0o600)
            task.vas_mmap(vid, OWN, 1 << 20, READ_WRITE, FIXED_SHARED)
            task.vas_attach(task.pid, vid, "rw")
            task.vas_switch(vid)
            task.write(OWN + 5 * PAGE, content(5))
    flip(data, content(7))
    flip(data, content(5))
    status, said = everspaced("fsck", data)
    assert status == 1
    assert f": offset 0x7000 of segment {segment.sid} 'big'\n" in said
    assert f": address {OWN + 5 * PAGE:#x} of space {vid} 'mine'\n" in said
    for command in (("backup", data, backup), ("compact", data)):
        status, said = everspaced(*command)
        assert (status, "everspaced fsck" in said) == (2, True), said
    assert everspaced("fsck", "--repair", data)[0] == 1
    with service, everspace.connect(service.url, service.root_token) as client:
        again = client.segments.get(segment.sid)
        with pytest.raises(everspace.VasError, match=f"offset 0x7000 of segment {segment.sid}$") as caught:
            again.pread(7 * PAGE, 1)
        assert caught.value.errno == errno.EIO
        assert again.pread(8 * PAGE, PAGE) == content(8)
        again.pwrite(7 * PAGE, content(70))
        with client.spawn() as task:
            task.vas_attach(task.pid, vid, "rw")
            task.vas_switch(vid)
            with pytest.raises(everspace.VasError, match=f"address {OWN + 5 * PAGE:#x} of space {vid}$"):
                task.read(OWN + 5 * PAGE, 1)
            task.write(OWN + 5 * PAGE, content(50))
    assert everspaced("fsck", "--repair", data)[0] in (0, 3)
    assert everspaced("fsck", data)[0] == 0
    assert everspaced("backup", data, backup)[0] == 0
    assert everspaced("compact", data)[0] == 0
