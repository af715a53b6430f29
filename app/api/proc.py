"""Files about tasks, as procfs has them: /v1/proc/{pid}. Each ends in a newline; an empty list is an empty file."""

from fastapi.responses import PlainTextResponse

from app.routes.context import CallerDep
from app.routes.routing import Pid, TidQuery, Vid, new_router

router = new_router("proc")


@router.get(
    "/proc/{pid}/maps",
    operation_id="proc_maps",
    summary="A task's map as text",
    response_class=PlainTextResponse,
)
async def maps(pid: Pid, caller: CallerDep, tid: TidQuery = None) -> str:
    """What a thread sees, a line for each region. ESRCH, EPERM."""
    return await caller.about(pid, lambda m, cred: m.maps_text(cred, pid, tid))


@router.get(
    "/proc/{pid}/smaps",
    operation_id="proc_smaps",
    summary="A task's map and its memory as text",
    response_class=PlainTextResponse,
)
async def smaps(pid: Pid, caller: CallerDep, tid: TidQuery = None) -> str:
    """What a thread sees, and how much memory each region uses. ESRCH, EPERM."""
    return await caller.about(pid, lambda m, cred: m.smaps_text(cred, pid, tid))


@router.get(
    "/proc/{pid}/status",
    operation_id="proc_status",
    summary="A task's status as text",
    response_class=PlainTextResponse,
)
async def status(pid: Pid, caller: CallerDep) -> str:
    """What everybody may know of a task. ESRCH."""
    return await caller.about(pid, lambda m, cred: m.status_text(cred, pid))


@router.get(
    "/proc/{pid}/vas",
    operation_id="proc_vas",
    summary="Attached spaces as text",
    response_class=PlainTextResponse,
)
async def vas(pid: Pid, caller: CallerDep) -> str:
    """Ids of the attached spaces, one a line. ESRCH, EPERM."""
    vids = await caller.about(pid, lambda m, cred: m.vas_dir(cred, pid))
    return "".join(f"{vid}\n" for vid in vids)


@router.get(
    "/proc/{pid}/vas/{vid}/status",
    operation_id="proc_vas_status",
    summary="An attachment as text",
    response_class=PlainTextResponse,
)
async def vas_status(pid: Pid, vid: Vid, caller: CallerDep) -> str:
    """pid, vid and type of an attachment. ESRCH; ENOENT: not attached."""
    return await caller.about(pid, lambda m, cred: m.vas_status_text(cred, pid, vid))


@router.get(
    "/proc/{pid}/vas/{vid}/maps",
    operation_id="proc_vas_maps",
    summary="An attached space's map as text",
    response_class=PlainTextResponse,
)
async def vas_maps(pid: Pid, vid: Vid, caller: CallerDep) -> str:
    """The attached space's regions. ESRCH, EPERM; ENOENT: not attached."""
    return await caller.about(pid, lambda m, cred: m.vas_maps_text(cred, pid, vid))
