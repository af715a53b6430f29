"""ELF core files: GET /v1/tasks/{pid}/core and /v1/vas/{vid}/core, streamed.

The regions, and all bytes of volatile memory, are those of one moment. The bytes of spaces and segments, which may be
more than fit into memory, are read when the stream comes to them, `PIECE_BYTES` at a time, each time as they are then.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import Final

from app.http.exchange import BYTES_HEADER, Exchange, object_id, optional_number, task_id
from app.http.streaming import stream
from app.outcomes import ManyPagesNeeded
from app.routes import hot
from app.routes.hot import HotRoute
from app.service import Service
from engine.errors import EAGAIN, EngineError, Lacking, PagesNeeded
from engine.inspection.core_file import Layout
from engine.inspection.core_image import CoreImage

PIECE_BYTES: Final = 1 << 20
"""Bytes read in one go."""
CORES_MAX: Final = 8
"""Core files under way at once: each may hold memory that others have given up meanwhile."""
CORES_PER_ACCOUNT: Final = CORES_MAX // 2
"""Those of one account, but for root's: nobody takes them all."""

Run = tuple[int, int, int]
"""Region, first page in it, pages."""


async def task_core(exchange: Exchange, service: Service, pid_text: str) -> None:
    """200 with what a thread sees. ESRCH; EPERM: another uid's; EAGAIN: too many at once; EINVAL: no such files here."""
    pid, tid = task_id(pid_text), optional_number(exchange.query(), "tid")
    machine, cred = service.machine, exchange.cred
    service.renew(cred, pid)
    await _answer(exchange, service, f"core.{pid}", lambda: machine.task_core(cred, pid, tid))


async def vas_core(exchange: Exchange, service: Service, vid_text: str) -> None:
    """200 with a space's own regions. EINVAL: unknown; EACCES: the mode's read bit; EAGAIN: too many at once."""
    vid = object_id(vid_text, "space")
    machine, cred = service.machine, exchange.cred
    await _answer(exchange, service, f"core.vas.{vid}", lambda: machine.vas_core(cred, vid))


async def _answer(exchange: Exchange, service: Service, name: str, take: Callable[[], CoreImage]) -> None:
    cred, own = exchange.cred, service.cores_of[exchange.cred.uid]
    if service.cores >= CORES_MAX or (own >= CORES_PER_ACCOUNT and not cred.is_root):
        raise EngineError(
            EAGAIN, f"{service.cores} core files are being sent already, {own} for uid {cred.uid}"
        )
    service.cores += 1
    service.cores_of[cred.uid] += 1
    try:
        image = await service.executor.run(take)
        try:
            layout = await _layout(service, image)
            attachment = b"content-disposition", b'attachment; filename="%s"' % name.encode("ascii")
            pieces = _pieces(service, image, layout)
            await stream(exchange, layout.size, pieces, BYTES_HEADER, attachment)
        finally:
            image.release()
    finally:
        service.cores -= 1
        service.cores_of[cred.uid] -= 1


async def _layout(service: Service, image: CoreImage) -> Layout:
    stored = {
        unknown.object_id: await service.executor.stored_pages(
            unknown.object_id, unknown.first, unknown.count
        )
        for unknown in image.unknown()
    }
    return await asyncio.to_thread(image.layout(stored))


async def _pieces(service: Service, image: CoreImage, layout: Layout) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(layout.header), PIECE_BYTES):
        yield layout.header[start : start + PIECE_BYTES]
    pool = service.machine.pool
    pages_max = max(1, min(PIECE_BYTES // pool.page_size, pool.capacity // 4))
    for runs in _batches(layout, pages_max):
        yield await service.executor.run(partial(_read, image, runs))


def _batches(layout: Layout, pages_max: int) -> Iterator[list[Run]]:
    """All runs in order, in lists of at most `pages_max` pages."""
    batch: list[Run] = []
    room = pages_max
    for region, first, count in layout.runs.tolist():
        done = 0
        while done < count:
            taken = min(room, count - done)
            batch.append((region, first + done, taken))
            done += taken
            room -= taken
            if not room:
                yield batch
                batch, room = [], pages_max
    if batch:
        yield batch


def _read(image: CoreImage, runs: list[Run]) -> bytes:
    """The bytes of `runs`. Raises ManyPagesNeeded with all that is in the store only."""
    pieces: list[bytes] = []
    needs: dict[Lacking, PagesNeeded] = {}
    for run in runs:
        try:
            pieces.append(image.read(*run))
        except PagesNeeded as need:
            known = needs.get(need.memory)
            needs[need.memory] = known.joined(need) if known else need.with_traceback(None)
    if needs:
        raise ManyPagesNeeded(list(needs.values()))
    return b"".join(pieces)


_FILE = {"200": {"description": "The file; its name is in Content-Disposition.", "content": hot.BINARY}}

TASK_CORE = HotRoute(
    "/v1/tasks/{pid}/core",
    {"GET": task_core, "HEAD": task_core},
    {
        "get": {
            "operationId": "task_core",
            "tags": ["tasks"],
            "summary": "An ELF core file of what a thread sees",
            "description": "For gdb, streamed. ESRCH, EPERM; EAGAIN: too many at once.",
            "parameters": [hot.path_id("pid"), hot.TID],
            "responses": _FILE,
        }
    },
)
VAS_CORE = HotRoute(
    "/v1/vas/{vid}/core",
    {"GET": vas_core, "HEAD": vas_core},
    {
        "get": {
            "operationId": "vas_core",
            "tags": ["spaces"],
            "summary": "An ELF core file of a space",
            "description": "For gdb, streamed. EINVAL: unknown; EACCES: the mode's read bit; EAGAIN: too many at once.",
            "parameters": [hot.path_id("vid")],
            "responses": _FILE,
        }
    },
)
