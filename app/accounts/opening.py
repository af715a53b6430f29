"""The accounts of a data directory, for the service and for the commands."""

from pathlib import Path
from typing import Protocol

from storage.sql.accounts import AccountStore


class AccountsPlacePort(Protocol):
    """What is needed of `app.settings.Settings`."""

    @property
    def data_dir(self) -> Path: ...

    @property
    def accounts_url(self) -> str | None: ...


def open_accounts(place: AccountsPlacePort, *, create: bool = True) -> AccountStore:
    """The accounts, with tables of this release; a file is made if absent, or not. Raises StoreUnusable."""
    if place.accounts_url is None:
        accounts = AccountStore.in_directory(place.data_dir, create=create)
    else:
        accounts = AccountStore(place.accounts_url, create=create)
    try:
        accounts.migrate()
    except BaseException:
        accounts.close()
        raise
    return accounts
