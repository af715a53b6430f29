"""The calls on a task's views (mmview) and slots (multias), for their routes and for batches alike."""

from collections.abc import Mapping
from typing import Final

from app.calls import arguments
from app.calls.call import Call, Frame
from app.errors import bad_input
from engine.constants import MMVIEW_DELETE, MMVIEW_MIGRATE, MMVIEW_SHARE, MMVIEW_UNSHARE
from engine.machine import Machine

MMVIEW_MEMBERS: Final[Mapping[int, tuple[str, ...]]] = {
    MMVIEW_DELETE: ("id",),
    MMVIEW_MIGRATE: ("id",),
    MMVIEW_UNSHARE: ("addr", "len"),
    MMVIEW_SHARE: ("addr", "len"),
}
"""What an operation takes, in the order of the call; the others take nothing."""


def _mmview(m: Machine, f: Frame, a: arguments.Mmview) -> int:
    """EINVAL: an argument that the operation does not take, or one that it lacks."""
    wanted = MMVIEW_MEMBERS.get(a.op, ())
    for name in ("id", "addr", "len"):
        given = getattr(a, name) is not None
        if given != (name in wanted):
            raise bad_input(f"{name}: mmview operation {a.op} {'takes none' if given else 'needs one'}")
    return m.mmview(f.cred, f.pid, f.thread(a), a.op, *(getattr(a, name) for name in wanted))


VIEW_CALLS: Final[Mapping[str, Call]] = {
    "mmview": Call(arguments.Mmview, _mmview),
    "mmview_create": Call(arguments.OfThread, lambda m, f, a: m.mmview_create(f.cred, f.pid, f.thread(a))),
    "mmview_migrate": Call(
        arguments.OfView, lambda m, f, a: m.mmview_migrate(f.cred, f.pid, f.thread(a), a.id)
    ),
    "mmview_delete": Call(
        arguments.OfView, lambda m, f, a: m.mmview_delete(f.cred, f.pid, f.thread(a), a.id)
    ),
    "mmview_unshare": Call(
        arguments.MmviewUnshare,
        lambda m, f, a: m.mmview_unshare(f.cred, f.pid, f.thread(a), a.addr, a.len),
    ),
    "new_as": Call(arguments.OfThread, lambda m, f, a: m.new_as(f.cred, f.pid, f.thread(a))),
    "switch_as": Call(arguments.SwitchAs, lambda m, f, a: m.switch_as(f.cred, f.pid, f.thread(a), a.n)),
}
