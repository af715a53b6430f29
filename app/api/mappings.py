"""Regions of what a thread sees: POST /v1/tasks/{pid}/mmap, munmap, mprotect, brk, msync."""

from typing import Any

from app.calls import MEMORY_CALLS, Frame
from app.context import Caller, CallerDep
from app.routing import Pid, new_router
from app.schemas import Brk, Mapped, Mmap, Mprotect, Msync, Munmap, OfThread, Value

router = new_router("memory")


async def _run(name: str, caller: Caller, pid: int, args: OfThread) -> Any:
    call, frame = MEMORY_CALLS[name], Frame(caller.service, caller.cred, pid, None, 0)
    return await caller.about(pid, lambda m, _: call.run(m, frame, args))


@router.post("/tasks/{pid}/mmap", operation_id="mmap")
async def mmap(pid: Pid, args: Mmap, caller: CallerDep) -> Mapped:
    """Map memory. Inside a space the region belongs to the space. EINVAL, ENOMEM, EEXIST, EACCES."""
    return Mapped(addr=await _run("mmap", caller, pid, args))


@router.post("/tasks/{pid}/munmap", operation_id="munmap")
async def munmap(pid: Pid, args: Munmap, caller: CallerDep) -> Value:
    """Unmap a range. EINVAL, EACCES."""
    await _run("munmap", caller, pid, args)
    return Value()


@router.post("/tasks/{pid}/mprotect", operation_id="mprotect")
async def mprotect(pid: Pid, args: Mprotect, caller: CallerDep) -> Value:
    """Change the rights of a range. EINVAL, EACCES; ENOMEM: a hole, with what lies before it changed, as in Linux."""
    await _run("mprotect", caller, pid, args)
    return Value()


@router.post("/tasks/{pid}/brk", operation_id="brk")
async def brk(pid: Pid, caller: CallerDep, args: Brk | None = None) -> Mapped:
    """Move the end of the heap, or (addr 0) ask for it. ENOMEM: it stays where it was."""
    return Mapped(addr=await _run("brk", caller, pid, args or Brk()))


@router.post("/tasks/{pid}/msync", operation_id="msync")
async def msync(pid: Pid, caller: CallerDep, args: Msync | None = None) -> Value:
    """Make everything written relaxed durable, atomically: of a range, or of the whole space. EINVAL, ENOMEM."""
    await _run("msync", caller, pid, args or Msync())
    return Value()
