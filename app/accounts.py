"""The accounts of a data directory, for the service and for the commands."""

from app.settings import Settings
from storage.accounts import AccountStore


def open_accounts(settings: Settings) -> AccountStore:
    """The accounts, with tables of this release. Raises StoreError."""
    if settings.accounts_url is None:
        accounts = AccountStore.in_directory(settings.data_dir)
    else:
        accounts = AccountStore(settings.accounts_url)
    accounts.migrate()
    return accounts
