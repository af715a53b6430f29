"""Migrations: from every shape that a release has had, up to this release's and down again, with data, on each database."""

import gzip
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, bindparam, inspect, text
from sqlalchemy.types import DateTime

import migrations
from storage.errors import StoreUnusable
from storage.sql.accounts import FILE_NAME, SCOPES, Account, AccountStore, Quota
from storage.sql.database import AccountDatabase
from storage.sql.tables import REVISION, Base
from tests.accounts.conftest import Place

Opened = Callable[[Place], AccountStore]
FIRST = "2026_11_21_accounts"
HOLDING, REVOKED = "evs_holding", "evs_revoked"
THEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return made


REVISIONS = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()]


def to(place: Place, revision: str, run: Callable[[Config, str], None] = command.upgrade) -> None:
    """Bring a database up, or with command.downgrade down, to a revision."""
    database = AccountDatabase(place.url)
    with database.writing.begin() as connection:
        made = config()
        made.attributes["connection"] = connection
        run(made, revision)
    database.close()


def execute(place: Place, *statements: str, **values: object) -> list[Any]:
    """Run statements; the rows of the last."""
    database = AccountDatabase(place.url)
    with database.writing.begin() as connection:
        rows = [_execute(connection, statement, values) for statement in statements][-1]
    database.close()
    return rows


def _execute(connection: Connection, statement: str, values: dict[str, object]) -> list[Any]:
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    times = [bindparam(name, type_=DateTime(timezone=True)) for name in ("then",) if name in used]
    result = connection.execute(text(statement).bindparams(*times), used)
    return list(result) if result.returns_rows else []


def fill_first(place: Place) -> None:
    """What the first release keeps of two accounts, one of them with a revoked token and two groups."""
    execute(
        place,
        "INSERT INTO accounts (uid, name, created) VALUES (7, 'ada', :then), (4294967294, 'last', :then)",
        "INSERT INTO account_groups (uid, position, gid) VALUES (7, 0, 71), (7, 1, 70), (4294967294, 0, 71)",
        "INSERT INTO tokens (uid, digest, created) VALUES (7, :holding, :then)",
        "INSERT INTO tokens (uid, digest, created, revoked) VALUES (7, :revoked, :then, :then)",
        then=THEN,
        holding=sha256(HOLDING.encode()).digest(),
        revoked=sha256(REVOKED.encode()).digest(),
    )


def holds_first(store: AccountStore) -> None:
    """All that `fill_first` made is there, with what later releases added to it."""
    assert store.list_accounts() == [Account(7, (71, 70), "ada"), Account(4294967294, (71,), "last")]
    grant = store.authenticate(HOLDING)
    assert grant is not None
    assert (grant.account.uid, grant.scopes, grant.expires) == (7, frozenset(SCOPES), None)
    assert store.authenticate(REVOKED) is None
    assert [(token.created, token.revoked) for token in store.list_tokens()] == [(THEN, None), (THEN, THEN)]
    assert [(group.gid, group.members) for group in store.list_groups()] == [
        (70, (7,)),
        (71, (7, 4294967294)),
    ]


def test_the_newest_revision_is_the_one_that_the_store_expects() -> None:
    assert REVISIONS[0] == REVISION
    assert REVISIONS[-1] == FIRST
    assert max(map(len, REVISIONS)) <= 32, "as PostgreSQL keeps it"


def test_the_migrations_make_what_the_models_say(place: Place, opened: Opened) -> None:
    engine = place.engine()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()
    opened(place).migrate()


@pytest.mark.parametrize("revision", REVISIONS)
def test_up_from_every_revision_with_data(empty: Place, opened: Opened, revision: str) -> None:
    to(empty, FIRST)
    fill_first(empty)
    to(empty, revision)
    store = opened(empty)
    store.migrate()
    holds_first(store)
    store.migrate()
    holds_first(store)
    token = store.create_token(7)
    assert store.authenticate(token) is not None
    store.set_quota(7, Quota(spaces=1))
    store.delete_account(7)
    assert len(store.list_tokens()) == 0
    assert len(store.journal.query()) == 3


