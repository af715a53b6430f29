"""Roots: named addresses, by which who attaches a space finds what is in it. /v1/vas/{vid}/roots, /v1/tasks/{pid}/roots."""

from collections.abc import Callable

from fastapi import Response

from app.calls.answers import Mapped, Page, Root
from app.calls.arguments import Place
from app.routes.context import CallerDep, Look
from app.routes.listing import ListingDep
from app.routes.routing import CONDITIONAL, REST, Pid, RootName, TidQuery, Vid, new_router
from engine.credentials import Credentials
from engine.errors import ENOENT, EngineError
from engine.machine import Machine

router = new_router("roots")

OF_SPACE = f"/vas/{{vid}}/roots/{{name:{REST}}}"
OF_TASK = f"/tasks/{{pid}}/roots/{{name:{REST}}}"


def _root(read: Callable[[Machine, Credentials], int]) -> Look:
    """What a GET of the root answers, if there is one."""

    def look(m: Machine, cred: Credentials) -> Mapped | None:
        try:
            return Mapped(addr=read(m, cred))
        except EngineError as refused:
            if refused.errno != ENOENT:
                raise
            return None

    return look


def root_of(vid: int, name: str) -> Look:
    """Of a space."""
    return _root(lambda m, cred: m.vas_get_root(cred, vid, name))


@router.get("/vas/{vid}/roots", operation_id="vas_roots", summary="List roots")
async def vas_roots(vid: Vid, caller: CallerDep, listing: ListingDep) -> Page[Root]:
    """The roots of a space, by name. EINVAL, EACCES."""
    found = await caller.call(lambda m, cred: m.vas_roots(cred, vid))
    chosen, following = listing.part_of_names(found)
    return Page[Root](items=[Root(name=name, addr=addr) for name, addr in chosen], next=following)


@router.put(OF_SPACE, operation_id="vas_set_root", summary="Set a root", openapi_extra=CONDITIONAL)
async def vas_set_root(vid: Vid, name: RootName, args: Place, caller: CallerDep) -> Mapped:
    """Name an address. EINVAL: a bad name or address; EACCES; EPERM: a snapshot; ENOSPC: too many."""
    await caller.call(lambda m, cred: m.vas_set_root(cred, vid, name, args.addr), root_of(vid, name))
    return Mapped(addr=args.addr)


@router.get(OF_SPACE, operation_id="vas_get_root", summary="Read a root")
async def vas_get_root(vid: Vid, name: RootName, caller: CallerDep) -> Mapped:
    """The address of a root. EINVAL, EACCES; ENOENT: there is none of that name."""
    return Mapped(addr=await caller.call(lambda m, cred: m.vas_get_root(cred, vid, name)))


@router.delete(
    OF_SPACE,
    status_code=204,
    operation_id="vas_delete_root",
    summary="Delete a root",
    openapi_extra=CONDITIONAL,
)
async def vas_delete_root(vid: Vid, name: RootName, caller: CallerDep) -> Response:
    """Forget a root. EINVAL, EACCES; ENOENT; EPERM: a snapshot."""
    await caller.call(lambda m, cred: m.vas_delete_root(cred, vid, name), root_of(vid, name))
    return Response(status_code=204)


@router.put(OF_TASK, operation_id="set_root", summary="Set a root from inside", openapi_extra=CONDITIONAL)
async def set_root(pid: Pid, name: RootName, args: Place, caller: CallerDep, tid: TidQuery = None) -> Mapped:
    """The same in the space that a thread is in. ESRCH, EPERM, EACCES; EINVAL: it is in none."""
    await caller.about(
        pid,
        lambda m, cred: m.set_root(cred, pid, tid, name, args.addr),
        _root(lambda m, cred: m.get_root(cred, pid, tid, name)),
    )
    return Mapped(addr=args.addr)


@router.get(OF_TASK, operation_id="get_root", summary="Read a root from inside")
async def get_root(pid: Pid, name: RootName, caller: CallerDep, tid: TidQuery = None) -> Mapped:
    """The same in the space that a thread is in. ESRCH, EPERM, EACCES; EINVAL: it is in none; ENOENT."""
    return Mapped(addr=await caller.about(pid, lambda m, cred: m.get_root(cred, pid, tid, name)))
