"""What several commands share: options, each also from the environment, and opening the accounts."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from app.errors import complaint
from engine.constants import ID_MAX
from storage.errors import StoreUnusable

if TYPE_CHECKING:
    from app.settings import Settings
    from storage.accounts import AccountStore

ENVIRONMENT = "also as EVERSPACE_"


class Commands(Protocol):
    """argparse's object to which commands are added."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser: ...


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """--data-dir, and the URL of accounts that are kept elsewhere."""
    parser.add_argument("--data-dir", metavar="DIR", help=f"where everything is kept ({ENVIRONMENT}DATA_DIR)")
    parser.add_argument(
        "--accounts-url", metavar="URL", help=f"database of the accounts ({ENVIRONMENT}ACCOUNTS_URL)"
    )


def settings_of(arguments: argparse.Namespace) -> "Settings":
    """Options given on the command line, then the environment. Raises StoreUnusable in one line."""
    from pydantic import ValidationError

    from app.settings import Settings

    given = {
        name: value
        for name, value in vars(arguments).items()
        if name in Settings.model_fields and value is not None
    }
    try:
        return Settings(**given)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(error["loc"][0])
        option = f"--{name.replace('_', '-')} (EVERSPACE_{name.upper()})"
        raise StoreUnusable(f"{option}: {complaint((), error['msg'])}") from None


@contextlib.contextmanager
def accounts_of(arguments: argparse.Namespace) -> "Iterator[AccountStore]":
    """The accounts of a data directory that exists. Raises StoreError."""
    from app.accounts import open_accounts

    settings = settings_of(arguments)
    if not settings.data_dir.is_dir():
        raise StoreUnusable(f"{settings.data_dir} is not a directory")
    accounts = open_accounts(settings)
    try:
        yield accounts
    finally:
        accounts.close()


def identity(text: str) -> int:
    """A uid or gid: 0 to 2**32 - 2."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= ID_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {ID_MAX}")
    return int(text)
