"""Every errno of the calls, and which of two comes first: as the source and Linux, with our corrections."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.constants import INT_MAX
from engine.credentials import ROOT, Credentials
from engine.geometry import TOY
from tests.engine.host import ALICE, BOB, EVE, FIXED, PRIVATE, RW, Host

LONG, LONGEST = "n" * 256, "n" * 255
NOBODY = 10**6


class Scene:
    """What the rows of the table talk about.

    `own`: alice's task; `root_task`: root's. `space` (0660, alice:100), `closed` (0, root), `busy` (exclusive, alice's
    own task writes it), `read` (exclusive, alice's own task reads it) and `full` (its memory lies in the way of `own`).
    `segment` (0660, alice:100) is in no space; `held` is in `busy` and in `holder`, which nobody has attached.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.own, self.other = host.task(ALICE), host.task(ALICE)
        self.root_task = host.task(ROOT)
        self.space = host.space("space", 0o660, cred=ALICE)
        self.closed = host.space("closed", 0)
        self.busy = host.space("busy", 0o666, "exclusive")
        self.read = host.space("read", 0o666, "exclusive")
        self.full = host.space("full")
        self.holder = host.space("holder", 0o640, cred=ALICE)
        page, base = host.page, host.base
        self.base, self.end, self.page = base, base + page, page
        self.segment = host.do("vas_seg_create", "segment", base, base + page, 0o660, "exclusive", cred=ALICE)
        self.held = host.do("vas_seg_create", "held", base, base + page, 0o666, "exclusive")
        self.shared = host.do("vas_seg_create", "shared", base + page, base + 3 * page, 0o600, "shared")
        host.do("vas_seg_attach", self.busy, self.held, 2)
        host.do("vas_seg_attach", self.holder, self.shared, 0)
        host.enter(self.root_task, self.full)
        host.do("mmap", self.root_task, None, base, page, RW, PRIVATE | FIXED)
        host.do("mmap", self.own, None, base, page, RW, PRIVATE | FIXED)
        host.do("vas_attach", self.other, self.busy, 2, cred=ALICE)
        host.do("vas_attach", self.other, self.read, 0, cred=ALICE)
        host.do("vas_switch", self.other, None, self.busy, cred=ALICE)


@pytest.fixture
def scene(host: Host) -> Scene:
    return Scene(host)


Args = Callable[[Scene], tuple[Any, ...]]
Row = tuple[str, Credentials, str, Args]

ROWS: dict[str, list[Row]] = {
    "vas_create": [
        ("", ALICE, "a name of 255 bytes", lambda s: (LONGEST, 0o600)),
        ("", ALICE, "any letter but control characters, slashes too", lambda s: ("/é ☃", 0o600)),
        ("", ALICE, "execute bits are dropped, not refused", lambda s: ("new", 0o7777)),
        ("EINVAL", ALICE, "an empty name", lambda s: ("", 0o600)),
        ("EINVAL", ALICE, "256 bytes", lambda s: (LONG, 0o600)),
        ("EINVAL", ALICE, "256 bytes in 128 letters", lambda s: ("é" * 128, 0o600)),
        ("EINVAL", ALICE, "NUL", lambda s: ("a\0b", 0o600)),
        ("EINVAL", ALICE, "a control character", lambda s: ("a\nb", 0o600)),
        ("EINVAL", ALICE, "a control character above ASCII", lambda s: ("a\x85b", 0o600)),
        ("EINVAL", ALICE, "not Unicode", lambda s: ("a\ud800", 0o600)),
        ("EINVAL", ALICE, "a negative mode", lambda s: ("new", -1)),
        ("EINVAL", ALICE, "a mode beyond umode_t", lambda s: ("new", 0x10000)),
        ("EINVAL", ALICE, "an unknown sharing, before the name is looked up", lambda s: ("space", 0o600, "open")),
        ("EEXIST", ROOT, "the name is taken", lambda s: ("space", 0o600)),
        ("", ROOT, "a segment's name is free for a space", lambda s: ("segment", 0o600)),
    ],
    "vas_find": [
        ("", EVE, "needs no permission", lambda s: ("closed",)),
        ("EINVAL", EVE, "too long", lambda s: (LONG,)),
        ("EINVAL", EVE, "empty", lambda s: ("",)),
        ("ESRCH", EVE, "nothing has the name", lambda s: ("segment",)),
    ],
    "vas_delete": [
        ("EINVAL", ROOT, "a negative id", lambda s: (-1,)),
        ("EINVAL", ROOT, "the original address space", lambda s: (0,)),
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY,)),
        ("EACCES", EVE, "no write bit", lambda s: (s.space,)),
        ("EBUSY", ROOT, "attached", lambda s: (s.busy,)),
        ("EACCES", EVE, "EACCES before EBUSY", lambda s: (s.closed,)),
        ("", BOB, "the group's write bit is enough", lambda s: (s.space,)),
        ("", ROOT, "segments in it do not hold it", lambda s: (s.holder,)),
    ],
    "vas_attach": [
        ("EINVAL", ALICE, "a negative pid", lambda s: (-1, s.space, 2)),
        ("EINVAL", ALICE, "a negative vid before an unknown pid", lambda s: (NOBODY, -1, 2)),
        ("ESRCH", ALICE, "an unknown pid before the type", lambda s: (NOBODY, s.space, 3)),
        ("EINVAL", ALICE, "type 3 before EPERM", lambda s: (s.root_task, s.space, 3)),
        ("EPERM", ALICE, "another's task before an unknown space", lambda s: (s.root_task, NOBODY, 2)),
        ("EINVAL", ALICE, "an unknown space", lambda s: (s.own, NOBODY, 2)),
        ("EACCES", ALICE, "the mode", lambda s: (s.own, s.closed, 0)),
        ("", ALICE, "again with the same type", lambda s: (s.other, s.busy, 2)),
        ("EEXIST", ALICE, "again with another type", lambda s: (s.other, s.busy, 0)),
        ("EBUSY", ALICE, "a writer is there", lambda s: (s.own, s.busy, 0)),
        ("EBUSY", ALICE, "a writer must be alone", lambda s: (s.own, s.read, 2)),
        ("EBUSY", ALICE, "EBUSY before EFAULT", lambda s: (s.own, s.busy, 2)),
        ("", ALICE, "readers go together", lambda s: (s.own, s.read, 0)),
        ("EFAULT", ALICE, "its memory is in the way", lambda s: (s.own, s.full, 0)),
        ("", ALICE, "root and the owner may", lambda s: (s.own, s.space, 2)),
        ("", ROOT, "root may for anybody", lambda s: (s.own, s.closed, 2)),
        ("", ALICE, "other bits of the type mean nothing", lambda s: (s.own, s.space, 0o700)),
    ],
    "vas_detach": [
        ("EINVAL", ALICE, "a negative pid", lambda s: (-1, s.busy)),
        ("EINVAL", ALICE, "a negative vid before an unknown pid", lambda s: (NOBODY, -1)),
        ("ESRCH", ALICE, "an unknown pid", lambda s: (NOBODY, s.busy)),
        ("EPERM", EVE, "another's task before not attached", lambda s: (s.other, s.space)),
        ("EINVAL", ALICE, "not attached", lambda s: (s.other, s.space)),
        ("EINVAL", ALICE, "no such space", lambda s: (s.other, NOBODY)),
        ("EBUSY", ALICE, "a thread is inside", lambda s: (s.other, s.busy)),
        ("", ALICE, "nobody is inside", lambda s: (s.other, s.read)),
    ],
    "vas_switch": [
        ("ESRCH", ALICE, "no such task", lambda s: (NOBODY, None, 0)),
        ("EPERM", EVE, "another's task before no such thread", lambda s: (s.own, NOBODY, 0)),
        ("ESRCH", ALICE, "no such thread before not attached", lambda s: (s.own, NOBODY, s.space)),
        ("EINVAL", ALICE, "negative", lambda s: (s.own, None, -1)),
        ("EINVAL", ALICE, "not attached, though it exists", lambda s: (s.own, None, s.space)),
        ("", ALICE, "where it is already", lambda s: (s.other, None, s.busy)),
        ("", ALICE, "the original address space", lambda s: (s.other, None, 0)),
        ("ESRCH", ALICE, "no thread has the id 0", lambda s: (s.other, 0, 0)),
    ],
    "active_vas": [
        ("", ALICE, "0 in the original", lambda s: (s.own, None)),
        ("ESRCH", ALICE, "no such task", lambda s: (NOBODY, None)),
        ("ESRCH", ALICE, "no such thread", lambda s: (s.own, NOBODY)),
        ("EPERM", EVE, "another's task", lambda s: (s.own, None)),
    ],
    "vas_getattr": [
        ("", EVE, "needs no permission", lambda s: (s.closed,)),
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY,)),
        ("EINVAL", ROOT, "0", lambda s: (0,)),
    ],
    "vas_setattr": [
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY, 0o600)),
        ("EINVAL", EVE, "a bad mode before EPERM", lambda s: (s.space, -1)),
        ("EINVAL", ROOT, "uid -1", lambda s: (s.space, None, -1)),
        ("EINVAL", ROOT, "uid 2**32-1, which means unchanged", lambda s: (s.space, None, 2**32 - 1)),
        ("EINVAL", ROOT, "a bad gid", lambda s: (s.space, None, None, 2**32)),
        ("EINVAL", EVE, "a bad sharing before EPERM", lambda s: (s.busy, None, None, None, "open")),
        ("EPERM", BOB, "not the owner, whatever the mode", lambda s: (s.space, 0o600)),
        ("EPERM", ALICE, "the owner may not give it away", lambda s: (s.space, None, 1001)),
        ("EPERM", ALICE, "the owner may not change the group", lambda s: (s.space, None, None, 200)),
        ("EPERM", EVE, "EPERM before EBUSY", lambda s: (s.busy, None, None, None, "shared")),
        ("EBUSY", ROOT, "sharing while attached", lambda s: (s.busy, None, None, None, "shared")),
        ("", ROOT, "the same sharing while attached", lambda s: (s.busy, None, None, None, "exclusive")),
        ("", ALICE, "the owner may change the mode", lambda s: (s.space, 0o600)),
        ("", ALICE, "to the same owner", lambda s: (s.space, None, 1000, 100)),
        ("", ROOT, "root may give it away", lambda s: (s.space, None, 1001, 200)),
    ],
    "vas_seg_create": [
        ("EINVAL", ALICE, "start not aligned", lambda s: ("new", s.base + 1, s.end, 0o600)),
        ("EINVAL", ALICE, "end not aligned", lambda s: ("new", s.base, s.end + 1, 0o600)),
        ("EINVAL", ALICE, "empty", lambda s: ("new", s.base, s.base, 0o600)),
        ("EINVAL", ALICE, "reversed", lambda s: ("new", s.end, s.base, 0o600)),
        ("EINVAL", ALICE, "below 0", lambda s: ("new", -s.page, s.base, 0o600)),
        ("EINVAL", ALICE, "a bad name before EFAULT", lambda s: ("", s.base, 1 << 62, 0o600)),
        ("EINVAL", ALICE, "a bad mode", lambda s: ("new", s.base, s.end, -1)),
        ("EINVAL", ALICE, "a bad sharing", lambda s: ("new", s.base, s.end, 0o600, "open")),
        ("EFAULT", ALICE, "beyond the user's range before EEXIST", lambda s: ("held", s.base, 1 << 62, 0o600)),
        ("EEXIST", ALICE, "the name is taken", lambda s: ("held", s.base, s.end, 0o600)),
        ("", ALICE, "over another segment", lambda s: ("new", s.base, s.end, 0o600)),
        ("", ALICE, "a space's name is free for a segment", lambda s: ("space", s.base, s.end, 0o600)),
    ],
    "vas_seg_find": [
        ("", EVE, "needs no permission", lambda s: ("segment",)),
        ("EINVAL", EVE, "too long", lambda s: (LONG,)),
        ("ESRCH", EVE, "nothing has the name", lambda s: ("space",)),
    ],
    "vas_seg_delete": [
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY,)),
        ("EACCES", EVE, "no write bit", lambda s: (s.segment,)),
        ("EACCES", EVE, "EACCES before EBUSY", lambda s: (s.shared,)),
        ("EBUSY", EVE, "in a space", lambda s: (s.held,)),
        ("", BOB, "the group's write bit is enough", lambda s: (s.segment,)),
    ],
    "vas_seg_attach": [
        ("EINVAL", ROOT, "negative ids", lambda s: (-1, s.segment, 2)),
        ("EINVAL", ROOT, "type 3", lambda s: (s.space, s.segment, 3)),
        ("EINVAL", ROOT, "an unknown space", lambda s: (NOBODY, s.segment, 2)),
        ("EINVAL", ROOT, "an unknown segment", lambda s: (s.space, NOBODY, 2)),
        ("EACCES", EVE, "the segment's mode", lambda s: (s.full, s.segment, 2)),
        ("EACCES", BOB, "write on the space, to read too", lambda s: (s.holder, s.segment, 0)),
        ("", ROOT, "again with the same type", lambda s: (s.busy, s.held, 2)),
        ("EEXIST", ROOT, "again with another type", lambda s: (s.busy, s.held, 0)),
        ("EBUSY", ROOT, "a writer has it", lambda s: (s.holder, s.held, 0)),
        ("EBUSY", ROOT, "EBUSY before EFAULT", lambda s: (s.full, s.held, 2)),
        ("EFAULT", ROOT, "over the space's memory", lambda s: (s.full, s.segment, 2)),
        ("EFAULT", ROOT, "over another segment", lambda s: (s.busy, s.segment, 2)),
        ("", ROOT, "to a space in use", lambda s: (s.read, s.segment, 2)),
        ("", ALICE, "to a space of one's own", lambda s: (s.space, s.segment, 2)),
    ],
    "vas_seg_detach": [
        ("EINVAL", ROOT, "an unknown space", lambda s: (NOBODY, s.held)),
        ("EINVAL", ROOT, "not there", lambda s: (s.space, s.held)),
        ("EINVAL", ROOT, "an unknown segment", lambda s: (s.busy, NOBODY)),
        ("EACCES", BOB, "write on the space", lambda s: (s.holder, s.shared)),
        ("EBUSY", ROOT, "the space is attached", lambda s: (s.busy, s.held)),
        ("", ALICE, "the space is not attached", lambda s: (s.holder, s.shared)),
    ],
    "vas_seg_getattr": [
        ("", EVE, "needs no permission", lambda s: (s.shared,)),
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY,)),
    ],
    "vas_seg_setattr": [
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY, 0o600)),
        ("EINVAL", EVE, "a bad mode before EPERM", lambda s: (s.segment, 0x10000)),
        ("EPERM", BOB, "not the owner, whatever the mode", lambda s: (s.segment, 0o600)),
        ("EPERM", ALICE, "only root gives away", lambda s: (s.segment, None, 1001)),
        ("EBUSY", ROOT, "sharing while attached", lambda s: (s.held, None, None, None, "shared")),
        ("", ALICE, "sharing while in no space", lambda s: (s.segment, None, None, None, "shared")),
    ],
    "seg_read": [
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY, 0, 1)),
        ("EACCES", EVE, "the mode before the range", lambda s: (s.segment, -1, 1)),
        ("EINVAL", ALICE, "below", lambda s: (s.segment, -1, 1)),
        ("EINVAL", ALICE, "beyond", lambda s: (s.segment, 1, s.page)),
        ("EINVAL", ALICE, "a negative length", lambda s: (s.segment, 0, -1)),
        ("", BOB, "all of it", lambda s: (s.segment, 0, s.page)),
        ("", ALICE, "nothing, at its end", lambda s: (s.segment, s.page, 0)),
    ],
    "seg_write": [
        ("EACCES", EVE, "the mode", lambda s: (s.segment, 0, b"x")),
        ("EINVAL", ALICE, "beyond", lambda s: (s.segment, s.page, b"x")),
        ("", BOB, "the write bit is enough", lambda s: (s.segment, s.page - 1, b"x")),
    ],
    "spawn": [
        ("EINVAL", ROOT, "a bad name", lambda s: ("", 60)),
        ("EINVAL", ROOT, "a lease of nothing", lambda s: (None, 0)),
        ("EINVAL", ROOT, "a lease of more than a day", lambda s: (None, 86401)),
        ("", EVE, "a day", lambda s: ("name", 86400)),
    ],
    "fork": [
        ("ESRCH", ROOT, "no such task", lambda s: (NOBODY,)),
        ("EPERM", EVE, "another's", lambda s: (s.own,)),
        ("ESRCH", ALICE, "no such thread", lambda s: (s.own, NOBODY)),
        ("", ALICE, "one's own", lambda s: (s.own,)),
    ],
    "exec": [
        ("ESRCH", ROOT, "no such task", lambda s: (NOBODY,)),
        ("EPERM", EVE, "another's", lambda s: (s.own,)),
        ("", ALICE, "inside a space, too", lambda s: (s.other,)),
    ],
    "prlimit": [
        ("ESRCH", ROOT, "no such task before no such limit", lambda s: (NOBODY, "core")),
        ("EPERM", EVE, "another's before no such limit", lambda s: (s.own, "core")),
        ("EINVAL", ALICE, "no such limit", lambda s: (s.own, "core")),
        ("EINVAL", ALICE, "negative", lambda s: (s.own, "data", -1)),
        ("EINVAL", ROOT, "no unsigned long", lambda s: (s.own, "data", 2**64)),
        ("EPERM", ALICE, "raised", lambda s: (s.own, "locked", 2**40)),
        ("", ROOT, "raised by root", lambda s: (s.own, "locked", 2**40)),
    ],
    "mremap": [
        ("ESRCH", ROOT, "no such task", lambda s: (NOBODY, None, s.base, s.page, s.page, 99)),
        ("EPERM", EVE, "another's before nonsense", lambda s: (s.own, None, 1, 0, 0, 99)),
        ("ESRCH", ALICE, "no such thread", lambda s: (s.own, NOBODY, s.base, s.page, s.page)),
        ("EINVAL", ALICE, "an unknown flag before a hole", lambda s: (s.own, None, s.end, s.page, s.page, 8)),
        ("EINVAL", ALICE, "not aligned before a hole", lambda s: (s.own, None, s.end + 1, s.page, s.page)),
        ("EFAULT", ALICE, "a hole", lambda s: (s.own, None, s.end, s.page, s.page)),
        ("EBUSY", ALICE, "a segment", lambda s: (s.other, None, s.base, s.page, 2 * s.page, 1)),
        ("", ALICE, "the same size", lambda s: (s.own, None, s.base, s.page, s.page)),
    ],
    "madvise": [
        ("EPERM", EVE, "another's before nonsense", lambda s: (s.own, None, 1, 1, 99)),
        ("EINVAL", ALICE, "unknown, though nothing is named", lambda s: (s.own, None, s.end, 0, 99)),
        ("EINVAL", ALICE, "not aligned, though nothing is named", lambda s: (s.own, None, s.end + 1, 0, 4)),
        ("", ALICE, "nothing", lambda s: (s.own, None, s.end, 0, 4)),
        ("ENOMEM", ALICE, "a hole", lambda s: (s.own, None, s.end, s.page, 4)),
        ("EINVAL", ALICE, "REMOVE of private memory", lambda s: (s.own, None, s.base, s.page, 9)),
        ("EINVAL", ALICE, "FREE of a segment", lambda s: (s.other, None, s.base, s.page, 8)),
        ("EINVAL", ALICE, "a space's region made the task's", lambda s: (s.other, None, s.base, s.page, 19)),
    ],
    "mlock": [
        ("EPERM", EVE, "another's", lambda s: (s.own, None, s.base, s.page, 9)),
        ("EINVAL", ALICE, "unknown flags before a hole", lambda s: (s.own, None, s.end, s.page, 2)),
        ("ENOMEM", ALICE, "the limit before a hole", lambda s: (s.own, None, s.end, 1 << 40)),
        ("ENOMEM", ALICE, "a hole", lambda s: (s.own, None, s.end, s.page)),
        ("", ALICE, "nothing, in a hole", lambda s: (s.own, None, s.end, 0)),
        ("", ALICE, "an address inside a page", lambda s: (s.own, None, s.base + 1, 1)),
    ],
    "munlock": [
        ("EPERM", EVE, "another's", lambda s: (s.own, None, s.base, s.page)),
        ("ENOMEM", ALICE, "a hole", lambda s: (s.own, None, s.end, s.page)),
        ("", ALICE, "what is not locked", lambda s: (s.own, None, s.base, s.page)),
    ],
    "mincore": [
        ("EPERM", EVE, "another's", lambda s: (s.own, None, s.base, s.page)),
        ("EINVAL", ALICE, "not aligned before not the user's", lambda s: (s.own, None, s.base + 1, 1 << 60)),
        ("ENOMEM", ALICE, "not the user's", lambda s: (s.own, None, s.base, 1 << 60)),
        ("ENOMEM", ALICE, "a hole", lambda s: (s.own, None, s.base, s.page + 1)),
        ("", ALICE, "nothing, in a hole", lambda s: (s.own, None, s.end, 0)),
    ],
    "exit_thread": [
        ("ESRCH", ALICE, "no such thread", lambda s: (s.own, NOBODY)),
        ("EPERM", EVE, "another's", lambda s: (s.own, s.own)),
        ("", ALICE, "the last one ends the task", lambda s: (s.own, s.own)),
    ],
    "attachment": [
        ("ENOENT", ALICE, "not attached", lambda s: (s.own, s.busy)),
        ("EPERM", EVE, "another's", lambda s: (s.other, s.busy)),
        ("", ALICE, "attached", lambda s: (s.other, s.busy)),
    ],
    "vas_status_text": [
        ("", EVE, "open to everybody", lambda s: (s.other, s.busy)),
        ("ENOENT", EVE, "not attached", lambda s: (s.own, s.busy)),
        ("ESRCH", EVE, "no such task", lambda s: (NOBODY, s.busy)),
    ],
    "vas_maps_text": [
        ("EPERM", EVE, "not open to everybody", lambda s: (s.other, s.busy)),
        ("ENOENT", ALICE, "not attached", lambda s: (s.own, s.busy)),
    ],
    "vas_regions": [
        ("EACCES", EVE, "the mode's read bit", lambda s: (s.space,)),
        ("EINVAL", ROOT, "unknown", lambda s: (NOBODY,)),
        ("", BOB, "readable", lambda s: (s.space,)),
    ],
}  # fmt: skip

