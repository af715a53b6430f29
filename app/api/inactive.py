"""Regions of a space from outside, whoever is inside: POST /v1/vas/{vid}/mmap, munmap, mprotect (as_mmap and its like)."""

from fastapi import Response

from app.calls.answers import Mapped, Value
from app.calls.arguments import SpaceMmap, SpaceMprotect, SpaceRange
from app.routes.context import CallerDep
from app.routes.routing import KEYED, Vid, new_router

router = new_router("spaces")


@router.post(
    "/vas/{vid}/mmap",
    response_model=Mapped,
    operation_id="vas_mmap",
    summary="Map memory into a space",
    openapi_extra=KEYED,
)
async def vas_mmap(vid: Vid, args: SpaceMmap, caller: CallerDep) -> Response:
    """Map memory into a space. EINVAL, ENOMEM, EEXIST; EACCES: the mode's write bit; EPERM: a snapshot."""
    return await caller.create(
        lambda m, cred: Mapped(addr=m.vas_mmap(cred, vid, args.addr, args.length, args.prot, args.flags)),
        200,
    )


@router.post("/vas/{vid}/munmap", operation_id="vas_munmap", summary="Unmap from a space")
async def vas_munmap(vid: Vid, args: SpaceRange, caller: CallerDep) -> Value:
    """Unmap a range of a space. EINVAL, EACCES, EPERM; EBUSY: a segment that is attached lies there."""
    await caller.call(lambda m, cred: m.vas_munmap(cred, vid, args.addr, args.length))
    return Value()


@router.post("/vas/{vid}/mprotect", operation_id="vas_mprotect", summary="Change rights in a space")
async def vas_mprotect(vid: Vid, args: SpaceMprotect, caller: CallerDep) -> Value:
    """Change the rights of a range of a space. EINVAL, EACCES, EPERM; ENOMEM: a hole."""
    await caller.call(lambda m, cred: m.vas_mprotect(cred, vid, args.addr, args.length, args.prot))
    return Value()
