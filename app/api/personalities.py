"""Views (mmview) and slots (multias) of tasks: POST /v1/tasks/{pid}/mmview, new_as, switch_as and the old names."""

from app.answers import Value
from app.arguments import Mmview, MmviewUnshare, OfThread, OfView, SwitchAs
from app.call import Frame
from app.context import Caller, CallerDep
from app.routing import Pid, new_router
from app.view_calls import VIEW_CALLS

router = new_router("views")


async def _run(name: str, caller: Caller, pid: int, args: OfThread) -> Value:
    frame = Frame(caller.service, caller.cred, pid, None, caller.service.settings.body_limit)
    value = await caller.about(pid, lambda m, _: VIEW_CALLS[name].run(m, frame, args))
    return Value(value=value or 0)


@router.post("/tasks/{pid}/mmview", operation_id="mmview", summary="Create, choose and change views")
async def mmview(pid: Pid, args: Mmview, caller: CallerDep) -> Value:
    """CREATE 0, DELETE 1 (id), CURRENT 2, MIGRATE 3 (id), UNSHARE 4 and SHARE 5 (addr, len), SWITCH_BASE 6.

    EINVAL, ENOMEM; EPERM: the base is not deleted, UNSHARE and SHARE come before other views; EACCES: shared memory;
    EBUSY: the task uses slots.
    """
    return await _run("mmview", caller, pid, args)


@router.post("/tasks/{pid}/mmview_create", operation_id="mmview_create", summary="Create a view")
async def mmview_create(pid: Pid, caller: CallerDep, args: OfThread | None = None) -> Value:
    """A new view; its id. ENOMEM; EBUSY: the task uses slots."""
    return await _run("mmview_create", caller, pid, args or OfThread())


@router.post("/tasks/{pid}/mmview_migrate", operation_id="mmview_migrate", summary="Go into a view")
async def mmview_migrate(pid: Pid, args: OfView, caller: CallerDep) -> Value:
    """Go into a view; the former one's id. A negative id only asks. EINVAL."""
    return await _run("mmview_migrate", caller, pid, args)


@router.post("/tasks/{pid}/mmview_delete", operation_id="mmview_delete", summary="Delete a view")
async def mmview_delete(pid: Pid, args: OfView, caller: CallerDep) -> Value:
    """Delete a view; it goes when the last thread has left it. EINVAL: unknown, deleted, or the base."""
    return await _run("mmview_delete", caller, pid, args)


@router.post("/tasks/{pid}/mmview_unshare", operation_id="mmview_unshare", summary="Unshare a range")
async def mmview_unshare(pid: Pid, args: MmviewUnshare, caller: CallerDep) -> Value:
    """Let each view have its own copy of a range. EINVAL, EACCES, ENOMEM; EPERM: there are views already."""
    return await _run("mmview_unshare", caller, pid, args)


@router.post("/tasks/{pid}/new_as", operation_id="new_as", summary="Copy the address space into a slot")
async def new_as(pid: Pid, caller: CallerDep, args: OfThread | None = None) -> Value:
    """A copy of the address space that the thread is in; its slot. ENOMEM; ENOENT: all are used; EBUSY: the task uses views."""
    return await _run("new_as", caller, pid, args or OfThread())


@router.post("/tasks/{pid}/switch_as", operation_id="switch_as", summary="Go to a slot")
async def switch_as(pid: Pid, args: SwitchAs, caller: CallerDep) -> Value:
    """Go to a slot. ENOENT: there is none of that number; EBUSY: the task uses views."""
    return await _run("switch_as", caller, pid, args)
