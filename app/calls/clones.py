"""The calls on clones, snapshots, images and roots, and on spaces from outside, for batches."""

from collections.abc import Mapping
from typing import Any, Final

from app.calls import answers, arguments
from app.calls.answers import plain
from app.calls.call import Call, Json
from app.calls.fields import Address, Args
from everspace.wire import hex_address


class OfSpace(Args):
    """A space."""

    vid: int


class OfSegment(Args):
    """A segment."""

    sid: int


class CloneSpace(OfSpace):
    """vas_clone and vas_snapshot."""

    name: str


class CloneSegment(OfSegment):
    """vas_seg_clone and vas_seg_snapshot."""

    name: str


class SpaceMmap(arguments.SpaceMmap):
    """vas_mmap."""

    vid: int


class SpaceRange(arguments.SpaceRange):
    """vas_munmap."""

    vid: int


class SpaceMprotect(arguments.SpaceMprotect):
    """vas_mprotect."""

    vid: int


class SetRoot(arguments.OfThread):
    """vas_set_root, in the space that the thread is in."""

    name: str
    addr: Address


class GetRoot(arguments.OfThread):
    """vas_get_root, in the space that the thread is in."""

    name: str


class DeleteRoot(OfSpace):
    """vas_delete_root."""

    name: str


def _lineage(found: Any) -> Json:
    return plain(answers.Lineage.of(found))


def _roots(found: Mapping[str, int]) -> Json:
    return {name: hex_address(address) for name, address in found.items()}


CLONE_CALLS: Final[Mapping[str, Call]] = {
    "vas_clone": Call(CloneSpace, lambda m, f, a: m.vas_clone(f.cred, a.vid, a.name)),
    "vas_seg_clone": Call(CloneSegment, lambda m, f, a: m.vas_seg_clone(f.cred, a.sid, a.name)),
    "vas_snapshot": Call(CloneSpace, lambda m, f, a: m.vas_snapshot(f.cred, a.vid, a.name)),
    "vas_seg_snapshot": Call(CloneSegment, lambda m, f, a: m.vas_seg_snapshot(f.cred, a.sid, a.name)),
    "vas_reset": Call(OfSpace, lambda m, f, a: m.vas_reset(f.cred, a.vid)),
    "vas_seg_reset": Call(OfSegment, lambda m, f, a: m.vas_seg_reset(f.cred, a.sid)),
    "vas_lineage": Call(OfSpace, lambda m, f, a: m.vas_lineage(f.cred, a.vid), _lineage),
    "vas_seg_lineage": Call(OfSegment, lambda m, f, a: m.vas_seg_lineage(f.cred, a.sid), _lineage),
    "vas_fork": Call(arguments.VasFork, lambda m, f, a: m.vas_fork(f.cred, f.pid, f.thread(a), a.name)),
    "vas_exec": Call(arguments.VasExec, lambda m, f, a: m.vas_exec(f.cred, f.pid, a.vid)),
    "vas_mmap": Call(
        SpaceMmap,
        lambda m, f, a: m.vas_mmap(f.cred, a.vid, a.addr, a.length, a.prot, a.flags),
        hex_address,
    ),
    "vas_munmap": Call(SpaceRange, lambda m, f, a: m.vas_munmap(f.cred, a.vid, a.addr, a.length)),
    "vas_mprotect": Call(
        SpaceMprotect, lambda m, f, a: m.vas_mprotect(f.cred, a.vid, a.addr, a.length, a.prot)
    ),
    "vas_set_root": Call(SetRoot, lambda m, f, a: m.set_root(f.cred, f.pid, f.thread(a), a.name, a.addr)),
    "vas_get_root": Call(
        GetRoot, lambda m, f, a: m.get_root(f.cred, f.pid, f.thread(a), a.name), hex_address
    ),
    "vas_delete_root": Call(DeleteRoot, lambda m, f, a: m.vas_delete_root(f.cred, a.vid, a.name)),
    "vas_roots": Call(OfSpace, lambda m, f, a: m.vas_roots(f.cred, a.vid), _roots),
}
