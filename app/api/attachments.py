"""Spaces as tasks have them: /v1/tasks/{pid}/vas/{vid}."""

from fastapi import Response

from app.calls.answers import Attachment
from app.calls.arguments import VasAttach
from app.routes.context import CallerDep, Look
from app.routes.routing import CONDITIONAL, Pid, Vid, new_router
from engine.credentials import Credentials
from engine.errors import ENOENT, EngineError
from engine.machine import Machine
from engine.views import AttachmentStatus

router = new_router("attachments")


def attachment_of(pid: int, vid: int) -> Look:
    """What a GET of the attachment answers, if there is one."""

    def look(m: Machine, cred: Credentials) -> Attachment | None:
        try:
            return Attachment.of(m.attachment(cred, pid, vid))
        except EngineError as refused:
            if refused.errno != ENOENT:
                raise
            return None

    return look


@router.put(
    "/tasks/{pid}/vas/{vid}",
    operation_id="vas_attach",
    summary="Attach a space",
    openapi_extra=CONDITIONAL,
)
async def vas_attach(pid: Pid, vid: Vid, args: VasAttach, caller: CallerDep) -> Attachment:
    """Attach a space to a task. EPERM, EACCES, EBUSY; EEXIST: attached with another type; EFAULT: a collision."""

    def attach_and_look(m: Machine, cred: Credentials) -> AttachmentStatus:
        m.vas_attach(cred, pid, vid, args.type, args.lazy)
        return m.attachment(cred, pid, vid)

    return Attachment.of(await caller.about(pid, attach_and_look, attachment_of(pid, vid)))


@router.get("/tasks/{pid}/vas/{vid}", operation_id="attachment", summary="Read an attachment")
async def attachment(pid: Pid, vid: Vid, caller: CallerDep) -> Attachment:
    """How a task has a space. ENOENT: not attached."""
    return Attachment.of(await caller.about(pid, lambda m, cred: m.attachment(cred, pid, vid)))


@router.delete(
    "/tasks/{pid}/vas/{vid}",
    status_code=204,
    operation_id="vas_detach",
    summary="Detach a space",
    openapi_extra=CONDITIONAL,
)
async def vas_detach(pid: Pid, vid: Vid, caller: CallerDep) -> Response:
    """Detach a space. EINVAL: not attached; EBUSY: a thread of the task is in it."""
    await caller.about(pid, lambda m, cred: m.vas_detach(cred, pid, vid), attachment_of(pid, vid))
    return Response(status_code=204)
