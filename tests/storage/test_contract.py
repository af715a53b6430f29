"""What `storage.store.Store` promises, asked of every store. The memory store is the specification."""

from collections.abc import Callable

import pytest

from engine.changes import (
    Change,
    DropPages,
    DropRegion,
    DropSegment,
    DropSpace,
    Image,
    PutPages,
    PutRegion,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import GEOMETRIES, TOY, Geometry
from storage.store import Store

FAR = (1 << 58) - 1
"""The last page index."""


def space(vid: int, object_id: int, name: str = "lab") -> SpaceRecord:
    return SpaceRecord(vid, name, 0o640, 1000, 100, "exclusive", object_id)


def segment(sid: int, object_id: int, name: str = "heap") -> SegmentRecord:
    return SegmentRecord(sid, name, 0x40, 0x80, 0o600, 1000, 100, "shared", object_id)


def region(start: int, end: int, sid: int = 0) -> RegionRecord:
    return RegionRecord(start, end, 3, False, sid, 2)


def page(text: str) -> bytes:
    return text.encode().ljust(TOY.page_size, b".")


def put(object_id: int, **contents: str) -> PutPages:
    """`put(1, p3="x", p4="y")`: page 3 and page 4."""
    pages = sorted((int(name[1:]), text) for name, text in contents.items())
    return PutPages(
        object_id, tuple(number for number, _ in pages), b"".join(page(text) for _, text in pages)
    )


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.load() == Image(page_size=16, arch="toy")
    assert store.fetch(1, [0, 1, 2]) == {}
    assert store.fetch(1, []) == {}


def test_records_come_back_in_order(store: Store) -> None:
    names = {2: "zwei/ß", 1: "one " * 60}
    for vid, name in names.items():
        store.commit([[PutSpace(space(vid, vid, name))]])
    store.commit([[PutSegment(segment(9, 7)), PutSegment(segment(4, 6, "other"))]])
    store.commit([[PutRegion(2, region(0x80, 0xC0)), PutRegion(2, region(0x40, 0x80, sid=9))]])
    image = store.load()
    assert image.spaces == [space(1, 1, names[1]), space(2, 2, names[2])]
    assert image.segments == [segment(4, 6, "other"), segment(9, 7)]
    assert image.regions == {1: [], 2: [region(0x40, 0x80, sid=9), region(0x80, 0xC0)]}
    assert (image.next_vid, image.next_sid, image.next_object) == (3, 10, 8)


def test_a_put_replaces_the_record(store: Store) -> None:
    changed = SpaceRecord(1, "renamed", 0o600, 0, 2**32 - 2, "shared", 1)
    store.commit([[PutSpace(space(1, 1)), PutRegion(1, region(0x40, 0x80))]])
    store.commit([[PutSpace(changed)], [PutRegion(1, region(0x40, 0xC0, sid=0))]])
    assert store.load().spaces == [changed]
    assert store.load().regions == {1: [region(0x40, 0xC0)]}


def test_regions_go_one_by_one_and_with_their_space(store: Store) -> None:
    regions = [PutRegion(vid, region(start, start + 16)) for vid in (1, 2, 3) for start in range(0, 0x40, 16)]
    store.commit([[PutSpace(space(vid, vid, f"s{vid}")) for vid in (1, 2, 3)], regions])
    store.commit([[DropRegion(1, 0x10), DropRegion(1, 0xFF0), DropSpace(2)]])
    assert {vid: [r.start for r in held] for vid, held in store.load().regions.items()} == {
        1: [0x00, 0x20, 0x30],
        3: [0x00, 0x10, 0x20, 0x30],
    }


def test_ids_are_never_reused(store: Store) -> None:
    store.commit([[PutSpace(space(5, 8)), PutSegment(segment(6, 9)), put(12, p0="x")]])
    store.commit([[DropSpace(5), DropSegment(6)]])
    image = store.load()
    assert (image.spaces, image.segments, image.regions) == ([], [], {})
    assert (image.next_vid, image.next_sid, image.next_object) == (6, 7, 13)


def test_pages_come_back(store: Store) -> None:
    store.commit([[PutSpace(space(1, 1)), put(1, p0="a", p3="b", p700="c")], [put(2, p3="other object")]])
    wanted = [700, 3, 4, 0, 255, 256, FAR, 3]
    assert store.fetch(1, wanted) == {0: page("a"), 3: page("b"), 700: page("c")}
    assert store.fetch(2, wanted) == {3: page("other object")}


def test_pages_that_exist_are_listed_without_their_bytes(store: Store) -> None:
    store.commit([[PutSpace(space(1, 1)), put(1, p0="a", p3="b", p700="c"), put(2, p3="other object")]])
    assert store.stored_pages(1, 0, FAR + 1) == [0, 3, 700]
    assert store.stored_pages(1, 1, 699) == [3]
    assert store.stored_pages(1, 3, 698) == [3, 700]
    assert store.stored_pages(1, 4, 3) == []
    assert store.stored_pages(3, 0, FAR) == []
    store.commit([[DropPages(1, 2, 5)]])
    assert store.stored_pages(1, 0, 1 << 40) == [0, 700]
    store.commit([[DropSpace(1)]])
    assert store.stored_pages(1, 0, 1 << 40) == []


def test_pages_at_the_edges(store: Store) -> None:
    pages = (0, 255, 256, FAR - 256, FAR - 255, FAR)
    store.commit([[PutPages(1, pages, b"".join(page(hex(number)[-15:]) for number in pages))]])
    assert store.fetch(1, pages) == {number: page(hex(number)[-15:]) for number in pages}


def test_the_last_write_wins_within_a_transaction_a_group_and_over_time(store: Store) -> None:
    store.commit([[put(1, p1="old", p2="old", p3="old")]])
    store.commit([[put(1, p1="first"), put(1, p1="second")], [put(1, p2="x")], [put(1, p2="y")]])
    assert store.fetch(1, [1, 2, 3]) == {1: page("second"), 2: page("y"), 3: page("old")}


def test_dropped_pages_read_as_zeros(store: Store) -> None:
    store.commit([[put(1, **{f"p{number}": str(number) for number in range(0, 1000, 3)})]])
    store.commit([[DropPages(1, 300, 400)]])
    kept = [number for number in range(0, 1000, 3) if not 300 <= number < 700]
    assert sorted(store.fetch(1, range(1000))) == kept


def test_drops_and_puts_keep_their_order_within_a_group(store: Store) -> None:
    store.commit([[put(1, p1="old", p2="old")]])
    store.commit(
        [[put(1, p1="lost", p2="lost"), DropPages(1, 0, 10)], [put(1, p2="kept")], [DropPages(1, 3, 9)]]
    )
    assert store.fetch(1, [1, 2]) == {2: page("kept")}


def test_a_drop_of_a_huge_range_costs_what_is_there(store: Store) -> None:
    store.commit([[put(1, p5="a", **{f"p{1 << 34}": "b"})], [DropPages(2, 0, 1 << 35)]])
    store.commit([[DropPages(1, 0, 1 << 35)], [DropPages(1, 7, 0)], [DropPages(3, 1, 1 << 70)]])
    assert store.fetch(1, [5, 1 << 34]) == {}


def test_the_pages_of_a_dropped_owner_are_gone(store: Store) -> None:
    store.commit([[PutSpace(space(1, 1)), PutSegment(segment(1, 2)), PutSegment(segment(2, 3, "third"))]])
    store.commit([[put(1, p0="x", p900="x"), put(2, p0="y"), put(3, p0="z")]])
    store.commit([[DropSpace(1)], [DropSegment(1)]])
    assert [store.fetch(object_id, [0, 900]) for object_id in (1, 2, 3)] == [{}, {}, {0: page("z")}]


def test_an_owner_made_and_dropped_in_one_group_leaves_its_ids(store: Store) -> None:
    born: list[Change] = [
        PutSpace(space(1, 1)),
        PutRegion(1, region(0x40, 0x80)),
        put(1, p0="x"),
        PutSegment(segment(1, 2)),
    ]
    store.commit([born, [DropSpace(1), DropSegment(1)]])
    assert store.load() == Image(16, "toy", next_vid=2, next_sid=2, next_object=3)
    assert store.fetch(1, [0]) == {}


@pytest.mark.parametrize(
    "breach",
    [
        lambda: DropSpace(7),
        lambda: DropSegment(7),
        lambda: DropRegion(7, 0x40),
        lambda: PutRegion(7, region(0x40, 0x80)),
        lambda: PutPages(1, (1, 2), page("one page too few")),
    ],
)
def test_a_breach_changes_nothing(store: Store, breach: Callable[[], Change]) -> None:
    store.commit([[PutSpace(space(1, 1)), put(1, p0="x")]])
    before = store.load()
    with pytest.raises(ValueError):
        store.commit([[PutSpace(space(2, 2, "new")), put(1, p0="y", p1="y")], [breach()]])
    assert store.load() == before
    assert store.fetch(1, [0, 1]) == {0: page("x")}
    store.commit([[put(1, p1="goes on")]])
    assert store.fetch(1, [0, 1]) == {0: page("x"), 1: page("goes on")}


def test_an_empty_commit_is_no_harm(store: Store) -> None:
    store.commit([])
    store.commit([[], []])
    assert store.load() == Image(page_size=16, arch="toy")


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_pages_of_every_size(make_store: Callable[[Geometry], Store], geometry: Geometry) -> None:
    store = make_store(geometry)
    size = geometry.page_size
    pages = tuple(range(0, 400, 3))
    data = b"".join(number.to_bytes(2, "little") * (size // 2) for number in pages)
    store.commit([[PutPages(1, pages, data)]])
    image = store.load()
    assert (image.arch, image.page_size) == (geometry.name, size)
    found = store.fetch(1, range(400))
    assert b"".join(found[number] for number in pages) == data
    assert sorted(found) == list(pages)


def test_housekeeping_shows_nothing_and_comes_to_an_end(store: Store) -> None:
    expected: dict[int, bytes] = {}
    for turn in range(40):
        texts = {number * 7 % 90: f"{turn}.{number}" for number in range(turn % 5 + 1)}
        store.commit([[put(1, **{f"p{number}": text for number, text in texts.items()})]])
        expected |= {number: page(text) for number, text in texts.items()}
    store.commit([[PutSpace(space(1, 5)), put(5, p0="x", p300="y")], [DropPages(1, 30, 10)]])
    store.commit([[DropSpace(1)]])
    steps = 0
    while store.maintain(urgent_only=steps % 3 == 0) or (steps % 3 == 0 and store.maintain()):
        steps += 1
        assert steps < 1000
    kept = {number: content for number, content in expected.items() if not 30 <= number < 40}
    assert store.fetch(1, range(100)) == kept
    assert store.fetch(5, [0, 300]) == {}
