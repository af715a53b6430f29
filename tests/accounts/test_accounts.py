"""Accounts: who a token stands for, what an account may be, and what is left of one that is deleted."""

import pytest

from storage.errors import AccountExists, AccountInvalid, AccountUnknown
from storage.sql.accounts import Account, AccountStore, Quota
from tests.accounts.support import bearer


def test_a_token_stands_for_its_account(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (70, 71), "ada")
    other = accounts.create_account(8, (80,))
    assert bearer(accounts, token) == Account(7, (70, 71), "ada")
    assert bearer(accounts, other) == Account(8, (80,), "uid-8")
    assert [account.uid for account in accounts.list_accounts()] == [7, 8]


def test_order_of_groups_is_kept(accounts: AccountStore) -> None:
    account = bearer(accounts, accounts.create_account(7, (9, 3, 5)))
    assert account.gids == (9, 3, 5)
    assert accounts.list_accounts()[0].gids == (9, 3, 5)


def test_the_greatest_numbers_and_names(accounts: AccountStore) -> None:
    greatest = 2**32 - 2
    token = accounts.create_account(greatest, (greatest, 0), "ü" * 255)
    assert bearer(accounts, token) == Account(greatest, (greatest, 0), "ü" * 255)


def test_a_uid_is_given_once(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    with pytest.raises(AccountExists):
        accounts.create_account(7, (8,))
    assert accounts.list_accounts() == [Account(7, (7,), "uid-7")]
    assert len(accounts.list_tokens()) == 1
    assert accounts.authenticate(token) is not None
    assert [group.gid for group in accounts.list_groups()] == [7]


def test_what_cannot_be_an_account_is_refused(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    cases: list[tuple[int, tuple[int, ...], str | None]] = [
        (-1, (1,), None), (1, (), None), (2**32 - 1, (1,), None), (2**70, (1,), None), (1, (-1,), None), (1, (2, 2), None),
        (1, (1,), "a\nb"), (1, (1,), "a\0b"), (1, (1,), "\ud800"), (1, (1,), ""), (1, (1,), "x" * 256),
    ]  # fmt: skip
    for uid, gids, name in cases:
        with subtests.test(uid=uid, gids=gids, name=name), pytest.raises(AccountInvalid):
            accounts.create_account(uid, gids, name)
    assert accounts.list_accounts() == []
    assert accounts.list_groups() == []


def test_an_account_is_renamed(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,), "ada")
    accounts.rename_account(7, "Ada L.")
    assert bearer(accounts, token).name == "Ada L."
    with pytest.raises(AccountInvalid):
        accounts.rename_account(7, "\n")
    with pytest.raises(AccountUnknown):
        accounts.rename_account(8, "ada")
    assert bearer(accounts, token).name == "Ada L."


def test_a_deleted_account_leaves_no_token_group_or_quota(accounts: AccountStore) -> None:
    first = accounts.create_account(7, (7, 9))
    second = accounts.create_token(7)
    other = accounts.create_account(8, (8, 9))
    accounts.set_quota(7, Quota(spaces=1))
    accounts.delete_account(7)
    assert [accounts.authenticate(token) for token in (first, second)] == [None, None]
    assert bearer(accounts, other).gids == (8, 9)
    assert [account.uid for account in accounts.list_accounts()] == [8]
    assert accounts.quotas() == {}
    assert {group.gid: group.members for group in accounts.list_groups()} == {7: (), 8: (8,), 9: (8,)}
    with pytest.raises(AccountUnknown):
        accounts.delete_account(7)


def test_an_account_made_again_has_nothing_of_the_one_before(accounts: AccountStore) -> None:
    old = accounts.create_account(7, (7, 9), "old")
    accounts.set_quota(7, Quota(tasks=1))
    accounts.delete_account(7)
    new = accounts.create_account(7, (7,))
    assert accounts.authenticate(old) is None
    assert bearer(accounts, new) == Account(7, (7,), "uid-7")


def test_root_stays(accounts: AccountStore) -> None:
    token = accounts.create_account(0, (0,), "root")
    with pytest.raises(AccountInvalid):
        accounts.delete_account(0)
    assert bearer(accounts, token).uid == 0


def test_numbers_that_no_account_has(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    for uid in (-1, 9, 2**32, 2**64, 2**200):
        with subtests.test(uid=uid):
            with pytest.raises(AccountUnknown):
                accounts.delete_account(uid)
            with pytest.raises(AccountUnknown):
                accounts.rename_account(uid, "x")
            with pytest.raises(AccountUnknown):
                accounts.create_token(uid)
            with pytest.raises(AccountUnknown):
                accounts.set_quota(uid, Quota(spaces=1))
            with pytest.raises(AccountUnknown):
                accounts.add_member(7, uid)
