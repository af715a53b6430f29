"""The administrator's command: every command describes itself, and none loads more than it needs."""

import subprocess
import sys

import pytest

from app.cli import COMMANDS, main

HEAVY = {
    "fastapi",
    "uvicorn",
    "sqlalchemy",
    "alembic",
    "engine.machine",
    "pydantic",
    "numpy",
    "lmdb",
    "everspace",
}


@pytest.mark.parametrize("command", [module.__name__.rpartition(".")[2] for module in COMMANDS])
def test_every_command_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["everspaced", command, "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: everspaced {command}")


def test_help_loads_no_service() -> None:
    script = "import app.cli, sys; app.cli.parser(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
