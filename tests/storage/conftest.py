"""Stores of every kind for the tests, each checked by fsck when its test is over."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.changes import Change, Image
from engine.geometry import TOY, Geometry
from storage import open_store
from storage.errors import StoreError
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.store import LmdbStore
from storage.memory import MemoryStore
from storage.statistics import Statistics
from storage.store import Store
from storage.upkeep.fsck import check_dir

EAGER = Tuning(nodes_max=2, tail_entries=3, obsolete_rows=1, slack_pages=0, step_rows=2, step_chunks=1)
"""Everything is evicted, written and rewritten as soon as it can be."""


class Reopened:
    """A store on LMDB that is closed and opened again after every commit."""

    def __init__(self, opening: Callable[[], LmdbStore]) -> None:
        self._opening = opening
        self._store = opening()

    def load(self) -> Image:
        return self._store.load()

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        return self._store.fetch(object_id, pages)

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        return self._store.stored_pages(object_id, first, count)

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        return self._store.usage(objects)

    def pages_held(self, objects: Sequence[int]) -> int:
        return self._store.pages_held(objects)

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        return self._store.pages_new(object_id, pages)

    def statistics(self) -> Statistics:
        return self._store.statistics()

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        return self._store.differing(a, b, first, count)

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        self._store.commit(transactions)
        self._store.close()
        self._store = self._opening()

    def maintain(self, *, urgent_only: bool = False) -> bool:
        return self._store.maintain(urgent_only=urgent_only)

    @property
    def failing(self) -> StoreError | None:
        return self._store.failing

    def probe(self) -> None:
        self._store.probe()

    def close(self) -> None:
        self._store.close()


@dataclass(frozen=True)
class Kind:
    """A way to make a store."""

    name: str
    make: Callable[[Path, Geometry], Store]


KINDS = (
    Kind("memory", lambda path, geometry: MemoryStore(geometry)),
    Kind("lmdb", open_store),
    Kind("lmdb-eager", lambda path, geometry: open_store(path, geometry, tuning=EAGER)),
    Kind("lmdb-reopened", lambda path, geometry: Reopened(lambda: open_store(path, geometry))),
)


MakeStore = Callable[[Geometry], Store]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes one store of the kind under test."""
    kind: Kind = request.param
    made: list[Store] = []

    def make(geometry: Geometry) -> Store:
        made.append(kind.make(tmp_path / "data", geometry))
        return made[-1]

    yield make
    for store in made:
        store.close()
    if (tmp_path / "data").exists():
        assert list(check_dir(tmp_path / "data")) == []


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """A store of TOY pages, 16 bytes each."""
    return make_store(TOY)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory that is in order when the test is over."""
    yield tmp_path / "data"
    assert list(check_dir(tmp_path / "data")) == []


@pytest.fixture
def eager() -> Tuning:
    """Everything is evicted, written and rewritten as soon as it can be."""
    return EAGER
