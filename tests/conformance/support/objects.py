"""What is asked of spaces and segments as objects: lineage, usage, differences, roots. Over HTTP, or of the SDK's objects."""

from typing import Any, Literal

from everspace import Segment, Space
from tests.conformance.support.personalities import part
from tests.conformance.support.world import World

Kind = Literal["vas", "segments"]
Run = tuple[int, int, str]
"""Pages that differ: start, end, and "changed", "left" or "right"."""


def thing(world: World, kind: Kind, id: int, by: str = "owner") -> Space | Segment:
    """The SDK's object of an account."""
    client = world.site.clients[by]
    return client.spaces.get(id) if kind == "vas" else client.segments.get(id)


def lineage(world: World, kind: Kind, id: int, by: str = "owner") -> tuple[list[int], list[int]]:
    """The origins, nearest first, and the living clones."""
    if world.way == "sdk":
        found = thing(world, kind, id, by).lineage()
        return list(found.origins), list(found.clones)
    told = world.http(by).get(f"/v1/{kind}/{id}/lineage")
    return told["origins"], told["clones"]


def usage(world: World, kind: Kind, id: int, by: str = "owner") -> tuple[int, int, int]:
    """Logical, shared and private bytes."""
    if world.way == "sdk":
        found = thing(world, kind, id, by).usage()
        return found.logical, found.shared, found.private
    told = world.http(by).get(f"/v1/{kind}/{id}/usage")
    return told["logical"], told["shared"], told["private"]


def diff(world: World, kind: Kind, left: int, right: int, by: str = "owner") -> list[Run]:
    """The runs of pages in which two spaces or two segments differ."""
    if world.way == "sdk":
        runs = thing(world, kind, left, by).diff(right)
        return [(run.start, run.end, run.kind) for run in runs]
    return [run_of(item) for item in pages(world, f"/v1/{kind}/{left}/diff?other={right}", by)]


def run_of(item: dict[str, Any]) -> Run:
    """A run out of JSON."""
    return int(item["start"], 16), int(item["end"], 16), item["kind"]


def pages(world: World, path: str, by: str) -> list[dict[str, Any]]:
    """All items of a list."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        told = world.http(by).get(f"{path}{cursor}")
        found += told["items"]
        if told["next"] is None:
            return found
        cursor = f"{'&' if '?' in path else '?'}cursor={part(told['next'])}"


def roots(world: World, vid: int, by: str = "owner") -> dict[str, int]:
    """The root pointers of a space by name."""
    if world.way == "sdk":
        found = thing(world, "vas", vid, by)
        assert isinstance(found, Space)
        return dict(found.roots())
    return {item["name"]: int(item["addr"], 16) for item in pages(world, f"/v1/vas/{vid}/roots", by)}
