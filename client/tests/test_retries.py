"""When a request is sent again: only if that is safe, only for a while, with pauses that differ."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace._calls import clones, heaps, memory, spaces
from everspace._calls.call import Call
from everspace._driver import Driver
from everspace._session import LOST_RETRIES_MAX, RETRIES_MAX, Session, Settings, retry_after
from everspace.aio.driver import AsyncDriver
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

UNREADY = json_response({"status": 503, "title": "recovering"}, 503, headers={"retry-after": "1"})
SPACE = {"id": 3, "name": "s", "mode": 0, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0}


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def driver(
    handler: Callable[[Request], Response], *, respawn: bool = False, timeout: float | None = 30.0
) -> tuple[Driver, HandlerTransport, Clock]:
    clock, transport = Clock(), HandlerTransport(handler)
    session = Session(Settings(timeout=timeout, respawn=respawn), clock=clock, jitter=lambda: 0.5)
    return Driver(transport, session, sleep=clock.sleep), transport, clock


def failing(times: int, failure: Response | Exception, then: Response) -> Callable[[Request], Response]:
    left = [times]

    def handle(_: Request) -> Response:
        if left[0] == 0:
            return then
        left[0] -= 1
        if isinstance(failure, Exception):
            raise failure
        return failure

    return handle


def test_a_repeatable_call_waits_for_a_service_that_says_when() -> None:
    made, transport, clock = driver(failing(2, UNREADY, json_response(SPACE)))
    assert made.perform(spaces.vas_getattr(3)).vid == 3
    assert (len(transport.requests), clock.slept) == (3, [1.25, 1.25])


def test_it_gives_up_after_some_attempts() -> None:
    made, transport, _ = driver(lambda _: UNREADY)
    with pytest.raises(errors.ServiceUnavailable) as caught:
        made.perform(spaces.vas_getattr(3))
    assert len(transport.requests) == RETRIES_MAX + 1
    assert (caught.value.status, caught.value.retry_after, str(caught.value)) == (503, 1.0, "recovering")


@pytest.mark.parametrize(
    "call",
    [spaces.vas_delete(3), spaces.vas_setattr(3, mode=0, if_match='"t"'), spaces.vas_detach(0, 1)],
)
def test_a_call_that_is_not_repeatable_is_sent_once(call: object) -> None:
    made, transport, _ = driver(lambda _: UNREADY)
    with pytest.raises(errors.ServiceUnavailable):
        made.perform(call)  # type: ignore[arg-type]
    assert len(transport.requests) == 1


@pytest.mark.parametrize(
    "headers", [{}, {"retry-after": "3600"}, {"retry-after": "Sat, 21 Nov 2026 00:00:00 GMT"}]
)
def test_without_a_near_time_it_is_not_waited_for(headers: dict[str, str]) -> None:
    made, transport, _ = driver(lambda _: json_response({}, 503, headers=headers))
    with pytest.raises(errors.ServiceUnavailable):
        made.perform(spaces.vas_getattr(3))
    assert len(transport.requests) == 1


def test_retry_after_is_seconds() -> None:
    assert retry_after({"retry-after": "5"}) == 5.0
    for value in ("", "-1", "1.5", "soon", "٣", "9" * 20):
        assert retry_after({"retry-after": value}) is None


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 507])
def test_other_refusals_stand(status: int) -> None:
    made, transport, _ = driver(lambda _: json_response({}, status, headers={"retry-after": "1"}))
    with pytest.raises(errors.UnexpectedAnswerError):
        made.perform(spaces.vas_getattr(3))
    assert len(transport.requests) == 1


def test_nobody_there_is_said_at_once() -> None:
    made, transport, clock = driver(failing(9, errors.CannotConnectError("nobody"), json_response(SPACE)))
    with pytest.raises(errors.CannotConnectError):
        made.perform(spaces.vas_getattr(3))
    assert (len(transport.requests), clock.slept) == (1, [])


def test_with_respawn_a_restart_is_waited_for_whatever_the_call() -> None:
    made, _, clock = driver(
        failing(3, errors.CannotConnectError("nobody"), json_response(SPACE, 201)), respawn=True
    )
    assert made.perform(spaces.vas_create("n", 0o600)) == 3
    assert clock.slept == [0.0625, 0.125, 0.25]


def test_with_respawn_the_timeout_still_holds() -> None:
    made, _, clock = driver(
        failing(-1, errors.CannotConnectError("nobody"), UNREADY), respawn=True, timeout=5.0
    )
    with pytest.raises(errors.CannotConnectError):
        made.perform(spaces.vas_getattr(3))
    assert 5.0 <= clock.now <= 6.5


def test_with_respawn_a_service_that_recovers_is_waited_for_whatever_the_call() -> None:
    made, transport, clock = driver(failing(9, UNREADY, Response(204)), respawn=True)
    assert made.perform(spaces.vas_delete(3)) == 0
    assert (len(transport.requests), clock.now) == (10, 9 * 1.25)
    made, _, clock = driver(lambda _: UNREADY, respawn=True, timeout=5.0)
    with pytest.raises(errors.ServiceUnavailable):
        made.perform(spaces.vas_delete(3))
    assert clock.now == 5.0


def test_with_respawn_a_lost_answer_is_asked_for_again_only_if_repeatable() -> None:
    lost = errors.ConnectionLostError("lost")
    made, _, _ = driver(failing(2, lost, json_response(SPACE)), respawn=True)
    assert made.perform(spaces.vas_getattr(3)).vid == 3
    made, _, _ = driver(failing(1, lost, json_response(SPACE)), respawn=True)
    with pytest.raises(errors.ConnectionLostError):
        made.perform(spaces.vas_delete(3))


def keys(transport: HandlerTransport) -> list[str | None]:
    return [dict(request.headers).get("Idempotency-Key") for request in transport.requests]


@pytest.mark.parametrize(
    "call",
    [spaces.vas_create("n", 0o600), memory.mmap(0, 1, 1, 1), heaps.vas_malloc(8), clones.vas_clone(3, "n")],
)
@pytest.mark.parametrize("failure", [UNREADY, errors.ConnectionLostError("lost")])
def test_what_makes_something_is_asked_again_under_its_key(
    call: Call[int], failure: Response | Exception
) -> None:
    made, transport, _ = driver(failing(3, failure, json_response({"id": 3, "addr": "0x3"})))
    assert made.perform(call) == 3
    assert made.perform(call) == 3
    sent = keys(transport)
    assert len(sent) == 5
    assert len(set(sent[:4])) == 1
    assert sent[0] != sent[4], "another call, another key"
    assert all(re.fullmatch('"[0-9a-f]{32}"', key or "") for key in sent)


def test_what_needs_no_key_has_none() -> None:
    made, transport, _ = driver(lambda _: json_response(SPACE))
    calls: list[Call[Any]] = [
        spaces.vas_getattr(3),
        spaces.vas_setattr(3, 0),
        spaces.vas_delete(3),
        memory.brk(),
    ]
    for call in calls:
        made.perform(replace(call, answer=lambda _: 0))
    assert keys(transport) == [None] * 4


def test_while_the_first_is_under_way_the_second_waits() -> None:
    busy = json_response({"status": 409, "title": "Conflict"}, 409, headers={"retry-after": "1"})
    made, transport, clock = driver(failing(2, busy, json_response(SPACE, 201)))
    assert made.perform(spaces.vas_create("n", 0o600)) == 3
    assert (len(transport.requests), clock.slept) == (3, [1.25, 1.25])
    made, transport, _ = driver(lambda _: problem_response("EEXIST", "taken"))
    with pytest.raises(errors.ExistsError):
        made.perform(spaces.vas_create("n", 0o600))
    assert len(transport.requests) == 1


def test_a_lost_connection_is_tried_again_for_a_while() -> None:
    """What is told in the end is that it was lost, since it is not known whether the call was done."""
    outcomes: list[Exception] = [errors.ConnectionLostError("lost")]

    def handle(_: Request) -> Response:
        raise outcomes.pop() if outcomes else errors.CannotConnectError("nobody")

    made, transport, clock = driver(handle)
    with pytest.raises(errors.ConnectionLostError, match="lost") as caught:
        made.perform(spaces.vas_create("n", 0o600))
    assert len(transport.requests) == LOST_RETRIES_MAX + 1
    assert clock.slept == [0.0625, 0.125, 0.25, 0.5, 1.0]
    assert caught.value.request_id == dict(transport.requests[-1].headers)["X-Request-Id"]


def test_silence_is_not_asked_again() -> None:
    made, transport, _ = driver(failing(9, errors.TransportTimeoutError("silence"), json_response(SPACE)))
    with pytest.raises(errors.TransportTimeoutError):
        made.perform(spaces.vas_create("n", 0o600))
    assert len(transport.requests) == 1


async def test_the_async_client_does_the_same() -> None:
    lost, left = errors.ConnectionLostError("lost"), [2]

    def handle(_: Request) -> Response:
        left[0] -= 1
        if left[0] >= 0:
            raise lost
        return json_response(SPACE, 201)

    async def sleep(_: float) -> None: ...

    transport = AsyncHandlerTransport(handle)
    made = AsyncDriver(transport, Session(Settings()), sleep=sleep)
    assert await made.perform(spaces.vas_create("n", 0o600)) == 3
    assert len({dict(request.headers)["Idempotency-Key"] for request in transport.requests}) == 1
    left[0] = 1
    with pytest.raises(errors.ConnectionLostError):
        await made.perform(spaces.vas_delete(3))


def test_the_jitter_is_a_fraction() -> None:
    session = Session(Settings())
    pauses = {session.tries(Request("GET", "/", repeatable=True)).after_response(UNREADY) for _ in range(50)}
    assert all(pause is not None and 1.0 <= pause <= 1.5 for pause in pauses)
    assert len(pauses) > 10


def test_the_prefix_of_the_url_goes_before_every_route() -> None:
    transport = HandlerTransport(lambda _: json_response(SPACE))
    client = everspace.connect("http://host/deep/", transport=transport)
    client.spaces.get(3)
    client.ready()
    assert [request.target for request in transport.requests] == ["/deep/v1/vas/3", "/deep/readyz"]
