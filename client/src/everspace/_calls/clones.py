"""The calls on clones, snapshots and images."""

from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from everspace._calls import segments, spaces
from everspace._calls.call import (
    Call,
    Page,
    TaskState,
    ThreadState,
    an_id,
    given,
    integer,
    no_answer,
    no_value,
    page_of,
    text,
)
from everspace._calls.spaces import paging
from everspace.models import Difference, Lineage, SegAttr, Usage, VasAttr
from everspace.transport import Response

T = TypeVar("T")


def vas_clone(vid: SupportsIndex, name: str) -> Call[int]:
    """POST /vas/{vid}/clone; the new vid."""
    return _copy("vas_clone", "vas", "vid", vid, name, an_id)


def clone_space(vid: SupportsIndex, name: str) -> Call[VasAttr]:
    """The same for the attributes."""
    return _copy("vas_clone", "vas", "vid", vid, name, VasAttr.from_json, spaces.attr_of)


def vas_snapshot(vid: SupportsIndex, name: str) -> Call[int]:
    """POST /vas/{vid}/snapshot; the new vid."""
    return _copy("vas_snapshot", "vas", "vid", vid, name, an_id)


def snapshot_space(vid: SupportsIndex, name: str) -> Call[VasAttr]:
    """The same for the attributes."""
    return _copy("vas_snapshot", "vas", "vid", vid, name, VasAttr.from_json, spaces.attr_of)


def vas_seg_clone(sid: SupportsIndex, name: str) -> Call[int]:
    """POST /segments/{sid}/clone; the new sid."""
    return _copy("vas_seg_clone", "segments", "sid", sid, name, an_id)


def clone_segment(sid: SupportsIndex, name: str) -> Call[SegAttr]:
    """The same for the attributes."""
    return _copy("vas_seg_clone", "segments", "sid", sid, name, SegAttr.from_json, segments.attr_of)


def vas_seg_snapshot(sid: SupportsIndex, name: str) -> Call[int]:
    """POST /segments/{sid}/snapshot; the new sid."""
    return _copy("vas_seg_snapshot", "segments", "sid", sid, name, an_id)


def snapshot_segment(sid: SupportsIndex, name: str) -> Call[SegAttr]:
    """The same for the attributes."""
    return _copy("vas_seg_snapshot", "segments", "sid", sid, name, SegAttr.from_json, segments.attr_of)


def vas_reset(vid: SupportsIndex) -> Call[int]:
    """POST /vas/{vid}/reset. Doing it twice would undo what was stored in between."""
    vid = integer(vid)
    path, args = f"/vas/{vid}/reset", {"vid": vid}
    return Call("vas_reset", "POST", path, no_value, args, body={}, answer=no_answer, keyed=True)


def vas_seg_reset(sid: SupportsIndex) -> Call[int]:
    """POST /segments/{sid}/reset."""
    sid = integer(sid)
    path = f"/segments/{sid}/reset"
    args = {"sid": sid}
    return Call("vas_seg_reset", "POST", path, no_value, args, body={}, answer=no_answer, keyed=True)


def vas_lineage(vid: SupportsIndex) -> Call[Lineage]:
    """GET /vas/{vid}/lineage."""
    vid = integer(vid)
    path = f"/vas/{vid}/lineage"
    return Call("vas_lineage", "GET", path, Lineage.from_json, {"vid": vid}, repeatable=True)


def vas_seg_lineage(sid: SupportsIndex) -> Call[Lineage]:
    """GET /segments/{sid}/lineage."""
    sid = integer(sid)
    path = f"/segments/{sid}/lineage"
    return Call("vas_seg_lineage", "GET", path, Lineage.from_json, {"sid": sid}, repeatable=True)


def vas_usage(vid: SupportsIndex) -> Call[Usage]:
    """GET /vas/{vid}/usage. Not in batches: it waits for the disk."""
    return Call("vas_usage", "GET", f"/vas/{integer(vid)}/usage", Usage.from_json, repeatable=True)


def vas_seg_usage(sid: SupportsIndex) -> Call[Usage]:
    """GET /segments/{sid}/usage. Not in batches: it waits for the disk."""
    return Call("vas_seg_usage", "GET", f"/segments/{integer(sid)}/usage", Usage.from_json, repeatable=True)


def vas_diff(vid: SupportsIndex, other: SupportsIndex, cursor: str | None) -> Call[Page[Difference]]:
    """GET /vas/{vid}/diff, one page. Not in batches: it reads the disk."""
    return _diff("vas_diff", f"/vas/{integer(vid)}/diff", other, cursor)


def vas_seg_diff(sid: SupportsIndex, other: SupportsIndex, cursor: str | None) -> Call[Page[Difference]]:
    """GET /segments/{sid}/diff, one page. Not in batches: it reads the disk."""
    return _diff("vas_seg_diff", f"/segments/{integer(sid)}/diff", other, cursor)


class Joiner:
    """Makes whole runs of those that were cut where a page of the list ended."""

    def __init__(self) -> None:
        self._last: Difference | None = None

    def feed(self, page: Page[Difference]) -> list[Difference]:
        """The runs that are complete now; with the last page all of them."""
        done: list[Difference] = []
        for run in page.items:
            last = self._last
            if last is not None and last.end == run.start and last.kind == run.kind:
                self._last = Difference(last.start, run.end, run.kind)
                continue
            if last is not None:
                done.append(last)
            self._last = run
        if page.next is None and self._last is not None:
            done.append(self._last)
        return done


def vas_fork(name: str | None = None) -> Call[int]:
    """POST /tasks/{pid}/vas_fork; the vid of the image."""
    args = given(name=None if name is None else text("name", name))
    return Call("vas_fork", "POST", "/tasks/{pid}/vas_fork", an_id, args, args, keyed=True, tid_in="body")


def vas_exec(vid: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/vas_exec: nothing of the old program stays."""
    args = {"vid": integer(vid)}

    def effect(task: TaskState, _: ThreadState, __: Any) -> None:
        task.begin_anew()

    path = "/tasks/{pid}/vas_exec"
    return Call("vas_exec", "POST", path, no_value, args, args, answer=no_answer, keyed=True, effect=effect)


def _copy(
    name: str,
    noun: str,
    member: str,
    number: SupportsIndex,
    called: str,
    parse: Callable[[Any], T],
    answer: Callable[[Response], T] | None = None,
) -> Call[T]:
    body = {"name": text("name", called)}
    which = integer(number)
    path = f"/{noun}/{which}/{name.rpartition('_')[2]}"
    return Call(name, "POST", path, parse, {member: which, **body}, body, answer=answer, keyed=True)


def _diff(name: str, path: str, other: SupportsIndex, cursor: str | None) -> Call[Page[Difference]]:
    query = "&".join(filter(None, (f"other={integer(other)}", paging(cursor, None))))
    return Call(name, "GET", path, page_of(Difference.from_json), query=query, repeatable=True)
