"""Tokens: which hold, for how long and for what, and that nothing but a digest is kept of one."""

from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256

import pytest
from sqlalchemy import text

from storage.errors import AccountInvalid, AccountUnknown, TokenUnknown
from storage.sql import accounts as accounts_module
from storage.sql.accounts import SCOPES, AccountStore
from tests.accounts.conftest import Place

YEAR = timedelta(days=365)


class Clock:
    """Stands in for `datetime` in the store: time that the test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self, zone: tzinfo) -> datetime:
        return datetime.now(zone) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(accounts_module, "datetime", made)
    return made


def test_other_strings_are_nobody(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    for token in ("", "evs_", "evs_unknown", "\ud800", "\0", "x" * 100_000, "' OR 1=1 --", "%", "evs_%"):
        with subtests.test(token=token[:20]):
            assert accounts.authenticate(token) is None


def test_what_is_nearly_a_token_is_nobody(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    for near in (token[:-1], token + "A", token.swapcase(), token.upper(), f" {token}", token + "\0"):
        assert accounts.authenticate(near) is None, near
    assert accounts.authenticate(token) is not None


def test_tokens_of_nobody_are_not_made(accounts: AccountStore) -> None:
    with pytest.raises(AccountUnknown):
        accounts.create_token(7)
    assert accounts.list_tokens() == []


def test_a_revoked_token_is_refused_and_others_are_not(accounts: AccountStore) -> None:
    first = accounts.create_account(7, (7,))
    second = accounts.create_token(7)
    accounts.revoke_token(accounts.list_tokens()[0].id)
    assert accounts.authenticate(first) is None
    assert accounts.authenticate(second) is not None
    revoked_at = accounts.list_tokens()[0].revoked
    accounts.revoke_token(accounts.list_tokens()[0].id)
    assert accounts.list_tokens()[0].revoked == revoked_at


def test_ids_that_no_token_has(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    for token_id in (-1, 0, 99, 2**31, 2**63, 2**200):
        with subtests.test(token_id=token_id), pytest.raises(TokenUnknown):
            accounts.revoke_token(token_id)


def test_the_number_of_a_token_is_not_given_again(accounts: AccountStore) -> None:
    accounts.create_account(7, (7,))
    accounts.create_account(8, (8,))
    gone = accounts.list_tokens()[-1].id
    accounts.delete_account(8)
    accounts.create_token(7)
    assert accounts.list_tokens()[-1].id > gone


def test_a_grant_says_what_may_be_done_and_until_when(accounts: AccountStore) -> None:
    first = accounts.authenticate(accounts.create_account(7, (7,)))
    assert first is not None
    assert (first.scopes, first.expires, first.token_id) == (
        frozenset(SCOPES),
        None,
        accounts.list_tokens()[0].id,
    )
    before = datetime.now(UTC)
    made = accounts.create_token(7, scopes=["read", "audit", "read"], expires_in=YEAR)
    grant = accounts.authenticate(made)
    assert grant is not None
    assert grant.scopes == {"read", "audit"}
    assert grant.expires is not None
    assert before + YEAR <= grant.expires <= datetime.now(UTC) + YEAR
    listed = accounts.list_tokens()[-1]
    assert (listed.id, listed.scopes, listed.expires) == (grant.token_id, grant.scopes, grant.expires)


def test_a_token_ends_when_it_expires(accounts: AccountStore, clock: Clock) -> None:
    brief = accounts.create_account(7, (7,))
    token = accounts.create_token(7, expires_in=timedelta(hours=1))
    clock.ahead = timedelta(minutes=59)
    assert accounts.authenticate(token) is not None
    clock.ahead = timedelta(minutes=61)
    assert accounts.authenticate(token) is None
    assert accounts.authenticate(brief) is not None


def test_tokens_that_cannot_be(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    for expires_in in (timedelta(0), timedelta(microseconds=-1), timedelta.max, timedelta.min):
        with subtests.test(expires_in=expires_in), pytest.raises(AccountInvalid):
            accounts.create_token(7, expires_in=expires_in)
    for scopes in ([], ["all"], ["read", "root"], [""], ["read write"]):
        with subtests.test(scopes=scopes), pytest.raises(AccountInvalid):
            accounts.create_token(7, scopes=scopes)
    assert len(accounts.list_tokens()) == 1


def test_only_a_digest_is_kept(accounts: AccountStore, place: Place) -> None:
    """In no table, column or entry of the journal is there anything of the token."""
    tokens = [accounts.create_account(7, (7,)), accounts.create_token(7)]
    assert len(set(tokens)) == 2
    assert all(len(token) >= 40 for token in tokens)
    engine = place.engine()
    with engine.connect() as connection:
        for table in ("accounts", "account_groups", "groups", "tokens", "quotas", "audit", "account_version"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            for token in tokens:
                secret = token.removeprefix("evs_")
                assert secret not in str(rows), table
                assert secret[:20] not in str(rows), table
    engine.dispose()


def test_a_failing_statement_does_not_say_what_it_was_about(accounts: AccountStore, place: Place) -> None:
    """No digest in an error, which may end in a log."""
    token = accounts.create_account(7, (7,))
    engine = place.engine()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE tokens"))
    engine.dispose()
    with pytest.raises(Exception, match="cannot be reached") as failed:
        accounts.authenticate(token)
    chain = [failed.value, failed.value.__cause__]
    digest = sha256(token.encode()).digest()
    for error in chain:
        assert token not in str(error)
        assert repr(digest) not in str(error)
        assert repr(digest)[2:10] not in str(error)
    assert "\n" not in str(failed.value)
