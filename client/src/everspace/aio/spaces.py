"""The async twin of `everspace.spaces`."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from everspace._calls import cores, spaces
from everspace._download import Target, sink_of
from everspace.aio.entering import Entering
from everspace.errors import VasError, leaving_failed
from everspace.models import Region, SegmentAttachment, VasAttr

if TYPE_CHECKING:
    from everspace.aio.client import AsyncClient
    from everspace.aio.task import AsyncCalls


class AsyncSpaces:
    """`client.spaces`: all spaces of the service."""

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client

    async def create(self, name: str, mode: int = 0o600, sharing: str = "exclusive") -> "AsyncSpace":
        """A new space. EINVAL, EEXIST, ENOSPC."""
        return AsyncSpace(self._client, await self._client.perform(spaces.create_space(name, mode, sharing)))

    async def get(self, vid: int) -> "AsyncSpace":
        """The space of that id. EINVAL."""
        return AsyncSpace(self._client, await self._client.perform(spaces.vas_getattr(vid)))

    async def find(self, name: str) -> "AsyncSpace":
        """The space of that name. EINVAL, ESRCH."""
        return AsyncSpace(self._client, await self._client.perform(spaces.find_space(name)))

    async def list(self, limit: int | None = None) -> AsyncIterator["AsyncSpace"]:
        """All spaces by ascending id, `limit` of them (1 to 1000) per request."""
        cursor = None
        while True:
            page = await self._client.perform(spaces.vas_list(cursor, limit))
            for attr in page.items:
                yield AsyncSpace(self._client, attr)
            cursor = page.next
            if cursor is None:
                return


class AsyncSpace:
    """One space. `vid` and `name` never change; `seen` are the attributes as last received."""

    def __init__(self, client: "AsyncClient", attr: VasAttr) -> None:
        self._client = client
        self.seen = attr

    @property
    def vid(self) -> int:
        """The id."""
        return self.seen.vid

    @property
    def name(self) -> str:
        """The name."""
        return self.seen.name

    async def attr(self) -> VasAttr:
        """The attributes as they are now. EINVAL."""
        self.seen = await self._client.perform(spaces.vas_getattr(self.vid))
        return self.seen

    async def chmod(self, mode: int) -> None:
        """EINVAL, EPERM: not the owner and not root."""
        await self._client.perform(spaces.vas_setattr(self.vid, mode=mode))

    async def chown(self, uid: int | None = None, gid: int | None = None) -> None:
        """EINVAL, EPERM: not root."""
        await self._client.perform(spaces.vas_setattr(self.vid, uid=uid, gid=gid))

    async def set_sharing(self, sharing: str) -> None:
        """EINVAL, EPERM, EBUSY while attached."""
        await self._client.perform(spaces.vas_setattr(self.vid, sharing=sharing))

    async def regions(self) -> list[Region]:
        """Its own map, by ascending address. EINVAL, EACCES."""
        found: list[Region] = []
        cursor = None
        while True:
            page = await self._client.perform(spaces.vas_regions(self.vid, cursor))
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    async def segments(self) -> list[SegmentAttachment]:
        """The segments attached to it. EINVAL, EACCES."""
        found: list[SegmentAttachment] = []
        cursor = None
        while True:
            page = await self._client.perform(spaces.vas_segments(self.vid, cursor))
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    async def core(self, target: Target) -> int:
        """Write an ELF core file of its regions to a path or a binary file; its size. EINVAL, EACCES, EAGAIN."""
        with sink_of(target) as sink:
            return await self._client.perform(cores.vas_core(self.vid, sink))

    def attach(
        self, task: "AsyncCalls", type: int | str = "rw", lazy: bool = True
    ) -> "Entering[AsyncAttached]":
        """Attach it to a task; as a context manager it detaches on leaving. Errors of vas_attach."""
        return Entering(self._attach(task, type, lazy))

    async def _attach(self, task: "AsyncCalls", type: int | str, lazy: bool) -> "AsyncAttached":
        await task.vas_attach(0, self.vid, type, lazy)
        return AsyncAttached(task, self.vid)

    async def delete(self) -> None:
        """EINVAL, EBUSY while attached, EACCES."""
        await self._client.perform(spaces.vas_delete(self.vid))

    def __repr__(self) -> str:
        return f"<AsyncSpace {self.vid} {self.name!r}>"


class AsyncAttached:
    """A space in a task, made by `AsyncSpace.attach`."""

    def __init__(self, task: "AsyncCalls", vid: int) -> None:
        self._task = task
        self.vid = vid

    def switch(self, timeout: float | None = None) -> "Entering[AsyncInside]":
        """Enter it; as a context manager it goes back on leaving. Errors of vas_switch."""
        return Entering(self._switch(timeout))

    async def _switch(self, limit: float | None) -> "AsyncInside":
        before = self._task.active
        await self._task.vas_switch(self.vid, limit)
        return AsyncInside(self._task, before)

    async def detach(self) -> None:
        """Errors of vas_detach: EBUSY while a thread is inside."""
        await self._task.vas_detach(0, self.vid)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._task.active == self.vid:
                await self._task.vas_switch(0)
            await self.detach()
        except VasError as failure:
            leaving_failed(error, failure)


class AsyncInside:
    """A thread in a space, made by `AsyncAttached.switch`; leaving goes back to where it was before."""

    def __init__(self, task: "AsyncCalls", before: int) -> None:
        self._task = task
        self._before = before

    async def leave(self) -> None:
        """Go back. Errors of vas_switch."""
        await self._task.vas_switch(self._before)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.leave()
        except VasError as failure:
            leaving_failed(error, failure)
