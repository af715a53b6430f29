"""How two spaces, or two segments, differ: GET /v1/vas/{vid}/diff and /v1/segments/{sid}/diff."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from fastapi import Query
from pydantic import BeforeValidator, WithJsonSchema

from app.calls.answers import Page
from app.calls.fields import HexAddress, View
from app.diffing import Finder
from app.http.exchange import parse_id
from app.http.paging import after, cursor_after
from app.routes.context import Caller, CallerDep
from app.routes.listing import Listing, ListingDep
from app.routes.routing import Sid, Vid, new_router
from engine.spaces.diff import Difference, Run

router = new_router("diff")

Other = Annotated[
    int,
    BeforeValidator(parse_id),
    WithJsonSchema({"type": "integer"}),
    Query(description="What it is compared with."),
]


class DifferentRun(View):
    """Pages [start, end). changed: mapped in both, the bytes differ; left, right: mapped in this, in the other only."""

    start: HexAddress
    end: HexAddress
    kind: Literal["changed", "left", "right"]

    @classmethod
    def of(cls, run: Run) -> Self:
        """From the engine's."""
        return cls.model_validate(run._asdict())


@router.get("/vas/{vid}/diff", operation_id="vas_diff", summary="Compare two spaces")
async def vas_diff(vid: Vid, other: Other, caller: CallerDep, listing: ListingDep) -> Page[DifferentRun]:
    """Where two spaces differ, by address. EINVAL: unknown; EACCES: the mode's read bit of both."""
    machine, cred = caller.service.machine, caller.cred
    return await _part(caller, lambda: machine.vas_diff(cred, vid, other), listing)


@router.get("/segments/{sid}/diff", operation_id="vas_seg_diff", summary="Compare two segments")
async def vas_seg_diff(sid: Sid, other: Other, caller: CallerDep, listing: ListingDep) -> Page[DifferentRun]:
    """Where two segments differ, by address. EINVAL: unknown, or not of one range; EACCES: the mode's read bit of both."""
    machine, cred = caller.service.machine, caller.cred
    return await _part(caller, lambda: machine.vas_seg_diff(cred, sid, other), listing)


async def _part(caller: Caller, look: Callable[[], Difference], listing: Listing) -> Page[DifferentRun]:
    runs, following = await Finder(caller.service, look).part(after(listing.cursor) + 1, listing.limit)
    items = [DifferentRun.of(run) for run in runs]
    more = listing.linked(None if following is None else cursor_after(following - 1))
    return Page[DifferentRun](items=items, next=more)
