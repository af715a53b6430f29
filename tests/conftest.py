"""What every test shares: one profile for generated tests, and seeds that are printed and can be replayed."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.postgresql import PostgreSQL

settings.register_profile(
    "everspace",
    deadline=None,  # tests never judge times
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("everspace")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` replays a random test."""
    parser.addoption(
        "--seed", type=int, default=None, help="the seed of random tests; printed by each when it fails"
    )


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a random test: new each time unless `--seed` names one; shown with a failure."""
    given = request.config.getoption("--seed")
    chosen = random.SystemRandom().getrandbits(32) if given is None else int(given)
    print(f"replay with: pytest --seed {chosen} '{request.node.nodeid}'")
    return chosen


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[PostgreSQL]":
    """A PostgreSQL that runs, one for each process of tests that asks for it."""
    from tests.postgresql import PostgreSQL

    server = PostgreSQL()
    try:
        yield server.start()
    finally:
        server.close()
