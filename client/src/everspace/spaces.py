"""Spaces as objects, over the same calls."""

from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, SupportsIndex

from everspace._calls import clones, cores, inactive, roots, spaces
from everspace._download import Target, sink_of
from everspace.errors import VasError, leaving_failed
from everspace.models import Difference, Lineage, Lock, Region, SegmentAttachment, Usage, VasAttr

if TYPE_CHECKING:
    from everspace.client import Client
    from everspace.task import Calls


class Spaces:
    """`client.spaces`: all spaces of the service."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(
        self, name: str, mode: int = 0o600, sharing: str = "exclusive", lifetime: str = "persistent"
    ) -> "Space":
        """A new space. EINVAL, EEXIST, ENOSPC."""
        return Space(self._client, self._client.perform(spaces.create_space(name, mode, sharing, lifetime)))

    def get(self, vid: int) -> "Space":
        """The space of that id. EINVAL."""
        return Space(self._client, self._client.perform(spaces.vas_getattr(vid)))

    def find(self, name: str) -> "Space":
        """The space of that name. EINVAL, ESRCH."""
        return Space(self._client, self._client.perform(spaces.find_space(name)))

    def list(self, limit: int | None = None) -> Iterator["Space"]:
        """All spaces by ascending id, `limit` of them (1 to 1000) per request."""
        cursor = None
        while True:
            page = self._client.perform(spaces.vas_list(cursor, limit))
            for attr in page.items:
                yield Space(self._client, attr)
            cursor = page.next
            if cursor is None:
                return


class Space:
    """One space. `vid` never changes; `seen` are the attributes as last received, `name` among them.

    What takes `if_match`, an earlier `attr().etag`, is refused with ESTALE if the attributes have changed since.
    """

    def __init__(self, client: "Client", attr: VasAttr) -> None:
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

    def attr(self) -> VasAttr:
        """The attributes as they are now. EINVAL."""
        self.seen = self._client.perform(spaces.vas_getattr(self.vid))
        return self.seen

    def chmod(self, mode: int, if_match: str | None = None) -> None:
        """EINVAL, EPERM: not the owner and not root, ESTALE."""
        self._client.perform(spaces.vas_setattr(self.vid, mode=mode, if_match=if_match))

    def chown(self, uid: int | None = None, gid: int | None = None, if_match: str | None = None) -> None:
        """EINVAL, EPERM: not root, ESTALE."""
        self._client.perform(spaces.vas_setattr(self.vid, uid=uid, gid=gid, if_match=if_match))

    def set_sharing(self, sharing: str, if_match: str | None = None) -> None:
        """EINVAL, EPERM, EBUSY while attached, ESTALE."""
        self._client.perform(spaces.vas_setattr(self.vid, sharing=sharing, if_match=if_match))

    def rename(self, name: str, if_match: str | None = None) -> None:
        """EINVAL, EEXIST, EPERM: not the owner and not root, ESTALE."""
        self._client.perform(spaces.vas_setattr(self.vid, name=name, if_match=if_match))
        self.seen = replace(self.seen, name=name)

    def set_lifetime(self, lifetime: str, if_match: str | None = None) -> None:
        """ "persistent", or "transient": gone with its last detach, at the latest with the service.

        EINVAL, EPERM, ESTALE.
        """
        self._client.perform(spaces.vas_setattr(self.vid, lifetime=lifetime, if_match=if_match))

    def clone(self, name: str) -> "Space":
        """A copy with its segments, roots and heaps, that shares pages until somebody writes. EINVAL, EEXIST, EACCES."""
        return Space(self._client, self._client.perform(clones.clone_space(self.vid, name)))

    def snapshot(self, name: str) -> "Space":
        """A clone that nobody can change. EINVAL, EEXIST, EACCES."""
        return Space(self._client, self._client.perform(clones.snapshot_space(self.vid, name)))

    def reset(self) -> None:
        """Make a clone what it was when it was cloned. EINVAL (no clone), EACCES, EPERM (snapshot), EBUSY (in use)."""
        self._client.perform(clones.vas_reset(self.vid))

    def lineage(self) -> Lineage:
        """What it was cloned from, nearest first, and its clones. EINVAL."""
        return self._client.perform(clones.vas_lineage(self.vid))

    def usage(self) -> Usage:
        """Its stored bytes: all, those that others are made of too, and those that are its own. EINVAL."""
        return self._client.perform(clones.vas_usage(self.vid))

    def diff(self, other: "Space | int") -> Iterator[Difference]:
        """Where this space (left) and another one (right) differ, page by page, ascending. EINVAL, EACCES."""
        vid = other.vid if isinstance(other, Space) else other
        cursor, joiner = None, clones.Joiner()
        while True:
            page = self._client.perform(clones.vas_diff(self.vid, vid, cursor))
            yield from joiner.feed(page)
            cursor = page.next
            if cursor is None:
                return

    def roots(self) -> dict[str, int]:
        """Its named addresses. EINVAL, EACCES."""
        found: dict[str, int] = {}
        cursor = None
        while True:
            page = self._client.perform(roots.vas_roots(self.vid, cursor))
            found.update(page.items)
            cursor = page.next
            if cursor is None:
                return found

    def set_root(
        self, name: str, addr: SupportsIndex, if_match: str | None = None, create_only: bool = False
    ) -> None:
        """Name an address. EINVAL, EACCES, EPERM (snapshot); ESTALE: changed since, or there and was to be created."""
        self._client.perform(roots.space_set_root(self.vid, name, addr, if_match, create_only))

    def get_root(self, name: str) -> int:
        """The address of a root. EINVAL, EACCES, ENOENT."""
        return self._client.perform(roots.space_get_root(self.vid, name))

    def root_etag(self, name: str) -> str:
        """A tag that changes when the root does, for `if_match`. EINVAL, EACCES, ENOENT."""
        return self._client.perform(roots.space_root_etag(self.vid, name))

    def delete_root(self, name: str, if_match: str | None = None) -> None:
        """EINVAL, EACCES, ENOENT, EPERM (snapshot), ESTALE."""
        self._client.perform(roots.vas_delete_root(self.vid, name, if_match))

    def mmap(self, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int) -> int:
        """Map into it from outside, whoever is inside; the address. EINVAL, EACCES, ENOMEM, EEXIST, EPERM (snapshot)."""
        return self._client.perform(inactive.vas_mmap(self.vid, addr, length, prot, flags))

    def munmap(self, addr: SupportsIndex, length: SupportsIndex) -> None:
        """EINVAL, EACCES, EPERM."""
        self._client.perform(inactive.vas_munmap(self.vid, addr, length))

    def mprotect(self, addr: SupportsIndex, length: SupportsIndex, prot: int) -> None:
        """EINVAL, EACCES, ENOMEM (a hole), EPERM."""
        self._client.perform(inactive.vas_mprotect(self.vid, addr, length, prot))

    def regions(self) -> list[Region]:
        """Its own map, by ascending address. EINVAL, EACCES."""
        found: list[Region] = []
        cursor = None
        while True:
            page = self._client.perform(spaces.vas_regions(self.vid, cursor))
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    def segments(self) -> list[SegmentAttachment]:
        """The segments attached to it. EINVAL, EACCES."""
        found: list[SegmentAttachment] = []
        cursor = None
        while True:
            page = self._client.perform(spaces.vas_segments(self.vid, cursor))
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    def locks(self) -> list[Lock]:
        """Who holds and who waits for what is lockable: the space itself first, then its segments. EINVAL."""
        found: list[Lock] = []
        cursor = None
        while True:
            page = self._client.perform(spaces.vas_locks(self.vid, cursor))
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    def core(self, target: Target) -> int:
        """Write an ELF core file of its regions to a path or a binary file; its size. EINVAL, EACCES, EAGAIN."""
        with sink_of(target) as sink:
            return self._client.perform(cores.vas_core(self.vid, sink))

    def attach(self, task: "Calls", type: int | str = "rw", lazy: bool = True) -> "Attached":
        """Attach it to a task at once; as a context manager it detaches on leaving. Errors of vas_attach."""
        task.vas_attach(0, self.vid, type, lazy)
        return Attached(task, self.vid)

    def delete(self, if_match: str | None = None) -> None:
        """EINVAL, EBUSY while attached, EACCES, ESTALE."""
        self._client.perform(spaces.vas_delete(self.vid, if_match))

    def __repr__(self) -> str:
        return f"<Space {self.vid} {self.name!r}>"


class Attached:
    """A space in a task, made by `Space.attach`."""

    def __init__(self, task: "Calls", vid: int) -> None:
        self._task = task
        self.vid = vid

    def switch(self, timeout: float | None = None) -> "Inside":
        """Enter it at once; as a context manager it goes back on leaving. Errors of vas_switch."""
        before = self._task.active
        self._task.vas_switch(self.vid, timeout)
        return Inside(self._task, before)

    def detach(self) -> None:
        """Errors of vas_detach: EBUSY while a thread is inside."""
        self._task.vas_detach(0, self.vid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._task.active == self.vid:
                self._task.vas_switch(0)
            self.detach()
        except VasError as failure:
            leaving_failed(error, failure)


class Inside:
    """A thread in a space, made by `Attached.switch`; leaving goes back to where it was before."""

    def __init__(self, task: "Calls", before: int) -> None:
        self._task = task
        self._before = before

    def leave(self) -> None:
        """Go back. Errors of vas_switch."""
        self._task.vas_switch(self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.leave()
        except VasError as failure:
            leaving_failed(error, failure)
