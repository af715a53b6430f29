"""Stores whose system calls a test decides."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.victims import Nursery, Store

MakeStore = Callable[..., Store]


@pytest.fixture
def watched_store(tmp_path: Path) -> Iterator[MakeStore]:
    """Makes a watched store in `tmp_path / "data"`: `watched_store(seed, *options)`."""
    made: list[Store] = []

    def make(seed: int, *options: str, **how: Any) -> Store:
        try:
            made.append(Store(tmp_path / "data", seed, *options, **how))
        except OSError as refused:
            pytest.skip(f"calls cannot be watched here: {refused}")
        assert made[-1].told("failing") == "no"
        return made[-1]

    yield make
    for store in made:
        store.kill()


@pytest.fixture
def can_watch(watched_store: MakeStore) -> None:
    """Skips the test where the kernel lets nobody watch calls."""
    watched_store(0).kill()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Forks victims."""
    with Nursery() as made:
        yield made
