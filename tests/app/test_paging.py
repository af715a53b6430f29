"""Lists in parts: nothing twice, nothing left out, whatever comes and goes meanwhile."""

import itertools
import random
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from app.http.paging import after, cursor_after, part, part_of_names
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


async def test_a_link_leads_to_the_next_part(site: Site) -> None:
    vids = [await site.space(f"space {n}") for n in range(5)]
    for name in ("a b", "c&d", "é", "#"):
        await site.ok("PUT", f"/vas/{vids[0]}/roots/{quote(name, safe='')}", {"addr": hex(BASE)})
    for path, key, expected in (
        ("/vas?limit=2", "id", vids),
        (f"/vas/{vids[0]}/roots?limit=1", "name", sorted(["a b", "c&d", "é", "#"])),
    ):
        target, found = f"/v1{path}", []
        while True:
            answer = await site.send("GET", target)
            found += [item[key] for item in answer.json["items"]]
            link = answer.headers.get("link")
            assert (link is None) == (answer.json["next"] is None)
            if link is None:
                break
            reference, relation = link.split(">; ")
            assert (reference[:2], relation) == ("<?", 'rel="next"')
            target = f"{target.partition('?')[0]}{reference[1:]}"
        assert found == expected


class Shelf(RuleBasedStateMachine):
    """A list that changes while several readers walk through it, each with its own size of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.items: set[int] = set()
        self.walks: list[Walk] = []

    @rule(keys=st.sets(st.integers(0, 60), max_size=8))
    def insert(self, keys: set[int]) -> None:
        self.items |= keys
        for walk in self.walks:
            walk.came |= keys

    @rule(keys=st.sets(st.integers(0, 60), max_size=8))
    def delete(self, keys: set[int]) -> None:
        self.items -= keys
        for walk in self.walks:
            walk.stayed -= keys

    @rule(limit=st.integers(1, 5))
    def begin(self, limit: int) -> None:
        self.walks.append(Walk(limit, set(self.items), set(self.items)))

    @rule(number=st.integers(0, 5))
    def go_on(self, number: int) -> None:
        if number < len(self.walks) and self.walks[number].go_on(self.items):
            del self.walks[number]

    def teardown(self) -> None:
        for walk in self.walks:
            while not walk.go_on(self.items):
                continue


@dataclass
class Walk:
    """One reader: by key and by name alike."""

    limit: int
    stayed: set[int]
    came: set[int]
    seen: list[int] = field(default_factory=list)
    cursor: str | None = None
    cursor_of_names: str | None = None

    def go_on(self, items: set[int]) -> bool:
        """Read the next part; whether it was the last, and then everything that was always there has been seen."""
        chosen, self.cursor = part(sorted(items), lambda item: item, self.cursor, self.limit)
        names = {f"{item:03}": item for item in items}
        named, self.cursor_of_names = part_of_names(names, self.cursor_of_names, self.limit)
        assert [item for _, item in named] == list(chosen)
        self.seen += chosen
        if self.cursor is not None:
            assert len(chosen) == self.limit
            return False
        assert self.seen == sorted(set(self.seen)), "nothing twice, and in order"
        assert self.stayed <= set(self.seen) <= self.came, "nothing left out, nothing made up"
        return True


TestShelf = Shelf.TestCase


async def test_parts_are_stable_whatever_comes_and_goes(site: Site, seed: int) -> None:
    """The same over the service: spaces are made and deleted between the parts of a walk."""
    rng = random.Random(seed)
    vids = [await site.space(f"space {n}") for n in range(20)]
    stayed, came, seen, target = set(vids), set(vids), [], "/v1/vas?limit=3"
    for number in itertools.count():
        answer = await site.send("GET", target)
        seen += [item["id"] for item in answer.json["items"]]
        if answer.json["next"] is None:
            break
        target = f"/v1/vas?limit={rng.randrange(1, 5)}&cursor={answer.json['next']}"
        for gone in rng.sample(sorted(stayed), min(2, len(stayed))):
            await site.ok("DELETE", f"/vas/{gone}")
            stayed.remove(gone)
        if number < 5:
            came.add(await site.space(f"new {number}"))
    assert seen == sorted(set(seen))
    assert stayed <= set(seen) <= came
