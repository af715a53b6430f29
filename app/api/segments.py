"""Segments: /v1/segments."""

from fastapi import Response

from app.calls.answers import Page, Segment
from app.calls.arguments import SegCreate, SetAttr
from app.routes.context import CallerDep, Look
from app.routes.listing import ListingDep
from app.routes.routing import CONDITIONAL, KEYED, NameQuery, Sid, new_router
from engine.credentials import Credentials
from engine.errors import ESRCH, EngineError
from engine.machine import Machine
from engine.views import SegAttr

router = new_router("segments")


def segment_of(sid: int) -> Look:
    """What a GET of the segment answers."""
    return lambda m, cred: Segment.of(m.vas_seg_getattr(cred, sid))


@router.post(
    "/segments",
    status_code=201,
    response_model=Segment,
    operation_id="vas_seg_create",
    summary="Create a segment",
    openapi_extra=KEYED,
)
async def vas_seg_create(args: SegCreate, caller: CallerDep) -> Response:
    """Create a segment of zeros at [start, end). EINVAL, EEXIST; EFAULT: not in the user range."""

    def make(m: Machine, cred: Credentials) -> Segment:
        sid = m.vas_seg_create(cred, args.name, args.start, args.end, args.mode, args.sharing, args.lifetime)
        return Segment.of(m.vas_seg_getattr(cred, sid))

    return await caller.create(make)


@router.get("/segments", operation_id="vas_seg_find", summary="List or find segments")
async def vas_seg_find(caller: CallerDep, listing: ListingDep, name: NameQuery = None) -> Page[Segment]:
    """All segments by id, or the one of a name. EINVAL: a name that none can have."""
    if name is None:
        views = await caller.call(lambda m, cred: m.vas_seg_list(cred))
    else:
        try:
            views = [await caller.call(lambda m, cred: m.vas_seg_getattr(cred, m.vas_seg_find(cred, name)))]
        except EngineError as refused:
            if refused.errno != ESRCH:
                raise
            views = []
    chosen, following = listing.part(views, lambda view: view.sid)
    return Page[Segment](items=[Segment.of(view) for view in chosen], next=following)


@router.get("/segments/{sid}", operation_id="vas_seg_getattr", summary="Read a segment's attributes")
async def vas_seg_getattr(sid: Sid, caller: CallerDep) -> Segment:
    """Attributes of a segment. EINVAL: unknown."""
    return Segment.of(await caller.call(lambda m, cred: m.vas_seg_getattr(cred, sid)))


@router.patch(
    "/segments/{sid}",
    operation_id="vas_seg_setattr",
    summary="Change a segment's attributes",
    openapi_extra=CONDITIONAL,
)
async def vas_seg_setattr(sid: Sid, args: SetAttr, caller: CallerDep) -> Segment:
    """Change mode, name, lifetime (owner or root), sharing (not while attached), uid and gid (root). EPERM, EBUSY, EEXIST."""

    def change_and_look(m: Machine, cred: Credentials) -> SegAttr:
        m.vas_seg_setattr(cred, sid, *args.given())
        return m.vas_seg_getattr(cred, sid)

    return Segment.of(await caller.call(change_and_look, segment_of(sid)))


@router.delete(
    "/segments/{sid}",
    status_code=204,
    operation_id="vas_seg_delete",
    summary="Delete a segment",
    openapi_extra=CONDITIONAL,
)
async def vas_seg_delete(sid: Sid, caller: CallerDep) -> Response:
    """Delete a segment that no space has attached. EACCES, EBUSY."""
    await caller.call(lambda m, cred: m.vas_seg_delete(cred, sid), segment_of(sid))
    return Response(status_code=204)
