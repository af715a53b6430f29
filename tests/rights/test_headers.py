"""Security headers: on every answer of every route and of what stands before the routes."""

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.gate import CONTROL_BODY_MAX, HEADER_BYTES_MAX, URL_BYTES_MAX
from engine.machine import Machine
from tests.app.support import Answer, running
from tests.conformance.support.service import Service
from tests.rights.asking import ask
from tests.rights.needs import Caller
from tests.rights.rows import ROWS
from tests.rights.test_routes import ask as ask_row
from tests.rights.world import Callers, World

WANTED = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OF_THEIR_OWN = {"/docs": {"content-security-policy"}, "/docs/{name}": {"cache-control"}}
"""What a page for browsers says otherwise."""


def missing(headers: Mapping[str, str], but: frozenset[str] | set[str] = frozenset()) -> list[str]:
    return [name for name, value in WANTED.items() if name not in but and headers.get(name) != value]


@pytest.mark.asyncio(loop_scope="module")
async def test_every_answer_of_every_route_has_them(callers: Callers) -> None:
    world = await World(callers, 0o600).make()
    for row in ROWS:
        for caller in (Caller.NOBODY, Caller.OTHER, Caller.OWNER):
            answer = await ask_row(world, row, caller)
            assert missing(answer.headers, OF_THEIR_OWN.get(row.path, set())) == [], (
                str(row),
                caller,
                answer,
            )
            assert "strict-transport-security" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers
            assert "server" not in answer.headers
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_page_may_not_be_framed_and_runs_its_own_scripts_only(callers: Callers) -> None:
    policy = (await ask(callers.site, None, "GET", "/docs")).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "script-src" not in rules, "scripts come from this service alone, as everything does"


async def refusals(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """An answer of each kind that no route gives."""
    async with running(data_dir) as site:
        token = site.token
        found = [
            await ask(site, token, "GET", "/v1/none"),
            await ask(site, token, "DELETE", "/v1/vas"),
            await ask(site, token, "PUT", "/v1/tasks/1/core"),
            await ask(site, token, "POST", "/v1/vas", {"name": 5}),
            await ask(site, token, "POST", "/v1/vas", {"name": "x" * CONTROL_BODY_MAX}),
            await ask(site, token, "GET", "/v1/vas?name=" + "x" * URL_BYTES_MAX),
            await ask(site, token, "GET", "/v1/vas", headers={"x-much": "x" * HEADER_BYTES_MAX}),
            await ask(site, "wrong", "GET", "/v1/vas"),
            await ask(site, None, "GET", "/none"),
        ]
        monkeypatch.setattr(Machine, "vas_list", lambda *_: 1 // 0)
        found.append(await ask(site, token, "GET", "/v1/vas"))
        site.service.ready = False
        found += [await ask(site, token, "GET", path) for path in ("/v1/vas", "/readyz")]
    return found


async def test_refusals_defects_and_a_service_that_stops_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = await refusals(tmp_path / "data", monkeypatch)
    assert [answer.status for answer in answers] == [
        404,
        405,
        405,
        400,
        413,
        414,
        431,
        401,
        404,
        500,
        503,
        503,
    ]
    assert [(answer.status, missing(answer.headers)) for answer in answers if missing(answer.headers)] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_over_tls_browsers_are_told_to_stay_there(callers: Callers) -> None:
    for path in ("/docs", "/v1/vas", "/healthz", "/none"):
        answer = await ask(callers.site, callers.tokens[Caller.OWNER], "GET", path, scheme="https")
        assert answer.headers["strict-transport-security"] == "max-age=63072000"


RAW = {
    b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-much: " + b"y" * 80_000: b"431",
    b"\x16\x03\x01 this is no HTTP\r\n\r\n": b"400",
}


@pytest.mark.parametrize("sent", RAW, ids=["head", "nonsense"])
def test_what_is_answered_before_there_is_a_request_has_them(tmp_path: Path, sent: bytes) -> None:
    with (
        Service(tmp_path / "data") as service,
        socket.create_connection(("127.0.0.1", service.port), 10) as client,
    ):
        client.sendall(sent)
        heard = b""
        while piece := client.recv(65_536):
            heard += piece
    head = heard.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    assert RAW[sent].decode() in head[0]
    fields = dict(line.split(": ", 1) for line in head[1:])
    assert missing(fields) == []
