"""A database that does not answer: a clear error from everything, and all well when it answers again."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.errors import AccountsUnreachable, StoreUnusable
from storage.sql import database as account_database
from storage.sql.accounts import FILE_NAME, AccountStore, Quota
from storage.sql.audit import of_command
from tests.accounts.conftest import Place
from tests.accounts.support import bearer
from tests.postgresql import PostgreSQL

READS: tuple[Callable[[AccountStore], object], ...] = (
    lambda store: store.authenticate("evs_x"),
    lambda store: store.list_accounts(),
    lambda store: store.list_groups(),
    lambda store: store.list_tokens(),
    lambda store: store.quotas(),
    lambda store: store.journal.query(),
)
WRITES: tuple[Callable[[AccountStore], object], ...] = (
    lambda store: store.create_account(9, (9,)),
    lambda store: store.rename_account(7, "x"),
    lambda store: store.delete_account(7),
    lambda store: store.create_token(7),
    lambda store: store.revoke_token(1),
    lambda store: store.create_group(9),
    lambda store: store.add_member(7, 7),
    lambda store: store.remove_member(7, 7),
    lambda store: store.delete_group(7),
    lambda store: store.set_quota(7, Quota(spaces=1)),
    lambda store: store.journal.append([of_command("test", "")]),
    lambda store: store.journal.prune(datetime.now(UTC)),
)


def unreachable(store: AccountStore, calls: tuple[Callable[[AccountStore], object], ...]) -> None:
    """Each of the calls is refused, in one line."""
    for call in calls:
        with pytest.raises(AccountsUnreachable) as refused:
            call(store)
        assert refused.value.errno == "EIO"
        assert "\n" not in str(refused.value)


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server that the test may end."""
    server = PostgreSQL()
    try:
        yield server.start()
    finally:
        server.close()


def test_a_postgresql_that_ends_and_starts_again(own_postgresql: PostgreSQL) -> None:
    url = own_postgresql.url(own_postgresql.create())
    store = AccountStore(url)
    store.migrate()
    token = store.create_account(7, (7,), "ada")
    own_postgresql.stop()
    unreachable(store, READS + WRITES)
    with pytest.raises(StoreUnusable, match="cannot be opened"):
        store.migrate()
    own_postgresql.start()
    assert bearer(store, token).name == "ada"
    assert [entry.call for entry in store.journal.query()] == ["account create"]
    assert len(store.list_tokens()) == 1
    own_postgresql.stop()
    own_postgresql.start()  # connections that lie idle in the pool are dead: nobody notices
    assert bearer(store, token).name == "ada"
    store.rename_account(7, "Ada")
    store.close()


def test_a_file_that_is_gone_and_comes_back(tmp_path: Path, sqlite_template: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(sqlite_template.read_bytes())
    store = AccountStore(f"sqlite:///{file}")
    token = store.create_account(7, (7,), "ada")
    store.close()
    file.rename(tmp_path / "elsewhere")
    unreachable(store, READS + WRITES)
    with pytest.raises(AccountsUnreachable):
        store.data_version()
    assert not file.exists(), "an empty one would be worse than none"
    (tmp_path / "elsewhere").rename(file)
    assert bearer(store, token).name == "ada"
    assert store.data_version() is not None
    store.close()


def test_a_file_that_another_process_keeps_locked(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_database, "TIMEOUT_S", 0)
    file = tmp_path / FILE_NAME
    file.write_bytes(sqlite_template.read_bytes())
    store = AccountStore(f"sqlite:///{file}")
    token = store.create_account(7, (7,), "ada")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        unreachable(store, WRITES)
        assert bearer(store, token).name == "ada", "reading goes on"
        assert store.data_version() is not None
        other.execute("ROLLBACK")
    store.rename_account(7, "Ada")
    assert bearer(store, token).name == "Ada"
    store.close()


def test_a_table_that_another_process_keeps_locked(
    postgresql: PostgreSQL, postgresql_template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_database, "TIMEOUT_S", 1)
    place = Place("postgresql", postgresql.url(postgresql.create(postgresql_template)))
    store = AccountStore(place.url)
    token = store.create_account(7, (7,), "ada")
    engine = place.engine()
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM account_version FOR UPDATE")
        unreachable(store, WRITES[:1])
        store.journal.append([of_command("test", "waits for nobody")])
        assert bearer(store, token).name == "ada", "reading goes on"
    engine.dispose()
    store.rename_account(7, "Ada")
    assert bearer(store, token).name == "Ada"
    store.close()


def test_a_file_that_is_full(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is refused as a whole; what is there stays and can be read."""
    file = tmp_path / FILE_NAME
    file.write_bytes(sqlite_template.read_bytes())
    connect = sqlite3.connect

    def small(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", small)
    store = AccountStore(f"sqlite:///{file}")
    token = store.create_account(7, (7,), "ada")
    before = len(store.journal.query())
    with pytest.raises(AccountsUnreachable, match="full"):
        store.journal.append(of_command("test", "x" * 500) for _ in range(1000))
    assert len(store.journal.query()) == before
    assert bearer(store, token).name == "ada"
    store.close()


def test_tables_that_are_gone(accounts: AccountStore, place: Place) -> None:
    engine = place.engine()
    with engine.begin() as connection:
        for table in ("account_groups", "quotas", "tokens", "accounts", "groups", "audit", "account_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    engine.dispose()
    unreachable(accounts, READS + WRITES)
