"""Heaps inside segments: /v1/tasks/{pid}/heap and /v1/segments/{sid}/heap."""

from typing import Annotated

from fastapi import Path, Response
from pydantic import BeforeValidator, WithJsonSchema

from app.calls.answers import Heap, Mapped
from app.calls.arguments import Malloc
from app.calls.fields import FITS
from app.routes.context import CallerDep
from app.routes.hot import ADDRESS
from app.routes.routing import KEYED, Pid, Sid, TidQuery, new_router
from everspace.wire import parse_address

router = new_router("heaps")

AddrPath = Annotated[
    int,
    BeforeValidator(parse_address),
    FITS,
    WithJsonSchema(ADDRESS),
    Path(description="Hex with 0x, or decimal."),
]


@router.post(
    "/tasks/{pid}/heap",
    response_model=Mapped,
    operation_id="vas_malloc",
    summary="Allocate in a segment",
    openapi_extra=KEYED,
)
async def vas_malloc(pid: Pid, args: Malloc, caller: CallerDep) -> Response:
    """Allocate in a segment of the space that the thread is in. EINVAL, EACCES; ENOMEM: full; EFAULT: no heap, or a broken one."""
    return await caller.of(pid).create(
        lambda m, cred: Mapped(addr=m.vas_malloc(cred, pid, args.tid, args.size, args.sid)), 200
    )


@router.delete(
    "/tasks/{pid}/heap/{addr}", status_code=204, operation_id="vas_free", summary="Free an allocation"
)
async def vas_free(pid: Pid, addr: AddrPath, caller: CallerDep, tid: TidQuery = None) -> Response:
    """Free what vas_malloc gave. EINVAL: nothing of that address is allocated; EACCES; EFAULT: a broken heap."""
    await caller.about(pid, lambda m, cred: m.vas_free(cred, pid, tid, addr))
    return Response(status_code=204)


@router.get("/segments/{sid}/heap", operation_id="heap_usage", summary="How full a heap is")
async def heap_usage(sid: Sid, caller: CallerDep) -> Heap:
    """How full a segment's heap is. EINVAL, EACCES; EFAULT: no heap, or a broken one."""
    return Heap.of(await caller.call(lambda m, cred: m.heap_usage(cred, sid)))
