"""Many calls in one request: POST /v1/tasks/{pid}/batch?atomic=&tid=. In order, each with its own result."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from app import hot, strict_json
from app.call import Bound, Frame
from app.calls import CALLS, SwitchTo, bind, refusal_of
from app.errors import bad_input, errno_problem, too_big
from app.executor import ManyPagesNeeded, Waiting
from app.hot import HotRoute
from app.http import JSON_HEADER, Exchange, flag, optional_number, task_id
from app.service import Service
from engine.errors import EngineError, Lacking, PagesNeeded
from everspace.wire import MEDIA_JSON

_CALL_MEMBERS = frozenset({"call", "args"})


async def batch(exchange: Exchange, service: Service, pid_text: str) -> None:
    """200 with one result a call; of an atomic batch that fails, the failing call's problem and its `index`."""
    pid = task_id(pid_text)
    query = exchange.query()
    atomic, tid = flag(query, "atomic"), optional_number(query, "tid")
    settings, cred = service.settings, exchange.cred
    service.machine.require_task(cred, pid).thread(tid)
    service.renew(cred, pid)
    calls = _calls_of(await exchange.body(settings.body_limit, MEDIA_JSON), settings.batch_limit)
    service.renew(cred, pid)
    frame = Frame(service, cred, pid, tid, settings.body_limit)
    bound = [_bound(frame, call) for call in calls]
    if atomic:
        values = await service.executor.run(lambda: _together(bound))
        results: list[dict[str, Any]] = [{"value": value} for value in values]
    else:
        outcomes = await service.executor.run_each(bound, _waits(frame, calls, exchange))
        results = [
            {"value": outcome.value} if outcome.refused is None else _result_of(outcome.refused)
            for outcome in outcomes
        ]
    await exchange.reply(200, json.dumps({"results": results}).encode("ascii"), JSON_HEADER)


def _waits(frame: Frame, calls: list[Any], exchange: Exchange) -> dict[int, Waiting]:
    """How each vas_switch that may wait does so, by its number; those after it are made after it."""
    waits: dict[int, Waiting] = {}
    for position, call in enumerate(calls, 1):
        if isinstance(call, dict) and call.get("call") == "vas_switch":
            with contextlib.suppress(EngineError):  # what is malformed is refused in its turn
                args = CALLS["vas_switch"].parse(call.get("args", {}))
                if isinstance(args, SwitchTo) and args.timeout != 0:
                    waits[position] = partial(_wait, frame, args, exchange)
    return waits


async def _wait(frame: Frame, args: SwitchTo, exchange: Exchange) -> int:
    await frame.service.switching.switch(
        frame.cred, frame.pid, frame.thread(args), args.vid, args.timeout, exchange
    )
    return 0


def _calls_of(body: bytes | bytearray, limit: int) -> list[Any]:
    """The list of calls. EINVAL: not JSON of this shape; E2BIG: more than `limit` calls."""
    try:
        document = strict_json.loads(body)
    except strict_json.JsonError as cause:
        raise bad_input(f"the body is not JSON: {cause}") from None
    if (
        not isinstance(document, dict)
        or document.keys() != {"calls"}
        or not isinstance(document["calls"], list)
    ):
        raise bad_input('the body is not {"calls": [...]}')
    calls: list[Any] = document["calls"]
    if len(calls) > limit:
        raise too_big(f"{len(calls)} calls; at most {limit} are taken")
    return calls


def _bound(frame: Frame, call: Any) -> Bound:
    """The call ready to run; one that is malformed fails when its turn comes, so that earlier failures come first."""
    try:
        if not isinstance(call, dict) or not call.keys() <= _CALL_MEMBERS:
            raise bad_input('a call is {"call": NAME, "args": {...}}')
        name, args = call.get("call"), call.get("args", {})
        if not isinstance(name, str) or not isinstance(args, dict):
            raise bad_input('a call is {"call": NAME, "args": {...}}')
        return bind(frame, name, args)
    except EngineError as refused:
        return _failing(refused)


def _failing(refused: EngineError) -> Callable[[], Any]:
    def fail() -> Any:
        raise refused

    return fail


def _together(bound: list[Bound]) -> list[Any]:
    """All calls, inside one transaction. The first that fails is named by `index`, and everything is undone.

    When a call lacks pages the attempt is lost anyway: the remaining calls are then tried only to learn what else
    is lacking, so that a batch is run about twice and not once for each page.
    """
    values: list[Any] = []
    needs: dict[Lacking, PagesNeeded] = {}
    for index, call in enumerate(bound):
        try:
            values.append(call())
        except PagesNeeded as need:
            earlier = needs.get(need.memory)
            needs[need.memory] = earlier.joined(need) if earlier else need.with_traceback(None)
        except EngineError as refused:
            if needs:
                break
            whole = refusal_of(refused)
            whole.data["index"] = index
            raise whole from None
    if needs:
        raise ManyPagesNeeded(list(needs.values()))
    return values


def _result_of(refused: EngineError) -> dict[str, Any]:
    problem = errno_problem(refused)
    return {name: value for name, value in problem.items() if name not in ("status", "title")}


_RESULT = {
    "oneOf": [
        {"type": "object", "required": ["value"], "properties": {"value": {}}},
        {
            "type": "object",
            "required": ["errno", "detail"],
            "properties": {"errno": {"type": "string"}, "detail": {"type": "string"}},
        },
    ]
}
_CALL = {
    "type": "object",
    "additionalProperties": False,
    "required": ["call"],
    "properties": {
        "call": {"type": "string", "enum": sorted({"read", "write", *CALLS})},
        "args": {"type": "object"},
    },
}

BATCH = HotRoute(
    "/v1/tasks/{pid}/batch",
    {"POST": batch},
    {
        "post": {
            "operationId": "batch",
            "tags": ["tasks"],
            "summary": "Many calls in one request",
            "description": (
                "In order, each with its own value or errno; with `atomic` all or none, and a failure's problem has its `index`. "
                "ESRCH, EPERM; EINVAL: malformed; E2BIG: too many calls or bytes; with `atomic` what any call is refused with: "
                "EACCES, EAGAIN, EBUSY, EDQUOT, EEXIST, EFAULT, ENOENT, ENOMEM, ENOSPC."
            ),
            "parameters": [
                hot.path_id("pid"),
                hot.query("atomic", {"type": "boolean", "default": False}, "All calls or none."),
                hot.TID,
            ],
            "requestBody": {
                "required": True,
                "content": {
                    MEDIA_JSON: {
                        "schema": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["calls"],
                            "properties": {"calls": {"type": "array", "items": _CALL}},
                        },
                        "example": {
                            "calls": [
                                {"call": "write", "args": {"addr": "0x100000000000", "data": "aGVsbG8="}},
                                {"call": "read", "args": {"addr": "0x100000000000", "length": 5}},
                            ]
                        },
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "One result a call, in order.",
                    "content": {
                        MEDIA_JSON: {
                            "schema": {
                                "type": "object",
                                "required": ["results"],
                                "properties": {"results": {"type": "array", "items": _RESULT}},
                            }
                        }
                    },
                }
            },
        }
    },
)
