"""What an endpoint of the control routes is given: the service, who calls, and under which conditions."""

import json
from collections.abc import Callable
from typing import Annotated, Final, Self, TypeVar

from fastapi import Depends, Request, Response
from pydantic import BaseModel

from app.errors import PROBLEM_HEADER
from app.http.etags import Conditions, etag_of
from app.http.exchange import JSON_HEADER, SCOPE_EXCHANGE, Exchange
from app.idempotency import key_of
from app.service import Service
from engine.credentials import Credentials
from engine.machine import Machine
from everspace.wire import API_PREFIX, HEADER_REPLAYED

T = TypeVar("T")
Look = Callable[[Machine, Credentials], BaseModel | None]
"""What a GET of the same target would answer; None where there is nothing."""

SCOPE_CRED: Final = "everspace.cred"
REPLAYED: Final = (HEADER_REPLAYED.lower().encode("ascii"), b"true")


class Caller:
    """Runs engine calls in the name of the account whose token the request carries."""

    __slots__ = ("cred", "request", "service")

    def __init__(self, service: Service, cred: Credentials, request: Request) -> None:
        self.service = service
        self.cred = cred
        self.request = request

    def of(self, pid: int) -> Self:
        """For a call about a task: renews its lease."""
        self.service.renew(self.cred, pid)
        return self

    async def about(
        self, pid: int, what: Callable[[Machine, Credentials], T], target: Look | None = None
    ) -> T:
        """A call about a task: renews its lease."""
        return await self.of(pid).call(what, target)

    async def call(self, what: Callable[[Machine, Credentials], T], target: Look | None = None) -> T:
        """One transaction, answered when it is durable. ESTALE: If-Match or If-None-Match does not hold for `target`.

        They are judged by what there was before, but after everything else that the call may be refused for: who may not
        do it learns nothing of the state. Those of a reader are judged by its answer (app/routes/routing.py).
        """
        machine, cred = self.service.machine, self.cred
        conditions = self._conditions()
        if conditions is None:
            return await self.service.executor.run(lambda: what(machine, cred))

        def conditional() -> T:
            before = None if target is None else target(machine, cred)
            value = what(machine, cred)
            conditions.judge(None if before is None else etag_of(rendered(before)))
            return value

        return await self.service.executor.run(conditional)

    async def create(
        self, make: Callable[[Machine, Credentials], BaseModel], status: int = 201, *, lasting: bool = True
    ) -> Response:
        """One transaction that makes what must not be made twice: its answer, or the one given before under the same
        Idempotency-Key. EINVAL: no such key can be; HttpProblem 422, 409. `lasting`: see `Receipts.once`.
        """
        conditions = self._conditions()
        if conditions is not None:
            conditions.judge(None)
        machine, cred = self.service.machine, self.cred
        key = key_of(self.request, cred.uid, await self.request.body())
        run = self.service.executor.run
        exchange: Exchange = self.request.scope[SCOPE_EXCHANGE]
        if key is None:
            body = await run(lambda: rendered(make(machine, cred)))
            exchange.made = made_by(exchange.scope["path"], body)
            return _answer(status, body)
        receipt, replayed = await self.service.receipts.once(
            key, status, run, lambda: rendered(make(machine, cred)), lasting=lasting
        )
        exchange.made, exchange.replayed = made_by(exchange.scope["path"], receipt.body), replayed
        return _answer(receipt.status, receipt.body, replayed=replayed)

    async def judge(self, target: Look) -> None:
        """ESTALE: a condition does not hold; for a call that may wait after that, so that it is no single transaction."""
        if self._conditions() is not None:
            await self.call(lambda m, cred: None, target)

    def _conditions(self) -> Conditions | None:
        return None if self.request.method == "GET" else Conditions.of(self.request.scope["headers"])


def made_by(path: str, body: bytes) -> str:
    """The path of what a call made, of its own path and its answer; "" if that names nothing."""
    answer = json.loads(body)
    noun = path.split("/")[2]
    if "pid" in answer:
        return f"{API_PREFIX}/tasks/{answer['pid']}"
    if "tid" in answer:
        return f"{path}/{answer['tid']}"
    return f"{API_PREFIX}/{noun if noun == 'segments' else 'vas'}/{answer['id']}" if "id" in answer else ""


def rendered(view: BaseModel) -> bytes:
    """An answer as FastAPI sends it."""
    return view.__pydantic_serializer__.to_json(view)


def _answer(status: int, body: bytes, *, replayed: bool = False) -> Response:
    answer = Response(body, status)
    answer.raw_headers.append(PROBLEM_HEADER if status >= 400 else JSON_HEADER)
    if replayed:
        answer.raw_headers.append(REPLAYED)
    return answer


async def current_caller(request: Request) -> Caller:
    """The caller that the gate has authenticated."""
    return Caller(request.app.state.service, request.scope[SCOPE_CRED], request)


CallerDep = Annotated[Caller, Depends(current_caller)]
