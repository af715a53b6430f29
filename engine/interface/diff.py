"""How two spaces, or two segments, differ: see engine/spaces/diff.py for the steps."""

from engine.access import Access
from engine.constants import O_RDONLY
from engine.credentials import Credentials
from engine.errors import EINVAL, EngineError
from engine.interface.parts import Parts
from engine.regions.vma import Vma
from engine.spaces.diff import Difference, Seen, shown_as, shown_by
from engine.spaces.segments import Segment


class DiffCalls(Parts):
    """The calls that compare. Credentials come first. What they give is of use in the same transaction only."""

    def vas_diff(self, cred: Credentials, vid: int, other: int) -> Difference:
        """Two spaces, as each maps its own regions and segments. EINVAL: unknown; EACCES: needs read on both."""
        left, right = self._space_seen(cred, vid), self._space_seen(cred, other)
        return Difference(self.geometry, self.pool, left, right)

    def vas_seg_diff(self, cred: Credentials, sid: int, other: int) -> Difference:
        """Two segments. EINVAL: unknown, or not of the same range; EACCES: needs read on both."""
        left, right = self._segment_read(cred, sid), self._segment_read(cred, other)
        if left.range != right.range:
            raise EngineError(
                EINVAL,
                f"segment {sid} has {left.range}, segment {other} has {right.range}: only the same range is compared",
            )
        return Difference(self.geometry, self.pool, _segment_seen(left), _segment_seen(right))

    def _space_seen(self, cred: Credentials, vid: int) -> Seen:
        space = self.spaces.registry.get(vid)
        space.owner.require(cred, Access.READ, f"space {vid}")
        self.journal.touch(space.memory)
        return shown_by(space.memory.vmas)

    def _segment_read(self, cred: Credentials, sid: int) -> Segment:
        segment = self.segments.registry.get(sid)
        segment.owner.require(cred, Access.READ, f"segment {sid}")
        self.journal.touch(segment.obj)
        return segment


def _segment_seen(segment: Segment) -> Seen:
    held = segment.range
    return shown_as(
        Vma(held.start, held.end, Access.READ, segment.obj, 0, shared=True, sid=segment.sid, type=O_RDONLY)
    )
