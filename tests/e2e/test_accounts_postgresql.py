"""A service whose accounts are in PostgreSQL: the same as with a file, also while the database is gone for a while."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.support.service import EVERSPACED, Service, run, until
from tests.postgresql import PostgreSQL


class Elsewhere(Service):
    """A service with accounts at a URL, and its administrator who knows of it."""

    def __init__(self, data_dir: Path, url: str) -> None:
        super().__init__(data_dir, {"EVERSPACE_ACCOUNTS_URL": url})
        self._url = url

    def everspaced(self, command: str, *args: str) -> subprocess.CompletedProcess[str]:
        options = ["--data-dir", str(self.data_dir), "--accounts-url", self._url]
        return run([EVERSPACED, *command.split(), *options, *args])

    def done(self, command: str) -> str:
        """What a command prints that succeeds."""
        done = self.everspaced(command)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.strip()

    def status(self, token: str, path: str = "/v1/vas") -> int:
        return self.http(token).request("GET", path).status


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server that the test may end."""
    server = PostgreSQL()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def elsewhere(tmp_path: Path, own_postgresql: PostgreSQL) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path / "data", own_postgresql.url(own_postgresql.create()))
    yield made.start()
    made.close()
    assert "Traceback" not in made.said()


def test_accounts_in_postgresql(elsewhere: Elsewhere) -> None:
    """Made, used, changed and taken away beside the running service, at once; and there after a restart."""
    assert not list(elsewhere.data_dir.glob("accounts*"))
    token = elsewhere.done("account create --uid 1001 --gid 500")
    reading = elsewhere.done("token create --uid 1001 --scope read --expires 1h")
    http = elsewhere.http(token)
    assert http.call("POST", "/v1/tasks", {}, status=201).json["gids"] == [500]
    elsewhere.done("group create --gid 600")
    elsewhere.done("group add --gid 600 --uid 1001")
    assert http.call("POST", "/v1/tasks", {}, status=201).json["gids"] == [500, 600]
    assert elsewhere.status(reading) == 200
    assert elsewhere.http(reading).request("POST", "/v1/tasks", {}).status == 403
    elsewhere.done("quota set --uid 1001 --spaces 1")
    http.call("POST", "/v1/vas", {"name": "one", "mode": 0o600}, status=201)
    assert http.request("POST", "/v1/vas", {"name": "two", "mode": 0o600}).status == 429
    elsewhere.kill()
    elsewhere.start()
    assert (elsewhere.status(token), elsewhere.status(elsewhere.root_token)) == (200, 200)
    token_id = elsewhere.done("token list").splitlines()[2].split()[0]
    elsewhere.done(f"token revoke {token_id}")
    assert (elsewhere.status(token), elsewhere.status(reading)) == (401, 200)
    elsewhere.done("account delete --uid 1001")
    assert elsewhere.status(reading) == 401


def test_a_database_that_is_gone_for_a_while(elsewhere: Elsewhere, own_postgresql: PostgreSQL) -> None:
    """Nobody is let in while nobody can say who it is, and all goes on when the database is back."""
    token = elsewhere.done("account create --uid 1001 --gid 500")
    http = elsewhere.http(token)
    vid = http.call("POST", "/v1/vas", {"name": "kept", "mode": 0o600}, status=201).json["id"]
    own_postgresql.stop()
    refused = http.request("GET", f"/v1/vas/{vid}")
    assert (refused.status, "errno" in refused.json) == (503, False)
    assert refused.headers["retry-after"].isdigit()
    assert elsewhere.status(token, "/healthz") == 200
    until("it is not ready", lambda: elsewhere.status(token, "/readyz") == 503)
    done = elsewhere.everspaced("account list")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    own_postgresql.start()
    assert http.call("GET", f"/v1/vas/{vid}").json["name"] == "kept"
    until("it is ready", lambda: elsewhere.status(token, "/readyz") == 200)
    until("what was refused meanwhile is in the journal", lambda: " 503 " in elsewhere.done("audit list"))
    assert elsewhere.running()
