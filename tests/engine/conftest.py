"""Machines for the tests of the engine; every one is checked when its test is over."""

from collections.abc import Callable, Iterator

import pytest

from engine.check import check
from engine.geometry import TOY, X86_64, Geometry
from tests.engine.host import Host

MakeHost = Callable[[Geometry, int], Host]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Makes hosts: geometry, frames."""
    made: list[Host] = []

    def make(geometry: Geometry = X86_64, frames: int = 256) -> Host:
        made.append(Host(geometry, frames))
        return made[-1]

    yield make
    for host in made:
        assert list(check(host.machine)) == []


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """A machine with x86-64's geometry."""
    return make_host(X86_64, 256)


@pytest.fixture
def toy(make_host: MakeHost) -> Host:
    """A machine of sixteen pages of sixteen bytes."""
    return make_host(TOY, 64)
