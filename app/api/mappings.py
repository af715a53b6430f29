"""Regions of what a thread sees: POST /v1/tasks/{pid}/mmap, munmap, mprotect, mremap, brk, madvise, mincore, mlock, …"""

from typing import Any

from fastapi import Response

from app.calls.answers import Mapped, Residency, Value
from app.calls.arguments import Brk, Madvise, Mlock, Mmap, Mprotect, Mremap, Msync, OfThread, Range
from app.calls.call import Frame
from app.calls.memory import MEMORY_CALLS, base64
from app.routes.context import Caller, CallerDep
from app.routes.routing import KEYED, Pid, new_router
from engine.credentials import Credentials
from engine.machine import Machine

router = new_router("memory")


async def _run(name: str, caller: Caller, pid: int, args: OfThread) -> Any:
    call = MEMORY_CALLS[name]
    frame = Frame(caller.service, caller.cred, pid, None, caller.service.settings.body_limit)
    if call.size is not None:
        frame.spend(call.size(frame.machine, args))
    return await caller.about(pid, lambda m, _: call.run(m, frame, args))


async def _place(name: str, caller: Caller, pid: int, args: OfThread) -> Response:
    """One that gives another address each time."""
    frame = Frame(caller.service, caller.cred, pid, None, caller.service.settings.body_limit)

    def make(m: Machine, _: Credentials) -> Mapped:
        return Mapped(addr=MEMORY_CALLS[name].run(m, frame, args))

    return await caller.of(pid).create(make, 200)


@router.post(
    "/tasks/{pid}/mmap",
    response_model=Mapped,
    operation_id="mmap",
    summary="Map memory",
    openapi_extra=KEYED,
)
async def mmap(pid: Pid, args: Mmap, caller: CallerDep) -> Response:
    """Map memory. Inside a space the region belongs to the space. EINVAL, ENOMEM, EEXIST, EACCES."""
    return await _place("mmap", caller, pid, args)


@router.post("/tasks/{pid}/munmap", operation_id="munmap", summary="Unmap a range")
async def munmap(pid: Pid, args: Range, caller: CallerDep) -> Value:
    """Unmap a range. EINVAL, EACCES."""
    await _run("munmap", caller, pid, args)
    return Value()


@router.post("/tasks/{pid}/mprotect", operation_id="mprotect", summary="Change the rights of a range")
async def mprotect(pid: Pid, args: Mprotect, caller: CallerDep) -> Value:
    """Change the rights of a range. EINVAL, EACCES; ENOMEM: a hole, with what lies before it changed, as in Linux."""
    await _run("mprotect", caller, pid, args)
    return Value()


@router.post(
    "/tasks/{pid}/mremap",
    response_model=Mapped,
    operation_id="mremap",
    summary="Resize or move a region",
    openapi_extra=KEYED,
)
async def mremap(pid: Pid, args: Mremap, caller: CallerDep) -> Response:
    """Resize or move a region. EINVAL; EFAULT: no region there; ENOMEM: no room; EAGAIN: locked memory; EBUSY, EEXIST."""
    return await _place("mremap", caller, pid, args)


@router.post("/tasks/{pid}/brk", operation_id="brk", summary="Move the end of the heap")
async def brk(pid: Pid, caller: CallerDep, args: Brk | None = None) -> Mapped:
    """Move the end of the heap, or (addr 0) ask for it. ENOMEM: it stays where it was."""
    return Mapped(addr=await _run("brk", caller, pid, args or Brk()))


@router.post("/tasks/{pid}/madvise", operation_id="madvise", summary="Advise on a range")
async def madvise(pid: Pid, args: Madvise, caller: CallerDep) -> Value:
    """Say how a range will be used. EINVAL, EACCES; ENOMEM: a hole, with the rest advised, as in Linux."""
    await _run("madvise", caller, pid, args)
    return Value()


@router.post("/tasks/{pid}/mincore", operation_id="mincore", summary="Which pages are in memory")
async def mincore(pid: Pid, args: Range, caller: CallerDep) -> Residency:
    """Which pages of a range are in memory. EINVAL, ENOMEM; E2BIG: more pages than an answer may have bytes."""
    return Residency(value=base64(await _run("mincore", caller, pid, args)))


@router.post("/tasks/{pid}/mlock", operation_id="mlock", summary="Lock a range in memory")
async def mlock(pid: Pid, args: Mlock, caller: CallerDep) -> Value:
    """Keep a range in memory. EINVAL; EPERM: the limit is 0; ENOMEM: over the limit, or a hole."""
    await _run("mlock", caller, pid, args)
    return Value()


@router.post("/tasks/{pid}/munlock", operation_id="munlock", summary="Unlock a range")
async def munlock(pid: Pid, args: Range, caller: CallerDep) -> Value:
    """Let a range be put aside again. EINVAL; ENOMEM: a hole."""
    await _run("munlock", caller, pid, args)
    return Value()


@router.post("/tasks/{pid}/msync", operation_id="msync", summary="Make writes durable")
async def msync(pid: Pid, caller: CallerDep, args: Msync | None = None) -> Value:
    """Make everything written relaxed durable, atomically: of a range, or of the whole space. EINVAL, ENOMEM."""
    await _run("msync", caller, pid, args or Msync())
    return Value()
