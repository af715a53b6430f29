"""Accounts and tokens: the administrator's commands beside a running service, with effect at once."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest

import everspace
from tests.conformance.support.http import Problem
from tests.conformance.support.service import Service, until


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


def test_groups_come_and_go_at_once(service: Service) -> None:
    """What the mode gives a group, a member has from the next request on, and no longer."""
    owner, other = service.http(service.account(1001, 500)), service.http(service.account(1002, 1002))
    sid = owner.call(
        "POST",
        "/v1/segments",
        {"name": "shared", "start": "0x100000000000", "end": "0x100000001000", "mode": 0o640},
        status=201,
    ).json["id"]
    path = f"/v1/segments/{sid}/data"
    assert other.request("GET", path).status == 403
    assert service.everspaced("group add", "--gid", "500", "--uid", "1002").returncode == 0
    assert other.request("GET", path).status == 200
    assert service.everspaced("group remove", "--gid", "500", "--uid", "1002").returncode == 0
    assert other.request("GET", path).status == 403
    one_line(service.everspaced("group remove", "--gid", "500", "--uid", "1002"), 1)
    one_line(service.everspaced("group delete", "--gid", "1002"), 1)


def test_what_a_deleted_account_owns_stays(service: Service) -> None:
    """As on Unix: it belongs to the uid, whoever has that next."""
    old = service.account(1001, 500)
    http = service.http(old)
    vid = http.call("POST", "/v1/vas", {"name": "left", "mode": 0o600}, status=201).json["id"]
    assert service.everspaced("account delete", "--uid", "1001").returncode == 0
    assert http.request("GET", "/v1/vas").status == 401
    root = service.http()
    assert root.call("GET", f"/v1/vas/{vid}").json["uid"] == 1001
    new = service.http(service.account(1001, 500))
    new.call("DELETE", f"/v1/vas/{vid}")
    assert status(service, old) == 401


def test_a_token_ends_when_it_expires(service: Service) -> None:
    """Without anybody touching the accounts, on a connection that is open."""
    service.account(1001, 500)
    ends = datetime.now(UTC) + timedelta(seconds=3)
    made = service.everspaced("token create", "--uid", "1001", "--expires", ends.isoformat())
    assert (made.returncode, made.stderr) == (0, ""), made
    http = service.http(made.stdout.strip())
    seen: set[int] = set()

    def ended() -> bool:
        seen.add(http.request("GET", "/v1/vas").status)
        return 401 in seen

    until("the token ends", ended)
    assert datetime.now(UTC) >= ends
    assert seen <= {200, 401}
    assert "expired" in service.everspaced("token list").stdout
