"""Rows of docs/conformance.md as tests: the id of a test is the id of its row and the way it goes."""

from typing import Literal

import pytest

Way = Literal["http", "sdk"]


def row(name: str, *ways: Way) -> pytest.MarkDecorator:
    """The test proves row `name`, over raw HTTP and over the SDK unless only one `way` is named."""
    both: tuple[Way, ...] = ways or ("http", "sdk")
    cases = [pytest.param(way, id=f"{name}-{way}") for way in both]
    return pytest.mark.parametrize("world", cases, indirect=True)
