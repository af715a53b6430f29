"""A service of one's own for each test, over a data directory that the test may look into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.support.service import Service


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Service]:
    """A service that is not started yet."""
    made = Service(tmp_path / "data")
    yield made
    made.close()
    assert "Traceback" not in made.said()


@pytest.fixture
def service(fresh: Service) -> Service:
    """A service that runs."""
    return fresh.start()
