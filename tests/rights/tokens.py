"""Tokens that are good for nothing, or for reading only."""

from datetime import timedelta

from app.accounts.opening import open_accounts
from tests.app.support import Site


def revoked_token(site: Site, uid: int) -> str:
    """One that was revoked."""
    accounts = open_accounts(site.service.settings)
    try:
        known = {token.id for token in accounts.list_tokens()}
        token = accounts.create_token(uid)
        (number,) = {token.id for token in accounts.list_tokens()} - known
        accounts.revoke_token(number)
        return token
    finally:
        accounts.close()


def read_only_token(site: Site, uid: int) -> str:
    """One whose only scope is read."""
    accounts = open_accounts(site.service.settings)
    try:
        return accounts.create_token(uid, scopes=("read",))
    finally:
        accounts.close()


def expired_token(site: Site, uid: int) -> str:
    """One that was good for a microsecond."""
    accounts = open_accounts(site.service.settings)
    try:
        return accounts.create_token(uid, expires_in=timedelta(microseconds=1))
    finally:
        accounts.close()
