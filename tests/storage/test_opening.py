"""What keeps a data directory from being opened: each cause has its own one-line error, and changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from engine.changes import BirthRecord, PutSpace, RegionRecord, SpaceRecord
from engine.geometry import GEOMETRIES, TOY, X86_64
from storage import open_store
from storage.directory import LOCK_FILE, STORE_FILE
from storage.errors import DataDirInUse, FormatUnreadable, StoreDamaged, StoreUnusable
from storage.lmdb.layers import encode_layer
from storage.lmdb.tables import Tables
from storage.rows.format import STATE_KEY, SUPERBLOCK_HEAD, SUPERBLOCK_KEY, TABLES, Superblock, seal
from storage.rows.lineage import encode_birth, encode_root
from storage.rows.records import encode_region, encode_space
from storage.upkeep.fsck import check_dir

SPACE = SpaceRecord(1, "lab", 0o600, 0, 0, "exclusive", 1)
REGION = RegionRecord(0x40, 0x80, 3, False, 0, 2)
BIRTH = BirthRecord((REGION,), (("list", 0x40),))


@pytest.fixture
def made(data_dir: Path) -> Path:
    """A data directory with one space."""
    store = open_store(data_dir, TOY)
    store.commit([[PutSpace(SPACE)]])
    store.close()
    return data_dir


def write_row(data_dir: Path, table: str, key: bytes, value: bytes) -> None:
    """Put a row behind the store's back."""
    env = lmdb.open(str(data_dir / STORE_FILE), subdir=False, max_dbs=len(TABLES), map_size=1 << 30)
    tables = Tables.open(env)
    with env.begin(write=True) as txn:
        txn.put(key, value, db=getattr(tables, table))
    env.close()


def refused(data_dir: Path, kind: type[StoreUnusable], text: str) -> None:
    """Opening fails with one line that says `text`, twice, so that the first did not lock or mend anything."""
    for _ in range(2):
        with pytest.raises(kind, match=text) as caught:
            open_store(data_dir, TOY)
        assert caught.type is kind
        assert "\n" not in str(caught.value)


def test_the_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "b"
    open_store(data_dir, TOY).close()
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert (data_dir / STORE_FILE).stat().st_mode & 0o777 == 0o600


def test_nothing_is_acknowledged_before_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB syncs data and root at each commit, and the names of new files are synced once."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    store = open_store(tmp_path / "data", TOY)
    flags = store._tables.env.flags()
    store.close()
    assert (flags["sync"], flags["metasync"], flags["writemap"]) == (True, True, False)
    assert synced == [tmp_path / "data", tmp_path]


def test_two_stores_of_one_process(made: Path) -> None:
    store = open_store(made, TOY)
    refused(made, DataDirInUse, f"in use by process {os.getpid()}")
    with pytest.raises(DataDirInUse):
        list(check_dir(made))
    assert store.load().spaces == [SPACE]
    store.close()
    open_store(made, TOY).close()


def test_two_processes(made: Path) -> None:
    script = (
        "import sys; from storage import open_store; from engine.geometry import TOY\n"
        "store = open_store(sys.argv[1], TOY); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(made)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        refused(made, DataDirInUse, f"in use by process {holder.pid}")
    finally:
        holder.kill()
        holder.communicate()
    open_store(made, TOY).close()


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    refused(tmp_path / "file", StoreUnusable, "is not a directory")
    refused(tmp_path / "file" / "below", StoreUnusable, "cannot be used as a data directory: Not a directory")
    assert (tmp_path / "file").read_text() == "hello"


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """Asked of another user in a child process, since root may write anywhere."""
    data_dir = tmp_path / "data"
    open_store(data_dir, TOY).close()
    data_dir.chmod(0o555)
    script = (
        "import os, sys; from storage import open_store; from engine.geometry import TOY\n"
        "from storage.errors import StoreUnusable\n"
        "if os.geteuid() == 0:\n"
        "    os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: open_store('.', TOY)\n"
        "except StoreUnusable as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(data_dir)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.decode() == "StoreUnusable . cannot be used as a data directory: Permission denied\n"
    data_dir.chmod(0o755)


def test_a_store_file_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).mkdir()
    refused(tmp_path, StoreUnusable, "cannot be opened: .*Is a directory")


def test_another_architecture_or_page_size(made: Path) -> None:
    with pytest.raises(
        FormatUnreadable, match="holds toy with pages of 16 bytes, not x86_64 with pages of 4096"
    ):
        open_store(made, X86_64)


def test_every_architecture_opens_its_own(tmp_path: Path) -> None:
    for name, geometry in GEOMETRIES.items():
        for _ in range(2):
            open_store(tmp_path / name, geometry).close()


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (4, "has format version 4, newer than version 3 of this release"),
        (1, "has format version 1: bring it to version 3 with 'everspaced migrate"),
    ],
)
def test_another_format_version(made: Path, version: int, text: str) -> None:
    body = SUPERBLOCK_HEAD.pack(b"EVRSPACE", version) + b"whatever comes then"
    write_row(made, "meta", SUPERBLOCK_KEY, seal(SUPERBLOCK_KEY, body))
    refused(made, FormatUnreadable, text)
    with pytest.raises(FormatUnreadable):
        list(check_dir(made))
    write_row(made, "meta", SUPERBLOCK_KEY, Superblock("toy", 16).encode())


