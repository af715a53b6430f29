"""The audit journal: who did or was refused what, with which result. It grows at its end and nothing in it changes.

Triggers of the database hold that. Only `prune` may remove entries, the oldest, and it leaves one that says so.
"""

import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import delete, insert, select

from storage.sql.database import AccountDatabase, reaching
from storage.sql.tables import (
    CALL_LENGTH_MAX,
    ERRNO_LENGTH_MAX,
    REQUEST_ID_LENGTH_MAX,
    TARGET_LENGTH_MAX,
    AuditPruningRow,
    AuditRow,
)
from storage.sql.values import ID_MAX
from storage.times import instant

ENTRY_ID_MAX: Final = 2**63 - 1
QUERY_MAX: Final = 1000
"""Entries of one answer."""
STATUSES: Final = {"EINVAL": 400, "EPERM": 403, "ENOENT": 404, "EEXIST": 409, "EBUSY": 409}
"""What HTTP has for the errors of commands, so that `status` has one meaning in the journal."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Something that was done or refused: `count` times with the same result, from `time` to `until` (UTC).

    `uid` and `token_id` are None where no token was accepted, and for commands of the administrator. `call` is an
    operation's id, or a command like "token revoke". `status` is HTTP's; `errno` None if it was done.
    """

    time: datetime
    uid: int | None
    token_id: int | None
    request_id: str
    call: str
    target: str
    status: int
    errno: str | None
    count: int = 1
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry(AuditRecord):
    """A record in the journal. Ids grow, and none is given twice."""

    id: int = field(kw_only=True)


class AuditJournal:
    """The journal in the database of the accounts. For any thread; every method raises AccountsUnreachable."""

    def __init__(self, database: AccountDatabase) -> None:
        self._database = database

    def append(self, records: Iterable[AuditRecord]) -> None:
        """Add records at the end, all or none. Texts are cut and made printable."""
        values = [row_values(record) for record in records]
        if values:
            with reaching(), self._database.writing.begin() as connection:
                connection.execute(insert(AuditRow), values)

    def query(
        self,
        *,
        uid: int | None = None,
        call: str | None = None,
        errno: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int | None = None,
        limit: int = QUERY_MAX,
    ) -> list[AuditEntry]:
        """At most `limit` entries, newest first: of `since` or later, before `until`, with ids below `after`."""
        if uid is not None and not 0 <= uid <= ID_MAX:
            return []
        wanted = select(AuditRow.__table__).order_by(AuditRow.id.desc()).limit(limit)
        for column, relation, given in (
            (AuditRow.uid, operator.eq, uid),
            (AuditRow.call, operator.eq, call and _text(call, CALL_LENGTH_MAX)),
            (AuditRow.errno, operator.eq, errno and _text(errno, ERRNO_LENGTH_MAX)),
            (AuditRow.time, operator.ge, since),
            (AuditRow.time, operator.lt, until),
            (AuditRow.id, operator.lt, after and max(0, min(after, ENTRY_ID_MAX))),
        ):
            if given is not None:
                wanted = wanted.where(relation(column, given))
        with reaching(), self._database.reading.connect() as connection:
            return [AuditEntry(**row) for row in connection.execute(wanted).mappings()]

    def prune(self, before: datetime) -> int:
        """Remove all entries from before a time, in one transaction with the entry that says so; their number."""
        with reaching(), self._database.writing.begin() as connection:
            connection.execute(insert(AuditPruningRow).values(before=before))
            gone = connection.execute(delete(AuditRow).where(AuditRow.time < before)).rowcount
            connection.execute(delete(AuditPruningRow))
            said = f"{gone} entries from before {instant(before)}"
            connection.execute(insert(AuditRow).values(row_values(of_command("audit prune", said))))
        return gone


def of_command(call: str, target: str, errno: str | None = None) -> AuditRecord:
    """A record of what the administrator did on this machine; instead of a request it names the system's user."""
    status = 200 if errno is None else STATUSES.get(errno, 500)
    return AuditRecord(datetime.now(UTC), None, None, f"os-uid-{os.getuid()}", call, target, status, errno)


def row_values(record: AuditRecord) -> dict[str, object]:
    """A record as the columns of AuditRow."""
    return {
        "time": record.time,
        "until": record.until,
        "uid": record.uid,
        "token_id": record.token_id,
        "request_id": _text(record.request_id, REQUEST_ID_LENGTH_MAX),
        "call": _text(record.call, CALL_LENGTH_MAX),
        "target": _text(record.target, TARGET_LENGTH_MAX),
        "status": record.status,
        "errno": None if record.errno is None else _text(record.errno, ERRNO_LENGTH_MAX),
        "count": record.count,
    }


def _text(given: str, length_max: int) -> str:
    """What every database takes and a terminal may show: printable, and no longer than its column."""
    if len(given) <= length_max and given.isprintable():
        return given
    shown = "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape", "surrogatepass").decode("ascii")
        for mark in given[:length_max]
    )
    return shown if len(shown) <= length_max and len(given) <= length_max else shown[: length_max - 1] + "…"
