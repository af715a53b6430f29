"""The n-th statement of a change fails, for n = 1, 2, … until it succeeds: each time all is as before, journal included."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from storage.errors import AccountError, AccountsUnreachable
from storage.sql.accounts import AccountStore, Quota
from storage.sql.audit import of_command
from tests.accounts.conftest import Place

Change = Callable[[AccountStore], object]

CHANGES: dict[str, Change] = {
    "create": lambda store: store.create_account(9, (9, 70, 91)),
    "create again": lambda store: store.create_account(7, (7,)),
    "rename": lambda store: store.rename_account(7, "other"),
    "delete": lambda store: store.delete_account(7),
    "token": lambda store: store.create_token(7, scopes=["read"]),
    "revoke": lambda store: store.revoke_token(1),
    "revoke none": lambda store: store.revoke_token(999),
    "group": lambda store: store.create_group(99),
    "add": lambda store: store.add_member(71, 7),
    "remove": lambda store: store.remove_member(70, 7),
    "delete group": lambda store: store.delete_group(70),
    "quota": lambda store: store.set_quota(7, Quota(tasks=1)),
    "lift": lambda store: store.set_quota(7, Quota()),
    "append": lambda store: store.journal.append(of_command("test", str(part)) for part in range(3)),
    "prune": lambda store: store.journal.prune(datetime(2099, 1, 1, tzinfo=UTC)),
}


class Faults:
    """Fails the n-th statement or commit of a store's connections."""

    def __init__(self, store: AccountStore) -> None:
        self.left = 0
        """Statements until the failure; 0 for none."""
        engine = store.journal._database.reading
        event.listen(engine, "before_cursor_execute", self._statement)
        event.listen(engine, "commit", self._commit)

    def _statement(self, _: Connection, __: Any, statement: str, *rest: Any) -> None:
        self._count(statement)

    def _commit(self, _: Connection) -> None:
        self._count("COMMIT")

    def _count(self, statement: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise OperationalError(statement, None, OSError(f"planned failure of {statement:.40}"))


def all_of(store: AccountStore) -> tuple[object, ...]:
    return (
        store.list_accounts(), store.list_groups(), store.list_tokens(), store.quotas(), store.journal.query(),
        store.data_version(),
    )  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_fails_anywhere_is_no_change(
    name: str, accounts: AccountStore, place: Place, opened: Callable[[Place], AccountStore]
) -> None:
    accounts.create_account(7, (7, 70), "ada")
    accounts.create_group(71)
    accounts.set_quota(7, Quota(spaces=1))
    other = opened(place)
    faults = Faults(accounts)
    before = all_of(other)
    for statement in range(1, 100):
        faults.left = statement
        try:
            CHANGES[name](accounts)
        except AccountsUnreachable:
            assert all_of(other) == before, f"statement {statement}"
            continue
        except AccountError:
            assert name in ("create again", "revoke none")
        break
    faults.left = 0
    assert statement > 2, "every change is several statements"
    assert all_of(other) != before
    assert all_of(accounts)[:-1] == all_of(other)[:-1]
