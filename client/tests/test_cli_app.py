"""What holds for every command: exit statuses, one-line errors, interrupts, pipes, a missing extra."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import everspace
from everspace.cli import values
from everspace.cli.app import run

COMMAND = [sys.executable, "-c", "from everspace.cli import main; main()"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bad"],
        ["vas", "ls", "--bad"],
        ["vas"],
        ["vas", "nope"],
        ["vas", "create"],
        ["vas", "create", "a", "b"],
        ["vas", "create", "a", "--mode"],
        ["vas", "create", "a", "--mode", "9"],
        ["vas", "chown", "root", "1"],
        ["vas", "ls", "--url", "ftp://x"],
        ["vas", "ls", "--token", "two words"],
        ["seg", "create", "a", "0x0", "1Q"],
        ["seg", "create", "a", "-1", "+4K"],
        ["hexdump", "seg", "1", "0", "-n", "lots"],
        ["task", "rm", "seven"],
        ["task", "spawn", "--lease", "long"],
        ["maps"],
    ],
)
def test_bad_usage_is_one_line_and_status_2(cli: Any, fake: Any, arguments: list[str]) -> None:
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("everspace: ")
    assert err.count("\n") == 1
    assert "Usage" not in err
    assert "Value error" not in err
    assert fake.requests == []


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["vas", "--help"], ["seg", "import", "--help"], ["--version"]]
)
def test_help_is_no_error(cli: Any, arguments: list[str]) -> None:
    status, out, err = cli(*arguments)
    assert (status, err) == (0, "")
    assert out


def test_a_service_that_cannot_be_reached_is_status_3(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert run(["vas", "ls", "--url", f"http://127.0.0.1:{port}"]) == 3
    assert capfd.readouterr().err == (
        f"everspace: cannot reach the service at http://127.0.0.1:{port}: Connection refused\n"
    )


@pytest.mark.parametrize(
    ("failure", "status", "line"),
    [
        (everspace.TransportTimeoutError("no answer within 30 s"), 3, "no answer within 30 s"),
        (everspace.ServiceUnavailable("the service is recovering"), 3, "the service is recovering"),
        (
            everspace.AuthenticationError("unknown token"),
            1,
            "unknown token (give --token or EVERSPACE_TOKEN)",
        ),
        (everspace.UnexpectedAnswerError("no\nsuch\troute"), 1, "no such route"),
        (everspace.BusyError(16, "held"), 1, "EBUSY: held"),
        (PermissionError(13, "Permission denied", "file"), 1, "EACCES: file: permission denied"),
        (OSError("odd"), 1, "error: odd"),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_every_failure_has_its_status_and_line(
    failure: BaseException, status: int, line: str | None, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(everspace.Client, "perform", fail)
    assert run(["vas", "find", "x"]) == status
    assert capfd.readouterr() == ("", "" if line is None else f"everspace: {line}\n")


def test_url_and_token_before_or_after_the_command_or_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, cli: Any, fake: Any
) -> None:
    for arguments in (["--token", "mine", "vas", "ls"], ["vas", "ls", "--token", "mine"]):
        assert cli(*arguments)[0] == 0
        assert dict(fake.requests[-1].headers)["Authorization"] == "Bearer mine"
    monkeypatch.setenv("EVERSPACE_TOKEN", "environment")
    cli("vas", "ls")
    assert dict(fake.requests[-1].headers)["Authorization"] == "Bearer environment"
    cli("vas", "ls", "--url", "http://host/prefix")
    assert fake.requests[-1].target == "/prefix/v1/vas?limit=1000"


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as out:
        done = subprocess.run([*COMMAND, "--version"], stdout=out, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


HEED_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""A shell that runs the tests in its background makes them, and so their children, ignore SIGINT."""


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    path = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        script = HEED_CTRL_C + "from everspace.cli import main; main()"
        waiting = subprocess.Popen(
            [sys.executable, "-c", script, "vas", "ls", "--url", f"unix:{path}"], stderr=subprocess.PIPE
        )
        accepted, _ = silent.accept()
        assert accepted.recv(10)
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=20)
        accepted.close()
    assert (waiting.returncode, err) == (130, b"")


def test_without_the_extra_the_fix_is_printed() -> None:
    script = "import sys; sys.modules['typer'] = None; from everspace.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "everspace: typer is missing; the fix: pip install 'everspace[cli]'\n"


def test_what_the_terminal_cannot_show_is_escaped(cli: Any, fake: Any) -> None:
    cli("vas", "create", "größe")
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    script = "from everspace.cli.shell import Common, Shell; Shell(Common()).write('gr\\u00f6\\u00dfe')"
    done = subprocess.run([sys.executable, "-c", script], env=ascii_only, capture_output=True, check=True)
    assert done.stdout == b"gr\\xf6\\xdfe\n"


def test_sizes() -> None:
    sizes = {
        "0": 0,
        "4096": 4096,
        "0x1000": 4096,
        "4K": 4096,
        "4k": 4096,
        "64KiB": 65536,
        "1.5M": 3 << 19,
        "1GB": 1 << 30,
    }
    assert {text: values.parse_size(text) for text in sizes} == sizes
    for bad in ("", "K", "-1", "1.K", ".5K", "1Q", "1 K", "0x", "0.3K", "1e3", "٣"):
        with pytest.raises(ValueError, match=r"not a|whole number"):
            values.parse_size(bad)
    assert [values.show_size(size) for size in (0, 1, 4096, 4097, 1 << 20, 3 << 29)] == [
        "0",
        "1",
        "4K",
        "4097",
        "1M",
        "1536M",
    ]


def test_modes_owners_and_names() -> None:
    assert [values.parse_mode(text) for text in ("0", "640", "0640", "0o640")] == [0, 0o640, 0o640, 0o640]
    for bad in ("", "8", "rw-", "-1", "0x1", "1234567"):
        with pytest.raises(ValueError, match="mode"):
            values.parse_mode(bad)
    assert values.show_mode(0o640) == "640 rw-r-----"
    assert values.parse_owner("5:") == values.Owner(5, None)
    for bad in ("", ":", "a", "1:b", "-1"):
        with pytest.raises(ValueError, match="owner"):
            values.parse_owner(bad)
    assert values.parse_which("7") == values.Which(7, "")
    assert values.parse_which("name:7") == values.Which(None, "7")
    assert values.parse_which("-7") == values.Which(None, "-7")