TABLE = [(call, *row) for call, rows in ROWS.items() for row in rows]


@pytest.mark.parametrize(
    ("call", "errno", "cred", "why", "args"),
    TABLE,
    ids=[f"{row[0]}: {row[1] or '0'}: {row[3]}" for row in TABLE],
)
def test_errno(scene: Scene, call: str, errno: str, cred: Credentials, why: str, args: Args) -> None:
    assert scene.host.refused(call, *args(scene), cred=cred) == errno


@pytest.mark.parametrize("call", sorted(ROWS))
def test_a_refused_call_changes_nothing(toy: Host, call: str) -> None:
    scene = Scene(toy)
    machine, before = toy.machine, snapshot(toy)
    for errno, cred, _, args in ROWS[call]:
        if errno:
            toy.refused(call, *args(scene), cred=cred)
            assert toy.changes == []
            assert snapshot(toy) == before
    assert machine is toy.machine


def snapshot(host: Host) -> object:
    machine = host.machine
    return (
        machine.vas_list(ROOT),
        machine.vas_seg_list(ROOT),
        [(told.pid, told.threads, told.attachments) for told in machine.tasks(ROOT)],
        [machine.maps_text(ROOT, told.pid) for told in machine.tasks(ROOT)],
        [machine.vas_regions(ROOT, attr.vid) for attr in machine.vas_list(ROOT)],
    )


