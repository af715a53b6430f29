"""Tables of the accounts as SQLAlchemy models. migrations/ makes them; a test compares the two."""

from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, LargeBinary, String, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

DIGEST_BYTES = 32
"""Of the SHA-256 of a token. Tokens are random and long, so that no slower hash is needed."""
NAME_LENGTH_MAX = 255


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone on every database; SQLite by itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Root of the models."""


class AccountRow(Base):
    """An account: a uid that tokens stand for."""

    __tablename__ = "accounts"

    uid: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH_MAX))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    groups: Mapped[list["AccountGroupRow"]] = relationship(
        order_by="AccountGroupRow.position", cascade="all, delete-orphan", lazy="selectin"
    )


class AccountGroupRow(Base):
    """A group of an account; position 0 is the primary group."""

    __tablename__ = "account_groups"

    uid: Mapped[int] = mapped_column(ForeignKey("accounts.uid", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    gid: Mapped[int] = mapped_column(BigInteger)


class TokenRow(Base):
    """A token: only its digest is kept. A revoked one stays listed."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[int] = mapped_column(ForeignKey("accounts.uid", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(DIGEST_BYTES), unique=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)
