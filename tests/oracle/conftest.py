"""Tests that need the real kernel are left out, with the reason, where it is missing or another one."""

from collections.abc import Iterator

import pytest

from tests.oracle.modes import MODES
from tests.oracle.oracle import Oracle
from tests.oracle.support import unsupported


@pytest.fixture(scope="session")
def kernel() -> None:
    """Skips where the kernel cannot be compared with."""
    reason = unsupported()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(params=list(MODES))
def oracle(request: pytest.FixtureRequest, kernel: None) -> Iterator[Oracle]:
    """Both sides, in each mode."""
    with Oracle(MODES[request.param]) as both:
        yield both


@pytest.fixture
def plain(kernel: None) -> Iterator[Oracle]:
    """Both sides, nothing special."""
    with Oracle(MODES["plain"]) as both:
        yield both