def test_not_an_lmdb_file(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"\0" * 100)
    refused(tmp_path, FormatUnreadable, "is not an LMDB file")
    (tmp_path / STORE_FILE).write_bytes(b"SQLite format 3\0" * 1024)
    refused(tmp_path, FormatUnreadable, "is not an LMDB file")
    assert (tmp_path / STORE_FILE).read_bytes() == b"SQLite format 3\0" * 1024


def test_an_lmdb_file_of_another_program(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path / STORE_FILE), subdir=False)
    with env.begin(write=True) as txn:
        txn.put(b"mine", b"yours")
    env.close()
    refused(tmp_path, FormatUnreadable, "is an LMDB file, but not of Everspace")


@pytest.mark.parametrize(
    ("table", "key", "value", "text"),
    [
        ("meta", SUPERBLOCK_KEY, b"short", "it has no superblock"),
        ("meta", SUPERBLOCK_KEY, b"EVRSPICE\1\0", "its superblock starts with"),
        ("meta", SUPERBLOCK_KEY, Superblock("toy", 16).encode()[:-1] + b"x", "superblock: checksum mismatch"),
        ("meta", STATE_KEY, b"x" * 48, "counters is damaged: checksum mismatch"),
        ("spaces", bytes(8), encode_space(SPACE)[1], "space 0000000000000000 is damaged: checksum mismatch"),
        ("nodes", bytes(16), b"x" * 60, "page map of layer 0, node 0, is damaged"),
        ("log", bytes(7) + b"\1\0", b"x" * 60, "log row 1 is damaged"),
        ("nodes", b"short", b"x" * 60, "cannot be read: 5 bytes"),
        ("log", b"short", b"x" * 60, "cannot be read: 5 bytes"),
        ("regions", bytes(15) + b"\1", encode_region(0, REGION)[1], "0000000000000001 is damaged"),
        ("regions", *encode_region(5, REGION), "belongs to space 5, which does not exist"),
        ("births", bytes(8), encode_birth(1, BIRTH)[1], "birth 0000000000000000 is damaged: checksum"),
        ("births", *encode_birth(5, BIRTH), "a birth belongs to space 5, which does not exist"),
        ("roots", *encode_root(5, "list", 16), "the root 'list' belongs to space 5, which does not exist"),
        ("roots", bytes(8) + b"list", encode_root(1, "list", 16)[1], "root 0000000000000000.* is damaged"),
        ("objects", bytes(8), encode_layer(1, 2)[1], "object 0000000000000000 is damaged: checksum"),
        ("objects", b"short", encode_layer(1, 2)[1], "object 73686f7274 is damaged: 5 bytes"),
        ("layers", bytes(8), encode_layer(1, 2)[1], "layer 0000000000000000 is damaged: checksum"),
        ("layers", *encode_layer(7, 7), "layer 7 is its own ancestor"),
    ],
)
def test_damaged_rows(tmp_path: Path, table: str, key: bytes, value: bytes, text: str) -> None:
    open_store(tmp_path, TOY).close()
    write_row(tmp_path, table, key, value)
    refused(tmp_path, StoreDamaged, text)
    assert list(check_dir(tmp_path)) != []


def test_a_store_file_that_was_cut(tmp_path: Path) -> None:
    store = open_store(tmp_path, TOY)
    store.commit(
        [[PutSpace(SpaceRecord(vid, f"space {vid}", 0, 0, 0, "shared", vid))] for vid in range(1, 500)]
    )
    store.close()
    os.truncate(tmp_path / STORE_FILE, 4 * 4096)
    refused(tmp_path, StoreDamaged, "it is shorter than it says")
    assert list(check_dir(tmp_path)) != []


def test_fsck_of_what_is_no_data_directory(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StoreUnusable, match="is not a data directory"):
            list(check_dir(path))
    assert list(tmp_path.iterdir()) == []


def test_a_stale_lock_file_is_no_hindrance(made: Path) -> None:
    (made / LOCK_FILE).write_text("999999\n")
    open_store(made, TOY).close()
    assert (made / LOCK_FILE).read_text() == f"{os.getpid()}\n"
