"""What an endpoint of the control routes is given: the service and who calls."""

from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request

from app.service import Service
from engine.credentials import Credentials
from engine.machine import Machine

T = TypeVar("T")

SCOPE_CRED: Final = "everspace.cred"


class Caller:
    """Runs engine calls in the name of the account whose token the request carries."""

    __slots__ = ("cred", "service")

    def __init__(self, service: Service, cred: Credentials) -> None:
        self.service = service
        self.cred = cred

    async def call(self, what: Callable[[Machine, Credentials], T]) -> T:
        """One transaction, answered when it is durable."""
        machine, cred = self.service.machine, self.cred
        return await self.service.executor.run(lambda: what(machine, cred))

    async def about(self, pid: int, what: Callable[[Machine, Credentials], T]) -> T:
        """A call about a task: renews its lease."""
        self.service.renew(self.cred, pid)
        return await self.call(what)


async def current_caller(request: Request) -> Caller:
    """The caller that the gate has authenticated."""
    return Caller(request.app.state.service, request.scope[SCOPE_CRED])


CallerDep = Annotated[Caller, Depends(current_caller)]
