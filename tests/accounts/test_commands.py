"""The commands about accounts, on every database: what they print, and how they end."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.cli import main
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
    everspaced("account create --uid 7 --gid 7", status=1)
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
    assert [entry["target"] for entry in entries] == ["uid 7 spaces=1", "uid 7", "uid 7, token 1"]
    assert all(datetime.fromisoformat(entry["time"]).tzinfo is not None for entry in entries)
    assert everspaced("audit prune --before 1h") == "0 entries removed\n"
    assert everspaced("audit prune --before 2099-01-01") == "4 entries removed\n"
    (left,) = rows(everspaced("audit list"))
    assert left[3:6] == ["audit", "prune", "200"]
    everspaced("audit prune", status=2)
    everspaced("audit list --since yesterday", status=2)


def test_the_journal_is_printed_in_pages(
    everspaced: Run, accounts: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.commands.audit.PAGE", 3)
    for gid in range(10):
        accounts.create_group(gid)
    for limit in (1, 3, 4, 9, 10, 11):
        printed = everspaced(f"audit list --limit {limit}")
        assert [row[-1] for row in rows(printed)] == [str(gid) for gid in range(9, -1, -1)][:limit]


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
