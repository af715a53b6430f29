"""What an administrator changes: accounts, groups, tokens and quotas. Each change is in the audit journal.

A change and its entry are one transaction; a change that is refused has an entry too.
"""

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import URL, Row, delete, insert, select, update
from sqlalchemy.orm import Session

from storage.errors import (
    AccountError,
    AccountExists,
    AccountInvalid,
    AccountUnknown,
    GroupExists,
    GroupInUse,
    GroupUnknown,
    TokenUnknown,
)
from storage.sql.audit import AuditJournal, of_command, row_values
from storage.sql.database import AccountDatabase, reaching
from storage.sql.tables import (
    AccountGroupRow,
    AccountRow,
    AuditRow,
    GroupRow,
    QuotaRow,
    TokenRow,
    VersionRow,
)
from storage.sql.values import (
    ID_MAX,
    ROOT_UID,
    SCOPES,
    Quota,
    in_order,
    require_account,
    require_limits,
    require_name,
    scopes_text,
)
from storage.times import instant

PREFIX: Final = "evs_"
"""Every token starts with this, so that a scanner for leaked secrets can tell one."""
TOKEN_BYTES: Final = 32
TOKEN_ID_MAX: Final = 2**31 - 1
EXPIRY_MAX: Final = timedelta(days=36_500)


@dataclass
class _Change:
    """A change under way: its session, and what the journal says that it is about."""

    session: Session
    target: str


