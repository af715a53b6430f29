"""Limits of tasks, as setrlimit(2) has them: /v1/tasks/{pid}/limits."""

from app.calls.answers import Limits, Value
from app.calls.arguments import Prlimit, SetLimits
from app.routes.context import CallerDep
from app.routes.routing import CONDITIONAL, Pid, new_router
from engine.credentials import Credentials
from engine.machine import Machine
from everspace.wire import RESOURCE_NAMES

router = new_router("tasks")


def _limits(m: Machine, cred: Credentials, pid: int) -> dict[str, int]:
    return {name: m.prlimit(cred, pid, name) for name in RESOURCE_NAMES}


@router.get("/tasks/{pid}/limits", operation_id="limits", summary="Read the limits")
async def limits(pid: Pid, caller: CallerDep) -> Limits:
    """The limits of a task. ESRCH, EPERM."""
    return Limits.of(await caller.about(pid, lambda m, cred: _limits(m, cred, pid)))


@router.put("/tasks/{pid}/limits", operation_id="set_limits", summary="Set limits", openapi_extra=CONDITIONAL)
async def set_limits(pid: Pid, args: SetLimits, caller: CallerDep) -> Limits:
    """Set the limits that are given, all or none. EINVAL; EPERM: above what the task began with or root set last."""

    def set_and_look(m: Machine, cred: Credentials) -> dict[str, int]:
        for name, value in args.given().items():
            m.prlimit(cred, pid, name, value)
        return _limits(m, cred, pid)

    found = await caller.about(pid, set_and_look, lambda m, cred: Limits.of(_limits(m, cred, pid)))
    return Limits.of(found)


@router.post("/tasks/{pid}/prlimit", operation_id="prlimit", summary="Read or set one limit")
async def prlimit(pid: Pid, args: Prlimit, caller: CallerDep) -> Value:
    """Read or set one limit; the former value, 2**64 - 1 for none. EINVAL, EPERM."""
    former = await caller.about(pid, lambda m, cred: m.prlimit(cred, pid, args.resource, args.value))
    return Value(value=former)
