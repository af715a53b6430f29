"""Spaces: /v1/vas."""

from fastapi import Response

from app.answers import Lock, Page, Region, SegmentAttachment, Space
from app.arguments import SegAttach, SetAttr, VasCreate
from app.context import CallerDep
from app.paging import part
from app.routing import LIMIT, Cursor, Limit, NameQuery, Sid, Vid, new_router
from engine.credentials import Credentials
from engine.errors import ESRCH, EngineError
from engine.machine import Machine
from engine.views import VasAttr

router = new_router("spaces")


@router.post("/vas", status_code=201, operation_id="vas_create", summary="Create a space")
async def vas_create(args: VasCreate, caller: CallerDep) -> Space:
    """Create an empty space. EINVAL, EEXIST."""

    def create_and_look(m: Machine, cred: Credentials) -> VasAttr:
        vid = m.vas_create(cred, args.name, args.mode, args.sharing, args.lifetime)
        return m.vas_getattr(cred, vid)

    return Space.of(await caller.call(create_and_look))


@router.get("/vas", operation_id="vas_find", summary="List or find spaces")
async def vas_find(
    caller: CallerDep, name: NameQuery = None, cursor: Cursor = None, limit: Limit = LIMIT
) -> Page[Space]:
    """All spaces by id, or the one of a name. EINVAL: a name that none can have."""
    if name is None:
        views = await caller.call(lambda m, cred: m.vas_list(cred))
    else:
        try:
            views = [await caller.call(lambda m, cred: m.vas_getattr(cred, m.vas_find(cred, name)))]
        except EngineError as refused:
            if refused.errno != ESRCH:
                raise
            views = []
    chosen, following = part(views, lambda view: view.vid, cursor, limit)
    return Page[Space](items=[Space.of(view) for view in chosen], next=following)


@router.get("/vas/{vid}", operation_id="vas_getattr", summary="Read a space's attributes")
async def vas_getattr(vid: Vid, caller: CallerDep) -> Space:
    """Attributes of a space. EINVAL: unknown."""
    return Space.of(await caller.call(lambda m, cred: m.vas_getattr(cred, vid)))


@router.patch("/vas/{vid}", operation_id="vas_setattr", summary="Change a space's attributes")
async def vas_setattr(vid: Vid, args: SetAttr, caller: CallerDep) -> Space:
    """Change mode, name, lifetime (owner or root), sharing (not while attached), uid and gid (root). EPERM, EBUSY, EEXIST."""

    def change_and_look(m: Machine, cred: Credentials) -> VasAttr:
        m.vas_setattr(cred, vid, *args.given())
        return m.vas_getattr(cred, vid)

    return Space.of(await caller.call(change_and_look))


@router.delete("/vas/{vid}", status_code=204, operation_id="vas_delete", summary="Delete a space")
async def vas_delete(vid: Vid, caller: CallerDep) -> Response:
    """Delete a space that no task has attached. EACCES, EBUSY."""
    await caller.call(lambda m, cred: m.vas_delete(cred, vid))
    return Response(status_code=204)


@router.get("/vas/{vid}/regions", operation_id="vas_regions", summary="A space's map")
async def vas_regions(
    vid: Vid, caller: CallerDep, cursor: Cursor = None, limit: Limit = LIMIT
) -> Page[Region]:
    """The space's own map, by address. EACCES: the mode's read bit."""
    views = await caller.call(lambda m, cred: m.vas_regions(cred, vid))
    chosen, following = part(views, lambda view: view.start, cursor, limit)
    return Page[Region](items=[Region.of(view) for view in chosen], next=following)


@router.get("/vas/{vid}/segments", operation_id="vas_segments", summary="A space's segments")
async def vas_segments(
    vid: Vid, caller: CallerDep, cursor: Cursor = None, limit: Limit = LIMIT
) -> Page[SegmentAttachment]:
    """The segments attached to a space, by id."""
    views = sorted(await caller.call(lambda m, cred: m.vas_segments(cred, vid)), key=lambda view: view.sid)
    chosen, following = part(views, lambda view: view.sid, cursor, limit)
    return Page[SegmentAttachment](items=[SegmentAttachment.of(view) for view in chosen], next=following)


@router.get("/vas/{vid}/lock", operation_id="lock_status", summary="Who holds and who waits")
async def lock_status(vid: Vid, caller: CallerDep, cursor: Cursor = None, limit: Limit = LIMIT) -> Page[Lock]:
    """Who holds and who waits for what is lockable: the space itself first, then its segments by id. EINVAL: unknown."""
    views = await caller.call(lambda m, cred: m.lock_status(cred, vid))
    chosen, following = part(views, lambda view: view.id if view.kind == "segment" else 0, cursor, limit)
    return Page[Lock](items=[Lock.of(view) for view in chosen], next=following)


@router.put("/vas/{vid}/segments/{sid}", operation_id="vas_seg_attach", summary="Attach a segment")
async def vas_seg_attach(vid: Vid, sid: Sid, args: SegAttach, caller: CallerDep) -> SegmentAttachment:
    """Attach a segment to a space. EACCES, EBUSY; EEXIST: attached with another type; EFAULT: a collision."""
    await caller.call(lambda m, cred: m.vas_seg_attach(cred, vid, sid, args.type))
    return SegmentAttachment(sid=sid, type=args.type)


@router.delete(
    "/vas/{vid}/segments/{sid}", status_code=204, operation_id="vas_seg_detach", summary="Detach a segment"
)
async def vas_seg_detach(vid: Vid, sid: Sid, caller: CallerDep) -> Response:
    """Detach a segment. EINVAL: not attached; EACCES; EBUSY: the space is attached to a task."""
    await caller.call(lambda m, cred: m.vas_seg_detach(cred, vid, sid))
    return Response(status_code=204)
