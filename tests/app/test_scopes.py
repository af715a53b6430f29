"""What a token is good for, and until when: at once, also where a request waits or a stream is open."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from app.accounts.auth import FAILURES_PER_S
from app.accounts.opening import open_accounts
from storage.errors import AccountsUnreachable
from tests.app.following import following
from tests.app.support import Site, until

HOUR = timedelta(hours=1)


def limited(site: Site, *scopes: str, expires_in: timedelta | None = None) -> str:
    """A token of uid 1001 with these scopes."""
    accounts = open_accounts(site.service.settings)
    try:
        if 1001 not in {account.uid for account in accounts.list_accounts()}:
            accounts.create_account(1001, [1001])
        return accounts.create_token(1001, scopes=scopes or ("read", "write", "audit"), expires_in=expires_in)
    finally:
        accounts.close()


def revoke_all(site: Site) -> None:
    """Revoke every token of uid 1001, as the command line does."""
    accounts = open_accounts(site.service.settings)
    for row in accounts.list_tokens():
        if row.uid == 1001:
            accounts.revoke_token(row.id)
    accounts.close()


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/vas", "read"),
        ("HEAD", "/events", "read"),
        ("GET", "/nowhere", "read"),
        ("GET", "/account", "read"),
        ("POST", "/vas", "write"),
        ("DELETE", "/vas/1", "write"),
        ("PUT", "/tasks/1/memory", "write"),
        ("POST", "/tasks/1/batch", "write"),
        ("GET", "/audit", "audit"),
    ],
)
async def test_a_request_needs_its_scope_and_no_other(site: Site, method: str, path: str, scope: str) -> None:
    others = {"read", "write", "audit"} - {scope}
    refused = await site.send(method, f"/v1{path}", token=limited(site, *others))
    assert refused.status == 403
    assert method == "HEAD" or refused.errno == "EPERM"
    challenge = refused.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope}"' in challenge
    admitted = await site.send(method, f"/v1{path}", token=limited(site, scope), hang_up=True)
    assert "www-authenticate" not in admitted.headers


async def test_a_token_expires_while_it_is_known(site: Site) -> None:
    token = limited(site, expires_in=HOUR)
    assert (await site.call("GET", "/vas", token=token)).status == 200

    later(site)
    answer = await site.call("GET", "/vas", token=token)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def later(site: Site) -> None:
    """Two hours pass for those who judge tokens."""
    site.service.authenticator._clock = lambda: time.time() + 7200


@pytest.mark.parametrize("how", ["revoked", "expires", "account deleted"])
async def test_an_open_stream_ends_with_its_token(site: Site, how: str) -> None:
    token = limited(site, expires_in=HOUR if how == "expires" else None)
    async with following(site, token=token) as stream:
        await end(site, how)
        await until(lambda: stream.ended)


async def test_a_stream_ends_with_its_token_whatever_floods_of_bad_tokens_there_are(site: Site) -> None:
    authenticator = site.service.authenticator
    now = time.time()
    authenticator._clock = lambda: now
    async with following(site, token=limited(site)) as stream:
        for peer in ("", "127.0.0.1"):
            for _ in range(FAILURES_PER_S):
                authenticator._note_failure(peer)
        revoke_all(site)
        await authenticator.look()
        await until(lambda: stream.ended)


async def end(site: Site, how: str) -> None:
    if how == "expires":
        later(site)
    elif how == "revoked":
        revoke_all(site)
    elif how == "account deleted":
        accounts = open_accounts(site.service.settings)
        accounts.delete_account(1001)
        accounts.close()


@pytest.mark.parametrize("how", ["revoked", "expires"])
async def test_a_call_that_waits_ends_with_its_token(site: Site, how: str) -> None:
    token = limited(site, expires_in=HOUR if how == "expires" else None)
    body = {"name": "space", "mode": 0o666, "sharing": "lockable"}
    vid = (await site.ok("POST", "/vas", body))["id"]
    holder = await site.task()
    await site.ok("PUT", f"/tasks/{holder}/vas/{vid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{holder}/threads/{holder}/active", {"vid": vid})
    waiter = (await site.ok("POST", "/tasks", {}, token=token))["pid"]
    await site.ok("PUT", f"/tasks/{waiter}/vas/{vid}", {"type": "rw"}, token=token)
    waiting = asyncio.create_task(
        site.call("PUT", f"/tasks/{waiter}/threads/{waiter}/active", {"vid": vid}, token=token)
    )
    await until(lambda: len(site.service.machine.locks) == 1)
    await end(site, how)
    answer = await asyncio.wait_for(waiting, 30)
    assert (answer.status, answer.errno) == (401, None)
    assert len(site.service.machine.locks) == 0


async def test_tokens_that_are_no_good_are_looked_up_only_so_often(site: Site) -> None:
    await site.ok("GET", "/vas")
    now = time.time()
    site.service.authenticator._clock = lambda: now
    for number in range(FAILURES_PER_S):
        site.service.authenticator._note_failure(f"10.0.0.{number % 2}")
    answers = [await site.send("GET", "/v1/vas", token=f"evs_{number}") for number in range(3)]
    assert [answer.status for answer in answers] == [401] * 3
    for _ in range(FAILURES_PER_S):
        site.service.authenticator._note_failure("127.0.0.1")
    refused = await site.send("GET", "/v1/vas", token="evs_other")
    assert (refused.status, refused.errno, refused.headers["retry-after"]) == (429, "EAGAIN", "1")
    assert (await site.send("GET", "/v1/vas", token="evs_1")).status == 401
    assert (await site.send("GET", "/v1/vas")).status == 200


async def test_accounts_that_do_not_answer_are_503(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise AccountsUnreachable("the accounts cannot be reached: gone")

    monkeypatch.setattr(site.service.authenticator._accounts, "data_version", unreachable)
    answer = await site.send("GET", "/v1/vas")
    assert (answer.status, answer.errno, answer.headers["retry-after"]) == (503, None, "1")
    monkeypatch.undo()
    assert (await site.send("GET", "/v1/vas")).status == 200


async def test_where_nobody_tells_of_changes_each_request_asks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.service.authenticator._accounts, "data_version", lambda: None)
    token = limited(site, "read")
    assert (await site.call("GET", "/vas", token=token)).status == 200
    assert (await site.call("POST", "/vas", {}, token=token)).errno == "EPERM"
    async with following(site, token=token) as stream:
        revoke_all(site)
        assert (await site.call("GET", "/vas", token=token)).status == 401
        await until(lambda: stream.ended)
    assert not site.service.authenticator._known


async def test_accounts_that_say_nothing_are_503(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.ok("GET", "/vas")
    answers = threading.Event()
    monkeypatch.setattr("app.accounts.auth.ANSWER_S", 0.05)
    accounts = site.service.authenticator._accounts
    monkeypatch.setattr(accounts, "authenticate", lambda _: answers.wait(30) and None)
    try:
        answer = await site.send("GET", "/v1/vas", token="evs_unknown")
        assert (answer.status, answer.errno, answer.headers["retry-after"]) == (503, None, "1")
        assert (await site.call("GET", "/vas")).status == 200  # who is known is not asked for again
    finally:
        answers.set()


async def test_tokens_are_not_kept(site: Site) -> None:
    await site.ok("GET", "/vas")
    token = site.token.encode()
    assert not any(token in digest for digest in site.service.authenticator._known)


async def test_a_grant_is_told_with_the_exchange(site: Site) -> None:
    grants = []
    site.app.observers.append(lambda exchange, _: grants.append(exchange.grant))
    await site.call("GET", "/vas", token=limited(site, "read", expires_in=timedelta(days=1)))
    (grant,) = grants
    assert grant is not None
    assert (grant.account.uid, grant.scopes) == (1001, frozenset({"read"}))
    assert grant.expires is not None
    assert grant.expires > datetime.now(UTC)
