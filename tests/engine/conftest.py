"""Machines for the tests of the engine; every one is checked when its test is over.

A test that asks for `host` or `geometry` runs under x86_64, i386 and the toy. Where it may not, or where it should run
under others too, it says so by a marker, and that is the only place where the choice is made:

- `roomy`: needs more than the toy's sixteen pages, or more of them in one place than it has.
- `everywhere`: also under aarch64 with pages of 4, 16 and 64 KiB.
- `huge_pages`: only where memory may be in huge pages.
- `x86_64`: only there.
"""

from collections.abc import Iterator
from typing import Protocol

import pytest

from engine.check import check
from engine.geometry import GEOMETRIES, I386, TOY, X86_64, Geometry
from tests.engine.host import Host


class MakeHost(Protocol):
    """Makes a host."""

    def __call__(self, geometry: Geometry = X86_64, frames: int = 256, swap: int = 0) -> Host: ...


USUAL = (X86_64, I386, TOY)
MARKERS = {
    "roomy": "needs more pages than the toy has: runs under the other geometries only",
    "everywhere": "runs under aarch64's geometries too",
    "huge_pages": "runs under geometries with huge pages only",
    "x86_64": "runs under x86-64 only",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def geometries(marks: set[str]) -> list[Geometry]:
    """What a test with these markers runs under."""
    if "x86_64" in marks:
        return [X86_64]
    chosen = GEOMETRIES.values() if marks & {"everywhere", "huge_pages"} else USUAL
    return [
        each
        for each in chosen
        if not ("roomy" in marks and each is TOY) and not ("huge_pages" in marks and not each.has_huge_pages)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "geometry" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if any("geometry" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")):
        return
    metafunc.parametrize("geometry", geometries(marks), ids=lambda each: each.name)


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Makes hosts: geometry, frames, pages of swap."""
    made: list[Host] = []

    def make(geometry: Geometry = X86_64, frames: int = 256, swap: int = 0) -> Host:
        made.append(Host(geometry, frames, swap))
        return made[-1]

    yield make
    for host in made:
        assert list(check(host.machine)) == []


@pytest.fixture
def host(make_host: MakeHost, geometry: Geometry) -> Host:
    """A machine of each geometry in turn."""
    return make_host(geometry, 256)


@pytest.fixture
def toy(make_host: MakeHost) -> Host:
    """A machine of sixteen pages of sixteen bytes."""
    return make_host(TOY, 64)


@pytest.fixture
def x86(make_host: MakeHost) -> Host:
    """A machine with x86-64's geometry."""
    return make_host(X86_64, 256)
