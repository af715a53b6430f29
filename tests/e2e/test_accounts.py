"""Accounts and tokens: the administrator's commands beside a running service, with effect at once."""

import subprocess

import pytest

import everspace
from tests.conformance.support.http import Problem
from tests.conformance.support.service import Service


def status(service: Service, token: str) -> int:
    """What the service answers to this token."""
    return service.http(token).request("GET", "/v1/vas").status


def one_line(done: subprocess.CompletedProcess[str], code: int) -> None:
    assert done.returncode == code, done
    assert done.stdout == "", done
    assert done.stderr.count("\n") == 1, done
    assert done.stderr.endswith("\n"), done


def token_ids(service: Service, uid: int) -> list[str]:
    """The ids of an account's tokens, out of the table that `token list` prints: the id is a row's first word."""
    done = service.everspaced("token list")
    assert (done.returncode, done.stderr) == (0, ""), done
    rows = [line.split() for line in done.stdout.splitlines()]
    return [words[0] for words in rows if str(uid) in words[1:]]


def test_a_new_account_works_at_once(service: Service) -> None:
    done = service.everspaced(
        "account create", "--uid", "1001", "--gid", "500", "--gid", "600", "--name", "ada"
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    token = done.stdout.removesuffix("\n")
    assert len(token) >= 32
    assert token == token.strip(), "the token alone"
    assert "\n" not in token
    http = service.http(token)
    task = http.call("POST", "/v1/tasks", {}, status=201).json
    assert (task["uid"], task["gids"]) == (1001, [500, 600])
    listed = service.everspaced("account list")
    assert listed.returncode == 0
    line = next(line for line in listed.stdout.splitlines() if "ada" in line)
    assert "1001" in line
    assert "500" in line
    assert token not in listed.stdout


def test_a_token_more_and_a_token_less(service: Service) -> None:
    first = service.account(1001, 500)
    (first_id,) = token_ids(service, 1001)
    made = service.everspaced("token create", "--uid", "1001")
    second = made.stdout.strip()
    assert (made.returncode, made.stdout, made.stderr) == (0, f"{second}\n", "")
    assert first != second
    assert (status(service, first), status(service, second)) == (200, 200)
    done = service.everspaced("token revoke", first_id)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert (status(service, first), status(service, second)) == (401, 200)
    assert first_id not in token_ids(service, 1001) or "revoked" in service.everspaced("token list").stdout


def test_a_revoked_token_ends_a_conversation(service: Service) -> None:
    """On a connection that is open, for a task that lives: the next request is refused."""
    token = service.account(1001, 500)
    (token_id,) = token_ids(service, 1001)
    with everspace.connect(service.url, token) as client:
        task = client.spawn()
        vid = task.vas_create("space", 0o600)
        assert service.everspaced("token revoke", token_id).returncode == 0
        with pytest.raises(everspace.VasError) as raised:
            task.vas_delete(vid)
        assert isinstance(raised.value, everspace.errors.AuthenticationError)
    http = service.http()
    assert [item["name"] for item in http.get("/v1/vas")["items"]] == ["space"]


def test_tokens_survive_a_restart_and_revoked_ones_do_not(service: Service) -> None:
    kept, gone = service.account(1001, 500), service.account(1002, 500)
    (gone_id,) = token_ids(service, 1002)
    assert service.everspaced("token revoke", gone_id).returncode == 0
    service.kill()
    service.start()
    assert (status(service, kept), status(service, gone), status(service, service.root_token)) == (
        200,
        401,
        200,
    )


def test_accounts_are_made_before_the_first_start_and_after_a_stop(fresh: Service) -> None:
    fresh.start()
    assert fresh.stop() == 0
    token = fresh.account(1001, 500)
    fresh.start()
    assert status(fresh, token) == 200


def test_an_account_is_made_once(service: Service) -> None:
    token = service.account(1001, 500)
    one_line(service.everspaced("account create", "--uid", "1001", "--gid", "7"), 1)
    one_line(service.everspaced("account create", "--uid", "0", "--gid", "0"), 1)
    http = service.http(token)
    assert http.call("POST", "/v1/tasks", {}, status=201).json["gids"] == [500]


def test_there_is_no_token_for_nobody(service: Service) -> None:
    one_line(service.everspaced("token create", "--uid", "4711"), 1)
    one_line(service.everspaced("token revoke", "4711"), 1)


def test_bad_arguments_of_account_commands(service: Service) -> None:
    for options in (
        ("--uid", "x", "--gid", "1"), ("--uid", "-1", "--gid", "1"), ("--uid", "1"), ("--uid", "1", "--gid", "-1"),
        ("--uid", "99999999999", "--gid", "1"),
    ):  # fmt: skip
        one_line(service.everspaced("account create", *options), 2)
    assert "4711" not in service.everspaced("account list").stdout


def test_no_token_is_kept_in_the_clear(service: Service) -> None:
    token = service.account(1001, 500).encode("ascii")
    root = service.root_token.encode("ascii")
    for path in service.data_dir.rglob("*"):
        if path.is_file() and path.name != "root.token":
            data = path.read_bytes()
            assert token not in data, path
            assert root not in data, path
    assert token.decode() not in service.said()


def test_the_account_decides_what_a_token_may(service: Service) -> None:
    owner, other = service.account(1001, 500), service.account(1003, 1003)
    mine, theirs = service.http(owner), service.http(other)
    vid = mine.call("POST", "/v1/vas", {"name": "mine", "mode": 0o600}, status=201).json["id"]
    with pytest.raises(Problem) as raised:
        theirs.call("DELETE", f"/v1/vas/{vid}")
    assert raised.value.errno == "EACCES"
    second = service.everspaced("token create", "--uid", "1001").stdout.strip()
    service.http(second).call("DELETE", f"/v1/vas/{vid}")
