"""Quotas: the limits of an account, set, changed and lifted."""

import pytest

from storage.errors import AccountInvalid
from storage.sql.accounts import AccountStore, Quota
from tests.accounts.support import bearer


def test_an_account_has_no_limits_until_it_is_given_some(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    assert bearer(accounts, token).quota == Quota()
    assert accounts.quotas() == {}
    quota = Quota(spaces=3, segments=0, bytes=2**40, tasks=5, rate=100)
    accounts.set_quota(7, quota)
    assert bearer(accounts, token).quota == quota
    assert accounts.quotas() == {7: quota}
    assert accounts.list_accounts()[0].quota == quota


def test_a_change_leaves_other_limits_alone(accounts: AccountStore) -> None:
    accounts.create_account(7, (7,))
    assert accounts.change_quota(7, {"spaces": 3, "rate": 9}) == Quota(spaces=3, rate=9)
    assert accounts.change_quota(7, {"rate": None, "bytes": 1}) == Quota(spaces=3, bytes=1)
    assert accounts.quotas() == {7: Quota(spaces=3, bytes=1)}


def test_all_limits_lifted_is_no_quota(accounts: AccountStore) -> None:
    accounts.create_account(7, (7,))
    accounts.set_quota(7, Quota(tasks=1))
    accounts.set_quota(7, Quota())
    assert accounts.quotas() == {}
    accounts.set_quota(7, Quota())
    accounts.set_quota(7, Quota(tasks=2))
    assert accounts.quotas() == {7: Quota(tasks=2)}


def test_the_greatest_limit(accounts: AccountStore) -> None:
    accounts.create_account(7, (7,))
    accounts.set_quota(7, Quota(bytes=2**63 - 1))
    assert accounts.quotas() == {7: Quota(bytes=2**63 - 1)}


def test_what_cannot_be_a_limit(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    accounts.set_quota(7, Quota(segments=1))
    for quota in (Quota(spaces=-1), Quota(bytes=2**63), Quota(rate=0), Quota(tasks=2**200)):
        with subtests.test(quota=quota), pytest.raises(AccountInvalid):
            accounts.set_quota(7, quota)
    assert accounts.quotas() == {7: Quota(segments=1)}


def test_root_has_no_quota(accounts: AccountStore) -> None:
    accounts.create_account(0, (0,))
    with pytest.raises(AccountInvalid):
        accounts.set_quota(0, Quota(spaces=1))
    assert accounts.quotas() == {}
