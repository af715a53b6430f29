"""Views (mmview) and slots (multias) of tasks: POST /v1/tasks/{pid}/mmview, new_as, switch_as and the old names."""

from fastapi import Response

from app.calls.answers import Value
from app.calls.arguments import Mmview, MmviewUnshare, OfThread, OfView, SwitchAs
from app.calls.call import Frame
from app.calls.views import VIEW_CALLS
from app.routes.context import Caller, CallerDep
from app.routes.routing import KEYED, Pid, new_router
from engine.credentials import Credentials
from engine.machine import Machine

router = new_router("views")


async def _run(name: str, caller: Caller, pid: int, args: OfThread) -> Response:
    frame = Frame(caller.service, caller.cred, pid, None, caller.service.settings.body_limit)

    def make(m: Machine, _: Credentials) -> Value:
        return Value(value=VIEW_CALLS[name].run(m, frame, args) or 0)

    return await caller.of(pid).create(make, 200)


@router.post(
    "/tasks/{pid}/mmview",
    response_model=Value,
    operation_id="mmview",
    summary="Create, choose and change views",
    openapi_extra=KEYED,
)
async def mmview(pid: Pid, args: Mmview, caller: CallerDep) -> Response:
    """CREATE 0, DELETE 1 (id), CURRENT 2, MIGRATE 3 (id), UNSHARE 4 and SHARE 5 (addr, len), SWITCH_BASE 6.

    EINVAL, ENOMEM; EPERM: the base is not deleted, UNSHARE and SHARE come before other views; EACCES: shared memory;
    EBUSY: the task uses slots.
    """
    return await _run("mmview", caller, pid, args)


@router.post(
    "/tasks/{pid}/mmview_create",
    response_model=Value,
    operation_id="mmview_create",
    summary="Create a view",
    openapi_extra=KEYED,
)
async def mmview_create(pid: Pid, caller: CallerDep, args: OfThread | None = None) -> Response:
    """A new view; its id. ENOMEM; EBUSY: the task uses slots."""
    return await _run("mmview_create", caller, pid, args or OfThread())


@router.post(
    "/tasks/{pid}/mmview_migrate",
    response_model=Value,
    operation_id="mmview_migrate",
    summary="Go into a view",
    openapi_extra=KEYED,
)
async def mmview_migrate(pid: Pid, args: OfView, caller: CallerDep) -> Response:
    """Go into a view; the former one's id. A negative id only asks. EINVAL; EBUSY: the task uses slots."""
    return await _run("mmview_migrate", caller, pid, args)


@router.post(
    "/tasks/{pid}/mmview_delete",
    response_model=Value,
    operation_id="mmview_delete",
    summary="Delete a view",
    openapi_extra=KEYED,
)
async def mmview_delete(pid: Pid, args: OfView, caller: CallerDep) -> Response:
    """Delete a view; it goes when the last thread has left it. EINVAL: unknown, deleted, or the base; EBUSY: the task uses slots."""
    return await _run("mmview_delete", caller, pid, args)


@router.post(
    "/tasks/{pid}/mmview_unshare",
    response_model=Value,
    operation_id="mmview_unshare",
    summary="Unshare a range",
    openapi_extra=KEYED,
)
async def mmview_unshare(pid: Pid, args: MmviewUnshare, caller: CallerDep) -> Response:
    """Let each view have its own copy of a range. EINVAL, EACCES, ENOMEM; EPERM: there are views already; EBUSY: the task uses slots."""
    return await _run("mmview_unshare", caller, pid, args)


@router.post(
    "/tasks/{pid}/new_as",
    response_model=Value,
    operation_id="new_as",
    summary="Copy the address space into a slot",
    openapi_extra=KEYED,
)
async def new_as(pid: Pid, caller: CallerDep, args: OfThread | None = None) -> Response:
    """A copy of the address space that the thread is in; its slot. ENOMEM; ENOENT: all are used; EBUSY: the task uses views."""
    return await _run("new_as", caller, pid, args or OfThread())


@router.post(
    "/tasks/{pid}/switch_as",
    response_model=Value,
    operation_id="switch_as",
    summary="Go to a slot",
    openapi_extra=KEYED,
)
async def switch_as(pid: Pid, args: SwitchAs, caller: CallerDep) -> Response:
    """Go to a slot. ENOENT: there is none of that number; EBUSY: the task uses views."""
    return await _run("switch_as", caller, pid, args)
