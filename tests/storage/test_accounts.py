"""Accounts and tokens: who is let in, and what is kept of the secret."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from storage.account_tables import Base
from storage.accounts import FILE_NAME, Account, AccountStore
from storage.errors import AccountExists, AccountInvalid, AccountUnknown, StoreUnusable, TokenUnknown


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[AccountStore]:
    store = AccountStore.in_directory(tmp_path)
    store.migrate()
    yield store
    store.close()


def bearer(accounts: AccountStore, token: str) -> Account:
    """Who a token stands for."""
    grant = accounts.authenticate(token)
    assert grant is not None
    return grant.account


def test_the_file_is_its_owners_only(accounts: AccountStore, tmp_path: Path) -> None:
    accounts.create_account(7, (7,))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{FILE_NAME}*")} == {0o600}


def test_a_token_stands_for_its_account(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (70, 71), "ada")
    other = accounts.create_account(8, (80,))
    assert bearer(accounts, token) == Account(7, (70, 71), "ada")
    assert bearer(accounts, other) == Account(8, (80,), "uid-8")
    assert [account.uid for account in accounts.list_accounts()] == [7, 8]


@pytest.mark.parametrize("token", ["", "evs_", "evs_unknown", "\ud800", "\0", "x" * 100_000])
def test_other_strings_are_nobody(accounts: AccountStore, token: str) -> None:
    accounts.create_account(7, (7,))
    assert accounts.authenticate(token) is None


def test_order_of_groups_is_kept(accounts: AccountStore) -> None:
    account = bearer(accounts, accounts.create_account(7, (9, 3, 5)))
    assert account.gids == (9, 3, 5)


def test_a_uid_is_given_once(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    with pytest.raises(AccountExists):
        accounts.create_account(7, (8,))
    assert accounts.list_accounts() == [Account(7, (7,), "uid-7")]
    assert len(accounts.list_tokens()) == 1
    assert accounts.authenticate(token) is not None


def test_tokens_of_nobody_are_not_made(accounts: AccountStore) -> None:
    with pytest.raises(AccountUnknown):
        accounts.create_token(7)
    assert accounts.list_tokens() == []


@pytest.mark.parametrize(
    ("uid", "gids", "name"),
    [
        (-1, (1,), None),
        (1, (), None),
        (2**32 - 1, (1,), None),
        (1, (-1,), None),
        (1, (2, 2), None),
        (1, (1,), "a\nb"),
    ],
)
def test_what_cannot_be_an_account_is_refused(
    accounts: AccountStore, uid: int, gids: tuple[int, ...], name: str | None
) -> None:
    with pytest.raises(AccountInvalid):
        accounts.create_account(uid, gids, name)
    assert accounts.list_accounts() == []


def test_a_revoked_token_is_refused_and_others_are_not(accounts: AccountStore) -> None:
    first = accounts.create_account(7, (7,))
    second = accounts.create_token(7)
    accounts.revoke_token(accounts.list_tokens()[0].id)
    assert accounts.authenticate(first) is None
    assert accounts.authenticate(second) is not None
    revoked_at = accounts.list_tokens()[0].revoked
    accounts.revoke_token(accounts.list_tokens()[0].id)
    assert accounts.list_tokens()[0].revoked == revoked_at
    with pytest.raises(TokenUnknown):
        accounts.revoke_token(99)


def test_the_secret_is_not_kept(accounts: AccountStore, tmp_path: Path) -> None:
    token = accounts.create_account(7, (7,))
    accounts.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob(f"{FILE_NAME}*"))
    assert token.removeprefix("evs_").encode() not in kept


def test_a_change_by_another_process_is_noticed_at_once(accounts: AccountStore, tmp_path: Path) -> None:
    before = accounts.data_version()
    assert accounts.data_version() == before
    other = AccountStore.in_directory(tmp_path)
    token = other.create_account(7, (7,))
    other.close()
    after = accounts.data_version()
    assert after != before
    assert accounts.authenticate(token) is not None
    accounts.create_token(7)
    assert accounts.data_version() != after


def test_concurrent_creators_get_one_account(accounts: AccountStore) -> None:
    def create(_: int) -> bool:
        try:
            accounts.create_account(7, (7,))
        except AccountExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 1
    assert len(accounts.list_tokens()) == 1


def test_the_migrations_make_what_the_models_say(accounts: AccountStore, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / FILE_NAME}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()
    accounts.migrate()


def test_a_file_that_is_no_database_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    store = AccountStore.in_directory(tmp_path)
    with pytest.raises(StoreUnusable) as refused:
        store.migrate()
    assert "\n" not in str(refused.value)
    store.close()


def test_the_file_is_in_write_ahead_mode(accounts: AccountStore, tmp_path: Path) -> None:
    accounts.create_account(7, (7,))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (1,)
