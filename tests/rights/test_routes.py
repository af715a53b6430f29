"""Every route, asked by everybody: who is let, who is refused with which errno, and that a refusal changes nothing."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.routing import BaseRoute

from app.gate import HOT_ROUTES
from app.main import control_app
from tests.app.support import Answer
from tests.rights.needs import KNOWN, STRANGERS, Caller, refusal
from tests.rights.rows import ROWS, Row
from tests.rights.world import Callers, World

MODES = (0o640, 0o406, 0o060, 0o222)
"""Of the owner, the group and the others each has each bit once, and lacks each once while a later class has it."""
STATUS = {"EACCES": 403, "EPERM": 403}


def routes_of(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each route of the control application, those of included routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes, prefix + getattr(route, "include_context").prefix)  # noqa: B009
        else:
            path = prefix + str(getattr(route, "path")).replace(":rest}", "}")  # noqa: B009
            for method in getattr(route, "methods"):  # noqa: B009
                yield method, path


def route_table() -> set[tuple[str, str]]:
    """Every method and path that the service answers."""
    table = set(routes_of(control_app(None).routes))
    return table | {(method, route.path) for route in HOT_ROUTES.values() for method in route.handlers}


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    table = route_table()
    assert len(table) > 90
    assert {row.route for row in ROWS} == table


async def ask(world: World, row: Row, caller: Caller) -> Answer:
    path = row.path
    for name, stands_for in row.names.items():
        path = path.replace(f"{{{name}}}", f"{{{stands_for}}}")
    target = world.path(path + row.query, caller)
    return await world.callers.send(caller, row.method, target, world.body(row.body), headers=row.headers)


def judge(row: Row, caller: Caller, answer: Answer, errno: str | None) -> None:
    """The answer is what the rules say."""
    if errno is None:
        assert answer.status == row.status, (str(row), caller, answer)
        return
    assert answer.status == STATUS[errno], (str(row), caller, answer)
    if row.method == "HEAD":
        assert answer.body == b""
    else:
        assert answer.errno == errno, (str(row), caller, answer)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_route_lets_those_in_that_it_is_for(callers: Callers, row: Row) -> None:
    for mode in MODES if row.by_mode else MODES[:1]:
        refusals = {caller: refusal(caller, row.needs, mode) for caller in KNOWN}
        world = await World(callers, mode).make()
        before = await world.state()
        for caller, errno in refusals.items():
            if errno is not None:
                judge(row, caller, await ask(world, row, caller), errno)
        for caller in STRANGERS:
            answer = await ask(world, row, caller)
            assert answer.status == (200 if row.open else 401), (str(row), caller, answer)
            assert row.open or "www-authenticate" in answer.headers
        assert await world.state() == before, f"{row}: a refusal changed something"
        for caller, errno in refusals.items():
            if errno is None:
                judge(row, caller, await ask(world, row, caller), None)
                if row.method not in ("GET", "HEAD") and "{" in row.path:
                    await world.end()
                    world = await World(callers, mode).make()
        await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_that_is_for_reading_only_reads(callers: Callers) -> None:
    """The owner's: what he may read it reads; it changes nothing, whatever is his, and does not see the journal."""
    mode = 0o600
    world = await World(callers, mode).make()
    before = await world.state()
    for row in ROWS:
        answer = await ask(world, row, Caller.READER)
        if row.open or (row.method in ("GET", "HEAD") and row.path != "/v1/audit"):
            judge(row, Caller.READER, answer, refusal(Caller.READER, row.needs, mode))
        else:
            judge(row, Caller.READER, answer, "EPERM")
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"], str(row)
    assert await world.state() == before
    await world.end()


def test_the_rules_refuse_and_let_in() -> None:
    """The matrix says something: each rule has those whom it lets in and those whom it does not."""
    said: set[Any] = {
        (mode, caller, refusal(caller, row.needs, mode)) for row in ROWS for mode in MODES for caller in KNOWN
    }
    for caller in (Caller.OWNER, Caller.MEMBER, Caller.OTHER):
        assert {errno for _, who, errno in said if who is caller} == {None, "EACCES", "EPERM"}
    assert {errno for _, who, errno in said if who is Caller.ROOT} == {None}
