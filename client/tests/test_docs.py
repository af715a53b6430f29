"""The documents of the client say what is so: names, errors, commands, options."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import everspace
from everspace import errors

DOCS = Path(__file__).parents[2] / "docs"
SDK = (DOCS / "sdk.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", SDK, re.MULTILINE | re.DOTALL)
COMMANDS = [
    "vas ls", "vas create", "vas find", "vas rm", "vas chmod", "vas chown", "vas regions", "vas core", "vas clone",
    "vas snapshot", "vas reset", "vas diff", "vas lineage", "vas usage", "vas rename", "vas roots", "vas locks", "vas fork",
    "vas exec", "seg clone", "seg snapshot", "seg reset", "seg diff", "seg lineage", "seg usage", "seg rename", "seg heap",
    "task fork", "task exec", "task limits", "task smaps", "events", "account", "audit",
    "seg ls", "seg find", "seg rm", "seg chmod", "seg chown", "seg create", "seg attach", "seg detach", "seg import",
    "seg export", "task ls", "task spawn", "task rm", "task core", "maps", "hexdump seg", "hexdump task",
]  # fmt: skip


def test_the_examples_are_there() -> None:
    assert len(PROGRAMS) >= 7


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_example_compiles_and_uses_names_that_exist(program: str) -> None:
    for node in ast.walk(ast.parse(program)):
        match node:
            case ast.Attribute(value=ast.Name(id="everspace"), attr=name):
                assert hasattr(everspace, name)
            case ast.ImportFrom(module="everspace", names=names):
                assert all(hasattr(everspace, alias.name) for alias in names)


def test_the_tree_of_errors_is_the_trees() -> None:
    tree = re.findall(r"```text\n(VasError.*?)```", SDK, re.DOTALL)[0]
    ours = [re.sub(r"[^A-Za-z].*", "", line.lstrip(" │├└─")) for line in tree.splitlines()]
    for name in ours:
        assert issubclass(getattr(errors, name), everspace.VasError)
    assert set(ours) == {
        name for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, OSError)
    }


def test_every_public_method_is_documented() -> None:
    for cls in (
        everspace.Client,
        everspace.Task,
        everspace.Thread,
        everspace.Space,
        everspace.Segment,
        everspace.Events,
        everspace.Handle,
    ):
        for base in cls.__mro__[:-1]:
            for name, member in vars(base).items():
                hidden = name.startswith("_") or name in (
                    "perform",
                    "adopt",
                    "session",
                    "resolve",
                    "fail",
                    "done",
                )
                assert hidden or not callable(member) or name in SDK, f"{cls.__name__}.{name}"


def test_every_documented_member_of_the_client_and_every_call_exists() -> None:
    for name in re.findall(r"^\| `(\w+)\(", SDK, re.MULTILINE):
        assert hasattr(everspace.Client, name) or hasattr(everspace.Task, name), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_and_exists(cli: Any, command: str) -> None:
    assert re.search(rf"`{command}[ `]", CLI)
    status, out, _ = cli(*command.split(), "--help")
    assert (status, out.startswith(f"Usage: everspace {command}")) == (0, True)


def test_no_command_is_missing_in_the_document(cli: Any) -> None:
    listed = []
    for group in ("vas", "seg", "task", "hexdump"):
        _, out, _ = cli(group, "--help")
        listed += [
            f"{group} {name}"
            for name in re.findall(r"^  (\w+) ", out.partition("Commands:")[2], re.MULTILINE)
        ]
    assert sorted([*listed, "maps", "events", "account", "audit"]) == sorted(COMMANDS)


def test_the_options_in_the_document_exist(cli: Any) -> None:
    for row in re.findall(r"^\| (`.*?) \|", CLI, re.MULTILINE):
        for written in re.findall(r"`([a-z][^`]+)`", row):
            words = shlex.split(re.sub(r"[\[\]]", " ", written))
            command = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
            _, out, _ = cli(*command.split(), "--help")
            assert [word for word in words if word.startswith("--") and word not in out] == []
