"""docs/answers.md has an answer to every point and every question, and each names tests that are there."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "answers.md"
SECTION = re.compile(r"^### (Point|Question) (\d+)$", re.MULTILINE)
NAMED = re.compile(r"^- `([a-z0-9_/]+/(test_\w+\.py))::(test_\w+)`$", re.MULTILINE)
POINTS, QUESTIONS = 22, 12


def sections() -> list[tuple[str, int, str]]:
    """Kind, number and text of each."""
    parts = SECTION.split(DOCUMENT.read_text(encoding="utf-8"))[1:]
    return [(kind, int(number), text) for kind, number, text in zip(*[iter(parts)] * 3, strict=True)]


@cache
def collected(path: Path) -> frozenset[str]:
    """The functions of a module that pytest collects."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_point_and_every_question_is_answered_once() -> None:
    numbers = [(kind, number) for kind, number, _ in sections()]
    wanted = [("Point", number) for number in range(1, POINTS + 1)]
    assert numbers == wanted + [("Question", number) for number in range(1, QUESTIONS + 1)]


def test_every_answer_names_tests_that_are_there() -> None:
    for kind, number, text in sections():
        named = NAMED.findall(text)
        assert named, (kind, number)
        assert len(named) == text.count("::"), (kind, number)
        for path, _, test in named:
            assert test in collected(TESTS / path), f"{kind} {number}: {path}::{test}"


def test_an_answer_says_something() -> None:
    for kind, number, text in sections():
        paragraphs = [
            part for part in NAMED.sub("", text.partition("\n## ")[0]).split("\n\n") if part.strip()
        ]
        assert len(paragraphs) == 2, (kind, number)
        assert all(len(part) > 30 for part in paragraphs), (kind, number)
