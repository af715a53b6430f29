"""What tests of the accounts share."""

from storage.sql.accounts import Account, AccountStore


def bearer(accounts: AccountStore, token: str) -> Account:
    """Who a token stands for."""
    grant = accounts.authenticate(token)
    assert grant is not None
    return grant.account
