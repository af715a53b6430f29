"""Tests that need the real kernel are left out, with the reason, where it is missing or another one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.oracle.kernel import Missing
from tests.oracle.modes import MODES
from tests.oracle.oracle import Oracle
from tests.oracle.support import unsupported


@pytest.fixture(scope="session")
def kernel() -> None:
    """Skips where the kernel cannot be compared with."""
    reason = unsupported()
    if reason is not None:
        pytest.skip(reason)


OpenOracle = Callable[[str], Oracle]


@pytest.fixture(scope="module")
def open_oracle(kernel: None) -> Iterator[OpenOracle]:
    """Both sides of a mode, by its name; one pair for all tests of a module."""
    opened: dict[str, Oracle] = {}
    with ExitStack() as stack:

        def open_one(mode: str) -> Oracle:
            if mode not in opened:
                try:
                    opened[mode] = stack.enter_context(Oracle(MODES[mode]))
                except Missing as reason:
                    pytest.skip(str(reason))
            return opened[mode]

        yield open_one


@pytest.fixture(params=list(MODES))
def oracle(request: pytest.FixtureRequest, open_oracle: OpenOracle) -> Oracle:
    """Both sides, in each mode."""
    return open_oracle(request.param)
