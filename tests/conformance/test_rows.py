"""docs/conformance.md and the tests name each other, row by row."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "conformance.md"
ROW = re.compile(r"^\| ([A-Z0-9]+(?:-[A-Z0-9]+)*-\d+) \|(.+)\|$", re.MULTILINE)
COLUMNS = 4
"""Behind the id: the source, ours, the difference and why, the test."""


@dataclass(frozen=True)
class Case:
    """A test function, and the row that its decorator names."""

    place: str
    row: str | None


def named_row(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    for decorator in function.decorator_list:
        if (
            isinstance(decorator, ast.Call)
            and isinstance(decorator.func, ast.Name)
            and decorator.func.id == "row"
        ):
            return str(ast.literal_eval(decorator.args[0]))
    return None


def cases(folder: str) -> list[Case]:
    """All tests of a folder."""
    found = []
    for path in sorted((TESTS / folder).glob("test_*.py")):
        if path != Path(__file__):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    found.append(Case(f"{folder}/{path.name}::{node.name}", named_row(node)))
    return found


def rows() -> list[tuple[str, list[str]]]:
    """The rows of the document: the id and the other columns."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [(name, [part.strip() for part in rest.split(" | ")]) for name, rest in ROW.findall(text)]


def test_every_line_of_a_table_is_a_row() -> None:
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    others = [line for line in lines if not ROW.match(line) and not line.startswith(("| row |", "| call |"))]
    assert [line for line in others if re.match(r"\| [A-Z]+-", line)] == []


def test_rows_are_complete_and_unique() -> None:
    names = [name for name, _ in rows()]
    assert len(names) > 150
    assert len(set(names)) == len(names)
    assert [name for name, columns in rows() if len(columns) != COLUMNS or not all(columns)] == []


def test_every_row_has_its_test() -> None:
    places = {case.place: case.row for case in [*cases("conformance"), *cases("e2e")]}
    for name, columns in rows():
        place = columns[-1].strip("`")
        assert place in places, name
        assert places[place] in (name, None), name


def test_every_test_of_conformance_and_every_end_to_end_test_has_a_row() -> None:
    documented = {columns[-1].strip("`"): name for name, columns in rows()}
    assert [case.place for case in cases("conformance") + cases("e2e") if case.place not in documented] == []


def test_a_row_is_proved_by_one_test() -> None:
    named = [case.row for case in cases("conformance") if case.row]
    assert len(set(named)) == len(named)


CITED = re.compile(r"\b[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)+-\d+\b")
FEATURES = (
    "object", "lives without a process", "survives a reboot", "name", "id", "max number", "limits/quota", "permission",
    "change mode/owner", "create content", "clone", "map into an inactive AS", "attach to another process",
    "attach types", "concurrent writers", "lock on switch", "change while attached", "process memory in a foreign AS",
    "sync", "collision", "heap growth inside", "munmap propagation", "COW between AS", "per-thread choice",
    "switch by another task", "switch touches", "TLB tags", "busy delete", "detach when active", "fork",
    "clone thread", "vfork/spawn", "exec", "exit", "signals", "core dump, swap, huge pages", "introspection",
    "measured", "automatic tests",
)  # fmt: skip
"""What the systems are compared by; each is answered in the last chapter."""


def table(chapter: str) -> list[list[str]]:
    """The lines of a chapter's table: what is asked, what is here, the rows that show it."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_comparison_answers_every_feature() -> None:
    assert tuple(line[0] for line in table("The systems side by side")) == FEATURES


def test_every_line_of_a_comparison_points_at_rows() -> None:
    known = {name for name, _ in rows()}
    for chapter in ("The systems side by side", "Barrelfish's names", "SpaceJMP's names"):
        lines = table(chapter)
        assert len(lines) > 10
        for line in lines:
            assert len(line) == 3, line
            cited = line[-1].split(", ")
            assert cited, line
            assert [name for name in cited if name not in known] == [], line


def test_rows_that_are_cited_by_rows_are_there() -> None:
    known = {name for name, _ in rows()}
    cited = {(name, word) for name, columns in rows() for word in CITED.findall(" ".join(columns[1:-1]))}
    assert [pair for pair in sorted(cited) if pair[1] not in known] == []
