"""Accounts in a file: whose it is, how it is written, and how a change by another process is noticed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.errors import StoreUnusable
from storage.sql.accounts import FILE_NAME, AccountStore
from storage.sql.audit import of_command
from tests.accounts.conftest import Place


@pytest.fixture
def place(tmp_path: Path, sqlite_template: Path) -> Place:
    (tmp_path / FILE_NAME).write_bytes(sqlite_template.read_bytes())
    return Place("sqlite", f"sqlite:///{tmp_path / FILE_NAME}")


@pytest.mark.parametrize("by_url", [False, True])
def test_the_file_is_its_owners_only(tmp_path: Path, by_url: bool) -> None:
    store = (
        AccountStore(f"sqlite:///{tmp_path / FILE_NAME}") if by_url else AccountStore.in_directory(tmp_path)
    )
    store.migrate()
    store.create_account(7, (7,))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{FILE_NAME}*")} == {0o600}
    store.close()


def test_the_secret_is_not_in_the_files(accounts: AccountStore, tmp_path: Path) -> None:
    token = accounts.create_account(7, (7,))
    kept = b"".join(path.read_bytes() for path in tmp_path.glob(f"{FILE_NAME}*"))
    accounts.close()
    kept += (tmp_path / FILE_NAME).read_bytes()
    assert token.removeprefix("evs_").encode() not in kept


def test_a_directory_of_any_name(tmp_path: Path) -> None:
    for name in ("a b", "50% ?x=1#y", "ü", "a&b;c"):
        directory = tmp_path / name
        directory.mkdir()
        store = AccountStore.in_directory(directory)
        store.migrate()
        token = store.create_account(7, (7,))
        assert store.authenticate(token) is not None
        store.close()
        assert {path.name for path in directory.iterdir()} == {FILE_NAME}


def test_a_change_by_another_process_is_noticed_at_once(accounts: AccountStore, place: Place) -> None:
    before = accounts.data_version()
    assert accounts.data_version() == before
    other = AccountStore(place.url)
    token = other.create_account(7, (7,))
    after = accounts.data_version()
    assert after != before
    assert accounts.authenticate(token) is not None
    other.create_group(70)
    other.add_member(70, 7)
    assert accounts.data_version() != after
    other.close()
    now = accounts.data_version()
    accounts.create_token(7)
    assert accounts.data_version() != now


def test_what_is_only_in_the_journal_is_no_change(accounts: AccountStore, place: Place) -> None:
    """So that what the service remembers of tokens outlives the entries that it makes itself."""
    before = accounts.data_version()
    other = AccountStore(place.url)
    other.journal.append([of_command("test", "")])
    accounts.journal.append([of_command("test", "")])
    other.close()
    assert accounts.data_version() == before


def test_a_file_that_is_no_database_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    store = AccountStore.in_directory(tmp_path)
    with pytest.raises(StoreUnusable) as refused:
        store.migrate()
    assert "\n" not in str(refused.value)
    store.close()


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "sqlite:////dev/null/x", "mysql://x/y", "oracle://x",
     "no_such_thing://x", "sqlite:///x?mode=ro", "postgresql+no_such_driver://x/y"],
)  # fmt: skip
def test_what_is_no_url_of_accounts(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreUnusable) as refused:
        AccountStore(url)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_url_with_a_password_is_not_repeated() -> None:
    for url in ("u:change-me@h", "mysql://u:change-me@h/x", "postgresql+none://u:change-me@h/x"):
        with pytest.raises(StoreUnusable) as refused:
            AccountStore(url)
        assert "change-me" not in str(refused.value)


def test_the_file_is_in_write_ahead_mode(accounts: AccountStore, tmp_path: Path) -> None:
    accounts.create_account(7, (7,))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (1,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