class AccountChanges:
    """Changes of the accounts at a SQLAlchemy `url`, from any thread. Each raises AccountsUnreachable.

    They exclude each other, whichever process makes them. A file of SQLite is made if absent, unless not to `create`.
    """

    def __init__(self, url: str | URL, *, create: bool = True) -> None:
        self._database = AccountDatabase(url, create=create)
        self.journal: Final = AuditJournal(self._database)

    def create_account(self, uid: int, gids: Sequence[int], name: str | None = None) -> str:
        """A new account, its groups where they are new, and its first token. Raises AccountExists, AccountInvalid."""
        given = f"gids={','.join(map(str, gids))} name={_quoted(name or f'uid-{uid}')}"
        with self._change("account create", f"uid {uid} {given}") as change:
            require_account(uid, gids, name)
            session = change.session
            if session.get(AccountRow, uid) is not None:
                raise AccountExists(f"an account with uid {uid} exists")
            now = datetime.now(UTC)
            for gid in gids:
                if session.get(GroupRow, gid) is None:
                    session.add(GroupRow(gid=gid, name=f"gid-{gid}", created=now))
            session.flush()
            row = AccountRow(uid=uid, name=name or f"uid-{uid}", created=now)
            row.groups = [AccountGroupRow(position=position, gid=gid) for position, gid in enumerate(gids)]
            session.add(row)
            session.flush()
            token, token_id = _add_token(session, uid, scopes_text(SCOPES), None)
            change.target = f"uid {uid}, token {token_id} {given}"
        return token

    def rename_account(self, uid: int, name: str) -> None:
        """Another name for people. Raises AccountInvalid, AccountUnknown."""
        with self._change("account rename", f"uid {uid} name={_quoted(name)}") as change:
            require_name(name)
            _account_row(change.session, uid).name = name

    def delete_account(self, uid: int) -> None:
        """The account and its tokens are gone; what it owns stays, and is its again if the uid is made again.

        Raises AccountInvalid for root, AccountUnknown.
        """
        with self._change("account delete", f"uid {uid}") as change:
            if uid == ROOT_UID:
                raise AccountInvalid("root cannot be deleted")
            change.session.delete(_account_row(change.session, uid))

    def create_token(
        self, uid: int, *, scopes: Iterable[str] = SCOPES, expires_in: timedelta | None = None
    ) -> str:
        """One more token of an account. Raises AccountUnknown, AccountInvalid."""
        wanted = frozenset(scopes)
        given = f"scopes={','.join(in_order(wanted))}"
        with self._change("token create", f"uid {uid} {given}") as change:
            _account_row(change.session, uid)
            expires = None
            if expires_in is not None:
                if not timedelta(0) < expires_in <= EXPIRY_MAX:
                    raise AccountInvalid(f"a token expires in the next {EXPIRY_MAX.days} days, or never")
                expires = datetime.now(UTC) + expires_in
            token, token_id = _add_token(change.session, uid, scopes_text(wanted), expires)
            change.target = f"uid {uid}, token {token_id} {given} expires={instant(expires) or 'never'}"
        return token

    def revoke_token(self, token_id: int) -> None:
        """The token is refused from now on; to do it again changes nothing. Raises TokenUnknown."""
        with self._change("token revoke", f"token {token_id}") as change:
            row = change.session.get(TokenRow, token_id) if 0 < token_id <= TOKEN_ID_MAX else None
            if row is None:
                raise TokenUnknown(f"no token has id {token_id}")
            change.target = f"uid {row.uid}, token {token_id}"
            if row.revoked is None:
                row.revoked = datetime.now(UTC)

    def create_group(self, gid: int, name: str | None = None) -> None:
        """A group without members. Raises GroupExists, AccountInvalid."""
        with self._change("group create", f"gid {gid} name={_quoted(name or f'gid-{gid}')}") as change:
            require_account(0, [gid], name)
            if change.session.get(GroupRow, gid) is not None:
                raise GroupExists(f"a group with gid {gid} exists")
            change.session.add(GroupRow(gid=gid, name=name or f"gid-{gid}", created=datetime.now(UTC)))

    def rename_group(self, gid: int, name: str) -> None:
        """Another name for people. Raises AccountInvalid, GroupUnknown."""
        with self._change("group rename", f"gid {gid} name={_quoted(name)}") as change:
            require_name(name)
            _group_row(change.session, gid).name = name

    def add_member(self, gid: int, uid: int) -> None:
        """The account is in the group from now on; to do it again changes nothing.

        Raises GroupUnknown, AccountUnknown.
        """
        with self._change("group add", f"gid {gid}, uid {uid}") as change:
            _group_row(change.session, gid)
            row = _account_row(change.session, uid)
            if gid not in [group.gid for group in row.groups]:
                position = 1 + max(group.position for group in row.groups)
                row.groups.append(AccountGroupRow(position=position, gid=gid))

    def remove_member(self, gid: int, uid: int) -> None:
        """The account is in the group no more. Raises GroupUnknown, AccountUnknown, GroupInUse for its primary group."""
        with self._change("group remove", f"gid {gid}, uid {uid}") as change:
            _group_row(change.session, gid)
            row = _account_row(change.session, uid)
            found = [group for group in row.groups if group.gid == gid]
            if not found:
                raise AccountUnknown(f"uid {uid} is not in the group {gid}")
            if found[0] is row.groups[0]:
                raise GroupInUse(f"{gid} is the primary group of uid {uid}")
            row.groups.remove(found[0])

    def delete_group(self, gid: int) -> None:
        """Nobody is in the group any more, and its name is gone. Raises GroupUnknown, GroupInUse."""
        with self._change("group delete", f"gid {gid}") as change:
            session = change.session
            _group_row(session, gid)
            primary = select(AccountGroupRow.uid).where(
                AccountGroupRow.gid == gid, AccountGroupRow.position == 0
            )
            uid = session.scalar(primary.limit(1))
            if uid is not None:
                raise GroupInUse(f"{gid} is the primary group of uid {uid}")
            session.execute(delete(AccountGroupRow).where(AccountGroupRow.gid == gid))
            session.execute(delete(GroupRow).where(GroupRow.gid == gid))

    def set_quota(self, uid: int, quota: Quota) -> None:
        """The limits of an account from now on. Raises AccountUnknown, AccountInvalid."""
        self.change_quota(uid, asdict(quota))

    def change_quota(self, uid: int, limits: Mapping[str, int | None]) -> Quota:
        """Other limits for an account, by their names in Quota, None to lift one; the rest stays.

        The whole quota as it is then. Raises AccountUnknown, AccountInvalid.
        """
        said = " ".join(f"{name}={'none' if limit is None else limit}" for name, limit in limits.items())
        with self._change("quota set", f"uid {uid} {said}") as change:
            if uid == ROOT_UID:
                raise AccountInvalid("root has no quota")
            require_limits(limits)
            account = _account_row(change.session, uid)
            row = account.quota or QuotaRow(uid=uid)
            for name, limit in limits.items():
                setattr(row, name, limit)
            quota = quota_of(row)
            account.quota = None if quota == Quota() else row
        return quota

    @contextlib.contextmanager
    def _change(self, call: str, target: str) -> Iterator[_Change]:
        """One change and its entry in the journal, both or neither. An AccountError inside is in the journal too.

        Changes exclude each other, by SQLite's write lock or by that of VersionRow.
        """
        try:
            with reaching(), Session(self._database.writing) as session, session.begin():
                session.execute(update(VersionRow).values(number=VersionRow.number + 1))
                change = _Change(session, target)
                yield change
                session.execute(insert(AuditRow), [row_values(of_command(call, change.target))])
        except AccountError as refused:
            self.journal.append([of_command(call, target, refused.errno)])
            raise


def _add_token(session: Session, uid: int, scopes: str, expires: datetime | None) -> tuple[str, int]:
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    row = TokenRow(
        uid=uid, digest=digest_of(token), created=datetime.now(UTC), scopes=scopes, expires=expires
    )
    session.add(row)
    session.flush()
    return token, row.id


def _account_row(session: Session, uid: int) -> AccountRow:
    row = session.get(AccountRow, uid) if 0 <= uid <= ID_MAX else None
    if row is None:
        raise AccountUnknown(f"no account has uid {uid}")
    return row


def _group_row(session: Session, gid: int) -> GroupRow:
    row = session.get(GroupRow, gid) if 0 <= gid <= ID_MAX else None
    if row is None:
        raise GroupUnknown(f"no group has gid {gid}")
    return row


def _quoted(name: str) -> str:
    """A name as the journal has it, so that nothing in it can be taken for what follows."""
    return json.dumps(name, ensure_ascii=False)


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def quota_of(row: QuotaRow | Row[Any] | None) -> Quota:
    """The limits in a row that has their columns; None is no limits."""
    return (
        Quota() if row is None else Quota(**{limit.name: getattr(row, limit.name) for limit in fields(Quota)})
    )
