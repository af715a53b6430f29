"""The database of the accounts: how it is opened, brought to its shape, watched, and what happens when it is gone."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from storage.errors import AccountsUnreachable, StoreUnusable
from storage.sql.tables import REVISION

FILE_NAME: Final = "accounts.sqlite"
TIMEOUT_S: Final = 10
"""How long a connection, a lock or an answer is waited for."""
MIGRATION_LOCK: Final = 0x65767300
"""PostgreSQL's number for the lock under which one process migrates and the others wait."""
WRITING: Final = "everspace_writing"

UNREACHABLE = (DBAPIError, PoolTimeout, sqlite3.Error)


class AccountDatabase:
    """Connections to the database at a SQLAlchemy `url`; for any thread. Raises StoreUnusable if it can be none.

    Transactions of `writing` exclude each other on SQLite from their beginning, so that none fails in its middle.
    `asking` is for single statements: PostgreSQL then needs neither BEGIN nor ROLLBACK.
    """

    def __init__(self, url: str | URL, *, create: bool = True) -> None:
        self._watcher: PoolProxiedConnection | None = None
        self._cursor: Any = None
        self._commits: int | None = None
        self._number = 0
        self.reading: Final[Engine] = _engine(url, create=create)
        self.writing: Final[Engine] = self.reading.execution_options(**{WRITING: True})
        self.is_sqlite: Final = self.reading.dialect.name == "sqlite"
        self.asking: Final[Engine] = (
            self.reading if self.is_sqlite else self.reading.execution_options(isolation_level="AUTOCOMMIT")
        )

    def migrate(self) -> None:
        """Bring the tables to this release's shape; at most one process does. Raises StoreUnusable."""
        try:
            with self.reading.connect() as connection:
                if _revision(connection) == REVISION:
                    return
            with self.writing.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
                _upgrade(connection)
        except UNREACHABLE as error:
            raise StoreUnusable(f"the accounts cannot be opened: {cause(error)}") from error

    def data_version(self) -> int | None:
        """The number in VersionRow, where asking costs next to nothing: on SQLite. Raises AccountsUnreachable.

        Always to be called from one and the same thread.
        """
        if not self.is_sqlite:
            return None
        try:  # without SQLAlchemy or anything else in between: every request asks
            if self._cursor is None:
                self._watcher = self.reading.raw_connection()
                self._cursor = self._watcher.cursor()
            ((commits,),) = self._cursor.execute("PRAGMA data_version").fetchall()
            if commits != self._commits:  # the journal grows more often than the number does
                ((self._number,),) = self._cursor.execute("SELECT number FROM account_version").fetchall()
                self._commits = commits
            return self._number
        except UNREACHABLE as error:
            raise _unreachable(error) from error

    def close(self) -> None:
        """Give all connections back."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = self._cursor = self._commits = None
        self.reading.dispose()


@contextlib.contextmanager
def reaching() -> Iterator[None]:
    """Whatever the database fails at inside is AccountsUnreachable."""
    try:
        yield
    except UNREACHABLE as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> AccountsUnreachable:
    return AccountsUnreachable(f"the accounts cannot be reached: {cause(error)}")


def cause(error: Exception) -> str:
    """The database's own words in one line, without statement or parameters."""
    said = str(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)
    return said.splitlines()[0] if said.strip() else type(error).__name__


def _engine(url: str | URL, *, create: bool) -> Engine:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind == "sqlite":
            return _sqlite(parsed, create=create)
        if kind == "postgresql":
            return _postgresql(parsed)
    except (ArgumentError, NoSuchModuleError):
        raise StoreUnusable("the URL of the accounts is not one of SQLAlchemy's") from None
    except ModuleNotFoundError as missing:
        raise StoreUnusable(f"the accounts need a driver that is not installed: {missing.name}") from None
    raise StoreUnusable(f"accounts are kept by sqlite or postgresql, not {kind}")


def _sqlite(url: URL, *, create: bool) -> Engine:
    """The file is made here, for its owner only, and not by a connection: a file that is gone is an error."""
    if not url.database or url.database == ":memory:" or url.query:
        raise StoreUnusable("accounts in SQLite need a file, and no options")
    path = Path(url.database).resolve()
    try:
        os.close(os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600))
    except OSError as error:
        raise StoreUnusable(f"the accounts cannot be opened: {path}: {error.strerror}") from error
    engine = create_engine(
        URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"}),
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": TIMEOUT_S},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    limits: dict[str, Any] = {"connect_timeout": TIMEOUT_S, "tcp_user_timeout": TIMEOUT_S * 1000}
    engine = create_engine(
        url,
        connect_args={name: limit for name, limit in limits.items() if name not in url.query},
        pool_pre_ping=True,
        pool_timeout=TIMEOUT_S,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = '{TIMEOUT_S}s'")
        cursor.close()
        connection.commit()

    return engine


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: Connection) -> None:
    """Alembic is loaded only when there is something to do: that takes longer than most commands."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import migrations

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _revision(connection)
    if found is not None and found not in known:
        raise StoreUnusable(f"the accounts are of a newer release: their shape is {found:.32}")
    command.upgrade(config, "head")
