"""Spaces as objects, over the same calls."""

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from everspace._calls import cores, spaces
from everspace._download import Target, sink_of
from everspace.errors import VasError, leaving_failed
from everspace.models import Region, SegmentAttachment, VasAttr

if TYPE_CHECKING:
    from everspace.client import Client
    from everspace.task import Calls


class Spaces:
    """`client.spaces`: all spaces of the service."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(self, name: str, mode: int = 0o600, sharing: str = "exclusive") -> "Space":
        """A new space. EINVAL, EEXIST, ENOSPC."""
        return Space(self._client, self._client.perform(spaces.create_space(name, mode, sharing)))

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
    """One space. `vid` and `name` never change; `seen` are the attributes as last received."""

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

    def chmod(self, mode: int) -> None:
        """EINVAL, EPERM: not the owner and not root."""
        self._client.perform(spaces.vas_setattr(self.vid, mode=mode))

    def chown(self, uid: int | None = None, gid: int | None = None) -> None:
        """EINVAL, EPERM: not root."""
        self._client.perform(spaces.vas_setattr(self.vid, uid=uid, gid=gid))

    def set_sharing(self, sharing: str) -> None:
        """EINVAL, EPERM, EBUSY while attached."""
        self._client.perform(spaces.vas_setattr(self.vid, sharing=sharing))

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

    def core(self, target: Target) -> int:
        """Write an ELF core file of its regions to a path or a binary file; its size. EINVAL, EACCES, EAGAIN."""
        with sink_of(target) as sink:
            return self._client.perform(cores.vas_core(self.vid, sink))

    def attach(self, task: "Calls", type: int | str = "rw", lazy: bool = True) -> "Attached":
        """Attach it to a task at once; as a context manager it detaches on leaving. Errors of vas_attach."""
        task.vas_attach(0, self.vid, type, lazy)
        return Attached(task, self.vid)

    def delete(self) -> None:
        """EINVAL, EBUSY while attached, EACCES."""
        self._client.perform(spaces.vas_delete(self.vid))

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
