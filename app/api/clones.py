"""Clones, snapshots and images: /v1/vas/{vid}/clone and its like, /v1/tasks/{pid}/vas_fork and vas_exec."""

from collections.abc import Callable, Sequence

from fastapi import Response

from app.calls.answers import Lineage, Segment, Space, Task, Usage
from app.calls.arguments import NewName, Nothing, VasExec, VasFork
from app.routes.context import Caller, CallerDep
from app.routes.routing import KEYED, Pid, Sid, Vid, new_router
from engine.credentials import Credentials
from engine.machine import Machine

router = new_router("clones")


@router.post(
    "/vas/{vid}/clone",
    status_code=201,
    response_model=Space,
    operation_id="vas_clone",
    summary="Clone a space",
    openapi_extra=KEYED,
)
async def vas_clone(vid: Vid, args: NewName, caller: CallerDep) -> Response:
    """A copy of a space, its segments and roots, that shares pages until one of them writes. EINVAL, EEXIST, EACCES."""
    return await caller.create(
        lambda m, cred: Space.of(m.vas_getattr(cred, m.vas_clone(cred, vid, args.name)))
    )


@router.post(
    "/vas/{vid}/snapshot",
    status_code=201,
    response_model=Space,
    operation_id="vas_snapshot",
    summary="Take a snapshot of a space",
    openapi_extra=KEYED,
)
async def vas_snapshot(vid: Vid, args: NewName, caller: CallerDep) -> Response:
    """A clone that nobody can change. EINVAL, EEXIST, EACCES."""
    return await caller.create(
        lambda m, cred: Space.of(m.vas_getattr(cred, m.vas_snapshot(cred, vid, args.name)))
    )


@router.post(
    "/vas/{vid}/reset",
    response_model=Space,
    operation_id="vas_reset",
    summary="Reset a cloned space",
    openapi_extra=KEYED,
)
async def vas_reset(vid: Vid, caller: CallerDep, _: Nothing | None = None) -> Response:
    """Make a clone what it was when it was cloned. EINVAL: no clone; EPERM: not its owner or root, a snapshot; EBUSY: a thread is inside."""

    def reset(m: Machine, cred: Credentials) -> Space:
        m.vas_reset(cred, vid)
        return Space.of(m.vas_getattr(cred, vid))

    return await caller.create(reset, 200)


@router.get("/vas/{vid}/lineage", operation_id="vas_lineage", summary="Origins and clones of a space")
async def vas_lineage(vid: Vid, caller: CallerDep) -> Lineage:
    """What a space was cloned from, nearest first, and its living clones. EINVAL."""
    return Lineage.of(await caller.call(lambda m, cred: m.vas_lineage(cred, vid)))


@router.get("/vas/{vid}/usage", operation_id="vas_usage", summary="Stored bytes of a space")
async def vas_usage(vid: Vid, caller: CallerDep) -> Usage:
    """Bytes of a space that are stored. EINVAL."""
    return await _usage(caller, lambda m, cred: m.usage_objects(cred, vid))


@router.post(
    "/segments/{sid}/clone",
    status_code=201,
    response_model=Segment,
    operation_id="vas_seg_clone",
    summary="Clone a segment",
    openapi_extra=KEYED,
)
async def vas_seg_clone(sid: Sid, args: NewName, caller: CallerDep) -> Response:
    """A copy of a segment, at the same addresses, that shares pages until one of them writes. EINVAL, EEXIST, EACCES."""
    return await caller.create(
        lambda m, cred: Segment.of(m.vas_seg_getattr(cred, m.vas_seg_clone(cred, sid, args.name)))
    )


@router.post(
    "/segments/{sid}/snapshot",
    status_code=201,
    response_model=Segment,
    operation_id="vas_seg_snapshot",
    summary="Take a snapshot of a segment",
    openapi_extra=KEYED,
)
async def vas_seg_snapshot(sid: Sid, args: NewName, caller: CallerDep) -> Response:
    """A clone that nobody can change. EINVAL, EEXIST, EACCES."""
    return await caller.create(
        lambda m, cred: Segment.of(m.vas_seg_getattr(cred, m.vas_seg_snapshot(cred, sid, args.name)))
    )


@router.post(
    "/segments/{sid}/reset",
    response_model=Segment,
    operation_id="vas_seg_reset",
    summary="Reset a cloned segment",
    openapi_extra=KEYED,
)
async def vas_seg_reset(sid: Sid, caller: CallerDep, _: Nothing | None = None) -> Response:
    """Make a clone what it was when it was cloned. EINVAL: no clone; EPERM: not its owner or root, a snapshot; EBUSY: a thread is inside."""

    def reset(m: Machine, cred: Credentials) -> Segment:
        m.vas_seg_reset(cred, sid)
        return Segment.of(m.vas_seg_getattr(cred, sid))

    return await caller.create(reset, 200)


@router.get(
    "/segments/{sid}/lineage", operation_id="vas_seg_lineage", summary="Origins and clones of a segment"
)
async def vas_seg_lineage(sid: Sid, caller: CallerDep) -> Lineage:
    """What a segment was cloned from, nearest first, and its living clones. EINVAL."""
    return Lineage.of(await caller.call(lambda m, cred: m.vas_seg_lineage(cred, sid)))


@router.get("/segments/{sid}/usage", operation_id="vas_seg_usage", summary="Stored bytes of a segment")
async def vas_seg_usage(sid: Sid, caller: CallerDep) -> Usage:
    """Bytes of a segment that are stored. EINVAL."""
    return await _usage(caller, lambda m, cred: m.seg_usage_objects(cred, sid))


async def _usage(caller: Caller, objects: Callable[[Machine, Credentials], Sequence[int]]) -> Usage:
    """What was written relaxed is made durable first, so that it counts."""
    executor = caller.service.executor
    await executor.write_back()
    logical, shared = await executor.usage(await caller.call(objects))
    page_size = caller.service.machine.geometry.page_size
    return Usage.of_pages(logical, shared, page_size)


@router.post(
    "/tasks/{pid}/vas_fork",
    status_code=201,
    response_model=Space,
    operation_id="vas_fork",
    summary="Keep a task's memory as an image",
    openapi_extra=KEYED,
)
async def vas_fork(pid: Pid, caller: CallerDep, args: VasFork | None = None) -> Response:
    """A space of what a task's memory is now, mode 0600, that vas_exec can run. ESRCH, EPERM, EEXIST, ENOMEM."""
    wanted = args or VasFork()

    def fork(m: Machine, cred: Credentials) -> Space:
        return Space.of(m.vas_getattr(cred, m.vas_fork(cred, pid, wanted.tid, wanted.name)))

    return await caller.of(pid).create(fork)


@router.post(
    "/tasks/{pid}/vas_exec",
    response_model=Task,
    operation_id="vas_exec",
    summary="Run an image",
    openapi_extra=KEYED,
)
async def vas_exec(pid: Pid, args: VasExec, caller: CallerDep) -> Response:
    """Give a task the memory of an image. ESRCH, EPERM; EINVAL: unknown, or no image; EACCES."""

    def run(m: Machine, cred: Credentials) -> Task:
        m.vas_exec(cred, pid, args.vid)
        return Task.of(m.task_status(cred, pid))

    return await caller.of(pid).create(run, 200, lasting=False)
