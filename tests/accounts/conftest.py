"""Accounts on every database that is supported, each test with its own."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine

from storage.sql.accounts import FILE_NAME, AccountStore

if TYPE_CHECKING:
    from tests.postgresql import PostgreSQL

KINDS = ("sqlite", "postgresql")
TEMPLATE = "accounts_template"


@dataclass(frozen=True)
class Place:
    """A database: empty, or with the tables of this release."""

    kind: str
    url: str

    def engine(self) -> Engine:
        """A connection past the store, as an administrator's own tools have one."""
        return create_engine(self.url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tables of this release."""
    directory = tmp_path_factory.mktemp("accounts")
    store = AccountStore.in_directory(directory)
    store.migrate()
    store.close()
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]
    return directory / FILE_NAME


@pytest.fixture(scope="session")
def postgresql_template(postgresql: "PostgreSQL") -> str:
    """A database with the tables of this release."""
    store = AccountStore(postgresql.url(postgresql.create(name=TEMPLATE)))
    store.migrate()
    store.close()
    return TEMPLATE


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database without tables."""
    if request.param == "sqlite":
        return Place("sqlite", f"sqlite:///{tmp_path / FILE_NAME}")
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    return Place("postgresql", postgresql.url(postgresql.create()))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database with the tables of this release."""
    if request.param == "sqlite":
        file = tmp_path / FILE_NAME
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        return Place("sqlite", f"sqlite:///{file}")
    template: str = request.getfixturevalue("postgresql_template")
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    return Place("postgresql", postgresql.url(postgresql.create(template)))


@pytest.fixture
def opened() -> Iterator[Callable[[Place], AccountStore]]:
    """Opens accounts as one more process would."""
    made: list[AccountStore] = []

    def open_at(place: Place) -> AccountStore:
        made.append(AccountStore(place.url))
        return made[-1]

    yield open_at
    for store in made:
        store.close()


@pytest.fixture
def accounts(place: Place, opened: Callable[[Place], AccountStore]) -> AccountStore:
    """Accounts, none yet."""
    return opened(place)
