"""Files about spaces and segments, as sysfs has them: /v1/sys. One value and a newline each."""

from fastapi.responses import PlainTextResponse

from app.routes.context import CallerDep
from app.routes.routing import Sid, Vid, new_router

router = new_router("sys")


@router.get(
    "/sys/vas/{vid}/{file}",
    operation_id="sys_vas",
    summary="An attribute of a space as text",
    response_class=PlainTextResponse,
)
async def vas(vid: Vid, file: str, caller: CallerDep) -> str:
    """name, mode, user or group of a space. EINVAL: unknown space; ENOENT: no such file."""
    return await caller.call(lambda m, _: m.sys_vas_text(vid, file))


@router.get(
    "/sys/vas_segs/{sid}/{file}",
    operation_id="sys_vas_seg",
    summary="An attribute of a segment as text",
    response_class=PlainTextResponse,
)
async def vas_seg(sid: Sid, file: str, caller: CallerDep) -> str:
    """name, mode, user, group or region of a segment. EINVAL: unknown segment; ENOENT: no such file."""
    return await caller.call(lambda m, _: m.sys_seg_text(sid, file))
