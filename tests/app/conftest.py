"""A service of one's own for each test, over a real data directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.app.support import Site, running


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A service that runs, with root's token."""
    async with running(tmp_path / "data") as started:
        yield started
