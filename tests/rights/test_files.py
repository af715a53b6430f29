"""Files of a data directory are for the service's user alone, whatever the umask says."""

import os
from pathlib import Path

import pytest

from tests.app.support import BASE, running


@pytest.fixture
def careless(request: pytest.FixtureRequest) -> None:
    """A umask that takes nothing away."""
    before = os.umask(0)
    request.addfinalizer(lambda: os.umask(before))


@pytest.mark.usefixtures("careless")
async def test_files_are_for_the_service_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "above" / "data"
    async with running(data_dir) as site:
        pid, _ = await site.inside()
        await site.write(pid, BASE, b"bytes")
        site.account(1001)
        await site.service.auditing.flush()
        assert data_dir.stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in data_dir.iterdir()}
        assert {"store.lmdb", "accounts.sqlite", "root.token", "swap"} <= modes.keys()
        assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
