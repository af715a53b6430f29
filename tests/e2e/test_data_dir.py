"""Data directories and options that cannot be served: status 2 and one line on standard error, nothing changed."""

import contextlib
import os
import resource
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

import everspace
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.http import Problem
from tests.conformance.support.service import EVERSPACED, Service, environment, free_port, run, until

NOBODY = 65534
BASE = 0x1000_0000_0000
SUPERBLOCK = struct.Struct("<8sH")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It left with 2 and said why in one line."""
    assert done.returncode == 2, done
    assert done.stdout == "", done
    assert done.stderr.endswith("\n"), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "usage" not in done.stderr.lower()
    for word in words:
        assert word.lower() in done.stderr.lower(), done.stderr


def wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the service of this process takes calls."""

    def answers() -> bool:
        assert process.poll() is None, "it has ended"
        with everspace.connect(url, "none") as client:
            try:
                return client.ready()
            except everspace.errors.TransportError:
                return False

    until(f"{url} is ready", answers, 60)


def serve(data_dir: Path | str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    port = () if "--port" in options or "EVERSPACE_PORT" in env else ("--port", str(free_port()))
    return run([EVERSPACED, "serve", "--data-dir", str(data_dir), *port, *options], env=env)


def tree(path: Path) -> dict[str, bytes]:
    """All files below with their bytes, locks and shared memory of SQLite apart."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.endswith(("-shm", "-wal", "lock"))
    }


def test_a_directory_in_use(service: Service) -> None:
    refused(serve(service.data_dir), "in use", str(service.data_dir))
    refused(run([EVERSPACED, "fsck", str(service.data_dir)]), "in use")
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        assert task.vas_create("still at work", 0o600) > 0


def test_a_directory_is_free_again_after_a_kill(service: Service) -> None:
    service.kill()
    service.start()
    assert service.running()


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a directory", encoding="ascii")
    refused(serve(path), str(path))
    refused(serve(path / "below"))
    refused(run([EVERSPACED, "fsck", str(path)]), str(path))
    assert path.read_text(encoding="ascii") == "not a directory"


def test_a_place_where_no_directory_can_be_made() -> None:
    """Not even by root."""
    refused(serve("/sys/everspace-cannot-be-here"), "/sys/everspace-cannot-be-here")


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    """A file that only looks like ours is not served and not touched."""
    service = Service(tmp_path / "data").start()
    assert service.stop() == 0
    (service.data_dir / "store.lmdb").write_bytes(b"these are not the bytes of a store" * 1000)
    before = tree(service.data_dir)
    refused(serve(service.data_dir))
    assert tree(service.data_dir) == before


def test_a_directory_of_a_newer_format(tmp_path: Path) -> None:
    """Magic and version of the store lie where docs/format.md says that they lie in every version."""
    service = Service(tmp_path / "data").start()
    assert service.stop() == 0
    store = str(service.data_dir / "store.lmdb")
    with lmdb.open(store, subdir=False, max_dbs=32, map_size=1 << 30) as env, env.begin(write=True) as txn:
        meta = env.open_db(b"meta", txn, create=False)
        value = bytearray(txn.get(b"superblock", db=meta) or b"")
        magic, version = SUPERBLOCK.unpack_from(value)
        assert magic == b"EVRSPACE"
        SUPERBLOCK.pack_into(value, 0, magic, version + 1)
        txn.put(b"superblock", bytes(value), db=meta)
    before = tree(service.data_dir)
    refused(serve(service.data_dir), "newer", "store.lmdb")
    refused(run([EVERSPACED, "fsck", str(service.data_dir)]), "newer")
    assert tree(service.data_dir) == before


@pytest.fixture
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with something in it that may only be read: by its modes, and by its mount where that is allowed."""
    service = Service(tmp_path_factory.mktemp("made") / "data").start()
    assert service.stop() == 0
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    made = top / "data"
    shutil.copytree(service.data_dir, made)
    for path in [*made.rglob("*"), made]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_mount = as_root("mount", "--bind", str(made), str(made)) and as_root(
        "mount", "-o", "remount,bind,ro", str(made)
    )
    yield made
    if is_mount:
        assert as_root("umount", "-l", str(made))
    made.chmod(0o755)
    shutil.rmtree(top)


def as_root(*command: str) -> bool:
    """Whether this is root, and the command went well."""
    if os.geteuid() != 0 or shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_directory_that_may_only_be_read(read_only: Path) -> None:
    """Root is stopped by the mount; where he may not mount, another user is stopped by the modes."""
    before = tree(read_only)
    command = [EVERSPACED, "serve", "--data-dir", str(read_only), "--port", str(free_port())]
    user = None
    if os.access(read_only, os.W_OK):
        if can_run_as_nobody():
            user = NOBODY
        else:
            command[3] = "/sys/kernel"  # root may write every directory that is not the kernel's own
    done = subprocess.run(
        command, capture_output=True, text=True, user=user, env=environment(), timeout=60, check=False
    )
    refused(done, command[3])
    assert tree(read_only) == before
    checked = run([EVERSPACED, "fsck", str(read_only)])
    assert checked.returncode in (0, 2), checked
    assert "Traceback" not in checked.stderr


COMMANDS = (
    "serve --port 0 --data-dir DIR", "account list --data-dir DIR", "audit list --data-dir DIR", "fsck DIR", "compact DIR",
    "backup DIR FILE", "restore FILE DIR", "statistics DIR", "migrate DIR",
)  # fmt: skip


def test_a_directory_of_another_user(fresh: Service, tmp_path: Path) -> None:
    fresh.start()
    assert fresh.stop() == 0
    data, bounded = fresh.data_dir, ["env"]
    if os.geteuid() == 0:  # it has to do without the rights that let it enter every directory
        if shutil.which("setpriv") is None:
            pytest.skip("root may enter every directory, and there is no setpriv to take that from it")
        os.chown(data, NOBODY, NOBODY)
        bounded = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    data.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        for command in COMMANDS:
            words = command.replace("DIR", str(data)).replace("FILE", str(tmp_path / "file")).split()
            refused(
                run([*bounded, EVERSPACED, *words]),
                f"{data} cannot be used as a data directory: Permission denied",
            )
    finally:
        data.chmod(0o700)


def can_run_as_nobody() -> bool:
    """Whether another user can read this environment; a repository below a private directory it cannot."""
    try:
        command = [EVERSPACED, "--help"]
        done = subprocess.run(command, capture_output=True, user=NOBODY, timeout=60, check=False)
    except PermissionError:
        return False
    return done.returncode == 0


def test_bad_options(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for options in (
        ("--port", "x"), ("--port", "-1"), ("--port", "65536"), ("--nonsense",), ("--arch", "vax"), ("surplus",),
        ("--port",),
    ):  # fmt: skip
        refused(serve(data, *options))
        assert not data.exists(), options


def test_a_host_that_is_none(tmp_path: Path) -> None:
    refused(serve(tmp_path / "data", "--host", "no such host"))


def test_bad_settings_in_the_environment(tmp_path: Path) -> None:
    data = tmp_path / "data"
    refused(serve(data, EVERSPACE_PORT="x"))
    refused(serve(data, EVERSPACE_ARCH="vax"))
    assert not data.exists()


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    port = free_port()
    env = {"EVERSPACE_DATA_DIR": str(tmp_path / "here"), "EVERSPACE_PORT": str(port)}
    with subprocess.Popen([EVERSPACED, "serve"], env=environment(env), stderr=subprocess.PIPE) as process:
        wait_ready(process, f"http://127.0.0.1:{port}")
        assert (tmp_path / "here" / "root.token").exists()
        process.terminate()
        assert process.wait(30) == 0


def test_an_unknown_command() -> None:
    refused(run([EVERSPACED, "conquer"]))
    refused(run([EVERSPACED, "fsck"]))
    refused(run([EVERSPACED, "account", "create", "--uid", "x"]))


def test_a_wide_bind_needs_to_be_asked_for(tmp_path: Path) -> None:
    refused(serve(tmp_path / "data", "--host", "0.0.0.0"))


def test_a_port_that_is_taken(service: Service, tmp_path: Path) -> None:
    refused(serve(tmp_path / "other", "--port", str(service.port)))


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    """`--uds`: the same service over a Unix socket."""
    socket = Path(tempfile.mkdtemp()) / "s"
    command = [EVERSPACED, "serve", "--data-dir", str(tmp_path / "data"), "--uds", str(socket)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) as process:
        wait_ready(process, f"unix:{socket}")
        token = (tmp_path / "data" / "root.token").read_text(encoding="ascii").strip()
        with everspace.connect(f"unix:{socket}", token) as client, client.spawn() as task:
            assert task.vas_create("through a socket", 0o600) == 1
        process.terminate()
        assert process.wait(30) == 0
    shutil.rmtree(socket.parent)


# -- a full disk --------------------------------------------------------------------------------------------


def fill(task: HttpTask, most: int = 512) -> int:
    """Store until it is refused; how many pages were acknowledged, each with its number in it."""
    for number in range(most):
        try:
            task.write(BASE + number * 16 * PAGE, number.to_bytes(8, "little") * (16 * PAGE // 8))
        except Problem as problem:
            assert problem.errno in ("ENOSPC", "EIO"), problem
            return number
    raise AssertionError("the disk is not full")


def inside(service: Service) -> HttpTask:
    """A task in the space "full"; made if it is not there."""
    task = HttpTask.spawn(service.http())
    if not task.http.get("/v1/vas?name=full")["items"]:
        vid = task.vas_create("full", 0o600, "shared")
        sid = task.vas_seg_create("full", BASE, BASE + 8192 * PAGE, 0o600)
        task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    vid = task.vas_find("full")
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    return task


def acknowledged_is_there(task: HttpTask, count: int) -> None:
    for number in range(count):
        assert task.read(BASE + number * 16 * PAGE, 8) == number.to_bytes(8, "little")
    assert task.read(BASE + count * 16 * PAGE, 16 * PAGE) == bytes(16 * PAGE), "nothing of the refused store"


def test_a_disk_that_gets_full_refuses_stores_and_nothing_else(service: Service) -> None:
    """The limit on file sizes stands for the disk; it is lifted while the service runs."""
    task = inside(service)
    store = service.data_dir / "store.lmdb"
    limit = store.stat().st_blocks * 512 + 4 * 1024 * 1024
    _, hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (limit, hard))
    count = fill(task)
    assert count > 0
    acknowledged_is_there(task, count)
    with pytest.raises(Problem):
        task.write(BASE + count * 16 * PAGE, b"x" * 16 * PAGE)
    assert task.http.request("GET", "/healthz").status == 200
    assert len(task.http.get("/v1/vas")["items"]) == 1
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (hard, hard))

    def stores_again() -> bool:
        try:
            task.write(BASE + count * 16 * PAGE, b"room again")
        except Problem as problem:
            assert problem.answer.status in (500, 503, 507), problem
            return False
        return True

    until("it stores again", stores_again, 30)
    service.kill()
    service.start()
    task = inside(service)
    assert task.read(BASE + count * 16 * PAGE, 10) == b"room again"
    for number in range(count):
        assert task.read(BASE + number * 16 * PAGE, 8) == number.to_bytes(8, "little")


def mounted(path: Path, options: str) -> bool:
    """Mount a small file system in memory there; only root may."""
    path.mkdir()
    return as_root("mount", "-t", "tmpfs", "-o", options, "everspace", str(path))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 8 MiB, or None where mounting is not allowed."""
    path = tmp_path / "disk"
    has = mounted(path, "size=8m")
    yield path if has else None
    if has:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_is_full(small_disk: Path | None, tmp_path: Path) -> None:
    """A real one where mounting is allowed; else the limit on file sizes at the start stands for it."""
    if small_disk is None:
        limited = f"ulimit -f 1; exec {EVERSPACED} serve --data-dir {tmp_path / 'data'} --port {free_port()}"
        refused(run(["bash", "-c", limited]))
        return
    with Service(small_disk / "data") as service:
        service.log.touch()
        task = inside(service)
        count = fill(task)
        assert count > 0
        acknowledged_is_there(task, count)
        service.kill()
        service.start()
        task = inside(service)
        acknowledged_is_there(task, count)
        assert service.stop() == 0
    done = run([EVERSPACED, "fsck", str(service.data_dir)])
    assert (done.returncode, done.stderr) == (0, ""), done
    with (small_disk / "rest").open("wb") as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(65536))
            rest.flush()
    refused(serve(small_disk / "second"))


@pytest.mark.parametrize("kibibytes", [4, 8])
def test_a_first_start_without_room_leaves_nothing_unfinished(fresh: Service, kibibytes: int) -> None:
    """Not even the file that was to be the store; with room it starts there."""
    options = f"--data-dir {fresh.data_dir} --port {free_port()}"
    refused(run(["bash", "-c", f"ulimit -f {kibibytes}; exec {EVERSPACED} serve {options}"]), "no space left")
    assert [file.name for file in fresh.data_dir.iterdir()] == ["lock"]
    fresh.start()
    assert fresh.stop() == 0


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_directory_that_lost_its_store_is_not_begun_anew(fresh: Service, left: str) -> None:
    fresh.start()
    assert fresh.stop() == 0
    store = fresh.data_dir / "store.lmdb"
    store.unlink()
    if left == "an empty file":
        store.touch()
    done = run([EVERSPACED, "serve", "--data-dir", str(fresh.data_dir), "--port", "0"])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "its store is gone" in done.stderr
    assert not store.exists() or store.stat().st_size == 0
