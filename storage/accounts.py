"""Accounts and their tokens in SQL: SQLite beside the store by default, PostgreSQL by URL.

A token is shown once, when it is made; only its SHA-256 is kept. Any number of processes may use one database at a
time, so what a command line changes is seen by a running service at its next request.
"""

import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

import migrations
from storage.account_tables import NAME_LENGTH_MAX, AccountGroupRow, AccountRow, TokenRow
from storage.errors import AccountExists, AccountInvalid, AccountUnknown, StoreUnusable, TokenUnknown

FILE_NAME: Final = "accounts.sqlite"
PREFIX: Final = "evs_"
"""Every token starts with this, so that a scanner for leaked secrets can tell one."""
TOKEN_BYTES: Final = 32
ID_MAX: Final = 2**32 - 2
BUSY_TIMEOUT_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Account:
    """Who a token stands for; `gids[0]` is the primary group."""

    uid: int
    gids: tuple[int, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret; times are UTC."""

    id: int
    uid: int
    created: datetime
    revoked: datetime | None


class AccountStore:
    """Accounts at a SQLAlchemy `url`. Methods may be called from any thread, except `data_version`."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._watcher: PoolProxiedConnection | None = None

    @staticmethod
    def in_directory(data_dir: Path) -> "AccountStore":
        """The default: an SQLite file in the data directory, for its owner only. Raises StoreUnusable."""
        path = data_dir.resolve() / FILE_NAME
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreUnusable(f"the accounts cannot be opened: {path}: {error.strerror}") from error
        return AccountStore(f"sqlite:///{path}")

    def migrate(self) -> None:
        """Bring the tables to this release's shape. Raises StoreUnusable."""
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        try:
            with self._engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except DBAPIError as error:
            raise StoreUnusable(f"the accounts cannot be opened: {_cause(error)}") from error

    def create_account(self, uid: int, gids: Sequence[int], name: str | None = None) -> str:
        """A new account, and the first token of it. Raises AccountExists, AccountInvalid."""
        _require_valid(uid, gids, name)
        row = AccountRow(uid=uid, name=name or f"uid-{uid}", created=datetime.now(UTC))
        row.groups = [AccountGroupRow(position=position, gid=gid) for position, gid in enumerate(gids)]
        token, token_row = _new_token(uid)
        try:
            with Session(self._engine) as session, session.begin():
                session.add(row)
                session.flush()
                session.add(token_row)
        except IntegrityError:
            raise AccountExists(f"an account with uid {uid} exists") from None
        return token

    def create_token(self, uid: int) -> str:
        """One more token of an account. Raises AccountUnknown."""
        token, token_row = _new_token(uid)
        with Session(self._engine) as session, session.begin():
            if session.get(AccountRow, uid) is None:
                raise AccountUnknown(f"no account has uid {uid}")
            session.add(token_row)
        return token

    def revoke_token(self, token_id: int) -> None:
        """The token is refused from now on; to do it again changes nothing. Raises TokenUnknown."""
        with Session(self._engine) as session, session.begin():
            row = session.get(TokenRow, token_id)
            if row is None:
                raise TokenUnknown(f"no token has id {token_id}")
            if row.revoked is None:
                row.revoked = datetime.now(UTC)

    def list_accounts(self) -> list[Account]:
        """Every account, by uid."""
        with Session(self._engine) as session:
            return [_account(row) for row in session.scalars(select(AccountRow).order_by(AccountRow.uid))]

    def list_tokens(self) -> list[Token]:
        """Every token, revoked ones too, by id."""
        with Session(self._engine) as session:
            rows = session.scalars(select(TokenRow).order_by(TokenRow.id))
            return [Token(row.id, row.uid, row.created, row.revoked) for row in rows]

    def authenticate(self, token: str) -> Account | None:
        """The account that a token stands for, or None."""
        digest = _digest(token)
        with Session(self._engine) as session:
            row = session.scalar(select(TokenRow).where(TokenRow.digest == digest))
            if row is None or row.revoked is not None or not hmac.compare_digest(row.digest, digest):
                return None
            account = session.get(AccountRow, row.uid)
            return None if account is None else _account(account)

    def data_version(self) -> int | None:
        """A number that changes whenever anyone changed the accounts; None where the database has none.

        Always to be called from one and the same thread.
        """
        if self._engine.dialect.name != "sqlite":
            return None
        if self._watcher is None:
            self._watcher = self._engine.raw_connection()
        cursor = self._watcher.cursor()  # without SQLAlchemy in between: every request asks
        cursor.execute("PRAGMA data_version")
        (version,) = cursor.fetchone() or (0,)
        cursor.close()
        return int(version)

    def close(self) -> None:
        """Give all connections back."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        self._engine.dispose()


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    return engine


def _require_valid(uid: int, gids: Sequence[int], name: str | None) -> None:
    if not gids:
        raise AccountInvalid("an account needs at least one gid")
    if any(not 0 <= number <= ID_MAX for number in (uid, *gids)):
        raise AccountInvalid(f"uid and gids are 0 to {ID_MAX}")
    if len(set(gids)) != len(gids):
        raise AccountInvalid("a gid is named twice")
    if name is not None and (not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable()):
        raise AccountInvalid(f"a name is 1 to {NAME_LENGTH_MAX} printable characters")


def _new_token(uid: int) -> tuple[str, TokenRow]:
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    return token, TokenRow(uid=uid, digest=_digest(token), created=datetime.now(UTC))


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _account(row: AccountRow) -> Account:
    return Account(row.uid, tuple(group.gid for group in row.groups), row.name)


def _cause(error: DBAPIError) -> str:
    return str(error.orig).splitlines()[0] if error.orig is not None else type(error).__name__
