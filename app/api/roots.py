"""Roots: named addresses, by which who attaches a space finds what is in it. /v1/vas/{vid}/roots, /v1/tasks/{pid}/roots."""

from fastapi import Response

from app.answers import Mapped, Page, Root
from app.arguments import Place
from app.context import CallerDep
from app.paging import part_of_names
from app.routing import LIMIT, REST, Cursor, Limit, Pid, RootName, TidQuery, Vid, new_router

router = new_router("roots")

OF_SPACE = f"/vas/{{vid}}/roots/{{name:{REST}}}"
OF_TASK = f"/tasks/{{pid}}/roots/{{name:{REST}}}"


@router.get("/vas/{vid}/roots", operation_id="vas_roots", summary="List roots")
async def vas_roots(vid: Vid, caller: CallerDep, cursor: Cursor = None, limit: Limit = LIMIT) -> Page[Root]:
    """The roots of a space, by name. EINVAL, EACCES."""
    found = await caller.call(lambda m, cred: m.vas_roots(cred, vid))
    chosen, following = part_of_names(found, cursor, limit)
    return Page[Root](items=[Root(name=name, addr=addr) for name, addr in chosen], next=following)


@router.put(OF_SPACE, operation_id="vas_set_root", summary="Set a root")
async def vas_set_root(vid: Vid, name: RootName, args: Place, caller: CallerDep) -> Mapped:
    """Name an address. EINVAL: a bad name or address; EACCES; EPERM: a snapshot."""
    await caller.call(lambda m, cred: m.vas_set_root(cred, vid, name, args.addr))
    return Mapped(addr=args.addr)


@router.get(OF_SPACE, operation_id="vas_get_root", summary="Read a root")
async def vas_get_root(vid: Vid, name: RootName, caller: CallerDep) -> Mapped:
    """The address of a root. EINVAL, EACCES; ENOENT: there is none of that name."""
    return Mapped(addr=await caller.call(lambda m, cred: m.vas_get_root(cred, vid, name)))


@router.delete(OF_SPACE, status_code=204, operation_id="vas_delete_root", summary="Delete a root")
async def vas_delete_root(vid: Vid, name: RootName, caller: CallerDep) -> Response:
    """Forget a root. EINVAL, EACCES; ENOENT; EPERM: a snapshot."""
    await caller.call(lambda m, cred: m.vas_delete_root(cred, vid, name))
    return Response(status_code=204)


@router.put(OF_TASK, operation_id="set_root", summary="Set a root from inside")
async def set_root(pid: Pid, name: RootName, args: Place, caller: CallerDep, tid: TidQuery = None) -> Mapped:
    """The same in the space that a thread is in. ESRCH, EPERM, EACCES; EINVAL: it is in none."""
    await caller.about(pid, lambda m, cred: m.set_root(cred, pid, tid, name, args.addr))
    return Mapped(addr=args.addr)


@router.get(OF_TASK, operation_id="get_root", summary="Read a root from inside")
async def get_root(pid: Pid, name: RootName, caller: CallerDep, tid: TidQuery = None) -> Mapped:
    """The same in the space that a thread is in. ESRCH, EPERM, EACCES; EINVAL: it is in none; ENOENT."""
    return Mapped(addr=await caller.about(pid, lambda m, cred: m.get_root(cred, pid, tid, name)))
