"""VAS segments: vas_seg_create ... vas_seg_setattr, and their bytes by offset."""

from engine.constants import EXCLUSIVE
from engine.credentials import Credentials
from engine.interface.parts import Parts
from engine.spaces.attributes import PERSISTENT_NAME
from engine.views import SegAttr


class SegmentCalls(Parts):
    """The calls about segments. Credentials come first."""

    def vas_seg_create(
        self,
        cred: Credentials,
        name: str,
        start: int,
        end: int,
        mode: int,
        sharing: str = EXCLUSIVE,
        lifetime: str = PERSISTENT_NAME,
    ) -> int:
        """See `Segments.create`."""
        return self.segments.create(cred, name, start, end, mode, sharing, lifetime)

    def vas_seg_delete(self, cred: Credentials, sid: int) -> None:
        """See `Segments.delete`."""
        self.segments.delete(cred, sid)

    def vas_seg_find(self, cred: Credentials, name: str) -> int:
        """The id of a name. EINVAL, ESRCH."""
        return self.segments.registry.find(name)

    def vas_seg_attach(self, cred: Credentials, vid: int, sid: int, type: int) -> None:
        """See `Segments.attach`."""
        self.segments.attach(cred, vid, sid, type)

    def vas_seg_detach(self, cred: Credentials, vid: int, sid: int) -> None:
        """See `Segments.detach`."""
        self.segments.detach(cred, vid, sid)

    def vas_seg_getattr(self, cred: Credentials, sid: int) -> SegAttr:
        """See `Segments.getattr`."""
        return self.segments.getattr(sid)

    def vas_seg_setattr(
        self,
        cred: Credentials,
        sid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> None:
        """See `Segments.setattr`."""
        self.segments.setattr(cred, sid, mode, uid, gid, sharing, name, lifetime)

    def vas_seg_list(self, cred: Credentials) -> list[SegAttr]:
        """Attributes of every segment, by id."""
        return [self.segments.getattr(sid) for sid in self.segments.registry.listed()]

    def seg_read(self, cred: Credentials, sid: int, offset: int, length: int) -> bytes:
        """See `Segments.read`."""
        return self.segments.read(cred, sid, offset, length)

    def seg_write(
        self,
        cred: Credentials,
        sid: int,
        offset: int,
        data: bytes | bytearray | memoryview,
        durable: bool = True,
    ) -> int:
        """See `Segments.write`."""
        return self.segments.write(cred, sid, offset, memoryview(data), durable=durable)

    def seg_version(self, cred: Credentials, sid: int) -> int:
        """Counts the stores into a segment since the machine was started. EINVAL: unknown."""
        segment = self.segments.registry.get(sid)
        self.journal.touch(segment.obj)
        return segment.obj.version
