"""The async twin of `everspace.spaces`."""

from collections.abc import AsyncIterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, SupportsIndex

from everspace._calls import clones, cores, inactive, roots, spaces
from everspace._download import Target, sink_of
from everspace.aio.entering import Entering
from everspace.errors import VasError, leaving_failed
from everspace.models import Difference, Lineage, Lock, Region, SegmentAttachment, Usage, VasAttr

if TYPE_CHECKING:
    from everspace.aio.client import AsyncClient
    from everspace.aio.task import AsyncCalls


class AsyncSpaces:
    """`client.spaces`: all spaces of the service."""

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client

    async def create(
        self, name: str, mode: int = 0o600, sharing: str = "exclusive", lifetime: str = "persistent"
    ) -> "AsyncSpace":
        """A new space. EINVAL, EEXIST, ENOSPC."""
        return AsyncSpace(
            self._client, await self._client.perform(spaces.create_space(name, mode, sharing, lifetime))
        )

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
    """One space. `vid` never changes; `seen` are the attributes as last received, `name` among them."""

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

    async def chmod(self, mode: int, if_match: str | None = None) -> None:
        """EINVAL, EPERM: not the owner and not root, ESTALE."""
        await self._client.perform(spaces.vas_setattr(self.vid, mode=mode, if_match=if_match))

    async def chown(
        self, uid: int | None = None, gid: int | None = None, if_match: str | None = None
    ) -> None:
        """EINVAL, EPERM: not root, ESTALE."""
        await self._client.perform(spaces.vas_setattr(self.vid, uid=uid, gid=gid, if_match=if_match))

    async def set_sharing(self, sharing: str, if_match: str | None = None) -> None:
        """EINVAL, EPERM, EBUSY while attached, ESTALE."""
        await self._client.perform(spaces.vas_setattr(self.vid, sharing=sharing, if_match=if_match))

    async def rename(self, name: str, if_match: str | None = None) -> None:
        """EINVAL, EEXIST, EPERM: not the owner and not root, ESTALE."""
        await self._client.perform(spaces.vas_setattr(self.vid, name=name, if_match=if_match))
        self.seen = replace(self.seen, name=name)

    async def set_lifetime(self, lifetime: str, if_match: str | None = None) -> None:
        """ "persistent", or "transient": gone with its last detach, at the latest with the service.

        EINVAL, EPERM, ESTALE.
        """
        await self._client.perform(spaces.vas_setattr(self.vid, lifetime=lifetime, if_match=if_match))

    async def clone(self, name: str) -> "AsyncSpace":
        """A copy with its segments, roots and heaps, that shares pages until somebody writes. EINVAL, EEXIST, EACCES."""
        return AsyncSpace(self._client, await self._client.perform(clones.clone_space(self.vid, name)))

    async def snapshot(self, name: str) -> "AsyncSpace":
        """A clone that nobody can change. EINVAL, EEXIST, EACCES."""
        return AsyncSpace(self._client, await self._client.perform(clones.snapshot_space(self.vid, name)))

    async def reset(self) -> None:
        """Make a clone what it was when it was cloned. EINVAL (no clone), EACCES, EPERM (snapshot), EBUSY (in use)."""
        await self._client.perform(clones.vas_reset(self.vid))

    async def lineage(self) -> Lineage:
        """What it was cloned from, nearest first, and its clones. EINVAL."""
        return await self._client.perform(clones.vas_lineage(self.vid))

    async def usage(self) -> Usage:
        """Its stored bytes: all, those that others are made of too, and those that are its own. EINVAL."""
        return await self._client.perform(clones.vas_usage(self.vid))

    async def diff(self, other: "AsyncSpace | int") -> AsyncIterator[Difference]:
        """Where this space (left) and another one (right) differ, page by page, ascending. EINVAL, EACCES."""
        vid = other.vid if isinstance(other, AsyncSpace) else other
        cursor, joiner = None, clones.Joiner()
        while True:
            page = await self._client.perform(clones.vas_diff(self.vid, vid, cursor))
            for difference in joiner.feed(page):
                yield difference
            cursor = page.next
            if cursor is None:
                return

    async def roots(self) -> dict[str, int]:
        """Its named addresses. EINVAL, EACCES."""
        found: dict[str, int] = {}
        cursor = None
        while True:
            page = await self._client.perform(roots.vas_roots(self.vid, cursor))
            found.update(page.items)
            cursor = page.next
            if cursor is None:
                return found

    async def set_root(
        self, name: str, addr: SupportsIndex, if_match: str | None = None, create_only: bool = False
    ) -> None:
        """Name an address. EINVAL, EACCES, EPERM (snapshot); ESTALE: changed since, or there and was to be created."""
        await self._client.perform(roots.space_set_root(self.vid, name, addr, if_match, create_only))

    async def get_root(self, name: str) -> int:
        """The address of a root. EINVAL, EACCES, ENOENT."""
        return await self._client.perform(roots.space_get_root(self.vid, name))

    async def root_etag(self, name: str) -> str:
        """A tag that changes when the root does, for `if_match`. EINVAL, EACCES, ENOENT."""
        return await self._client.perform(roots.space_root_etag(self.vid, name))

    async def delete_root(self, name: str, if_match: str | None = None) -> None:
        """EINVAL, EACCES, ENOENT, EPERM (snapshot), ESTALE."""
        await self._client.perform(roots.vas_delete_root(self.vid, name, if_match))

    async def mmap(self, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int) -> int:
        """Map into it from outside, whoever is inside; the address. EINVAL, EACCES, ENOMEM, EEXIST, EPERM (snapshot)."""
        return await self._client.perform(inactive.vas_mmap(self.vid, addr, length, prot, flags))

    async def munmap(self, addr: SupportsIndex, length: SupportsIndex) -> None:
        """EINVAL, EACCES, EPERM."""
        await self._client.perform(inactive.vas_munmap(self.vid, addr, length))

    async def mprotect(self, addr: SupportsIndex, length: SupportsIndex, prot: int) -> None:
        """EINVAL, EACCES, ENOMEM (a hole), EPERM."""
        await self._client.perform(inactive.vas_mprotect(self.vid, addr, length, prot))

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

    async def locks(self) -> list[Lock]:
        """Who holds and who waits for what is lockable: the space itself first, then its segments. EINVAL."""
        found: list[Lock] = []
        cursor = None
        while True:
            page = await self._client.perform(spaces.vas_locks(self.vid, cursor))
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

    async def delete(self, if_match: str | None = None) -> None:
        """EINVAL, EBUSY while attached, EACCES, ESTALE."""
        await self._client.perform(spaces.vas_delete(self.vid, if_match))

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
