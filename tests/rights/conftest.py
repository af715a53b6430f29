"""One service for all tests of a module: what they make in it has names of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.app.support import Site, running
from tests.rights.world import Callers, callers_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    """A service over memory, and who asks it."""
    async with callers_of(tmp_path_factory.mktemp("rights") / "data") as made:
        yield made


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A service of one's own."""
    async with running(tmp_path / "data") as started:
        yield started
