"""What the tests of the memory calls share: flags, and the map of a task as short lines of page numbers."""

from typing import Any

from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE, Calls, TaskCalls
from tests.conformance.support.world import BASE, World

ANON = MAP_PRIVATE | MAP_ANONYMOUS
FIXED = ANON | MAP_FIXED
SHARED_ANON = MAP_SHARED | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
USER_START, USER_END = 0x10000, 0x7FFF_FFFF_F000
WINDOW_PAGES = 1 << 20
"""Pages behind BASE that `regions` looks at."""


def outside_and_inside(world: World) -> list[TaskCalls]:
    """A task in its original address space, and one inside a space."""
    outside = world.task("owner")
    world.inside()
    return [outside, world.owner]


def at(page: int) -> int:
    """The address of a page of the window."""
    return BASE + page * PAGE


def put(task: Calls, page: int, count: int = 1, prot: int = RW, flags: int = FIXED) -> int:
    """Map pages of the window, at their place unless the flags say otherwise; the address."""
    return task.mmap(at(page), count * PAGE, prot, flags)


def regions(task: Calls) -> list[str]:
    """The window's regions as "first-end rights", in pages from BASE: "0-2 rw-p"."""
    found = []
    for line in task.maps().splitlines():
        place, rights = line.split()[:2]
        first, end = ((int(part, 16) - BASE) // PAGE for part in place.split("-"))
        if 0 <= first < WINDOW_PAGES:
            found.append(f"{first}-{end} {rights}")
    return found


def counters(world: World, task: Calls) -> dict[str, int]:
    """The task's counters, as the way of the test tells them."""
    if world.way == "sdk":
        return dict(world.site.clients["owner"].task_info(task.pid).counters)
    told: dict[str, Any] = world.http("owner").get(f"/v1/tasks/{task.pid}")["counters"]
    return told
