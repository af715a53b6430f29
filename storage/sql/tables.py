"""Tables of the accounts as SQLAlchemy models. migrations/ makes them; a test compares the two."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, Integer, LargeBinary, String, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

REVISION: Final = "2026_11_21_quotas_and_audit"
"""Of the newest migration: the shape that these models describe."""
DIGEST_BYTES: Final = 32
"""Of the SHA-256 of a token. Tokens are random and long, so that no slower hash is needed."""
NAME_LENGTH_MAX: Final = 255
SCOPES_LENGTH_MAX: Final = 64
REQUEST_ID_LENGTH_MAX: Final = 128
CALL_LENGTH_MAX: Final = 64
TARGET_LENGTH_MAX: Final = 512
ERRNO_LENGTH_MAX: Final = 16

SerialNumber = BigInteger().with_variant(Integer(), "sqlite")
"""Given by the database; SQLite counts only what it calls INTEGER."""
NEVER_AGAIN: Final = {"sqlite_autoincrement": True}
"""The number of a row that is gone is not given to another one: the journal names tokens by theirs."""


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone on every database; SQLite by itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC back; PostgreSQL gives the zone of its session."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Root of the models."""


class VersionRow(Base):
    """One row, whose number grows with every change of the accounts; whoever changes them holds its lock."""

    __tablename__ = "account_version"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class AccountRow(Base):
    """An account: a uid that tokens stand for."""

    __tablename__ = "accounts"

    uid: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    groups: Mapped[list["AccountGroupRow"]] = relationship(
        order_by="AccountGroupRow.position", cascade="all, delete-orphan", lazy="selectin"
    )
    quota: Mapped["QuotaRow | None"] = relationship(cascade="all, delete-orphan", lazy="joined")


class GroupRow(Base):
    """A group: a gid with a name for people."""

    __tablename__ = "groups"

    gid: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class AccountGroupRow(Base):
    """A group of an account; position 0 is the primary group."""

    __tablename__ = "account_groups"

    uid: Mapped[int] = mapped_column(ForeignKey("accounts.uid", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    gid: Mapped[int] = mapped_column(ForeignKey("groups.gid"))


class TokenRow(Base):
    """A token: only its digest is kept. A revoked one stays listed."""

    __tablename__ = "tokens"
    __table_args__ = NEVER_AGAIN

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[int] = mapped_column(ForeignKey("accounts.uid", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(DIGEST_BYTES), unique=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)
    scopes: Mapped[str] = mapped_column(String(SCOPES_LENGTH_MAX), server_default="audit read write")
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)


class QuotaRow(Base):
    """The limits of an account that has any; NULL is without a limit."""

    __tablename__ = "quotas"

    uid: Mapped[int] = mapped_column(
        ForeignKey("accounts.uid", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    spaces: Mapped[int | None] = mapped_column(BigInteger)
    segments: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    tasks: Mapped[int | None] = mapped_column(BigInteger)
    rate: Mapped[int | None] = mapped_column(BigInteger)


class AuditRow(Base):
    """An entry of the journal. Triggers refuse to change or remove it; it outlives the account that it names."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_uid", "uid", "id"), Index("ix_audit_time", "time"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(SerialNumber, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    uid: Mapped[int | None] = mapped_column(BigInteger)
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    request_id: Mapped[str] = mapped_column(String(REQUEST_ID_LENGTH_MAX))
    call: Mapped[str] = mapped_column(String(CALL_LENGTH_MAX))
    target: Mapped[str] = mapped_column(String(TARGET_LENGTH_MAX))
    status: Mapped[int]
    errno: Mapped[str | None] = mapped_column(String(ERRNO_LENGTH_MAX))
    count: Mapped[int] = mapped_column(BigInteger)


class AuditPruningRow(Base):
    """While a row stands here, entries from before its time may be removed. It never outlives a transaction."""

    __tablename__ = "audit_pruning"

    before: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
