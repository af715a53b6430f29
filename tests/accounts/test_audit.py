"""The audit journal: what is in it, how it is asked, and that nobody changes it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage.errors import AccountError
from storage.sql.accounts import AccountStore, Quota
from storage.sql.audit import AuditEntry, AuditRecord
from tests.accounts.conftest import Place

T0 = datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
SECOND = timedelta(seconds=1)

REWRITING = {
    "all": [
        "UPDATE audit SET errno = 'EIO'",
        "UPDATE audit SET count = count WHERE id = 1",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 1",
    ],
    "sqlite": ["INSERT OR REPLACE INTO audit SELECT * FROM audit"],
    "postgresql": [
        "TRUNCATE audit",
        "MERGE INTO audit USING audit AS a ON audit.id = a.id WHEN MATCHED THEN UPDATE SET count = 2",
        "INSERT INTO audit SELECT * FROM audit ON CONFLICT (id) DO UPDATE SET count = 2",
    ],
}


def record(at: int = 0, **values: object) -> AuditRecord:
    """A record `at` seconds after T0."""
    given: dict[str, object] = {
        "time": T0 + at * SECOND, "uid": 7, "token_id": 3, "request_id": "r-1", "call": "vas_create",
        "target": "/v1/vas", "status": 201, "errno": None,
    }  # fmt: skip
    return AuditRecord(**given | values)  # type: ignore[arg-type]


def ids(entries: list[AuditEntry]) -> list[int]:
    return [entry.id for entry in entries]


def without_id(entry: AuditEntry) -> AuditRecord:
    names = AuditRecord.__dataclass_fields__
    return AuditRecord(**{name: getattr(entry, name) for name in names})


def test_what_is_appended_is_there_as_it_was_newest_first(accounts: AccountStore) -> None:
    records = [
        record(0),
        record(1, uid=None, token_id=None, call="", status=401, errno=None, target=""),
        record(2, status=403, errno="EACCES", count=17, until=T0 + 3 * SECOND),
        record(3, uid=2**32 - 2, token_id=2**31 - 1, count=2**40),
    ]
    accounts.journal.append(records[:2])
    accounts.journal.append([])
    accounts.journal.append(iter(records[2:]))
    found = accounts.journal.query()
    assert [without_id(entry) for entry in found] == records[::-1]
    assert ids(found) == sorted(ids(found), reverse=True)


def test_times_of_any_zone_are_kept_as_utc(accounts: AccountStore, place: Place) -> None:
    if place.kind == "postgresql":
        engine = place.engine()
        with engine.begin() as connection:
            connection.execute(
                text(f"ALTER DATABASE \"{engine.url.database}\" SET timezone = 'Asia/Kolkata'")
            )
        engine.dispose()
    tokyo = timezone(timedelta(hours=9))
    accounts.journal.append([record(time=T0.astimezone(tokyo), until=T0.astimezone(tokyo) + SECOND)])
    (entry,) = accounts.journal.query()
    assert (entry.time, entry.until) == (T0, T0 + SECOND)
    assert entry.time.utcoffset() == timedelta(0)
    assert ids(accounts.journal.query(since=T0.astimezone(tokyo))) == [entry.id]
    assert accounts.journal.query(until=T0.astimezone(tokyo)) == []


def test_questions(accounts: AccountStore) -> None:
    accounts.journal.append(
        [
            record(0, uid=7, call="vas_create"),
            record(1, uid=8, call="vas_create", errno="EACCES"),
            record(2, uid=7, call="vas_delete", errno="EACCES"),
            record(3, uid=None, call="vas_delete"),
        ]
    )
    one, two, three, four = reversed(ids(accounts.journal.query()))
    query = accounts.journal.query
    assert ids(query(uid=7)) == [three, one]
    assert ids(query(call="vas_delete")) == [four, three]
    assert ids(query(errno="EACCES")) == [three, two]
    assert ids(query(since=T0 + SECOND)) == [four, three, two]
    assert ids(query(until=T0 + 3 * SECOND)) == [three, two, one]
    assert ids(query(since=T0 + SECOND, until=T0 + 2 * SECOND)) == [two]
    assert ids(query(uid=7, call="vas_delete", errno="EACCES", since=T0, until=T0 + 9 * SECOND)) == [three]
    assert ids(query(limit=2)) == [four, three]
    assert ids(query(limit=2, after=three)) == [two, one]
    assert ids(query(limit=2, after=one)) == []
    assert ids(query(limit=0)) == []


def test_pages_are_the_whole_and_stay_so_while_it_grows(accounts: AccountStore) -> None:
    accounts.journal.append(record(at) for at in range(25))
    whole = ids(accounts.journal.query())
    pages: list[int] = []
    while page := ids(accounts.journal.query(limit=10, after=pages[-1] if pages else None)):
        pages += page
        accounts.journal.append([record(100)])
    assert pages == whole


def test_questions_that_nothing_answers(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.journal.append([record()])
    questions: list[dict[str, Any]] = [
        {"uid": -1}, {"uid": 2**200}, {"call": "a\0b"}, {"call": "\ud800"}, {"errno": "\0"}, {"call": "x" * 10_000},
        {"call": "' OR '1'='1"}, {"call": "%"}, {"after": 0}, {"after": -(2**200)},
        {"since": datetime.max.replace(tzinfo=UTC)}, {"until": datetime.min.replace(tzinfo=UTC)},
    ]  # fmt: skip
    for question in questions:
        with subtests.test(**question):
            assert accounts.journal.query(**question) == []


def test_a_cursor_beyond_all_entries(accounts: AccountStore) -> None:
    accounts.journal.append([record()])
    assert len(accounts.journal.query(after=2**200)) == 1


def test_texts_are_printable_and_no_longer_than_their_columns(accounts: AccountStore) -> None:
    accounts.journal.append(
        [
            record(request_id="r" * 1000, call="c" * 1000, target="t" * 10_000, errno="E" * 100),
            record(request_id="\0\ud800", call="a\nb", target="\x1b[31m" * 400, errno="\x7f"),
        ]
    )
    for entry in accounts.journal.query():
        for value, limit in (
            (entry.request_id, 128), (entry.call, 64), (entry.target, 512), (entry.errno or "", 16),
        ):  # fmt: skip
            assert value.isprintable()
            assert len(value) <= limit
    assert accounts.journal.query(call="a\nb")[0].call == "a\\nb"
    assert accounts.journal.query(call="c" * 1000)[0].call.endswith("…")


def test_the_database_refuses_changes(
    accounts: AccountStore, place: Place, subtests: pytest.Subtests
) -> None:
    """By triggers: whoever comes past the journal, with a tool of his own, is refused too."""
    accounts.journal.append([record(0), record(1)])
    before = accounts.journal.query()
    engine = place.engine()
    for statement in REWRITING["all"] + REWRITING[place.kind]:
        with (
            subtests.test(statement),
            pytest.raises(DBAPIError, match="append-only"),
            engine.begin() as connection,
        ):
            connection.execute(text(statement))
    engine.dispose()
    assert accounts.journal.query() == before


def test_pruning_removes_the_oldest_and_says_so(accounts: AccountStore, place: Place) -> None:
    accounts.journal.append(record(at) for at in range(4))
    kept = accounts.journal.query(since=T0 + 2 * SECOND)
    assert accounts.journal.prune(T0 + 2 * SECOND) == 2
    said, *rest = accounts.journal.query()
    assert rest == kept
    assert (said.call, said.uid, said.status, said.errno) == ("audit prune", None, 200, None)
    assert said.target == "2 entries from before 2026-05-01T12:00:02Z"
    engine = place.engine()
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text("DELETE FROM audit"))
    engine.dispose()


def test_ids_are_not_given_again_when_all_is_pruned(accounts: AccountStore) -> None:
    accounts.journal.append([record()])
    (last,) = accounts.journal.query()
    accounts.journal.prune(datetime.now(UTC) + SECOND)
    assert min(ids(accounts.journal.query())) > last.id
    assert accounts.journal.prune(datetime.min.replace(tzinfo=UTC)) == 0


def test_every_change_of_the_accounts_is_in_the_journal(accounts: AccountStore) -> None:
    accounts.create_account(7, (7,), "ada")
    token_id = accounts.list_tokens()[0].id
    accounts.rename_account(7, "Ada")
    accounts.create_token(7, scopes=["read"])
    accounts.revoke_token(token_id)
    accounts.create_group(70)
    accounts.add_member(70, 7)
    accounts.remove_member(70, 7)
    accounts.delete_group(70)
    accounts.set_quota(7, Quota(spaces=1))
    accounts.change_quota(7, {"spaces": None})
    accounts.delete_account(7)
    said = [(entry.call, entry.target) for entry in reversed(accounts.journal.query())]
    assert said == [
        ("account create", f'uid 7, token {token_id} gids=7 name="ada"'),
        ("account rename", 'uid 7 name="Ada"'),
        ("token create", f"uid 7, token {token_id + 1} scopes=read expires=never"),
        ("token revoke", f"uid 7, token {token_id}"),
        ("group create", 'gid 70 name="gid-70"'),
        ("group add", "gid 70, uid 7"),
        ("group remove", "gid 70, uid 7"),
        ("group delete", "gid 70"),
        ("quota set", "uid 7 spaces=1 segments=none bytes=none tasks=none rate=none"),
        ("quota set", "uid 7 spaces=none"),
        ("account delete", "uid 7"),
    ]
    for entry in accounts.journal.query():
        assert (entry.uid, entry.token_id, entry.status, entry.errno, entry.count) == (
            None, None, 200, None, 1,
        )  # fmt: skip


def test_a_change_that_is_refused_is_in_the_journal(accounts: AccountStore) -> None:
    accounts.create_account(7, (7,))
    refusals: list[tuple[Callable[[], object], str, int]] = [
        (lambda: accounts.create_account(7, (7,)), "EEXIST", 409),
        (lambda: accounts.create_account(2**200, (7,)), "EINVAL", 400),
        (lambda: accounts.create_token(9), "ENOENT", 404),
        (lambda: accounts.revoke_token(999), "ENOENT", 404),
        (lambda: accounts.remove_member(7, 7), "EBUSY", 409),
        (lambda: accounts.set_quota(7, Quota(rate=0)), "EINVAL", 400),
    ]
    for call, errno, status in refusals:
        version = accounts.data_version()
        with pytest.raises(AccountError):
            call()
        entry = accounts.journal.query(limit=1)[0]
        assert (entry.errno, entry.status) == (errno, status)
        assert accounts.data_version() == version, "nothing has changed"
    assert len(accounts.journal.query()) == 1 + len(refusals)
