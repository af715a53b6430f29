"""Lists in parts: nothing twice, nothing left out, whatever comes and goes meanwhile."""

import pytest

from app.paging import after, cursor_after, part
from engine.errors import EngineError
from tests.app.support import BASE, PAGE, Site


def walk(items: list[int], limit: int) -> list[list[int]]:
    """All parts of a list."""
    parts, cursor = [], None
    while True:
        chosen, cursor = part(items, lambda item: item, cursor, limit)
        parts.append(list(chosen))
        if cursor is None:
            return parts


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_parts_are_the_list(limit: int) -> None:
    items = [1, 2, 3, 5, 8, 13, 21]
    parts = walk(items, limit)
    assert [item for chosen in parts for item in chosen] == items
    assert all(len(chosen) == limit for chosen in parts[:-1])
    assert walk([], limit) == [[]]


def test_a_cursor_survives_what_it_named() -> None:
    _, cursor = part([1, 2, 3, 4], lambda item: item, None, 2)
    chosen, _ = part([1, 3, 4, 5], lambda item: item, cursor, 2)
    assert list(chosen) == [3, 4]


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "*", "YWZ0ZXI6", "YWZ0ZXI6eA==", "YWZ0ZXI6LTE=", "é", "YWZ0ZXI6MQ"]
)
def test_foreign_cursors_are_einval(cursor: str) -> None:
    with pytest.raises(EngineError) as raised:
        after(cursor)
    assert raised.value.errno == "EINVAL"


def test_a_cursor_round_trips() -> None:
    assert [after(cursor_after(key)) for key in (0, 1, 2**47, 2**63)] == [0, 1, 2**47, 2**63]


async def test_every_list_comes_in_parts(site: Site) -> None:
    vids = [await site.space(f"space {n}") for n in range(5)]
    sids = [await site.segment(f"segment {n}", 1, BASE + n * PAGE) for n in range(5)]
    pids = [await site.task() for _ in range(5)]
    for sid in sids:
        await site.ok("PUT", f"/vas/{vids[0]}/segments/{sid}", {"type": "rw"})
    for path, key, expected in (
        ("/vas", "id", vids),
        ("/segments", "id", sids),
        ("/tasks", "pid", pids),
        (f"/vas/{vids[0]}/segments", "sid", sids),
        (f"/vas/{vids[0]}/regions", "sid", sids),
    ):
        found: list[int] = []
        cursor: str | None = ""
        parts = 0
        while cursor is not None:
            answer = await site.ok("GET", f"{path}?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            found += [item[key] for item in answer["items"]]
            cursor = answer["next"]
            parts += 1
        assert (found, parts) == (expected, 3), path
        assert (await site.call("GET", f"{path}?cursor=nonsense")).errno == "EINVAL"


async def test_deleting_while_walking(site: Site) -> None:
    vids = [await site.space(f"space {n}") for n in range(6)]
    first = await site.ok("GET", "/vas?limit=2")
    await site.ok("DELETE", f"/vas/{vids[1]}")
    await site.ok("DELETE", f"/vas/{vids[2]}")
    second = await site.ok("GET", f"/vas?limit=2&cursor={first['next']}")
    assert [item["id"] for item in second["items"]] == vids[3:5]
