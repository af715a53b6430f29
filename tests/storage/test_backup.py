"""Backups: what one moment had, however much is written meanwhile; restored as a whole or not at all."""

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.changes import (
    CloneObject,
    DropPages,
    PutPages,
    PutReceipt,
    PutRoot,
    PutSegment,
    PutSpace,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import TOY, X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import DataDirInUse, StoreDamaged, StoreError, StoreFailed, StoreUnusable
from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE, fail_at
from storage.sql.accounts import AccountStore
from storage.upkeep import backup as backing
from storage.upkeep.archive import ARCHIVE_VERSION, MAGIC
from storage.upkeep.backup import back_up, back_up_store
from storage.upkeep.fsck import check_dir
from storage.upkeep.restoring import restore, verify
from tests.crash.workload import EAGER, Expectation, reached, transaction

SPACE = PutSpace(SpaceRecord(1, "lab", 0o600, 0, 0, "exclusive", 1))
SEGMENT = PutSegment(SegmentRecord(1, "heap", 0, 1 << 30, 0o600, 0, 0, "shared", 2))


def fill(data_dir: Path) -> None:
    """A small store with something in each table, a clone, a hole, and a log behind the checkpoint; and accounts."""
    store = open_store(data_dir, TOY)
    store.commit([[SPACE, SEGMENT, PutRoot(1, "list", 0x40), PutReceipt(b"key", b"done")]])
    store.commit([[PutPages(1, (0, 1, 700), b"a" * 48)], [CloneObject(1, 3), PutPages(3, (2,), b"b" * 16)]])
    store.close()
    store = open_store(data_dir, TOY)
    store.commit([[PutPages(1, (1,), b"c" * 16), DropPages(3, 0, 1)]])
    store.close()
    accounts = AccountStore.in_directory(data_dir)
    accounts.migrate()
    accounts.create_account(1000, [100], "ada")
    accounts.close()
    (data_dir / "root.token").write_text("evs_never-in-a-backup")


def shown(data_dir: Path) -> object:
    """Everything in a small directory."""
    store = open_store(data_dir, TOY)
    found = (store.load(), [store.fetch(number, range(1000)) for number in range(1, 4)])
    store.close()
    accounts = AccountStore.in_directory(data_dir)
    named = [(account.uid, account.gids, account.name) for account in accounts.list_accounts()]
    accounts.close()
    return found, named


@pytest.fixture
def made(tmp_path: Path) -> Path:
    fill(tmp_path / "data")
    return tmp_path / "data"


def test_what_is_restored_is_what_there_was(made: Path, tmp_path: Path) -> None:
    totals = back_up(made, tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert b"never-in-a-backup" not in (tmp_path / "backup").read_bytes()
    assert verify(tmp_path / "backup") == restore(tmp_path / "backup", tmp_path / "restored") == totals
    assert totals.accounts
    assert sorted(entry.name for entry in (tmp_path / "restored").iterdir()) == [
        "accounts.sqlite",
        "lock",
        "store.lmdb",
    ]
    assert (tmp_path / "restored" / STORE_FILE).stat().st_mode & 0o777 == 0o600
    assert list(check_dir(tmp_path / "restored")) == []
    assert shown(tmp_path / "restored") == shown(made)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup", "data", "restored"]


def test_accounts_that_are_kept_elsewhere_are_not_in_it(made: Path, tmp_path: Path) -> None:
    (made / "accounts.sqlite").unlink()
    assert back_up(made, tmp_path / "backup").accounts == 0
    restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored" / "accounts.sqlite").exists()


def test_accounts_that_are_damaged_are_refused(made: Path, tmp_path: Path) -> None:
    database = made / "accounts.sqlite"
    raw = bytearray(database.read_bytes())
    raw[4096:8192] = os.urandom(4096)
    database.write_bytes(raw)
    with pytest.raises(StoreError, match=r"accounts\.sqlite"):
        back_up(made, tmp_path / "backup")
    assert [problem for problem in check_dir(made) if "accounts.sqlite is damaged" in problem]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"]


def test_damage_is_not_backed_up(made: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(MAGIC + b"the one before")
    raw = (made / STORE_FILE).read_bytes()
    (made / STORE_FILE).write_bytes(raw.replace(b"c" * 16, b"c" * 15 + b"x"))
    with pytest.raises(StoreDamaged, match=r"the row of log .* is damaged: checksum mismatch in slot"):
        back_up(made, tmp_path / "backup")
    assert (tmp_path / "backup").read_bytes() == MAGIC + b"the one before"
    assert not (tmp_path / "backup.partial").exists()


def test_what_cannot_be_the_backup(made: Path, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear")
    with pytest.raises(StoreUnusable, match="letter exists and is not a backup"):
        back_up(made, tmp_path / "letter")
    assert (tmp_path / "letter").read_text() == "Dear"
    with pytest.raises(StoreUnusable, match="Is a directory"):
        back_up(made, tmp_path)
    with pytest.raises(StoreUnusable, match="No such file or directory"):
        back_up(made, tmp_path / "missing" / "backup")
    with pytest.raises(StoreUnusable, match="is not a data directory"):
        back_up(tmp_path, tmp_path / "backup")


def test_two_backups_to_one_name(made: Path, tmp_path: Path) -> None:
    store = open_store(made, TOY)
    refused: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(StoreUnusable, match="another backup is being written"):
            back_up_store(store.tables, made, tmp_path / "backup")
        refused.append("once")

    back_up_store(store.tables, made, tmp_path / "backup", meanwhile)
    store.close()
    assert refused
    verify(tmp_path / "backup")


# --- while writes go on


def test_each_step_sees_another_store(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two rows of the log transactions are committed, chunks rewritten, layers merged, rows deleted."""
    monkeypatch.setattr(backing, "STEP_ROWS", 1)
    store = open_store(tmp_path / "data", X86_64, tuning=EAGER)
    number = 0
    told: list[float] = []

    def write(count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            store.commit([transaction(seed, number)])
            store.maintain()

    def meanwhile(done: int, total: int) -> None:
        told.append(done / total)
        if done < total:
            write(2)

    write(30)
    for turn in range(3):
        before = number
        told.clear()
        back_up_store(store.tables, tmp_path / "data", tmp_path / "backup", meanwhile)
        restore(tmp_path / "backup", tmp_path / f"restored {turn}")
        assert Expectation(seed).examine(tmp_path / f"restored {turn}", number, number) > before + 4
        assert told == sorted(told)
        assert told[-1] == 1.0
    store.close()


def test_beside_another_process(tmp_path: Path, seed: int) -> None:
    """Commands back up again and again while a thread here writes as fast as it can."""
    store = open_store(tmp_path / "data", X86_64, tuning=EAGER)
    acknowledged = 0
    done = threading.Event()

    def write() -> None:
        nonlocal acknowledged
        while not done.is_set():
            store.commit([transaction(seed, acknowledged + 1)])
            acknowledged += 1
            store.maintain()

    store.commit([transaction(seed, 1)])
    acknowledged = 1
    writer = threading.Thread(target=write)
    writer.start()
    expected = Expectation(seed)
    try:
        for turn in range(4):
            before = acknowledged
            command(
                f"back_up({str(tmp_path / 'data')!r}, {str(tmp_path / 'backup')!r})", "storage.upkeep.backup"
            ).check_returncode()
            after = acknowledged
            restore(tmp_path / "backup", tmp_path / f"restored {turn}")
            expected.examine(tmp_path / f"restored {turn}", before, after + 1)
    finally:
        done.set()
        writer.join()
    assert reached(store) == acknowledged
    store.close()
    assert list(check_dir(tmp_path / "data")) == []


def test_accounts_are_written_meanwhile(made: Path, tmp_path: Path) -> None:
    accounts = AccountStore.in_directory(made)
    accounts.migrate()
    with sqlite3.connect(made / "accounts.sqlite") as holder:
        holder.execute("BEGIN IMMEDIATE")
        back_up(made, tmp_path / "backup")
        holder.execute("ROLLBACK")
    holder.close()
    accounts.create_account(1001, [100], "bob")
    accounts.close()
    restore(tmp_path / "backup", tmp_path / "restored")
    restored = AccountStore.in_directory(tmp_path / "restored")
    assert [account.uid for account in restored.list_accounts()] == [1000]
    restored.close()


# --- what goes wrong


def command(call: str, module: str, failpoint: str = "") -> "subprocess.CompletedProcess[bytes]":
    script = f"from {module} import *; {call}"
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, VARIABLE: failpoint}, check=False
    )


def seams(prefix: str) -> list[str]:
    return [name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith(prefix)]


@pytest.mark.parametrize("name", seams("backup."))
def test_killed_at_a_seam_of_a_backup(tmp_path: Path, seed: int, name: str) -> None:
    """The backup before it is whole, the service is not held up, and the next backup works."""
    store = open_store(tmp_path / "data", X86_64, tuning=EAGER)
    store.commit([transaction(seed, 1)])
    back_up_store(store.tables, tmp_path / "data", tmp_path / "backup")
    store.commit([transaction(seed, 2)])
    call = f"back_up({str(tmp_path / 'data')!r}, {str(tmp_path / 'backup')!r})"
    assert command(call, "storage.upkeep.backup", name).returncode == -signal.SIGKILL
    restore(tmp_path / "backup", tmp_path / "restored")
    last = 2 if name == "backup.renamed" else 1
    assert Expectation(seed).examine(tmp_path / "restored", last, last) == last
    store.maintain()
    readers = store.tables.env.readers().split("\n")[1:-1]
    assert [line.split()[0] for line in readers] == [str(os.getpid())]
    store.commit([transaction(seed, 3)])
    command(call, "storage.upkeep.backup").check_returncode()
    restore(tmp_path / "backup", tmp_path / "restored", force=True)
    assert Expectation(seed).examine(tmp_path / "restored", 3, 3) == 3
    store.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup", "data", "restored"]


def test_the_nth_seam_of_a_backup_fails(made: Path, tmp_path: Path) -> None:
    passages = [name for name in seams("backup.") if name in FAILPOINTS]
    for passage in range(1, len(passages) + 2):
        with fail_at(passage, StoreFailed("made to fail")):
            try:
                back_up(made, tmp_path / "backup")
            except StoreFailed:
                assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"]
                continue
        assert passage == len(passages) + 1
    verify(tmp_path / "backup")


def test_nothing_is_replaced_under_a_backup(made: Path, tmp_path: Path) -> None:
    """A restore waits for nobody: it refuses while a backup reads the directory."""
    back_up(made, tmp_path / "backup")
    refused: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(DataDirInUse, match="is being read, by a backup perhaps"):
            restore(tmp_path / "backup", made, force=True)
        refused.append("once")

    before = shown(made)
    back_up(made, tmp_path / "another", meanwhile)
    assert refused
    assert shown(made) == before


def test_a_person_sees_how_far_it_is(made: Path, tmp_path: Path) -> None:
    """A bar on a terminal, and nothing of it elsewhere."""
    command = [sys.executable, "-m", "app.cli", "backup", str(made), str(tmp_path / "backup")]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    leader, follower = pty.openpty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, check=True)
    os.close(follower)
    assert b"backup" in os.read(leader, 1 << 16)
    os.close(leader)
    assert done.stdout.count(b"\n") == 1


def test_a_backup_of_another_version(made: Path, tmp_path: Path) -> None:
    assert ARCHIVE_VERSION == 1
    back_up(made, tmp_path / "backup")
    assert (tmp_path / "backup").read_bytes()[8:12] == bytes([1, 0, 3, 0])
