"""What several commands share: options, each also from the environment, and opening the accounts."""

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.http.secrecy import struck
from engine.constants import ID_MAX
from storage.errors import StoreUnusable
from storage.times import exact

if TYPE_CHECKING:
    from app.settings import Settings
    from storage.sql.accounts import AccountStore

ENVIRONMENT = "also as EVERSPACE_"
NO_DATA_DIR = "--data-dir (or EVERSPACE_DATA_DIR) is needed: where everything is kept"
NO_TIME = "is neither a time like 2027-01-31T12:00:00Z nor a span like 90m, 12h, 30d or 4w"
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class AccountsPlace:
    """Where accounts are kept: the two settings that commands about them need."""

    data_dir: Path
    accounts_url: str | None


class Commands(Protocol):
    """argparse's object to which commands are added."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser: ...


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """--data-dir, and the URL of accounts that are kept elsewhere."""
    parser.add_argument("--data-dir", metavar="DIR", help=f"where everything is kept ({ENVIRONMENT}DATA_DIR)")
    parser.add_argument(
        "--accounts-url", metavar="URL", help=f"database of the accounts ({ENVIRONMENT}ACCOUNTS_URL)"
    )


def directory(text: str) -> Path:
    """A path that was said: "" is a variable of the shell that was not set, and not this directory."""
    if not text:
        raise argparse.ArgumentTypeError("a directory needs a name; . is this one")
    return Path(text)


def settings_of(arguments: argparse.Namespace) -> "Settings":
    """Options given on the command line, then the environment. Raises StoreUnusable in one line."""
    from pydantic import ValidationError

    from app.settings import Settings

    if not _data_dir(arguments):
        raise StoreUnusable(NO_DATA_DIR)
    given = {
        name: value
        for name, value in vars(arguments).items()
        if name in Settings.model_fields and value is not None
    }
    try:
        return Settings(**given)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        name = str(error["loc"][0])
        option = f"--{name.replace('_', '-')} (EVERSPACE_{name.upper()})"
        raise StoreUnusable(f"{option} {_said(error['type'], error.get('ctx', {}), error['msg'])}") from None


def _said(kind: str, context: Mapping[str, object], message: str) -> str:
    """What is wrong with a setting; those of which there is no better word are told in pydantic's."""
    words = {
        "int_parsing": "is not a number",
        "float_parsing": "is not a number",
        "bool_parsing": "is neither true nor false",
        "greater_than": f"is more than {context.get('gt')}",
        "greater_than_equal": f"is {context.get('ge')} at least",
        "less_than_equal": f"is {context.get('le')} at most",
    }
    choices = re.fullmatch(r"\^\(([a-z|]+)\)\$", str(context.get("pattern")))
    if choices is not None:
        return f"is one of {', '.join(choices[1].split('|'))}"
    return words.get(kind, f"cannot be: {message}")


def _data_dir(arguments: argparse.Namespace) -> str | None:
    """As it was given, "" included: that is a variable of the shell that was not set, and not this directory."""
    given: str | None = arguments.data_dir
    return os.environ.get("EVERSPACE_DATA_DIR") if given is None else given


@contextlib.contextmanager
def accounts_of(arguments: argparse.Namespace, *, create: bool = False) -> "Iterator[AccountStore]":
    """The accounts of a data directory, which need not be named when they are kept elsewhere. Raises StoreError.

    With `create` their file is made if absent. The settings are read here: `Settings` takes longer to load than a
    command to run.
    """
    from app.accounts.opening import open_accounts
    from storage.directory import ACCOUNTS_FILE, DataDir

    url = arguments.accounts_url or os.environ.get("EVERSPACE_ACCOUNTS_URL") or None
    said = _data_dir(arguments)
    data_dir = Path(said or "")
    if url is None:
        if not said:
            raise StoreUnusable(NO_DATA_DIR)
        try:
            if not data_dir.is_dir():
                raise StoreUnusable(f"{data_dir} is not a directory")
            DataDir.settle(data_dir)
            if not create and not (data_dir / ACCOUNTS_FILE).exists():
                raise StoreUnusable(f"{data_dir} is not a data directory: it has no {ACCOUNTS_FILE}")
        except OSError as error:
            raise StoreUnusable(f"{data_dir} cannot be used as a data directory: {error.strerror}") from error
    accounts = open_accounts(AccountsPlace(data_dir, url), create=create)
    try:
        yield accounts
    finally:
        accounts.close()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, each column as wide as its widest word; an absent value is a dash."""
    lines = [list(columns), *(["-" if word is None else str(word) for word in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True))
        sys.stdout.write(f"{padded.rstrip()}\n")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json, for what prints a list."""
    parser.add_argument("--json", action="store_true", help="a JSON object a line, with all that is known")


def json_lines(objects: Iterable[Mapping[str, object]]) -> None:
    """Print objects, each on a line of its own; times as the API has them."""
    for each in objects:
        values = {
            name: exact(value) if isinstance(value, datetime) else value for name, value in each.items()
        }
        sys.stdout.write(f"{json.dumps(values)}\n")


def span(text: str) -> timedelta | None:
    """Like 30d: a number of minutes, hours, days or weeks. None if it is not of this form."""
    found = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


def moment(text: str) -> datetime:
    """A date or time of ISO 8601, UTC unless it has a zone."""
    try:
        when = datetime.fromisoformat(text)
        return (when.replace(tzinfo=UTC) if when.tzinfo is None else when).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r:.40} {NO_TIME}") from None


def past(text: str) -> datetime:
    """A time, or how long ago it was."""
    ago = span(text)
    if ago is None:
        return moment(text)
    now = datetime.now(UTC)
    return now - min(ago, now - datetime.min.replace(tzinfo=UTC))


def identity(text: str) -> int:
    """A uid or gid: 0 to 2**32 - 2."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= ID_MAX):
        raise argparse.ArgumentTypeError(f"{struck(text)!r} is not a number from 0 to {ID_MAX}")
    return int(text)
