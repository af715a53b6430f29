"""The commands about accounts, on every database: what they print, and how they end."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from app.cli import main, parser
from app.commands.options import settings_of
from storage.sql.accounts import AccountStore, Quota
from tests.accounts.conftest import Place
from tests.accounts.support import bearer

Run = Callable[..., str]


@pytest.fixture
def everspaced(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `everspaced COMMAND …`; what it prints. Checks status and that only refusals complain, in one line."""
    monkeypatch.setenv("EVERSPACE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("EVERSPACE_ACCOUNTS_URL", place.url)

    def run(command: str, *more: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["everspaced", *command.split(), *more])
        assert main() == status
        said = capsys.readouterr()
        assert said.err.count("\n") == (status != 0), said
        assert status == 0 or said.out == "", said
        return said.out

    return run


def rows(printed: str) -> list[list[str]]:
    """The words of a table's rows, without its head."""
    return [line.split() for line in printed.splitlines()[1:]]


def test_accounts(everspaced: Run, accounts: AccountStore) -> None:
    token = everspaced("account create --uid 7 --gid 71 --gid 70", "--name", "Ada L.").removesuffix("\n")
    assert bearer(accounts, token).gids == (71, 70)
    assert rows(everspaced("account list")) == [["7", "71,70", "Ada", "L."]]
    everspaced("account create --uid 7 --gid 7", status=1)
    everspaced("account create --uid 8 --gid 8 --gid 8", status=2)
    assert everspaced("account rename --uid 7 --name ada") == ""
    everspaced("account rename --uid 9 --name ada", status=1)
    everspaced("account rename --uid 7", "--name", "a\nb", status=2)
    assert rows(everspaced("account list")) == [["7", "71,70", "ada"]]
    assert everspaced("account delete --uid 7") == ""
    everspaced("account delete --uid 7", status=1)
    everspaced("account delete --uid 0", status=2)
    assert accounts.authenticate(token) is None
    assert rows(everspaced("account list")) == []


def test_tokens(everspaced: Run, accounts: AccountStore) -> None:
    accounts.create_account(7, (7,))
    reading = everspaced("token create --uid 7 --scope read --expires 30d").strip()
    grant = accounts.authenticate(reading)
    assert grant is not None
    assert grant.scopes == {"read"}
    assert grant.expires is not None
    assert timedelta(days=29) < grant.expires - datetime.now(UTC) <= timedelta(days=30)
    both = everspaced("token create --uid 7 --scope read --scope audit --expires 2099-01-31T12:00:00+02:00")
    other = accounts.authenticate(both.strip())
    assert other is not None
    assert other.scopes == {"read", "audit"}
    listed = rows(everspaced("token list"))
    assert [row[:2] + row[4:] for row in listed] == [
        ["1", "7", "read,write,audit", "valid"], ["2", "7", "read", "valid"], ["3", "7", "read,audit", "valid"],
    ]  # fmt: skip
    assert [row[3] for row in listed][::2] == ["-", "2099-01-31T10:00:00Z"]
    assert everspaced("token revoke 2") == ""
    assert everspaced("token revoke 2") == ""
    assert accounts.authenticate(reading) is None
    assert rows(everspaced("token list"))[1][5] == "revoked"
    everspaced("token revoke 99", status=1)
    everspaced("token revoke 4294967294", status=1)
    everspaced("token create --uid 9", status=1)
    for printed in (everspaced("token list"), everspaced("audit list"), everspaced("audit list --json")):
        for token in (reading, both.strip()):
            assert token not in printed
            assert token.removeprefix("evs_")[:8] not in printed


def test_tokens_that_cannot_be(everspaced: Run, accounts: AccountStore, subtests: pytest.Subtests) -> None:
    accounts.create_account(7, (7,))
    for options in (
        "--scope root", "--scope read,write", "--scope Read", "--expires 0d", "--expires 2001-01-01", "--expires soon",
        "--expires -1d", "--expires 999999w", "--expires 1y", "--expires 2099-13-01", "--expires 36501d",
        "--expires 9999-12-31T23:59:59-23:00",
    ):  # fmt: skip
        with subtests.test(options):
            everspaced(f"token create --uid 7 {options}", status=2)
    assert len(accounts.list_tokens()) == 1


def test_groups(everspaced: Run, accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    assert everspaced("group create --gid 70 --name staff") == ""
    everspaced("group create --gid 70", status=1)
    assert everspaced("group add --gid 70 --uid 7") == ""
    assert bearer(accounts, token).gids == (7, 70)
    assert rows(everspaced("group list")) == [["7", "7", "gid-7"], ["70", "7", "staff"]]
    everspaced("group add --gid 70 --uid 8", status=1)
    everspaced("group add --gid 71 --uid 7", status=1)
    everspaced("group remove --gid 7 --uid 7", status=1)
    assert everspaced("group remove --gid 70 --uid 7") == ""
    everspaced("group remove --gid 70 --uid 7", status=1)
    assert rows(everspaced("group list")) == [["7", "7", "gid-7"], ["70", "-", "staff"]]
    assert everspaced("group delete --gid 70") == ""
    everspaced("group delete --gid 70", status=1)
    everspaced("group delete --gid 7", status=1)
    everspaced("group delete", status=2)
    assert everspaced("group rename --gid 7 --name crew") == ""
    assert rows(everspaced("group list")) == [["7", "7", "crew"]]
    everspaced("group rename --gid 70 --name crew", status=1)
    everspaced("group rename --gid 7", "--name", "", status=2)


def test_quotas(everspaced: Run, accounts: AccountStore) -> None:
    token = accounts.create_account(7, (7,))
    accounts.create_account(8, (8,))
    assert rows(everspaced("quota show")) == []
    assert rows(everspaced("quota show --uid 7")) == [["7", *["none"] * 5]]
    printed = everspaced("quota set --uid 7 --spaces 3 --segments 4 --bytes 1048576 --tasks 5 --rate 6")
    assert rows(printed) == [["7", "3", "4", "1048576", "5", "6"]]
    assert bearer(accounts, token).quota == Quota(3, 4, 1048576, 5, 6)
    everspaced("quota set --uid 7 --spaces none --rate 9")
    assert rows(everspaced("quota show")) == [["7", "none", "4", "1048576", "5", "9"]]
    everspaced("quota show --uid 9", status=1)
    everspaced("quota set --uid 9 --spaces 1", status=1)
    for options in (
        "", "--spaces -1", "--spaces x", "--rate 0", f"--bytes {2**63}", "--tasks 1e3", "--tasks 1K", "--bytes 1.5G",
        "--bytes G", "--bytes 1GB", "--bytes 8388608T", "--bytes 1E", "--spaces ²", "--bytes ٣",
    ):  # fmt: skip
        everspaced(f"quota set --uid 7 {options}", status=2)
    everspaced("quota set --uid 0 --spaces 1", status=2)
    assert accounts.quotas() == {7: Quota(None, 4, 1048576, 5, 9)}
    for text, size in (("0", 0), ("64K", 2**16), ("512MiB", 2**29), ("10G", 10 * 2**30), ("3TiB", 3 * 2**40)):
        assert rows(everspaced(f"quota set --uid 7 --bytes {text}")) == [
            ["7", "none", "4", str(size), "5", "9"]
        ]


def test_the_journal(everspaced: Run, accounts: AccountStore) -> None:
    everspaced("account create --uid 7 --gid 7")
    everspaced("account create --uid 7 --gid 7 --gid 8", status=1)
    everspaced("quota set --uid 7 --spaces 1")
    printed = everspaced("audit list")
    assert [row[3:5] for row in rows(printed)] == [
        ["quota", "set"],
        ["account", "create"],
        ["account", "create"],
    ]
    assert "EEXIST" in printed
    assert len(rows(everspaced("audit list --limit 2"))) == 2
    assert len(rows(everspaced("audit list --errno EEXIST"))) == 1
    assert len(rows(everspaced("audit list", "--call", "quota set"))) == 1
    assert len(rows(everspaced("audit list --since 1h"))) == 3
    assert rows(everspaced("audit list --until 1h")) == []
    assert rows(everspaced("audit list --until 999999w")) == []
    assert rows(everspaced("audit list --uid 7")) == [], "nothing was done with a token of that account"
    entries = [json.loads(line) for line in everspaced("audit list --json").splitlines()]
    assert [entry["target"] for entry in entries] == [
        "uid 7 spaces=1",
        'uid 7 gids=7,8 name="uid-7"',
        'uid 7, token 1 gids=7 name="uid-7"',
    ]
    assert all(entry["time"].endswith("Z") for entry in entries)
    assert all(datetime.fromisoformat(entry["time"]).tzinfo is not None for entry in entries)
    assert everspaced("audit prune --before 1h") == "0 entries removed\n"
    assert everspaced("audit prune --before 2099-01-01") == "4 entries removed\n"
    (left,) = rows(everspaced("audit list"))
    assert left[3:6] == ["audit", "prune", "200"]
    everspaced("audit prune", status=2)
    everspaced("audit list --since yesterday", status=2)
    everspaced("audit list --errno EFOO", status=2)


def test_the_journal_tells_what_rights_were_given(everspaced: Run, accounts: AccountStore) -> None:
    everspaced("account create --uid 7 --gid 7 --gid 70", "--name", 'Ada "L" token 9')
    everspaced("token create --uid 7 --scope audit --scope read --expires 2099-01-31T12:00:00+02:00")
    everspaced("token create --uid 7")
    everspaced("token create --uid 8 --scope read", status=1)
    everspaced("account rename --uid 7 --name ada")
    everspaced("group rename --gid 70 --name staff")
    everspaced("group create --gid 71 --name others")
    entries = [json.loads(line) for line in everspaced("audit list --json").splitlines()]
    assert [entry["target"] for entry in reversed(entries)] == [
        r'uid 7, token 1 gids=7,70 name="Ada \"L\" token 9"',
        "uid 7, token 2 scopes=read,audit expires=2099-01-31T10:00:00Z",
        "uid 7, token 3 scopes=read,write,audit expires=never",
        "uid 8 scopes=read",
        'uid 7 name="ada"',
        'gid 70 name="staff"',
        'gid 71 name="others"',
    ]


def test_lists_in_json(everspaced: Run, accounts: AccountStore) -> None:
    everspaced("account create --uid 7 --gid 70 --gid 7 --name ada")
    everspaced("token create --uid 7 --scope read --expires 2099-01-31")
    everspaced("token revoke 1")
    everspaced("quota set --uid 7 --tasks 5")

    def objects(command: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in everspaced(f"{command} --json").splitlines()]

    assert objects("account list") == [{"uid": 7, "gids": [70, 7], "name": "ada"}]
    assert objects("group list") == [
        {"gid": 7, "name": "gid-7", "members": [7]},
        {"gid": 70, "name": "gid-70", "members": [7]},
    ]
    quota = {"uid": 7, "spaces": None, "segments": None, "bytes": None, "tasks": 5, "rate": None}
    assert objects("quota show") == objects("quota show --uid 7") == [quota]
    first, second = objects("token list")
    assert (first["id"], first["uid"], first["scopes"], first["expires"]) == (
        1,
        7,
        ["read", "write", "audit"],
        None,
    )
    assert first["revoked"].endswith("Z")
    assert (second["scopes"], second["revoked"]) == (["read"], None)
    assert second["expires"].startswith("2099-01-31T00:00:00")
    assert second["expires"].endswith("Z")


def test_the_journal_is_printed_in_pages(
    everspaced: Run, accounts: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.commands.audit.PAGE", 3)
    for gid in range(10):
        accounts.create_group(gid)
    for limit in (1, 3, 4, 9, 10, 11):
        printed = everspaced(f"audit list --limit {limit}")
        wanted = [f'name="gid-{gid}"' for gid in range(9, -1, -1)]
        assert [row[-1] for row in rows(printed)] == wanted[:limit]


COMMANDS = (
    "account list", "account rename --uid 7 --name x", "account delete --uid 7", "token list", "token create --uid 7",
    "token revoke 1", "group list", "group create --gid 7", "quota show", "quota set --uid 7 --tasks 1", "audit list",
    "audit prune --before 1d",
)  # fmt: skip


def said_of(capsys: pytest.CaptureFixture[str], command: str, *more: str) -> str:
    """What a command that must fail with status 2 complains of."""
    sys.argv = ["everspaced", *command.split(), *more]
    assert main() == 2, command
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said
    return said.err


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment."""
    for name in ("DATA_DIR", "ACCOUNTS_URL"):
        monkeypatch.delenv(f"EVERSPACE_{name}", raising=False)
    monkeypatch.setattr(sys, "argv", [])


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_without_accounts_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = said_of(capsys, command, "--data-dir", str(tmp_path))
    assert "is not a data directory" in said
    said = said_of(capsys, command, "--accounts-url", f"sqlite:///{tmp_path}/some.sqlite")
    assert "No such file" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("bare")
def test_the_first_account_of_a_fresh_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("account create --uid 7 --gid 7", "account list"):
        monkeypatch.setattr(sys, "argv", ["everspaced", *command.split(), "--data-dir", str(tmp_path)])
        assert main() == 0
    assert capsys.readouterr().out.startswith("evs_")


@pytest.mark.usefixtures("bare")
def test_a_data_directory_that_is_not_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("account list", "account create --uid 7 --gid 7", "serve"):
        assert "--data-dir (or EVERSPACE_DATA_DIR) is needed" in said_of(capsys, command)
        assert "is needed" in said_of(capsys, command, "--data-dir", "")
    monkeypatch.setenv("EVERSPACE_DATA_DIR", "")
    for command in ("account list", "serve"):
        assert "is needed" in said_of(capsys, command)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("command", ["fsck", "backup", "compact", "statistics", "migrate"])
def test_a_directory_without_a_name_is_not_this_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["file"] if command == "backup" else []
    assert "needs a name" in said_of(capsys, command, "", *more)
    assert "needs a name" in said_of(capsys, "restore", "file", "")


def test_accounts_elsewhere_need_no_data_directory(
    everspaced: Run, accounts: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.create_account(7, (7,))
    monkeypatch.delenv("EVERSPACE_DATA_DIR")
    assert rows(everspaced("account list")) == [["7", "7", "uid-7"]]


@pytest.mark.usefixtures("bare")
def test_what_a_setting_may_be_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for options, said in (
        ("--memory 512X", "--memory (EVERSPACE_MEMORY) is not a number"),
        ("--memory 1K", "--memory (EVERSPACE_MEMORY) is 1048576 at least"),
        ("--port 65536", "--port (EVERSPACE_PORT) is 65535 at most"),
        ("--keep-alive 0", "--keep-alive (EVERSPACE_KEEP_ALIVE) is more than 0.0"),
        ("--limit-map-count 1K", "--limit-map-count (EVERSPACE_LIMIT_MAP_COUNT) is not a number"),
        ("--log-format xml", "--log-format (EVERSPACE_LOG_FORMAT) is one of auto, json, console"),
        ("--otlp-endpoint nowhere", "--otlp-endpoint (EVERSPACE_OTLP_ENDPOINT) cannot be"),
    ):
        assert said in said_of(capsys, f"serve {options}", "--data-dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("bare")
def test_sizes_have_units(tmp_path: Path) -> None:
    options = "serve --memory 512M --swap-bytes 2GiB --limit-stack 64K --body-rate 0"
    settings = settings_of(parser().parse_args([*options.split(), "--data-dir", str(tmp_path)]))
    assert (settings.memory, settings.swap_bytes, settings.body_rate) == (512 << 20, 2 << 30, 0)
    assert settings.limits == {"stack": 64 << 10}


@pytest.mark.usefixtures("bare")
def test_the_release_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["everspaced", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code, capsys.readouterr().out) == (0, f"everspaced {version('everspace-server')}\n")


@pytest.mark.usefixtures("bare")
def test_what_a_time_may_be_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("token create --uid 7 --expires 2s", "audit list --since yesterday"):
        assert "nor a span like 90m, 12h, 30d or 4w" in said_of(capsys, command)


def test_a_database_that_is_not_there(
    everspaced: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for url in (f"sqlite:///{tmp_path}/no/where", f"postgresql://u:change-me@/x?host={tmp_path}", "nonsense"):
        monkeypatch.setenv("EVERSPACE_ACCOUNTS_URL", url)
        everspaced("account list", status=2)
    monkeypatch.setenv("EVERSPACE_DATA_DIR", str(tmp_path / "none"))
    everspaced("account list", status=2)
    monkeypatch.delenv("EVERSPACE_DATA_DIR")
    everspaced("account list", status=2)


@pytest.mark.usefixtures("bare")
def test_a_token_that_was_given_for_an_id_is_not_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = said_of(capsys, "token revoke", "evs_" + "x" * 43, "--data-dir", str(tmp_path))
    assert "evs_" not in said
    assert "struck out" in said
