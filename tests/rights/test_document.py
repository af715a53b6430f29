"""docs/security.md: its tests are there, and its limits are those of the source."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from app.settings import Settings

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([a-z0-9_]+/test_\w+\.py)::(test_\w+)`")


def table(chapter: str) -> list[list[str]]:
    """The lines of a chapter's table, without its head."""
    part = TEXT.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines[1:]]


@cache
def collected(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize(("path", "test"), sorted(set(NAMED.findall(TEXT))))
def test_a_test_that_is_named_is_there(path: str, test: str) -> None:
    assert test in collected(TESTS / path)


@pytest.mark.parametrize(
    ("chapter", "columns", "lines"), [("Rights", 2, 4), ("Threats", 3, 40), ("Limits", 5, 45)]
)
def test_every_line_names_its_test(chapter: str, columns: int, lines: int) -> None:
    rows = table(chapter)
    assert len(rows) >= lines
    for row in rows:
        assert len(row) == columns, row
        assert NAMED.fullmatch(row[-1]), row


def test_every_kind_of_threat_is_looked_at() -> None:
    kinds = {kind.strip() for row in table("Threats") for kind in row[0].partition(":")[0].split(",")}
    assert kinds == set("STRIDE")


@pytest.mark.parametrize(
    ("where", "value"), [(row[1], row[2]) for row in table("Limits") if row[1].startswith("`")]
)
def test_a_limit_is_as_it_is_told(where: str, value: str) -> None:
    name = where.strip("`")
    if name.startswith("EVERSPACE_"):
        found = Settings.model_fields[name.removeprefix("EVERSPACE_").lower()].default
    else:
        module, _, symbol = name.rpartition(".")
        found = getattr(importlib.import_module(module), symbol)
    assert float(found) == float(value)
