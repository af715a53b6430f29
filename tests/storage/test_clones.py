"""What the port promises of clones, unowned objects, births and roots, asked of every store."""

from collections.abc import Callable

import pytest

from engine.changes import (
    IMAGE,
    SNAPSHOT,
    BirthRecord,
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropRoot,
    DropSegment,
    DropSpace,
    PutBirth,
    PutPages,
    PutRoot,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import TOY
from storage.store import Store

ALL = 1 << 58
"""More pages than an object can have."""


def space(vid: int, object_id: int, birth: int = 0) -> PutSpace:
    return PutSpace(SpaceRecord(vid, f"s{vid}", 0o600, 0, 0, "shared", object_id, birth=birth))


def segment(sid: int, object_id: int, birth: int = 0) -> PutSegment:
    return PutSegment(SegmentRecord(sid, f"g{sid}", 0, 64, 0o600, 0, 0, "shared", object_id, birth=birth))


def put(object_id: int, pages: dict[int, str]) -> PutPages:
    """Pages ascending."""
    data = b"".join(text.encode().ljust(TOY.page_size, b".") for text in pages.values())
    return PutPages(object_id, tuple(pages), data)


def shown(store: Store, object_id: int) -> dict[int, str]:
    """Every page that exists."""
    pages = store.stored_pages(object_id, 0, ALL)
    found = store.fetch(object_id, pages)
    assert sorted(found) == pages
    return {page: content.rstrip(b".").decode() for page, content in found.items()}


def test_a_clone_and_its_source_go_their_own_ways(store: Store) -> None:
    store.commit([[space(1, 1), put(1, {0: "a", 3: "b", 700: "c"})], [CloneObject(1, 2)]])
    assert shown(store, 2) == shown(store, 1) == {0: "a", 3: "b", 700: "c"}
    store.commit([[put(1, {3: "x", 4: "y"}), put(2, {3: "clone", 900: "z"})]])
    assert shown(store, 1) == {0: "a", 3: "x", 4: "y", 700: "c"}
    assert shown(store, 2) == {0: "a", 3: "clone", 700: "c", 900: "z"}
    store.commit([[CloneObject(2, 3), put(2, {0: "later"})], [DropSpace(1)]])
    assert shown(store, 3) == {0: "a", 3: "clone", 700: "c", 900: "z"}
    assert shown(store, 2) == {0: "later", 3: "clone", 700: "c", 900: "z"}
    assert shown(store, 1) == {}


def test_a_drop_in_one_is_not_seen_in_the_other(store: Store) -> None:
    pages = {number: str(number) for number in range(0, 2000, 100)}
    store.commit([[space(1, 1), put(1, pages), CloneObject(1, 2)]])
    store.commit([[DropPages(2, 150, 600), put(2, {300: "again"})], [DropPages(1, 1000, ALL)]])
    kept = {number: text for number, text in pages.items() if not 150 <= number < 750}
    assert shown(store, 2) == kept | {300: "again"}
    assert shown(store, 1) == {number: text for number, text in pages.items() if number < 1000}
    store.commit([[DropPages(2, 0, ALL)]])
    assert shown(store, 2) == {}
    assert shown(store, 1) == {number: text for number, text in pages.items() if number < 1000}


def test_the_order_within_a_group_counts(store: Store) -> None:
    store.commit(
        [
            [space(1, 1), put(1, {1: "one", 2: "two"}), CloneObject(1, 2), put(1, {1: "three"})],
            [CloneObject(1, 3), DropPages(1, 2, 1), CloneObject(1, 4), put(4, {9: "nine"})],
            [DropPages(2, 1, 1), CloneObject(2, 5), put(2, {1: "four"})],
        ]
    )
    assert shown(store, 1) == {1: "three"}
    assert shown(store, 2) == {1: "four", 2: "two"}
    assert shown(store, 3) == {1: "three", 2: "two"}
    assert shown(store, 4) == {1: "three", 9: "nine"}
    assert shown(store, 5) == {2: "two"}


def test_a_clone_of_nothing(store: Store) -> None:
    store.commit([[space(1, 1), CloneObject(1, 2)], [put(1, {0: "a"})]])
    assert (shown(store, 1), shown(store, 2)) == ({0: "a"}, {})
    store.commit([[DropSpace(1)], [put(2, {1: "b"})]])
    assert (shown(store, 1), shown(store, 2)) == ({}, {1: "b"})


def test_what_a_target_held_is_forgotten(store: Store) -> None:
    """A reset: back to what the clone was born with, as often as one likes."""
    store.commit(
        [[space(1, 1), put(1, {0: "a", 1: "b"})], [CloneObject(1, 2), CloneObject(2, 3), space(2, 2, 3)]]
    )
    for turn in range(5):
        store.commit([[put(2, {0: f"turn {turn}", 5: "new"}), DropPages(2, 1, 1), put(1, {1: f"{turn}"})]])
        assert shown(store, 2) == {0: f"turn {turn}", 5: "new"}
        store.commit([[CloneObject(3, 2)]])
        assert shown(store, 2) == shown(store, 3) == {0: "a", 1: "b"}
        while store.maintain():
            pass
    store.commit([[put(2, {7: "late"})], [DropSpace(1)]])
    assert (shown(store, 2), shown(store, 3)) == ({0: "a", 1: "b", 7: "late"}, {0: "a", 1: "b"})
    store.commit([[DropSpace(2)]])
    assert [shown(store, object_id) for object_id in (1, 2, 3)] == [{}, {}, {}]
    assert store.load().unowned == []


def test_unowned_objects(store: Store) -> None:
    store.commit(
        [[space(1, 1), segment(1, 2, birth=9)], [put(1, {0: "a"}), CloneObject(1, 9), CloneObject(1, 4)]]
    )
    store.commit([[CloneObject(4, 3)], [put(7, {1: "of nobody"})]])
    assert store.load().unowned == [3, 4, 7]
    store.commit([[DropObject(4), space(5, 7)], [PutSpace(store.load().spaces[0]._replace(birth=3))]])
    assert store.load().unowned == []
    assert (shown(store, 4), shown(store, 3), shown(store, 7)) == ({}, {0: "a"}, {1: "of nobody"})
    store.commit([[space(1, 1), DropSegment(1)]])
    assert store.load().unowned == [3]
    assert shown(store, 9) == {}
    assert (store.load().next_vid, store.load().next_object) == (6, 10)


def test_births_and_roots(store: Store) -> None:
    region = RegionRecord(0x40, 0x80, 3, False, 0, 2, flags=0x100073)
    birth = BirthRecord((region, region._replace(start=0x80, end=0x90)), (("list", 0x40), ("ß", 0x50)))
    store.commit(
        [[space(1, 1), space(2, 2)], [PutRoot(1, "list", 0x40), PutRoot(1, "a", 1), PutRoot(2, "b", 2)]]
    )
    store.commit([[PutBirth(1, birth), PutBirth(2, BirthRecord((), ()))], [PutRoot(1, "list", 0x48)]])
    image = store.load()
    assert image.births == {1: birth, 2: BirthRecord((), ())}
    assert image.roots == {1: {"list": 0x48, "a": 1}, 2: {"b": 2}}
    store.commit([[DropRoot(2, "b"), DropRoot(2, "never was"), DropRoot(1, "a")]])
    assert store.load().roots == {1: {"list": 0x48}}
    store.commit([[PutRoot(1, "late", 3), DropSpace(1)]])
    assert (store.load().births, store.load().roots) == ({2: BirthRecord((), ())}, {})


def test_every_attribute_comes_back(store: Store) -> None:
    lab = SpaceRecord(3, "lab", 0o640, 1, 2, "lockable", 4, SNAPSHOT | IMAGE, 2, 5, (0x40, 0x90))
    heap = SegmentRecord(2, "heap", 0, 64, 0o600, 1, 2, "shared", 6, SNAPSHOT, 1, 8)
    store.commit([[PutSpace(lab), PutSegment(heap)]])
    image = store.load()
    assert (image.spaces, image.segments, image.next_object) == ([lab], [heap], 9)


@pytest.mark.parametrize(
    "breach",
    [
        lambda: CloneObject(1, 1),
        lambda: CloneObject(77, 9),
        lambda: DropObject(1),
        lambda: DropObject(3),
        lambda: DropObject(77),
        lambda: PutRoot(7, "list", 1),
        lambda: DropRoot(7, "list"),
        lambda: PutBirth(7, BirthRecord((), ())),
    ],
)
def test_a_breach_changes_nothing(store: Store, breach: Callable[[], Change]) -> None:
    store.commit([[space(1, 1, birth=3), put(1, {0: "x"}), CloneObject(1, 2)]])
    before = store.load()
    with pytest.raises(ValueError):
        store.commit([[put(2, {0: "y"}), CloneObject(2, 8), PutRoot(1, "r", 1), DropObject(2)], [breach()]])
    assert store.load() == before
    assert shown(store, 1) == shown(store, 2) == {0: "x"}


def test_where_clones_differ(store: Store) -> None:
    pages = {number: str(number) for number in range(0, 3000, 7)}
    store.commit([[space(1, 1), put(1, pages), CloneObject(1, 2)]])
    assert store.differing(1, 2, 0, ALL) == []
    store.commit(
        [[put(1, {7: "x", 2002: "y"}), DropPages(2, 700, 20), put(2, {5: "z"}), DropPages(2, 9000, 9)]]
    )
    assert store.differing(1, 2, 0, ALL) == store.differing(2, 1, 0, ALL) == [5, 7, 700, 707, 714, 2002]
    assert store.differing(1, 2, 6, 702) == [7, 700, 707]
    assert store.differing(1, 2, 8, 600) == []
    store.commit([[CloneObject(2, 3), put(3, {707: "w"})]])
    assert store.differing(3, 1, 0, ALL) == [5, 7, 700, 707, 714, 2002]
    assert store.differing(3, 2, 0, ALL) == [707]
    store.commit([[space(9, 9), put(9, {1: "other", 7: "7"})]])
    assert store.differing(9, 77, 0, ALL) == [1, 7]
    assert store.differing(1, 9, 0, 10) == [0, 1, 7]


def test_what_is_shared(store: Store) -> None:
    store.commit([[space(1, 1), put(1, dict.fromkeys(range(600), "x"))]])
    assert store.usage([1]) == (600, 0)
    store.commit([[CloneObject(1, 2)], [CloneObject(2, 3)]])
    assert store.usage([1]) == store.usage([1, 2]) == (600, 600)
    assert store.usage([1, 2, 3]) == store.usage([3, 2, 1]) == (600, 0)
    store.commit([[put(1, {0: "y", 900: "z"}), DropPages(1, 300, 100)]])
    assert store.usage([1]) == (501, 499)
    assert store.usage([1, 3, 2]) == (501, 0)
    store.commit([[DropObject(2), DropObject(3)]])
    while store.maintain():
        pass
    assert store.usage([1]) == (501, 0)
    assert store.usage([77]) == (0, 0)


def test_housekeeping_of_clones_shows_nothing_and_comes_to_an_end(store: Store) -> None:
    store.commit([[space(1, 1), put(1, dict.fromkeys(range(0, 1000, 3), "x"))]])
    expected = shown(store, 1)
    for turn in range(30):
        snapshot = 10 + turn
        store.commit([[CloneObject(1, snapshot)]])
        changes = {turn * 29 % 700: f"turn {turn}", 1000 + turn: "new"}
        store.commit([[put(1, changes), DropPages(1, turn * 31 % 900, 5)]])
        before, expected = (
            expected,
            {
                page: text
                for page, text in sorted((expected | changes).items())
                if not turn * 31 % 900 <= page < turn * 31 % 900 + 5
            },
        )
        assert shown(store, 1) == expected
        assert shown(store, snapshot) == before
        if turn % 3:
            store.commit([[DropObject(snapshot)]])
    kept = {snapshot: shown(store, snapshot) for snapshot in store.load().unowned}
    steps = 0
    while store.maintain():
        steps += 1
        assert steps < 5000
    assert shown(store, 1) == expected
    assert {snapshot: shown(store, snapshot) for snapshot in kept} == kept