def test_ids_run_out(host: Host) -> None:
    for registry in (host.machine.spaces.registry, host.machine.segments.registry):
        registry.next_id = INT_MAX - 1
    assert host.space("last") == INT_MAX - 1
    assert host.refused("vas_create", "one more", 0o600) == "ENOSPC"
    assert host.segment("last") == INT_MAX - 1
    assert host.refused("vas_seg_create", "one more", host.base, host.base + host.page, 0) == "ENOSPC"


def test_a_space_has_at_most_65535_attachments(toy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.spaces.registry.SHARES_MAX", 2)
    vid, sid = toy.space(), toy.segment()
    for _ in range(2):
        toy.do("vas_attach", toy.task(), vid, 0)
        toy.do("vas_seg_attach", toy.space(f"holder-{toy.task()}"), sid, 0)
    assert toy.refused("vas_attach", toy.task(), vid, 0) == "EBUSY"
    assert toy.refused("vas_seg_attach", vid, sid, 0) == "EBUSY"


@pytest.mark.roomy
def test_the_toy_has_no_forbidden_first_page_but_x86_has(host: Host, toy: Host) -> None:
    assert toy.geometry is TOY
    for where, errno in ((0, "EFAULT"), (host.geometry.user_start, "")):
        assert host.refused("vas_seg_create", "low", where, where + host.page, 0o600) == errno
    assert toy.refused("vas_seg_create", "low", 0, toy.page, 0o600) == ""
