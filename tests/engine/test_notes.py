"""Notes: what settled transactions came to, in order, and who may be told."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.changes import (
    SNAPSHOT,
    TRANSIENT,
    Change,
    CloneObject,
    DropPages,
    DropRegion,
    DropRoot,
    DropSegment,
    DropSpace,
    Image,
    PutPages,
    PutRegion,
    PutRoot,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.chronicle import Chronicle
from engine.credentials import ROOT
from engine.geometry import TOY, X86_64
from engine.journal import Journal
from engine.notes import KINDS, RANGES_MAX, Audience, Note, joined, spans_of
from tests.engine.host import ALICE, BOB, EVE, Host

PAGE = X86_64.page_size
SPACE = SpaceRecord(7, "lab", 0o640, 1000, 100, "shared", 20)
SEGMENT = SegmentRecord(3, "heap", 0x10000, 0x14000, 0o600, 1000, 100, "shared", 21)


@pytest.fixture
def chronicle() -> Chronicle:
    return Chronicle(X86_64, remembered=2)


def settle(chronicle: Chronicle, *steps: Change | str) -> list[Note]:
    """The notes of one transaction; a text is a note of a call."""
    journal = Journal()
    with journal.begin() as txn:
        for step in steps:
            if isinstance(step, str):
                journal.note(step, uid=1000)
            else:
                journal.change(step)
    return list(chronicle.notes_of(txn))


def kinds(notes: list[Note]) -> list[str]:
    return [kind for kind, _ in notes]


def bounds(members: dict[str, Any]) -> list[tuple[int, int]]:
    return [(each.start, each.end) for each in members["ranges"]]


# -- ranges ------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), min_size=1, max_size=60))
def test_ranges_cover_everything_and_are_exact_while_they_are_few(spans: list[tuple[int, int]]) -> None:
    wanted = {page for first, count in spans for page in range(first, first + count)}
    found = joined([(first, first + count) for first, count in spans])
    covered = {page for first, end in found for page in range(first, end)}
    assert found == sorted(found)
    assert all(left[1] < right[0] for left, right in pairwise(found))
    assert wanted <= covered
    assert (min(covered), max(covered)) == (min(wanted), max(wanted))
    runs = sum(page - 1 not in wanted for page in wanted)
    assert len(found) == min(runs, RANGES_MAX)
    assert covered == wanted or runs > RANGES_MAX
    assert spans_of(tuple(sorted(wanted))) == found


# -- what is derived -----------------------------------------------------------------------------------------------


def test_a_space_from_its_making_to_its_end(chronicle: Chronicle) -> None:
    assert settle(chronicle, PutSpace(SPACE)) == [
        (
            "space.created",
            {
                "vid": 7,
                "name": "lab",
                "mode": 0o640,
                "uid": 1000,
                "gid": 100,
                "sharing": "shared",
                "lifetime": "persistent",
            },
        )
    ]
    changed = SPACE._replace(name="den", mode=0o600, flags=TRANSIENT)
    assert settle(chronicle, PutSpace(changed)) == [
        (
            "space.changed",
            {"vid": 7, "name": "den", "mode": 0o600, "lifetime": "transient", "former_name": "lab"},
        )
    ]
    assert settle(chronicle, PutSpace(changed)) == []
    region = RegionRecord(0x1000, 0x3000, 3, False, 0, 2)
    assert settle(chronicle, DropRegion(7, 0), PutRegion(7, region), PutRoot(7, "top", 0x2000)) == [
        ("space.regions", {"vid": 7}),
        ("space.root", {"vid": 7, "name": "top", "addr": 0x2000}),
    ]
    assert settle(chronicle, DropRoot(7, "top")) == [("space.root", {"vid": 7, "name": "top", "addr": None})]
    assert settle(chronicle, DropSpace(7)) == [("space.deleted", {"vid": 7, "name": "den"})]
    assert settle(chronicle, PutPages(20, (1,), bytes(PAGE))) == []


def test_what_one_transaction_writes_to_one_object_is_one_note(chronicle: Chronicle) -> None:
    settle(chronicle, PutSpace(SPACE), PutSegment(SEGMENT))
    (single,) = settle(chronicle, PutPages(20, (5, 6, 9), bytes(3 * PAGE)))
    assert single[0] == "space.written"
    assert bounds(single[1]) == [(5 * PAGE, 7 * PAGE), (9 * PAGE, 10 * PAGE)]
    notes = settle(
        chronicle,
        PutPages(21, (0,), bytes(PAGE)),
        PutPages(20, (1,), bytes(PAGE)),
        "task.exec",
        PutPages(21, (1,), bytes(PAGE)),
        DropPages(21, 3, 1),
    )
    assert kinds(notes) == ["segment.written", "space.written", "task.exec"]
    assert bounds(notes[0][1]) == [(0x10000, 0x12000), (0x13000, 0x14000)]
    assert settle(chronicle, PutPages(99, (1,), bytes(PAGE)), DropPages(99, 1, 2)) == []


def test_clones_snapshots_and_resets_are_known_by_their_records(chronicle: Chronicle) -> None:
    settle(chronicle, PutSpace(SPACE), PutSegment(SEGMENT))
    clone = SPACE._replace(vid=8, name="copy", object_id=30, origin=7, birth=31)
    made = settle(chronicle, CloneObject(20, 30), CloneObject(30, 31), PutSpace(clone))
    assert kinds(made) == ["space.cloned"]
    assert made[0][1]["origin"] == 7
    kept = SEGMENT._replace(sid=4, name="kept", object_id=32, origin=3, flags=SNAPSHOT)
    assert kinds(settle(chronicle, PutSegment(kept), CloneObject(21, 32))) == ["segment.snapshot"]
    copy = SEGMENT._replace(sid=5, name="copy", object_id=33, origin=3, birth=34)
    assert kinds(settle(chronicle, PutSegment(copy), CloneObject(34, 33))) == ["segment.cloned"]
    assert settle(chronicle, CloneObject(31, 30)) == [("space.reset", {"vid": 8, "name": "copy"})]
    assert settle(chronicle, CloneObject(34, 33)) == [("segment.reset", {"sid": 5, "name": "copy"})]
    assert settle(chronicle, CloneObject(20, 77)) == []


def test_what_was_there_at_the_start_is_not_new(chronicle: Chronicle) -> None:
    chronicle.restore(Image(PAGE, "x86_64", [SPACE], [SEGMENT]))
    notes = settle(
        chronicle, PutSpace(SPACE._replace(gid=5)), DropSegment(3), PutPages(20, (0,), bytes(PAGE))
    )
    assert kinds(notes) == ["space.changed", "segment.deleted", "space.written"]
    assert notes[0][1] == {"vid": 7, "name": "lab", "gid": 5}


# -- who may be told -----------------------------------------------------------------------------------------------


def test_readers_are_those_whom_the_settled_mode_lets_read(chronicle: Chronicle) -> None:
    settle(chronicle, PutSpace(SPACE), PutSegment(SEGMENT))

    def told(note: Note) -> list[bool]:
        return [chronicle.may_see(cred, note) for cred in (ROOT, ALICE, BOB, EVE)]

    written: Note = "space.written", {"vid": 7}
    stored: Note = "segment.written", {"sid": 3}
    assert told(written) == [True, True, True, False]
    assert told(stored) == [True, True, False, False]
    assert told(("space.deleted", {"vid": 7})) == [True, True, True, True]
    assert told(("thread.started", {"uid": 1001})) == [True, False, True, False]
    settle(chronicle, PutSpace(SPACE._replace(mode=0o600)))
    assert told(written) == [True, True, False, False]
    settle(chronicle, DropSpace(7), DropSegment(3))
    assert told(written) == [True, True, False, False], "as when it was deleted"
    for sid in (11, 12):
        settle(chronicle, PutSegment(SEGMENT._replace(sid=sid, object_id=sid)), DropSegment(sid))
    assert told(written) == told(stored) == [True, False, False, False], "nobody knows any more"


# -- the journal ---------------------------------------------------------------------------------------------------


def test_only_what_is_settled_is_heard_once_and_in_order() -> None:
    journal = Journal()
    heard: list[list[str]] = []
    journal.listener = lambda txn: heard.append([kind for _, kind, _ in txn.notes])
    journal.note("task.exec")
    with journal.begin() as first:
        journal.note("task.spawned")
    with journal.begin() as second:
        journal.note("task.forked")
    with journal.begin() as silent:
        pass
    assert (first.mutated, silent.mutated) == (True, False)
    second.rollback()
    for txn in (first, first, second, silent):
        txn.settle()
    assert heard == [["task.spawned"]]


def test_calls_tell_what_they_did_and_failing_ones_nothing(toy: Host) -> None:
    chronicle = Chronicle(TOY, remembered=9)
    told: list[Note] = []
    toy.machine.journal.listener = lambda txn: told.extend(chronicle.notes_of(txn))
    pid, vid = toy.inside(pages=2)
    sid = toy.segment(pages=2, at=2)
    toy.do("vas_seg_attach", vid, sid, 2)
    toy.do("write", pid, None, toy.base, b"12345678")
    toy.do("write", pid, None, toy.base + 2 * toy.page, b"relaxed", False)
    assert toy.refused("vas_create", "space-0", 0o600) == "EEXIST"
    assert toy.refused("vas_seg_detach", vid, sid) == "EBUSY"
    toy.do("thread", pid)
    toy.do("exit", pid)
    assert kinds(told) == [
        "task.spawned",
        "space.created",
        "space.attached",
        "thread.switched",
        "space.regions",
        "segment.created",
        "space.regions",
        "segment.attached",
        "space.written",
        "thread.started",
        "space.detached",
        "task.exited",
    ]
    with toy.machine.transaction() as txn:
        toy.machine.flush()
    toy.settle(txn)
    assert kinds(told)[-1] == "segment.written", "as soon as it is durable"
    toy.machine.journal.listener = None


# -- the catalogue -------------------------------------------------------------------------------------------------

ROOT_DIR = Path(__file__).parents[2]


def test_every_kind_that_calls_tell_is_known() -> None:
    called = {
        kind
        for top in ("engine", "app")
        for path in (ROOT_DIR / top).rglob("*.py")
        for kind in re.findall(r'note\(\s*(?:thread, )?"([a-z.]+)"', path.read_text(encoding="utf-8"))
    }
    derived = {kind for kind in KINDS if kind.startswith(("space.", "segment."))}
    assert called <= KINDS.keys()
    assert {kind for kind in KINDS if KINDS[kind] is Audience.SAME_UID} <= called
    assert called | derived == KINDS.keys()


def test_every_kind_is_documented_with_an_example() -> None:
    text = (ROOT_DIR / "docs" / "events.md").read_text(encoding="utf-8")
    examples = re.findall(r'"kind": "([a-z.]+)"', text)
    assert set(examples) == KINDS.keys() | {"lost"}
