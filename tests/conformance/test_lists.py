"""Lists: pages of items in the order of ids, with a cursor."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDWR
from tests.conformance.support.calls import PAGE
from tests.conformance.support.http import Http
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World


def pages(http: Http, path: str, limit: int, between: Callable[[], object] = lambda: None) -> list[list[Any]]:
    """The items of each page, following the cursor; `between` is called before each further page."""
    found: list[list[Any]] = []
    query = f"?limit={limit}"
    while True:
        page = http.get(path + query)
        assert page.keys() == {"items", "next"}
        assert len(page["items"]) <= limit
        found.append(page["items"])
        if page["next"] is None:
            return found
        assert len(page["items"]) == limit
        query = f"?limit={limit}&cursor={quote(page['next'], safe='')}"
        between()


def checked(world: World, path: str, made: list[int]) -> None:
    """The list at `path` has exactly the ids `made`, in whatever pages they are asked for."""
    http = world.http("other")
    for limit in (1, 2, 3, len(made), len(made) + 1, 1000):
        ids = [item["id"] for page in pages(http, path, limit) for item in page]
        assert ids == made
    assert [item["id"] for item in http.get(path)["items"]] == made
    assert http.get(path)["items"][0] == http.get(f"{path}/{made[0]}")


@row("LIST-PAGES-1", "http")
def test_spaces_come_in_pages(world: World) -> None:
    checked(world, "/v1/vas", [world.space() for _ in range(7)])


@row("LIST-PAGES-2", "http")
def test_segments_come_in_pages(world: World) -> None:
    checked(world, "/v1/segments", [world.segment() for _ in range(7)])


@row("LIST-PAGES-3", "http")
def test_segments_and_regions_of_a_space_come_in_pages(world: World) -> None:
    vid, sid = world.inside()
    sids = [sid, *(world.segment(start=BASE + n * 8 * PAGE) for n in range(1, 5))]
    for later in sids[1:]:
        world.owner.vas_seg_attach(vid, later, O_RDWR)
    at = BASE + 1024 * PAGE
    world.owner.mmap(at, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    http = world.http("owner")
    for limit in (1, 2, 6, 7):
        listed = [item for page in pages(http, f"/v1/vas/{vid}/segments", limit) for item in page]
        assert sorted(item["sid"] for item in listed) == sids
        regions = [item for page in pages(http, f"/v1/vas/{vid}/regions", limit) for item in page]
        assert [r["sid"] for r in regions] == [*sids, None]
        assert [int(r["start"], 16) for r in regions] == sorted(int(r["start"], 16) for r in regions)


@row("LIST-CHANGE-1", "http")
def test_changes_between_pages_hide_nothing_that_was_there_all_the_time(world: World) -> None:
    made = [world.space() for _ in range(6)]
    gone = made[2]

    def change() -> None:
        world.space()
        world.refused_or_none(world.owner.vas_delete, gone)

    ids = [item["id"] for page in pages(world.http("owner"), "/v1/vas", 2, change) for item in page]
    assert ids == sorted(set(ids))
    assert set(made) - {gone} <= set(ids)


@row("LIST-EINVAL-1", "http")
def test_bad_limits_cursors_and_names(world: World) -> None:
    http = world.http("owner")
    vid = world.space()
    for path in ("/v1/vas", "/v1/segments", f"/v1/vas/{vid}/regions", f"/v1/vas/{vid}/segments"):
        for query in (
            "limit=0",
            "limit=-1",
            "limit=1001",
            "limit=x",
            "limit=",
            "limit=1.0",
            "cursor=%00",
            "cursor=*",
        ):
            world.fails("EINVAL", http.get, f"{path}?{query}")
    for path in ("/v1/vas", "/v1/segments"):
        for name in ("", "a%00", "a%0A", "%FF", "n" * 256, "%C2%85"):
            world.fails("EINVAL", http.get, f"{path}?name={name}")


@row("LIST-SDK-1", "sdk")
def test_the_sdk_walks_over_all_pages(world: World) -> None:
    made = [world.space() for _ in range(5)]
    client = world.site.clients["owner"]
    assert [space.vid for space in client.spaces.list()] == made
    sids = [world.segment() for _ in range(5)]
    assert [segment.sid for segment in client.segments.list()] == sids
