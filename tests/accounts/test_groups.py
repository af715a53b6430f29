"""Groups: gids with names, and who is in them."""

import pytest

from storage.errors import AccountInvalid, AccountUnknown, GroupExists, GroupInUse, GroupUnknown
from storage.sql.accounts import AccountStore, Group
from tests.accounts.support import bearer


def test_a_group_that_an_account_names_is_made_with_it(accounts: AccountStore) -> None:
    accounts.create_group(70, "staff")
    accounts.create_account(7, (70, 71))
    accounts.create_account(8, (71,))
    assert accounts.list_groups() == [Group(70, "staff", (7,)), Group(71, "gid-71", (7, 8))]


def test_members_come_and_go_at_once(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    accounts.create_group(70)
    accounts.create_group(71)
    accounts.add_member(71, 7)
    accounts.add_member(70, 7)
    accounts.add_member(70, 7)
    assert bearer(accounts, token).gids == (7, 71, 70)
    accounts.remove_member(71, 7)
    assert bearer(accounts, token).gids == (7, 70)
    accounts.add_member(71, 7)
    assert bearer(accounts, token).gids == (7, 70, 71)
    with pytest.raises(AccountUnknown):
        accounts.remove_member(71, 8)
    accounts.create_account(8, (8,))
    with pytest.raises(AccountUnknown):
        accounts.remove_member(71, 8)


def test_the_primary_group_stays(accounts: AccountStore) -> None:
    token = accounts.create_account(7, (70, 71))
    with pytest.raises(GroupInUse):
        accounts.remove_member(70, 7)
    with pytest.raises(GroupInUse):
        accounts.delete_group(70)
    assert bearer(accounts, token).gids == (70, 71)


def test_a_deleted_group_has_no_members(accounts: AccountStore) -> None:
    tokens = [accounts.create_account(uid, (uid, 70)) for uid in (7, 8)]
    accounts.delete_group(70)
    assert [bearer(accounts, token).gids for token in tokens] == [(7,), (8,)]
    assert [group.gid for group in accounts.list_groups()] == [7, 8]
    accounts.create_group(70)
    assert accounts.list_groups()[-1] == Group(70, "gid-70", ())


def test_a_gid_is_given_once(accounts: AccountStore) -> None:
    accounts.create_group(70, "staff")
    with pytest.raises(GroupExists):
        accounts.create_group(70, "other")
    assert accounts.list_groups() == [Group(70, "staff", ())]


def test_numbers_that_no_group_has(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    for gid in (-1, 9, 2**32, 2**64, 2**200):
        with subtests.test(gid=gid):
            with pytest.raises(GroupUnknown):
                accounts.delete_group(gid)
            with pytest.raises(GroupUnknown):
                accounts.add_member(gid, 7)
            with pytest.raises(GroupUnknown):
                accounts.remove_member(gid, 7)


def test_what_cannot_be_a_group_is_refused(accounts: AccountStore, subtests: pytest.Subtests) -> None:
    for gid, name in ((-1, None), (2**32 - 1, None), (1, ""), (1, "a\tb"), (1, "x" * 256)):
        with subtests.test(gid=gid, name=name), pytest.raises(AccountInvalid):
            accounts.create_group(gid, name)
    assert accounts.list_groups() == []
