"""Segments as objects, over the same calls, and their bytes by offset."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from everspace._calls import segments
from everspace._calls.call import Buffer
from everspace.errors import UnexpectedAnswerError
from everspace.models import SegAttr
from everspace.spaces import Space

if TYPE_CHECKING:
    from everspace.client import Client


class Segments:
    """`client.segments`: all segments of the service."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(
        self, name: str, start: int, end: int, mode: int = 0o600, sharing: str = "exclusive"
    ) -> "Segment":
        """A new segment at [start, end), page aligned. EINVAL, EFAULT, EEXIST, ENOSPC."""
        call = segments.create_segment(name, start, end, mode, sharing)
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
    """One segment. `sid`, `name`, `start` and `end` never change; `seen` are the attributes as last received."""

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

    def chmod(self, mode: int) -> None:
        """EINVAL, EPERM: not the owner and not root."""
        self._client.perform(segments.vas_seg_setattr(self.sid, mode=mode))

    def chown(self, uid: int | None = None, gid: int | None = None) -> None:
        """EINVAL, EPERM: not root."""
        self._client.perform(segments.vas_seg_setattr(self.sid, uid=uid, gid=gid))

    def set_sharing(self, sharing: str) -> None:
        """EINVAL, EPERM, EBUSY while attached."""
        self._client.perform(segments.vas_seg_setattr(self.sid, sharing=sharing))

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

    def delete(self) -> None:
        """EINVAL, EBUSY while attached, EACCES."""
        self._client.perform(segments.vas_seg_delete(self.sid))

    def __repr__(self) -> str:
        return f"<Segment {self.sid} {self.name!r} {self.start:#x}-{self.end:#x}>"
