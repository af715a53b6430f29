"""Segments as objects, over the same calls, and their bytes by offset."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from everspace._calls import clones, heaps, segments
from everspace._calls.call import Buffer
from everspace.errors import UnexpectedAnswerError
from everspace.models import Difference, HeapUsage, Lineage, SegAttr, Usage
from everspace.spaces import Space

if TYPE_CHECKING:
    from everspace.client import Client


class Segments:
    """`client.segments`: all segments of the service."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(
        self,
        name: str,
        start: int,
        end: int,
        mode: int = 0o600,
        sharing: str = "exclusive",
        lifetime: str = "persistent",
    ) -> "Segment":
        """A new segment at [start, end), page aligned. EINVAL, EFAULT, EEXIST, ENOSPC."""
        call = segments.create_segment(name, start, end, mode, sharing, lifetime)
        return Segment(self._client, self._client.perform(call))

    def get(self, sid: int) -> "Segment":
        """The segment of that id. EINVAL."""
        return Segment(self._client, self._client.perform(segments.vas_seg_getattr(sid)))

    def find(self, name: str) -> "Segment":
        """The segment of that name. EINVAL, ESRCH."""
        return Segment(self._client, self._client.perform(segments.find_segment(name)))

    def list(self, limit: int | None = None) -> Iterator["Segment"]:
        """All segments by ascending id, `limit` of them (1 to 1000) per request."""
        cursor = None
        while True:
            page = self._client.perform(segments.vas_seg_list(cursor, limit))
            for attr in page.items:
                yield Segment(self._client, attr)
            cursor = page.next
            if cursor is None:
                return


