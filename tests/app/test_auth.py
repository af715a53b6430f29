"""Tokens: who is let in, and that a change of the accounts is effective with the next request."""

import pytest

from app.accounts.opening import open_accounts
from tests.app.support import Site


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer nonsense", "Bearer \xff\xfe", "evs_x", "Bearer a b"],
)
async def test_a_bad_token_is_401(site: Site, header: str) -> None:
    answer = await site.send("GET", "/v1/vas", headers={"authorization": header}, token=None)
    assert (answer.status, answer.errno) == (401, None)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_no_token_is_401_on_every_kind_of_route(site: Site) -> None:
    for method, path in (
        ("GET", "/v1/vas"),
        ("GET", "/v1/none"),
        ("GET", "/v1/tasks/1/memory"),
        ("POST", "/v1/tasks/1/batch"),
    ):
        assert (await site.send(method, path, token=None)).status == 401, path


async def test_a_revoked_token_is_refused_at_once(site: Site) -> None:
    token = site.account(1001, 5, 6)
    for _ in range(3):
        assert (await site.call("GET", "/vas", token=token)).status == 200
    accounts = open_accounts(site.service.settings)
    (number,) = [row.id for row in accounts.list_tokens() if row.uid == 1001]
    accounts.revoke_token(number)
    assert (await site.call("GET", "/vas", token=token)).status == 401
    again = accounts.create_token(1001)
    accounts.close()
    assert (await site.ok("POST", "/tasks", {}, token=again))["gids"] == [5, 6]


async def test_a_call_about_anothers_task_is_eperm(site: Site) -> None:
    pid = await site.task()
    stranger = site.account(1001)
    for method, path, body in (
        ("DELETE", f"/tasks/{pid}", None), ("POST", f"/tasks/{pid}/fork", {}), ("POST", f"/tasks/{pid}/heartbeat", None),
        ("GET", f"/tasks/{pid}/memory?addr=0&len=1", None), ("POST", f"/tasks/{pid}/batch", {"calls": []}),
        ("GET", f"/proc/{pid}/maps", None), ("GET", f"/proc/{pid}/vas", None), ("POST", f"/tasks/{pid}/brk", {}),
    ):  # fmt: skip
        assert (await site.call(method, path, body, token=stranger)).errno == "EPERM", path
    assert (await site.call("GET", f"/tasks/{pid}", token=stranger)).status == 200
    assert (await site.call("GET", f"/proc/{pid}/status", token=stranger)).status == 200


async def test_while_shutting_down_calls_are_503(site: Site) -> None:
    site.service.drain()
    for path in ("/v1/vas", "/readyz"):
        answer = await site.send("GET", path)
        assert (answer.status, answer.errno, answer.headers["retry-after"]) == (503, None, "1")
    assert (await site.send("GET", "/healthz")).status == 200
    assert (await site.send("GET", "/version")).status == 200
