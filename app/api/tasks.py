"""Tasks and their threads: /v1/tasks."""

from fastapi import Request, Response

from app.calls.answers import Active, Lease, NewThread, Page, Task
from app.calls.arguments import Nothing, OfThread, Spawn, Switch
from app.errors import HttpProblem
from app.http.exchange import ClientGoneError
from app.routes.context import CallerDep
from app.routes.listing import ListingDep
from app.routes.routing import CONDITIONAL, KEYED, Pid, TidPath, new_router
from app.service import Service
from engine.credentials import Credentials
from engine.machine import Machine

router = new_router("tasks")


def leased(service: Service, m: Machine, cred: Credentials, pid: int) -> Task:
    """A task just made, whose lease begins when it can no longer be taken back."""
    status = m.task_status(cred, pid)
    m.journal.defer(service.leases.watch, pid, status.lease_s)
    return Task.of(status)


@router.post(
    "/tasks",
    status_code=201,
    response_model=Task,
    operation_id="spawn",
    summary="Make a task",
    openapi_extra=KEYED,
)
async def spawn(caller: CallerDep, args: Spawn | None = None) -> Response:
    """A new task; it exits when nothing is heard of it for `lease_s` seconds. EINVAL; EAGAIN: too many tasks."""
    wanted = args or Spawn()

    def make(m: Machine, cred: Credentials) -> Task:
        return leased(caller.service, m, cred, m.spawn(cred, wanted.name, wanted.lease_s).pid)

    return await caller.create(make)


@router.get("/tasks", operation_id="task_list", summary="List tasks")
async def task_list(caller: CallerDep, listing: ListingDep) -> Page[Task]:
    """All tasks, by pid."""
    views = await caller.call(lambda m, cred: m.tasks(cred))
    chosen, following = listing.part(views, lambda view: view.pid)
    return Page[Task](items=[Task.of(view) for view in chosen], next=following)


@router.get("/tasks/{pid}", operation_id="task_status", summary="Read a task's status")
async def task_status(pid: Pid, caller: CallerDep) -> Task:
    """What everybody may know of a task. ESRCH."""
    return Task.of(await caller.about(pid, lambda m, cred: m.task_status(cred, pid)))


@router.delete(
    "/tasks/{pid}", status_code=204, operation_id="exit", summary="End a task", openapi_extra=CONDITIONAL
)
async def exit_task(pid: Pid, caller: CallerDep) -> Response:
    """End a task and release everything it holds. ESRCH, EPERM."""
    await caller.call(lambda m, cred: m.exit(cred, pid), lambda m, cred: Task.of(m.task_status(cred, pid)))
    caller.service.leases.forget(pid)
    return Response(status_code=204)


@router.post(
    "/tasks/{pid}/fork",
    status_code=201,
    response_model=Task,
    operation_id="fork",
    summary="Copy a task",
    openapi_extra=KEYED,
)
async def fork(pid: Pid, caller: CallerDep, args: OfThread | None = None) -> Response:
    """A copy-on-write copy of the task's original address space; attachments are not inherited. ESRCH, EPERM; EAGAIN: too many tasks."""
    tid = args.tid if args else None

    def make(m: Machine, cred: Credentials) -> Task:
        return leased(caller.service, m, cred, m.fork(cred, pid, tid).pid)

    return await caller.of(pid).create(make)


@router.post(
    "/tasks/{pid}/exec",
    response_model=Task,
    operation_id="exec",
    summary="Begin anew",
    openapi_extra=KEYED,
)
async def exec_task(pid: Pid, caller: CallerDep, _: Nothing | None = None) -> Response:
    """Begin anew, as execve(2): a fresh map and one thread; nothing is attached any more. ESRCH, EPERM."""

    def begin(m: Machine, cred: Credentials) -> Task:
        m.exec(cred, pid)
        return Task.of(m.task_status(cred, pid))

    return await caller.of(pid).create(begin, 200, lasting=False)


@router.post("/tasks/{pid}/heartbeat", operation_id="heartbeat", summary="Renew the lease")
async def heartbeat(pid: Pid, caller: CallerDep, _: Nothing | None = None) -> Lease:
    """Renew the lease, as every call about a task does. ESRCH, EPERM."""
    task = await caller.about(pid, lambda m, cred: m.require_task(cred, pid))
    return Lease(pid=pid, lease_s=task.lease_s)


@router.post(
    "/tasks/{pid}/threads",
    status_code=201,
    response_model=NewThread,
    operation_id="thread",
    summary="Start a thread",
    openapi_extra=KEYED,
)
async def thread(pid: Pid, caller: CallerDep, args: OfThread | None = None) -> Response:
    """A new thread; it starts in the original address space. ESRCH, EPERM; EAGAIN: too many."""
    tid = args.tid if args else None
    return await caller.of(pid).create(lambda m, cred: NewThread(tid=m.thread(cred, pid, tid)))


@router.delete(
    "/tasks/{pid}/threads/{tid}", status_code=204, operation_id="exit_thread", summary="End a thread"
)
async def exit_thread(pid: Pid, tid: TidPath, caller: CallerDep) -> Response:
    """End a thread. The last thread ends the task; the main thread cannot end before the others (EINVAL)."""
    await caller.about(pid, lambda m, cred: m.exit_thread(cred, pid, tid))
    return Response(status_code=204)


@router.put(
    "/tasks/{pid}/threads/{tid}/active",
    operation_id="vas_switch",
    summary="Switch a thread into a space",
    openapi_extra=CONDITIONAL,
)
async def vas_switch(pid: Pid, tid: TidPath, args: Switch, caller: CallerDep, request: Request) -> Active:
    """Switch a thread to an attached space, or to the original address space (0). EINVAL: not attached.

    For the locks of a lockable space, or of a lockable segment in it, the call waits up to `timeout_s` seconds, null or
    absent: without end. EAGAIN: not free (`timeout_s` 0); ETIMEDOUT; EBUSY: those who have them wait for this thread.
    """
    service, cred = caller.service, caller.cred
    await caller.of(pid).judge(lambda m, cred: Active(tid=tid, vid=m.active_vas(cred, pid, tid)))
    try:
        await service.switching.switch(cred, pid, tid, args.vid, args.timeout_s, request)
    except ClientGoneError:
        raise HttpProblem(408, "the client left while it waited") from None
    return Active(tid=tid, vid=args.vid)


@router.get(
    "/tasks/{pid}/threads/{tid}/active", operation_id="active_vas", summary="Which space a thread is in"
)
async def active_vas(pid: Pid, tid: TidPath, caller: CallerDep) -> Active:
    """The id of the space that a thread is in, 0 in the original address space. ESRCH, EPERM."""
    return Active(tid=tid, vid=await caller.about(pid, lambda m, cred: m.active_vas(cred, pid, tid)))