class Segment:
    """One segment. `sid`, `start` and `end` never change; `seen` are the attributes as last received, `name` among them.

    What takes `if_match`, an earlier `attr().etag`, is refused with ESTALE if the attributes have changed since; the bytes
    have a tag of their own, `etag()`.
    """

    def __init__(self, client: "Client", attr: SegAttr) -> None:
        self._client = client
        self.seen = attr

    @property
    def sid(self) -> int:
        """The id."""
        return self.seen.sid

    @property
    def name(self) -> str:
        """The name."""
        return self.seen.name

    @property
    def start(self) -> int:
        """The first address, in every space that shows it."""
        return self.seen.start

    @property
    def end(self) -> int:
        """The address behind the last one."""
        return self.seen.end

    @property
    def size(self) -> int:
        """Bytes."""
        return self.seen.size

    def attr(self) -> SegAttr:
        """The attributes as they are now. EINVAL."""
        self.seen = self._client.perform(segments.vas_seg_getattr(self.sid))
        return self.seen

    def chmod(self, mode: int, if_match: str | None = None) -> None:
        """EINVAL, EPERM: not the owner and not root, ESTALE."""
        self._client.perform(segments.vas_seg_setattr(self.sid, mode=mode, if_match=if_match))

    def chown(self, uid: int | None = None, gid: int | None = None, if_match: str | None = None) -> None:
        """EINVAL, EPERM: not root, ESTALE."""
        self._client.perform(segments.vas_seg_setattr(self.sid, uid=uid, gid=gid, if_match=if_match))

    def set_sharing(self, sharing: str, if_match: str | None = None) -> None:
        """EINVAL, EPERM, EBUSY while attached, ESTALE."""
        self._client.perform(segments.vas_seg_setattr(self.sid, sharing=sharing, if_match=if_match))

    def rename(self, name: str, if_match: str | None = None) -> None:
        """EINVAL, EEXIST, EPERM: not the owner and not root, ESTALE."""
        self._client.perform(segments.vas_seg_setattr(self.sid, name=name, if_match=if_match))
        self.seen = replace(self.seen, name=name)

    def set_lifetime(self, lifetime: str, if_match: str | None = None) -> None:
        """ "persistent", or "transient": gone with its last detach, at the latest with the service.

        EINVAL, EPERM, ESTALE.
        """
        self._client.perform(segments.vas_seg_setattr(self.sid, lifetime=lifetime, if_match=if_match))

    def clone(self, name: str) -> "Segment":
        """A copy at the same addresses, that shares pages until somebody writes. EINVAL, EEXIST, EACCES."""
        return Segment(self._client, self._client.perform(clones.clone_segment(self.sid, name)))

    def snapshot(self, name: str) -> "Segment":
        """A clone that nobody can change. EINVAL, EEXIST, EACCES."""
        return Segment(self._client, self._client.perform(clones.snapshot_segment(self.sid, name)))

    def reset(self) -> None:
        """Make a clone what it was when it was cloned. EINVAL (no clone), EACCES, EPERM (snapshot), EBUSY (in use)."""
        self._client.perform(clones.vas_seg_reset(self.sid))

    def lineage(self) -> Lineage:
        """What it was cloned from, nearest first, and its clones. EINVAL."""
        return self._client.perform(clones.vas_seg_lineage(self.sid))

    def usage(self) -> Usage:
        """Its stored bytes: all, those that others are made of too, and those that are its own. EINVAL."""
        return self._client.perform(clones.vas_seg_usage(self.sid))

    def diff(self, other: "Segment | int") -> Iterator[Difference]:
        """Where this segment (left) and another one of the same range (right) differ, page by page. EINVAL, EACCES."""
        sid = other.sid if isinstance(other, Segment) else other
        cursor, joiner = None, clones.Joiner()
        while True:
            page = self._client.perform(clones.vas_seg_diff(self.sid, sid, cursor))
            yield from joiner.feed(page)
            cursor = page.next
            if cursor is None:
                return

    def heap(self) -> HeapUsage:
        """How full the heap in it is, see `Task.vas_malloc`. EINVAL, EACCES, EFAULT (its bytes are no heap)."""
        return self._client.perform(heaps.heap_usage(self.sid))

    def attach(self, space: Space | int, type: int | str = "rw") -> None:
        """Show it in a space. EINVAL, EACCES, EEXIST, EBUSY (sharing), EFAULT (collision)."""
        vid = space.vid if isinstance(space, Space) else space
        self._client.perform(segments.vas_seg_attach(vid, self.sid, type))

    def detach(self, space: Space | int) -> None:
        """EINVAL, EACCES, EBUSY while the space is attached."""
        vid = space.vid if isinstance(space, Space) else space
        self._client.perform(segments.vas_seg_detach(vid, self.sid))

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end of the segment, none behind it. EINVAL, EACCES, E2BIG."""
        if length == 0:
            return b""
        try:
            return self._client.perform(segments.seg_pread(self.sid, offset, length))
        except UnexpectedAnswerError as error:
            if segments.is_end(error):
                return b""
            raise

    def preadinto(self, offset: int, buffer: Buffer) -> int:
        """The same into a writable buffer, without a copy; the number of bytes."""
        if not memoryview(buffer).nbytes:
            return 0
        try:
            return self._client.perform(segments.seg_preadinto(self.sid, offset, buffer))
        except UnexpectedAnswerError as error:
            if segments.is_end(error):
                return 0
            raise

    def pwrite(
        self, offset: int, data: Buffer, durability: str = "commit", if_match: str | None = None
    ) -> int:
        """Store all of `data` at `offset` or nothing; its length. "relaxed" returns before it is durable.

        With `if_match`, an earlier `etag()`: ESTALE if the segment has changed since. EINVAL, EACCES, E2BIG, ENOSPC.
        """
        if not memoryview(data).nbytes:
            return 0
        return self._client.perform(segments.seg_pwrite(self.sid, offset, data, durability, if_match))

    def etag(self) -> str:
        """A tag that changes with every store into the segment, by anyone. EINVAL, EACCES."""
        return self._client.perform(segments.seg_etag(self.sid))

    def delete(self, if_match: str | None = None) -> None:
        """EINVAL, EBUSY while attached, EACCES, ESTALE."""
        self._client.perform(segments.vas_seg_delete(self.sid, if_match))

    def __repr__(self) -> str:
        return f"<Segment {self.sid} {self.name!r} {self.start:#x}-{self.end:#x}>"
