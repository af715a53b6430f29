"""Many calls in one request: POST /v1/tasks/{pid}/batch?atomic=&tid=. In order, each with its own result."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from app.accounts.auditing import MAKES
from app.calls import frames
from app.calls.call import Bound, Frame, failing
from app.calls.frames import Asked
from app.calls.table import CALLS, SwitchTo, bind, refusal_of
from app.errors import Header, bad_input, errno_problem, too_big
from app.executor import CALLS_IN_A_ROW
from app.http import strict_json
from app.http.exchange import JSON_HEADER, Exchange, flag, optional_number, task_id
from app.idempotency import Key, key_of
from app.outcomes import ManyPagesNeeded, Outcome, Run, Waiting
from app.routes import hot
from app.routes.context import REPLAYED
from app.routes.hot import HotRoute
from app.service import Service
from engine.errors import EngineError, Lacking, PagesNeeded
from everspace.wire import MEDIA_JSON
from everspace.wire.frames import MEDIA_FRAMES, PAYLOAD_BYTES_MAX

FRAMES_HEADER: Final[Header] = (b"content-type", MEDIA_FRAMES.encode("ascii"))
_CALL_MEMBERS = frozenset({"call", "args"})
_LOOKS = frozenset(
    [
        "read",
        "active_vas",
        "vas_find",
        "vas_getattr",
        "vas_seg_find",
        "vas_seg_getattr",
        "vas_lineage",
        "vas_seg_lineage",
        "vas_get_root",
        "vas_roots",
        "heap_usage",
        "maps",
        "smaps",
        "mincore",
        "heartbeat",
    ]
)
"""Calls that change nothing; the others are in the audit journal, and what was refused."""
PARTS_MAX: Final = 256
"""Commas and brackets for each call that a batch may have: a text with more would take many times its size in memory."""
FEW_BYTES: Final = 1 << 20
"""A text of so many bytes may have any number."""
Result = tuple[Any, EngineError | None]
"""Value or refusal of a call."""


async def batch(exchange: Exchange, service: Service, pid_text: str) -> None:
    """200 with one result a call; of an atomic batch that fails, the failing call's problem and its `index`.

    A request in frames is answered in frames, one in JSON in JSON.
    """
    pid = task_id(pid_text)
    query = exchange.query()
    atomic, tid = flag(query, "atomic"), optional_number(query, "tid")
    settings, cred = service.settings, exchange.cred
    service.machine.require_task(cred, pid).thread(tid)
    service.renew(cred, pid)
    framed = _is_framed(exchange)
    body = await exchange.body(settings.body_limit, MEDIA_FRAMES if framed else MEDIA_JSON)
    service.renew(cred, pid)
    frame = Frame(service, cred, pid, tid, min(settings.body_limit, PAYLOAD_BYTES_MAX))
    ask = partial(_asked, frame, exchange)
    if framed:
        asked = frames.calls_of(frame, body, settings.batch_limit, ask)
    else:
        asked = [ask(call) for call in _calls_of(body, settings.batch_limit)]
    media = FRAMES_HEADER if framed else JSON_HEADER
    key = key_of(exchange, cred.uid, body)
    if atomic:
        await _whole(exchange, service, asked, key, media)
        return
    if key is not None:
        raise bad_input("Idempotency-Key goes with atomic batches: the others are no single change")
    outcomes: list[Outcome] = []
    try:
        await _one_by_one(service, asked, outcomes)
    finally:  # also when the client left while a call of his waited: those before it are done
        results = list(_results(outcomes))
        _audit(exchange, service, asked, results)
    await exchange.reply(200, _rendered(results, framed=framed), media)


async def _whole(
    exchange: Exchange, service: Service, asked: Sequence[Asked], key: Key | None, media: Header
) -> None:
    """All calls or none. Under a key the answer of the first time is given again."""
    bound = [call for _, call, _ in asked]

    results: list[Result] = []

    def made() -> bytes:
        results[:] = [(value, None) for value in _together(bound)]
        return _rendered(results, framed=media is FRAMES_HEADER)

    run = service.executor.run
    if key is None:
        answer, replayed = await run(made), False
    else:
        receipt, replayed = await service.receipts.once(key, 200, run, made)
        answer = receipt.body
    exchange.replayed = replayed
    if not replayed:
        _audit(exchange, service, asked, results)
    await exchange.reply(200, answer, media, *([REPLAYED] if replayed else []))


def _audit(exchange: Exchange, service: Service, asked: Sequence[Asked], results: Sequence[Result]) -> None:
    """What was changed and what was refused, each kind once; what was made by itself."""
    deeds = {
        (name or "batch", None if refused is None else refused.errno, value if name in MAKES else None)
        for (name, _, _), (value, refused) in zip(asked, results, strict=False)
        if refused is not None or name not in _LOOKS
    }
    for name, errno, value in deeds:
        service.auditing.called(exchange, name, errno, value)


def _is_framed(exchange: Exchange) -> bool:
    media = exchange.header(b"content-type") or b""
    return media.partition(b";")[0].strip().lower() == FRAMES_HEADER[1]


async def _one_by_one(service: Service, asked: Sequence[Asked], outcomes: list[Outcome]) -> None:
    """Each call by itself; loads in a row go together as long as none of them is refused. See `Executor.run_each`."""
    units: list[Bound | Run] = []
    waits: dict[int, Waiting] = {}
    loads: list[Bound] = []

    def close() -> None:
        if loads:
            calls = tuple(loads)
            units.append(Run(calls, partial(_together, calls)) if len(calls) > 1 else calls[0])
            loads.clear()

    for name, bound, wait in asked:
        if name == "read":
            loads.append(bound)
            if len(loads) == CALLS_IN_A_ROW:
                close()
        else:
            close()
            units.append(bound)
            if wait is not None:
                waits[len(units)] = wait
    close()
    await service.executor.run_each(units, waits, outcomes)


def _asked(frame: Frame, exchange: Exchange, call: Any) -> Asked:
    """A call of JSON: its name, ready to run, and how it waits if it is a vas_switch that may; what is malformed fails in its turn."""
    try:
        if not isinstance(call, dict) or not call.keys() <= _CALL_MEMBERS:
            raise bad_input('a call is {"call": NAME, "args": {...}}')
        name, args = call.get("call"), call.get("args", {})
        if not isinstance(name, str) or not isinstance(args, dict):
            raise bad_input('a call is {"call": NAME, "args": {...}}')
        bound = bind(frame, name, args)
    except EngineError as refused:
        return "", failing(refused), None
    if name == "vas_switch":
        wanted = CALLS[name].parse(args)
        if isinstance(wanted, SwitchTo) and wanted.timeout != 0:
            return name, bound, partial(_wait, frame, wanted, exchange)
    return name, bound, None


async def _wait(frame: Frame, args: SwitchTo, exchange: Exchange) -> int:
    await frame.service.switching.switch(
        frame.cred, frame.pid, frame.thread(args), args.vid, args.timeout, exchange
    )
    return 0


def _calls_of(body: bytes | bytearray, limit: int) -> list[Any]:
    """The list of calls. EINVAL: not JSON of this shape; E2BIG: more than `limit` calls, or as many parts as those never have."""
    if len(body) > FEW_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > limit * PARTS_MAX:
        raise too_big(f"a JSON text of more than {limit * PARTS_MAX} parts")
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


def _together(bound: Sequence[Bound]) -> list[Any]:
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


def _results(outcomes: Sequence[Outcome]) -> Iterator[Result]:
    """Value or refusal of each call."""
    for outcome in outcomes:
        if outcome.refused is not None:
            yield from ((None, outcome.refused) for _ in range(outcome.count))
        elif outcome.count > 1 and isinstance(outcome.value, list):
            yield from ((value, None) for value in outcome.value)
        else:
            yield outcome.value, None


def _rendered(results: Sequence[Result], *, framed: bool) -> bytes:
    """The body of an answer."""
    if framed:
        return frames.answer(
            frames.value(value) if refused is None else frames.refusal(_refusal(refused))
            for value, refused in results
        )
    listed = [{"value": value} if refused is None else _refusal(refused) for value, refused in results]
    return json.dumps({"results": listed}).encode("ascii")


def _refusal(refused: EngineError) -> dict[str, Any]:
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
BINARY = {"type": "string", "format": "binary"}
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
                "In order, each with its own value or errno, in JSON or in frames (docs/api.md); with `atomic` all or none, and a failure's problem has its `index`. "
                "ESRCH, EPERM; EINVAL: malformed; E2BIG: too many calls or bytes; with `atomic` what any call is refused with: "
                "EACCES, EAGAIN, EBUSY, EDQUOT, EEXIST, EFAULT, ENOENT, ENOMEM, ENOSPC."
            ),
            "parameters": [
                hot.path_id("pid"),
                hot.query("atomic", {"type": "boolean", "default": False}, "All calls or none."),
                hot.TID,
                hot.header(
                    "Idempotency-Key",
                    "Of an atomic batch: it is done once; asked again, it is answered as it was.",
                ),
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
                    },
                    MEDIA_FRAMES: {"schema": BINARY},
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
                        },
                        MEDIA_FRAMES: {"schema": BINARY},
                    },
                }
            },
        }
    },
)
