"""What the package offers: every public name, the same in both halves, and quick to import."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import everspace
from everspace import constants, errors, models
from everspace._batch import BatchCalls

PACKAGE = Path(everspace.__file__).parent
TWINS = [
    ("Attached", "AsyncAttached"),
    ("Batch", "AsyncBatch"),
    ("Client", "AsyncClient"),
    ("Events", "AsyncEvents"),
    ("Inside", "AsyncInside"),
    ("Segment", "AsyncSegment"),
    ("Segments", "AsyncSegments"),
    ("Space", "AsyncSpace"),
    ("Spaces", "AsyncSpaces"),
    ("Task", "AsyncTask"),
    ("Thread", "AsyncThread"),
    ("connect", "aconnect"),
]
CALLS = [
    "vas_create",
    "vas_delete",
    "vas_find",
    "vas_attach",
    "vas_detach",
    "vas_switch",
    "active_vas",
    "vas_getattr",
    "vas_setattr",
    "vas_seg_create",
    "vas_seg_delete",
    "vas_seg_find",
    "vas_seg_attach",
    "vas_seg_detach",
    "vas_seg_getattr",
    "vas_seg_setattr",
    "read",
    "write",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "brk",
    "madvise",
    "mincore",
    "mlock",
    "munlock",
    "msync",
    "prlimit",
    "maps",
    "smaps",
    "mmview",
    "mmview_create",
    "mmview_migrate",
    "mmview_delete",
    "mmview_unshare",
    "new_as",
    "switch_as",
    "vas_clone",
    "vas_seg_clone",
    "vas_snapshot",
    "vas_seg_snapshot",
    "vas_reset",
    "vas_seg_reset",
    "vas_lineage",
    "vas_seg_lineage",
    "vas_fork",
    "vas_exec",
    "vas_mmap",
    "vas_munmap",
    "vas_mprotect",
    "vas_malloc",
    "vas_free",
    "heap_usage",
    "vas_set_root",
    "vas_get_root",
    "fork",
    "thread",
]


def test_all_is_alphabetical_complete_and_true() -> None:
    kinds = {name: 0 if name.isupper() else 1 if name[0].isupper() else 2 for name in everspace.__all__}
    assert everspace.__all__ == sorted(
        kinds, key=lambda name: (kinds[name], name)
    )  # CONSTANTS, Classes, functions
    for name in everspace.__all__:
        assert getattr(everspace, name) is not None
    assert set(everspace.__all__) <= set(dir(everspace))


def public_names(path: Path) -> set[str]:
    """Names defined at the top of a module without an underscore."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize(
    "module",
    ["accounts", "constants", "errors", "models", "client", "task", "spaces", "segments", "batch", "events"],
)
def test_every_public_name_of_the_public_modules_is_exported(module: str) -> None:
    internal = {"Calls", "ERRNO_CLASSES", "errno_error", "problem_error", "leaving_failed"}
    assert public_names(PACKAGE / f"{module}.py") - internal <= set(everspace.__all__)
    assert getattr(everspace, module, None) is import_module(f"everspace.{module}")


def test_what_is_exported_is_what_the_modules_define() -> None:
    for name in public_names(PACKAGE / "constants.py"):
        assert getattr(everspace, name) == getattr(constants, name)
    for module in (errors, models):
        for name in public_names(PACKAGE / f"{module.__name__.rpartition('.')[2]}.py") & set(
            everspace.__all__
        ):
            assert getattr(everspace, name) is getattr(module, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = everspace.nothing_like_this


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


def surface(cls: type) -> dict[str, Any]:
    names = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
    found = {
        names.get(name, name): value
        for base in reversed(cls.__mro__[:-1])
        for name, value in vars(base).items()
    }
    kept = ("__init__", "__enter__", "__exit__", "__len__", "__repr__")
    return {name: value for name, value in found.items() if not name.startswith("_") or name in kept}


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_the_twins_offer_the_same_with_the_same_parameters(sync: str, twin: str) -> None:
    one, other = getattr(everspace, sync), getattr(everspace, twin)
    if not isinstance(one, type):
        assert parameters(one) == parameters(other)
        return
    mine, theirs = surface(one), surface(other)
    assert set(mine) == set(theirs)
    for name, value in mine.items():
        assert isinstance(value, property) == isinstance(theirs[name], property)
        if callable(value):
            assert parameters(value) == parameters(theirs[name]), name


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_there_for_tasks_threads_and_batches(call: str) -> None:
    for cls in (
        everspace.Task,
        everspace.Thread,
        everspace.AsyncTask,
        everspace.AsyncThread,
        everspace.Batch,
    ):
        assert callable(getattr(cls, call))
    if call not in ("fork", "thread"):
        ours = [(name, default) for name, default, _ in parameters(getattr(everspace.Task, call))]
        assert [(name, default) for name, default, _ in parameters(getattr(BatchCalls, call))] == ours


def test_every_public_call_says_what_it_does() -> None:
    for sync, twin in TWINS:
        for name in (sync, twin):
            value = getattr(everspace, name)
            assert value.__doc__
            for member in surface(value).values() if isinstance(value, type) else ():
                if inspect.isfunction(member) and not member.__name__.startswith("_"):
                    assert member.__doc__, f"{name}.{member.__name__}"


def test_the_import_is_light() -> None:
    script = "import everspace, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "everspace.client" in loaded
    assert not loaded & {
        "asyncio",
        "ssl",
        "pydantic",
        "typer",
        "rich",
        "click",
        "httpx2",
        "http.client",
        "random",
        "logging",
    }


def test_the_wire_module_pulls_in_no_server() -> None:
    script = "import everspace.wire, everspace.testing, everspace.cli, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"app", "engine", "storage", "fastapi", "numpy", "lmdb"}
