"""Accounts, groups, tokens and quotas in SQL: SQLite beside the store by default, PostgreSQL by URL.

A token is shown once, when it is made; only its SHA-256 is kept. Any number of processes may use one database at a
time, so what a command line changes is seen by a running service at its next request.
"""

import hmac
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import URL, bindparam, select
from sqlalchemy.orm import Session

from storage.sql.changes import PREFIX, TOKEN_BYTES, AccountChanges, digest_of, quota_of
from storage.sql.database import FILE_NAME, reaching
from storage.sql.tables import AccountGroupRow, AccountRow, GroupRow, QuotaRow, TokenRow
from storage.sql.values import SCOPES, Account, Grant, Group, Quota, Token

__all__ = [
    "FILE_NAME",
    "PREFIX",
    "SCOPES",
    "TOKEN_BYTES",
    "Account",
    "AccountStore",
    "Grant",
    "Group",
    "Quota",
    "Token",
]

_GRANTED: Final = (
    select(TokenRow.id, TokenRow.digest, TokenRow.scopes, TokenRow.expires)
    .add_columns(AccountRow.uid, AccountRow.name, AccountGroupRow.gid)
    .add_columns(QuotaRow.spaces, QuotaRow.segments, QuotaRow.bytes, QuotaRow.tasks, QuotaRow.rate)
    .join(AccountRow, AccountRow.uid == TokenRow.uid)
    .join(AccountGroupRow, AccountGroupRow.uid == TokenRow.uid)
    .outerjoin(QuotaRow, QuotaRow.uid == TokenRow.uid)
    .where(TokenRow.digest == bindparam("digest"), TokenRow.revoked.is_(None))
    .order_by(AccountGroupRow.position)
)
"""A token that is not revoked, with its account: a row for each group. One statement, since some ask at every request."""


class AccountStore(AccountChanges):
    """Accounts at a SQLAlchemy `url`: what is changed of them, and what is looked up.

    Methods may be called from any thread, except `data_version`. Each raises AccountsUnreachable when the database
    does not answer.
    """

    @staticmethod
    def in_directory(data_dir: Path, *, create: bool = True) -> "AccountStore":
        """The default: an SQLite file in the data directory, for its owner only. Raises StoreUnusable."""
        url = URL.create("sqlite", database=str(data_dir.resolve() / FILE_NAME))
        return AccountStore(url, create=create)

    def migrate(self) -> None:
        """Bring the tables to this release's shape. Raises StoreUnusable."""
        self._database.migrate()

    def list_accounts(self) -> list[Account]:
        """Every account, by uid."""
        with reaching(), Session(self._database.reading) as session:
            return [_account(row) for row in session.scalars(select(AccountRow).order_by(AccountRow.uid))]

    def list_groups(self) -> list[Group]:
        """Every group, by gid."""
        with reaching(), Session(self._database.reading) as session:
            members: dict[int, list[int]] = {}
            for member in session.scalars(select(AccountGroupRow).order_by(AccountGroupRow.uid)):
                members.setdefault(member.gid, []).append(member.uid)
            rows = session.scalars(select(GroupRow).order_by(GroupRow.gid))
            return [Group(row.gid, row.name, tuple(members.get(row.gid, ()))) for row in rows]

    def list_tokens(self) -> list[Token]:
        """Every token, revoked ones too, by id."""
        with reaching(), Session(self._database.reading) as session:
            rows = session.scalars(select(TokenRow).order_by(TokenRow.id))
            return [
                Token(row.id, row.uid, row.created, row.revoked, frozenset(row.scopes.split()), row.expires)
                for row in rows
            ]

    def quotas(self) -> dict[int, Quota]:
        """The limits of all accounts that have any, by uid."""
        with reaching(), Session(self._database.reading) as session:
            return {row.uid: quota_of(row) for row in session.scalars(select(QuotaRow))}

    def authenticate(self, token: str) -> Grant | None:
        """What a token gives, or None: it is unknown, revoked or expired, or its account is gone."""
        digest = digest_of(token)
        with reaching(), self._database.asking.connect() as connection:
            rows = connection.execute(_GRANTED, {"digest": digest}).all()
        if not rows or not hmac.compare_digest(rows[0].digest, digest):
            return None
        row = rows[0]
        if row.expires is not None and row.expires <= datetime.now(UTC):
            return None
        account = Account(row.uid, tuple(each.gid for each in rows), row.name, quota_of(row))
        return Grant(account, row.id, frozenset(row.scopes.split()), row.expires)

    def data_version(self) -> int | None:
        """A number that changes whenever anyone changed the accounts; None where the database has none.

        Always to be called from one and the same thread.
        """
        return self._database.data_version()

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()


def _account(row: AccountRow) -> Account:
    return Account(row.uid, tuple(group.gid for group in row.groups), row.name, quota_of(row.quota))
