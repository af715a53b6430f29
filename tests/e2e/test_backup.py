"""Backups of a service that runs, restored and served; compaction, statistics, and directories of old releases."""

import json
import shutil
import tarfile
import threading
from pathlib import Path

import pytest

import everspace
from tests.conformance.support.service import EVERSPACED, Service, run

BASE = 0x1000_0000_0000
PAGE = 4096
FORMATS = Path(__file__).parents[1] / "storage" / "formats"


def everspaced(*arguments: object, status: int = 0) -> str:
    """Run a command; what it prints."""
    done = run([EVERSPACED, *map(str, arguments)])
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    return done.stdout if status in (0, 3) else done.stderr


class Counting(threading.Thread):
    """Stores ascending numbers in two segments at once, each in one atomic batch."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._done = threading.Event()
        self.begun = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        with everspace.connect(self._service.url, self._service.root_token) as client, client.spawn() as task:
            vid = task.vas_create("counter", 0o600)
            for place in (0, 1):
                start = BASE + place * (64 << 20)
                sid = task.vas_seg_create(f"counter {place}", start, start + (1 << 20), 0o600)
                task.vas_seg_attach(vid, sid, everspace.O_RDWR)
            task.vas_attach(0, vid, everspace.O_RDWR)
            task.vas_switch(vid)
            while not self._done.is_set():
                number = (self.acknowledged + 1).to_bytes(8, "little") * 1024
                with task.batch(atomic=True) as batch:
                    batch.write(BASE, number)
                    batch.write(BASE + (64 << 20) + 100, number)
                self.acknowledged += 1
                self.begun.set()

    def stop(self) -> None:
        self._done.set()
        self.join()


def counted(service: Service) -> int:
    """The number in both segments."""
    with everspace.connect(service.url, service.root_token) as client:
        first, second = (client.segments.find(f"counter {place}") for place in (0, 1))
        assert first is not None
        assert second is not None
        numbers = {first.pread(0, 8192), second.pread(100, 8192)}
    (number,) = numbers
    assert number == number[:8] * 1024
    return int.from_bytes(number[:8], "little")


def test_a_backup_of_a_service_that_writes_is_restored_and_served(service: Service, tmp_path: Path) -> None:
    writer = Counting(service)
    writer.start()
    try:
        assert writer.begun.wait(30)
        for turn in range(2):
            before = writer.acknowledged
            said = everspaced("backup", service.data_dir, tmp_path / "backup")
            after = writer.acknowledged
            assert said.endswith("rows, and the accounts\n")
            everspaced("restore", tmp_path / "backup", tmp_path / f"restored {turn}")
            assert everspaced("fsck", tmp_path / f"restored {turn}").endswith(": clean\n")
            shutil.copy(service.data_dir / "root.token", tmp_path / f"restored {turn}")
            restored = Service(tmp_path / f"restored {turn}").start()
            try:
                assert before <= counted(restored) <= after + 1
            finally:
                restored.close()
    finally:
        writer.stop()
    assert counted(service) == writer.acknowledged
    assert service.stop() == 0
    assert everspaced("fsck", service.data_dir).endswith(": clean\n")


def test_a_directory_goes_back_to_what_it_was(service: Service, tmp_path: Path) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        sid = task.vas_seg_create("notes", BASE, BASE + PAGE, 0o600)
        client.segments.get(sid).pwrite(0, b"before")
        everspaced("backup", service.data_dir, tmp_path / "backup")
        client.segments.get(sid).pwrite(0, b"behind")
        task.vas_seg_create("later", BASE, BASE + PAGE, 0o600)
    refused = everspaced("restore", "--force", tmp_path / "backup", service.data_dir, status=2)
    assert "in use by process" in refused
    service.stop()
    assert "--force" in everspaced("restore", tmp_path / "backup", service.data_dir, status=2)
    everspaced("restore", "--force", tmp_path / "backup", service.data_dir)
    service.start()
    with everspace.connect(service.url, service.root_token) as client:
        assert [segment.name for segment in client.segments.list()] == ["notes"]
        assert client.segments.get(sid).pread(0, 6) == b"before"


def test_what_a_service_that_runs_lets_others_do(service: Service, tmp_path: Path) -> None:
    """Statistics and backups: yes. Compaction and repair: no, in one line."""
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        sid = task.vas_seg_create("notes", BASE, BASE + (1 << 30), 0o600)
        client.segments.get(sid).pwrite(0, bytes(range(256)) * 1024)
        figures = json.loads(everspaced("statistics", service.data_dir, "--json"))
        assert (figures["segments"], figures["spaces"], figures["live_pages"]) == (1, 0, 64)
        assert figures["used_bytes"] + figures["free_bytes"] == figures["file_bytes"]
        lines = dict(line.split() for line in everspaced("statistics", service.data_dir).splitlines())
        assert lines.keys() == figures.keys()
        assert lines["live_pages"] == "64"
        for command in (("compact",), ("fsck",), ("fsck", "--repair"), ("migrate",)):
            said = everspaced(*command, service.data_dir, status=2)
            assert "in use by process" in said
            assert said.count("\n") == 1
        assert client.segments.get(sid).pread(255, 2) == b"\xff\x00"


def test_a_compacted_directory_is_served(service: Service, tmp_path: Path) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        sid = task.vas_seg_create("notes", BASE, BASE + (1 << 30), 0o600)
        gone = task.vas_seg_create("gone", BASE, BASE + (1 << 30), 0o600)
        client.segments.get(sid).pwrite(0, b"kept")
        client.segments.get(gone).pwrite(0, b"x" * (8 << 20))
        task.vas_seg_delete(gone)
    service.stop()
    before = (service.data_dir / "store.lmdb").stat().st_blocks
    everspaced("compact", service.data_dir)
    assert (service.data_dir / "store.lmdb").stat().st_blocks < before // 8
    service.start()
    with everspace.connect(service.url, service.root_token) as client:
        assert client.segments.get(sid).pread(0, 4) == b"kept"


@pytest.mark.parametrize("version", [1, 2])
def test_a_directory_of_an_old_release_is_migrated_and_served(tmp_path: Path, version: int) -> None:
    with tarfile.open(FORMATS / f"format-{version}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    data_dir = tmp_path / "data"
    assert "everspaced migrate" in everspaced("serve", "--data-dir", data_dir, "--port", "0", status=2)
    everspaced("migrate", data_dir)
    token = everspaced("token", "create", "--data-dir", data_dir, "--uid", "0")
    (data_dir / "root.token").write_text(token)
    service = Service(data_dir).start()
    try:
        with everspace.connect(service.url, token.strip()) as client, client.spawn() as task:
            lab = task.vas_find("lab")
            task.vas_attach(0, lab, everspace.O_RDWR)
            task.vas_switch(lab)
            assert task.read(BASE + 7 * PAGE, 10) == b"page 1007 "
            assert task.read(BASE + (1 << 30) + 9 * PAGE, 7) == b"page 9 "
            with pytest.raises(everspace.VasError):
                task.read(BASE + (1 << 30) + 31 * PAGE, 1)
            if version > 1:
                assert task.vas_get_root("list") == BASE + (1 << 30)
            copy = task.vas_clone(lab, "made today")
            task.write(BASE + 7 * PAGE, b"today")
            task.vas_attach(0, copy, everspace.O_RDONLY)
            task.vas_switch(copy)
            assert task.read(BASE + 7 * PAGE, 10) == b"page 1007 "
    finally:
        service.close()
    assert everspaced("fsck", data_dir).endswith(": clean\n")