def test_a_file_that_the_first_release_made(tmp_path: Path) -> None:
    """As it was left on a disk: with two tokens of "ada", the second revoked, and one of "last"."""
    kept = Path(__file__).parent / "formats" / f"{FIRST}.sqlite.gz"
    (tmp_path / FILE_NAME).write_bytes(gzip.decompress(kept.read_bytes()))
    store = AccountStore.in_directory(tmp_path)
    store.migrate()
    assert store.list_accounts() == [Account(7, (71, 70), "ada"), Account(4294967294, (71,), "last")]
    grants = [store.authenticate(token) for token in (HOLDING, REVOKED, "evs_last")]
    assert [grant and (grant.account.uid, grant.scopes) for grant in grants] == [
        (7, frozenset(SCOPES)), None, (4294967294, frozenset(SCOPES)),
    ]  # fmt: skip
    assert [group.gid for group in store.list_groups()] == [70, 71]
    store.set_quota(7, Quota(rate=1))
    store.delete_account(4294967294)
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_down_to_every_revision_and_up_again(empty: Place, opened: Opened, revision: str) -> None:
    to(empty, FIRST)
    fill_first(empty)
    to(empty, "head")
    store = opened(empty)
    store.set_quota(7, Quota(spaces=1))
    store.close()
    to(empty, revision, command.downgrade)
    found = execute(empty, "SELECT version_num FROM alembic_version")
    assert [tuple(row) for row in found] == [(revision,)]
    store = opened(empty)
    store.migrate()
    assert store.quotas() == ({7: Quota(spaces=1)} if revision == REVISION else {})
    store.set_quota(7, Quota())
    holds_first(store)


def test_down_to_nothing(empty: Place) -> None:
    to(empty, "head")
    to(empty, "base", command.downgrade)
    engine = empty.engine()
    assert set(inspect(engine).get_table_names()) <= {"alembic_version", "sqlite_sequence"}
    engine.dispose()
    to(empty, "head")


def test_a_release_without_scopes_and_expiry_does_not_get_tokens_that_have_them(
    place: Place, opened: Opened
) -> None:
    """A token that was to read only, or to end, would there be good for everything, for ever."""
    store = opened(place)
    whole = store.create_account(7, (7,))
    reading = store.create_token(7, scopes=["read"])
    ending = store.create_token(7, expires_in=timedelta(days=365))
    store.close()
    to(place, FIRST, command.downgrade)
    store = opened(place)
    store.migrate()
    assert store.authenticate(whole) is not None
    assert store.authenticate(reading) is None
    assert store.authenticate(ending) is None


def test_a_migration_that_fails_changes_nothing(empty: Place, opened: Opened) -> None:
    to(empty, FIRST)
    fill_first(empty)
    execute(empty, "CREATE TABLE audit_pruning (other INTEGER)")
    engine = empty.engine()
    before = {name: inspect(engine).get_columns(name) for name in inspect(engine).get_table_names()}
    store = opened(empty)
    with pytest.raises(StoreUnusable) as refused:
        store.migrate()
    assert "\n" not in str(refused.value)
    after = {name: inspect(engine).get_columns(name) for name in inspect(engine).get_table_names()}
    assert str(after) == str(before)
    assert [tuple(row) for row in execute(empty, "SELECT version_num FROM alembic_version")] == [(FIRST,)]
    execute(empty, "DROP TABLE audit_pruning")
    engine.dispose()
    store.migrate()
    holds_first(store)


def test_tables_of_a_newer_release_are_left_alone(place: Place, opened: Opened) -> None:
    execute(place, "UPDATE alembic_version SET version_num = '2030_01_01_later'")
    store = opened(place)
    with pytest.raises(StoreUnusable, match="newer release"):
        store.migrate()
    assert [tuple(row) for row in execute(place, "SELECT version_num FROM alembic_version")] == [
        ("2030_01_01_later",)
    ]


def test_alembics_own_command_line_works(empty: Place) -> None:
    made = config()
    made.set_main_option("sqlalchemy.url", empty.url)
    command.upgrade(made, "head")
    command.downgrade(made, "base")
    command.upgrade(made, "head")
    command.check(made)
