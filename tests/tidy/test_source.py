"""Rules of the source that no linter knows."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARIES = ("app", "engine", "storage", "client/src/everspace")
FOLDERS = (*LIBRARIES, "migrations", "client/tests", "tests", "examples", "benchmarks")
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
PRINTERS = re.compile(r"(^|/)(cli\.py|cli/.*\.py|openapi\.py)$")
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|Users|work|opt|mnt)/[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Source:
    """One Python file."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return parse(self.text)

    @property
    def in_library(self) -> bool:
        return self.name.startswith(tuple(f"{folder}/" for folder in LIBRARIES))


@cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def sources() -> tuple[Source, ...]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths
    )


def library() -> Iterator[tuple[Source, ast.AST]]:
    """Every node of every file that users run."""
    for source in sources():
        if source.in_library:
            for node in ast.walk(source.tree):
                yield source, node


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return [f"{module}.{name.name}" for name in names]
        case _:
            return []


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_there_is_source_to_judge() -> None:
    present = {source.name.partition("/")[0] for source in sources() if source.in_library}
    assert present == {"app", "engine", "storage", "client"}


def test_files_are_short() -> None:
    lengths = {source.name: source.text.count("\n") for source in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    nodes = ((source, node) for source in sources() for node in ast.walk(source.tree))
    functions = ((source.name, node) for source, node in nodes if isinstance(node, FUNCTIONS))
    assert [(name, node.name) for name, node in functions if lines_of(node) > FUNCTION_LINES_MAX] == []


def test_nothing_is_put_off() -> None:
    own = Path(__file__).name
    late = [
        source.name for source in sources() if LATER.search(source.text) and not source.name.endswith(own)
    ]
    assert late == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        source.name for source in sources() if source.text.strip() and not ast.get_docstring(source.tree)
    ]
    assert silent == []


def test_public_classes_and_functions_of_the_libraries_say_what_they_do() -> None:
    silent = []
    for source in sources():
        if source.in_library:
            for node in source.tree.body:
                named = isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_")
                if named and not ast.get_docstring(node):  # type: ignore[arg-type]
                    silent.append(f"{source.name}: {node.name}")  # type: ignore[attr-defined]
    assert silent == []


def test_libraries_do_not_assert() -> None:
    assert [source.name for source, node in library() if isinstance(node, ast.Assert)] == []


def test_libraries_do_not_print() -> None:
    calls = ((source, node) for source, node in library() if isinstance(node, ast.Call))
    printing = {
        source.name for source, node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert [name for name in sorted(printing) if not PRINTERS.search(name)] == []


def test_no_error_is_swallowed_unseen() -> None:
    swallowed = []
    for source, node in library():
        if isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body):
            kind = ast.unparse(node.type) if node.type else ""
            if kind in ("", "Exception", "BaseException"):
                swallowed.append(f"{source.name}:{node.lineno}")
    assert swallowed == []


def test_no_path_of_one_machine() -> None:
    found = {
        source.name: MACHINE_PATH.findall(source.text)
        for source in sources()
        if "tests/tidy" not in source.name
    }
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_the_server_imports_only_the_wire_of_the_sdk() -> None:
    """The layers themselves are contracts of import-linter; this one needs "everything but"."""
    wrong = []
    for source, node in library():
        if not source.name.startswith("client/"):
            names = [name for name in imported(node) if name.split(".")[0] == "everspace"]
            wrong += [
                f"{source.name}: {name}" for name in names if not f"{name}.".startswith("everspace.wire.")
            ]
    assert wrong == []


def test_the_engine_imports_the_standard_library_and_numpy() -> None:
    allowed = {
        "__future__", "array", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "heapq",
        "itertools", "math", "numpy", "operator", "re", "struct", "types", "typing", "unicodedata", "zlib", "engine",
    }  # fmt: skip
    engine = ((source, node) for source, node in library() if source.name.startswith("engine/"))
    assert {
        (source.name, name)
        for source, node in engine
        for name in imported(node)
        if name.split(".")[0] not in allowed
    } == set()


def test_the_engine_and_the_store_read_no_environment() -> None:
    """Settings come in as arguments; only failpoints are armed from outside the process."""
    nodes = ((source, node) for source, node in library() if isinstance(node, ast.Attribute))
    readers = {source.name for source, node in nodes if node.attr in ("environ", "getenv")}
    readers = {name for name in readers if name.startswith(("engine/", "storage/"))}
    assert readers <= {"storage/failpoints.py"}
