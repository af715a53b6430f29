"""Restoring: nothing that is damaged, nothing over what is there unless told so, and all of it at one moment."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from xxhash import xxh3_128_digest

from engine.geometry import TOY
from storage import open_store
from storage.directory import RESTORED, STORE_FILE
from storage.errors import BackupDamaged, DataDirInUse, StoreFailed, StoreUnusable
from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE, fail_at
from storage.upkeep.archive import _BLOCK, END, HEADER_BYTES
from storage.upkeep.backup import back_up
from storage.upkeep.fsck import check_dir
from storage.upkeep.repair import repair
from storage.upkeep.restoring import RESTORING, restore, verify
from tests.storage.test_backup import fill, shown

SEAMS = [name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith("restore.")]


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of a small directory that is there no more."""
    fill(tmp_path / "source")
    (tmp_path / "source" / "accounts.sqlite").unlink()
    back_up(tmp_path / "source", tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def with_accounts(tmp_path: Path) -> Path:
    fill(tmp_path / "source")
    back_up(tmp_path / "source", tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A data directory with something else in it."""
    open_store(tmp_path / "other", TOY).close()
    (tmp_path / "other" / "accounts.sqlite-wal").write_text("of other accounts")
    (tmp_path / "other" / "root.token").write_text("evs_other")
    return tmp_path / "other"


def refused(damaged: bytes, path: Path, text: str | None = None) -> None:
    """Neither verified nor restored, and nothing is left."""
    path.write_bytes(damaged)
    with pytest.raises(BackupDamaged, match=text):
        verify(path)
    with pytest.raises(BackupDamaged, match=text):
        restore(path, path.parent / "target")
    assert not (path.parent / "target").exists()


# --- damage


def test_every_flipped_byte_is_found(backup: Path) -> None:
    whole = backup.read_bytes()
    rng = random.Random(1)
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.randrange(8)
        backup.write_bytes(flipped)
        with pytest.raises(BackupDamaged):
            verify(backup)
    backup.write_bytes(whole)
    verify(backup)


def test_damage_to_any_part_restores_nothing(with_accounts: Path) -> None:
    whole = with_accounts.read_bytes()
    for position in range(0, len(whole), len(whole) // 60):
        refused(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :], with_accounts)


def test_a_backup_that_is_cut_or_goes_on(backup: Path) -> None:
    whole = backup.read_bytes()
    for length in (0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 7, len(whole) // 2, len(whole) - 1):
        refused(whole[:length], backup, "is not a backup of Everspace|it ends in the middle")
    refused(whole + b"\0", backup, "something follows its end")
    refused(whole + whole, backup, "something follows its end")
    refused(b"Dear Sir or Madam, " * 10, backup, "is not a backup of Everspace")


def blocks(whole: bytes) -> list[bytes]:
    """The blocks of a backup."""
    found: list[bytes] = []
    at = HEADER_BYTES
    while at < len(whole):
        end = at + _BLOCK.size + _BLOCK.unpack_from(whole, at)[1] + 16
        found.append(whole[at:end])
        at = end
    return found


def sealed(head: bytes, parts: list[bytes]) -> bytes:
    """A backup of these blocks, each with the checksum that it should have."""
    last = head[-16:]
    written = [head]
    for number, part in enumerate(parts):
        kind, length, _ = _BLOCK.unpack_from(part)
        start = _BLOCK.pack(kind, length, number) + part[_BLOCK.size : -16]
        last = xxh3_128_digest(last + start)
        written.append(start + last)
    return b"".join(written)


def test_blocks_out_of_place(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    head, parts = whole[:HEADER_BYTES], blocks(whole)
    assert sealed(head, parts) == whole
    for number in range(len(parts) - 1):
        refused(head + b"".join(parts[:number] + parts[number + 1 :]), backup)
        refused(head + b"".join([*parts[:number], parts[number], *parts[number:]]), backup)
    fill(tmp_path / "another")
    back_up(tmp_path / "another", tmp_path / "backup 2")
    refused(head + b"".join([*parts[:-1], blocks((tmp_path / "backup 2").read_bytes())[-1]]), backup)


def test_a_backup_that_was_made_up(backup: Path) -> None:
    """Good checksums of blocks do not help: rows have their own, numbers must agree, rows must be there."""
    whole = backup.read_bytes()
    head, parts = whole[:HEADER_BYTES], blocks(whole)
    changed = [parts[0].replace(b"c" * 16, b"c" * 15 + b"x"), *parts[1:]]
    assert changed != parts
    refused(sealed(head, changed), backup, "the row of log .* is damaged")
    refused(sealed(head, [part for part in parts if part[0] != END]), backup, "ends in the middle")
    refused(sealed(head, [*parts[:-2], parts[-1]]), backup, "another number of rows")
    refused(sealed(head, [*parts[:-1], bytes([9]) + parts[-2][1:], parts[-1]]), backup, "kind 9")
    refused(sealed(head, parts[1:]), backup)


# --- over what is there


def test_not_over_existing_data_unless_told(with_accounts: Path, tmp_path: Path, other: Path) -> None:
    before = {entry.name: entry.read_bytes() for entry in other.iterdir() if entry.name != "lock"}
    with pytest.raises(StoreUnusable, match=r"is not empty, it has .*: --force replaces what is there"):
        restore(with_accounts, other)
    assert {entry.name: entry.read_bytes() for entry in other.iterdir() if entry.name != "lock"} == before
    restore(with_accounts, other, force=True)
    assert shown(other) == shown(tmp_path / "source")
    assert not (other / "accounts.sqlite-wal").exists()
    assert (other / "root.token").read_text() == "evs_other"


def test_an_empty_directory_is_no_data(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    restore(backup, tmp_path / "empty")
    assert list(check_dir(tmp_path / "empty")) == []
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one").write_text("Dear")
    with pytest.raises(StoreUnusable, match=r"is not empty, it has one"):
        restore(backup, tmp_path / "letters")
    assert [entry.name for entry in (tmp_path / "letters").iterdir()] == ["one"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="is not a directory"):
        restore(backup, tmp_path / "file")
    restore(backup, tmp_path / "deep" / "down")


def test_not_under_a_service(backup: Path, other: Path) -> None:
    store = open_store(other, TOY)
    with pytest.raises(DataDirInUse, match="in use by process"):
        restore(backup, other, force=True)
    store.close()


def test_a_backup_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="No such file or directory"):
        restore(tmp_path / "missing", tmp_path / "data")
    assert not (tmp_path / "data").exists()


# --- cut short


@pytest.mark.parametrize(("name", "passage"), [*((name, 1) for name in SEAMS), ("restore.moved", 2)])
def test_killed_at_a_seam(with_accounts: Path, tmp_path: Path, other: Path, name: str, passage: int) -> None:
    before = shown_raw(other)
    script = f"from storage.upkeep.restoring import restore; restore({str(with_accounts)!r}, {str(other)!r}, force=True)"
    environment = {**os.environ, VARIABLE: f"{name}:{passage}"}
    process = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert process.returncode == -signal.SIGKILL
    if name in FAILPOINTS:
        assert shown_raw(other) == before
        if name != "restore.begin":
            assert (other / RESTORING / STORE_FILE).exists()
        assert list(repair(other)) == ["what an unfinished restore had left was removed"]
        assert not (other / RESTORING).exists()
        restore(with_accounts, other, force=True)
    else:
        assert (other / RESTORED).exists()
        assert list(check_dir(other)) == []
    assert not (other / RESTORED).exists()
    assert shown(other) == shown(tmp_path / "source")


def shown_raw(data_dir: Path) -> object:
    return {
        entry.name: entry.read_bytes()
        for entry in data_dir.iterdir()
        if entry.is_file() and entry.name != "lock"
    }


@pytest.mark.parametrize(
    "opening", [lambda path: open_store(path, TOY).close(), lambda path: back_up(path, path.parent / "b")]
)
def test_whoever_opens_next_completes_it(
    with_accounts: Path, tmp_path: Path, opening: Callable[[Path], object]
) -> None:
    """Also where there was no store before: the directory counts as a data directory from the moment on."""
    script = f"from storage.upkeep.restoring import restore; restore({str(with_accounts)!r}, {str(tmp_path / 'new')!r})"
    environment = {**os.environ, VARIABLE: "restore.committed"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert not (tmp_path / "new" / STORE_FILE).exists()
    opening(tmp_path / "new")
    assert shown(tmp_path / "new") == shown(tmp_path / "source")


def test_accounts_made_after_it_are_not_lost(with_accounts: Path, tmp_path: Path, other: Path) -> None:
    """Commands about accounts do not claim the directory, yet must not change accounts that are about to be replaced."""
    script = f"from storage.upkeep.restoring import restore; restore({str(with_accounts)!r}, {str(other)!r}, force=True)"
    environment = {**os.environ, VARIABLE: "restore.committed"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    command = [sys.executable, "-m", "app.cli", "account"]
    place = ["--data-dir", str(other)]
    subprocess.run(
        [*command, "create", *place, "--uid", "7", "--gid", "7"], check=True, stdout=subprocess.DEVNULL
    )
    open_store(other, TOY).close()
    listed = subprocess.run([*command, "list", *place], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["UID", "7", "1000"]


def test_the_nth_seam_fails(with_accounts: Path, tmp_path: Path, other: Path) -> None:
    passages = sum(name in FAILPOINTS for name in SEAMS)
    before = shown_raw(other)
    for passage in range(1, passages + 2):
        for target in (tmp_path / "new", other):
            with fail_at(passage, StoreFailed("made to fail")):
                try:
                    restore(with_accounts, target, force=True)
                except StoreFailed:
                    assert not (tmp_path / "new").exists()
                    assert shown_raw(other) == before
                    assert not (other / RESTORING).exists()
                    continue
            assert passage == passages + 1
            assert shown(target) == shown(tmp_path / "source")
