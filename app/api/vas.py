"""Spaces: /v1/vas."""

from fastapi import Response

from app.calls.answers import Lock, Page, Region, SegmentAttachment, Space
from app.calls.arguments import SegAttach, SetAttr, VasCreate
from app.routes.context import CallerDep, Look
from app.routes.listing import ListingDep
from app.routes.routing import CONDITIONAL, KEYED, NameQuery, Sid, Vid, new_router
from engine.credentials import Credentials
from engine.errors import ESRCH, EngineError
from engine.machine import Machine
from engine.views import VasAttr

router = new_router("spaces")


def space_of(vid: int) -> Look:
    """What a GET of the space answers."""
    return lambda m, cred: Space.of(m.vas_getattr(cred, vid))


def segment_in(vid: int, sid: int) -> Look:
    """How a segment is attached, if it is."""

    def look(m: Machine, cred: Credentials) -> SegmentAttachment | None:
        found = (view for view in m.vas_segments(cred, vid) if view.sid == sid)
        return next(map(SegmentAttachment.of, found), None)

    return look


@router.post(
    "/vas",
    status_code=201,
    response_model=Space,
    operation_id="vas_create",
    summary="Create a space",
    openapi_extra=KEYED,
)
async def vas_create(args: VasCreate, caller: CallerDep) -> Response:
    """Create an empty space. EINVAL, EEXIST."""

    def make(m: Machine, cred: Credentials) -> Space:
        vid = m.vas_create(cred, args.name, args.mode, args.sharing, args.lifetime)
        return Space.of(m.vas_getattr(cred, vid))

    return await caller.create(make)


@router.get("/vas", operation_id="vas_find", summary="List or find spaces")
async def vas_find(caller: CallerDep, listing: ListingDep, name: NameQuery = None) -> Page[Space]:
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
    chosen, following = listing.part(views, lambda view: view.vid)
    return Page[Space](items=[Space.of(view) for view in chosen], next=following)


@router.get("/vas/{vid}", operation_id="vas_getattr", summary="Read a space's attributes")
async def vas_getattr(vid: Vid, caller: CallerDep) -> Space:
    """Attributes of a space. EINVAL: unknown."""
    return Space.of(await caller.call(lambda m, cred: m.vas_getattr(cred, vid)))


@router.patch(
    "/vas/{vid}",
    operation_id="vas_setattr",
    summary="Change a space's attributes",
    openapi_extra=CONDITIONAL,
)
async def vas_setattr(vid: Vid, args: SetAttr, caller: CallerDep) -> Space:
    """Change mode, name, lifetime (owner or root), sharing (not while attached), uid and gid (root). EPERM, EBUSY, EEXIST."""

    def change_and_look(m: Machine, cred: Credentials) -> VasAttr:
        m.vas_setattr(cred, vid, *args.given())
        return m.vas_getattr(cred, vid)

    return Space.of(await caller.call(change_and_look, space_of(vid)))


@router.delete(
    "/vas/{vid}",
    status_code=204,
    operation_id="vas_delete",
    summary="Delete a space",
    openapi_extra=CONDITIONAL,
)
async def vas_delete(vid: Vid, caller: CallerDep) -> Response:
    """Delete a space that no task has attached. EACCES, EBUSY."""
    await caller.call(lambda m, cred: m.vas_delete(cred, vid), space_of(vid))
    return Response(status_code=204)


@router.get("/vas/{vid}/regions", operation_id="vas_regions", summary="A space's map")
async def vas_regions(vid: Vid, caller: CallerDep, listing: ListingDep) -> Page[Region]:
    """The space's own map, by address. EACCES: the mode's read bit."""
    views = await caller.call(lambda m, cred: m.vas_regions(cred, vid))
    chosen, following = listing.part(views, lambda view: view.start)
    return Page[Region](items=[Region.of(view) for view in chosen], next=following)


@router.get("/vas/{vid}/segments", operation_id="vas_segments", summary="A space's segments")
async def vas_segments(vid: Vid, caller: CallerDep, listing: ListingDep) -> Page[SegmentAttachment]:
    """The segments attached to a space, by id."""
    views = sorted(await caller.call(lambda m, cred: m.vas_segments(cred, vid)), key=lambda view: view.sid)
    chosen, following = listing.part(views, lambda view: view.sid)
    return Page[SegmentAttachment](items=[SegmentAttachment.of(view) for view in chosen], next=following)


@router.get("/vas/{vid}/lock", operation_id="lock_status", summary="Who holds and who waits")
async def lock_status(vid: Vid, caller: CallerDep, listing: ListingDep) -> Page[Lock]:
    """Who holds and who waits for what is lockable: the space itself first, then its segments by id. EINVAL: unknown."""
    views = await caller.call(lambda m, cred: m.lock_status(cred, vid))
    chosen, following = listing.part(views, lambda view: view.id if view.kind == "segment" else 0)
    return Page[Lock](items=[Lock.of(view) for view in chosen], next=following)


@router.put(
    "/vas/{vid}/segments/{sid}",
    operation_id="vas_seg_attach",
    summary="Attach a segment",
    openapi_extra=CONDITIONAL,
)
async def vas_seg_attach(vid: Vid, sid: Sid, args: SegAttach, caller: CallerDep) -> SegmentAttachment:
    """Attach a segment to a space. EACCES, EBUSY; EEXIST: attached with another type; EFAULT: a collision."""
    await caller.call(lambda m, cred: m.vas_seg_attach(cred, vid, sid, args.type), segment_in(vid, sid))
    return SegmentAttachment(sid=sid, type=args.type)


@router.delete(
    "/vas/{vid}/segments/{sid}",
    status_code=204,
    operation_id="vas_seg_detach",
    summary="Detach a segment",
    openapi_extra=CONDITIONAL,
)
async def vas_seg_detach(vid: Vid, sid: Sid, caller: CallerDep) -> Response:
    """Detach a segment. EINVAL: not attached; EACCES; EBUSY: the space is attached to a task."""
    await caller.call(lambda m, cred: m.vas_seg_detach(cred, vid, sid), segment_in(vid, sid))
    return Response(status_code=204)
