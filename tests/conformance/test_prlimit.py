"""Limits of a task: reading, setting, and the errno of each call that would pass one."""

from typing import Any

from everspace import MREMAP_MAYMOVE, PROT_READ, RLIM_INFINITY
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import ANON, RW, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

DEFAULTS = {
    "address_space": RLIM_INFINITY,
    "data": RLIM_INFINITY,
    "stack": 8 << 20,
    "locked": 8 << 20,
    "map_count": 65530,
}


@row("PRLIMIT-OK-1")
def test_a_task_starts_with_the_usual_limits(world: World) -> None:
    assert {name: world.owner.prlimit(name) for name in DEFAULTS} == DEFAULTS
    assert world.root.prlimit("locked") == RLIM_INFINITY


@row("PRLIMIT-OK-2")
def test_the_former_value_is_answered(world: World) -> None:
    for name, first in DEFAULTS.items():
        assert world.owner.prlimit(name, 4096) == first
        assert world.owner.prlimit(name, first) == 4096
        assert world.owner.prlimit(name) == first


@row("PRLIMIT-EINVAL-1")
def test_prlimit_judges_its_arguments(world: World) -> None:
    for name in ("", "cpu", "STACK", "of", "\0", "stack "):
        world.fails("EINVAL", world.owner.prlimit, name)
    for value in (-1, 2**64, 2**200):
        world.fails("EINVAL", world.owner.prlimit, "stack", value)


@row("PRLIMIT-EPERM-1")
def test_only_root_raises_a_limit_above_what_the_task_began_with(world: World) -> None:
    task = world.owner
    task.prlimit("stack", PAGE)
    assert task.prlimit("stack", 8 << 20) == PAGE
    world.fails("EPERM", task.prlimit, "stack", (8 << 20) + 1)
    world.fails("EPERM", task.prlimit, "locked", RLIM_INFINITY)
    assert world.root.prlimit("stack", RLIM_INFINITY) == 8 << 20


@row("PRLIMIT-EPERM-2", "http")
def test_limits_of_another_uids_task_are_not_shown_or_set(world: World) -> None:
    path = f"/v1/tasks/{world.owner.pid}"
    for account in ("other", "member"):
        http = world.http(account)
        world.fails("EPERM", http.get, f"{path}/limits")
        world.fails("EPERM", http.call, "PUT", f"{path}/limits", {"stack": PAGE})
        world.fails("EPERM", http.call, "POST", f"{path}/prlimit", {"resource": "stack"})
        world.fails("EPERM", http.call, "POST", f"{path}/exec", {})
    assert world.http("root").get(f"{path}/limits")["stack"] == 8 << 20


@row("LIMITS-HTTP-1", "http")
def test_all_limits_in_one_document(world: World) -> None:
    http, path = world.http("owner"), f"/v1/tasks/{world.owner.pid}/limits"
    first = {name: None if value == RLIM_INFINITY else value for name, value in DEFAULTS.items()}
    assert http.get(path) == first
    changed: dict[str, Any] = first | {"stack": PAGE, "data": 1 << 30}
    assert http.call("PUT", path, {"stack": PAGE, "data": 1 << 30}, status=200).json == changed
    assert http.call("PUT", path, {"data": None}, status=200).json == changed | {"data": None}
    assert http.call("PUT", path, {}, status=200).json == changed | {"data": None}


@row("LIMITS-HTTP-2", "http")
def test_all_limits_of_a_request_are_set_or_none(world: World) -> None:
    http, path = world.http("owner"), f"/v1/tasks/{world.owner.pid}/limits"
    before = http.get(path)
    for body, name in (
        ({"address_space": PAGE, "stack": None}, "EPERM"),
        ({"address_space": PAGE, "stack": -1}, "EINVAL"),
        ({"address_space": PAGE, "map_count": 2**64}, "EINVAL"),
        ({"address_space": PAGE, "cpu": 1}, "EINVAL"),
        ({"address_space": "4096"}, "EINVAL"),
    ):
        world.fails(name, http.call, "PUT", path, body)
        assert http.get(path) == before


@row("LIMIT-AS-ENOMEM-1")
def test_the_address_space_has_a_limit(world: World) -> None:
    task = world.owner
    put(task, 0, 8)
    task.prlimit("address_space", 64 * PAGE)
    world.fails("ENOMEM", task.mmap, 0, 64 * PAGE, RW, ANON)
    world.fails("ENOMEM", task.mmap, 0, 64 * PAGE, PROT_READ, ANON)
    world.fails("ENOMEM", task.mremap, at(0), 8 * PAGE, 64 * PAGE, MREMAP_MAYMOVE)
    world.fails("ENOMEM", task.brk, task.brk() + 64 * PAGE)
    put(task, 0, 10)
    task.munmap(at(0), 10 * PAGE)
    task.prlimit("address_space", 0)
    world.fails("ENOMEM", task.mmap, 0, PAGE, RW, ANON)


@row("LIMIT-DATA-ENOMEM-1")
def test_private_writable_memory_has_a_limit(world: World) -> None:
    task = world.owner
    task.prlimit("data", 8 * PAGE)
    put(task, 0, 4)
    world.fails("ENOMEM", task.mmap, 0, 8 * PAGE, RW, ANON)
    world.fails("ENOMEM", task.brk, task.brk() + 9 * PAGE)
    read_only = task.mmap(0, 16 * PAGE, PROT_READ, ANON)
    world.fails("ENOMEM", task.mprotect, read_only, 16 * PAGE, RW)
    world.fails("ENOMEM", task.mremap, at(0), 4 * PAGE, 16 * PAGE, MREMAP_MAYMOVE)
    task.munmap(at(0), 4 * PAGE)
    task.mprotect(read_only, 2 * PAGE, RW)


@row("LIMIT-REGIONS-ENOMEM-1")
def test_the_number_of_regions_has_a_limit(world: World) -> None:
    """A split counts: munmap, mprotect and mmap in the middle of a region are refused like a new one."""
    task = world.owner
    put(task, 0, 16)
    task.write(at(8), b"kept")
    count = len(task.maps().splitlines())
    task.prlimit("map_count", count)
    world.fails("ENOMEM", task.munmap, at(8), PAGE)
    world.fails("ENOMEM", task.mprotect, at(8), PAGE, PROT_READ)
    assert task.read(at(8), 4) == b"kept"
    task.prlimit("map_count", count - 1)
    world.fails("ENOMEM", task.mmap, 0, PAGE, PROT_READ, ANON)
    task.munmap(at(0), 16 * PAGE)
    assert regions(task) == []


@row("LIMIT-FORK-1")
def test_a_child_has_its_parents_limits(world: World) -> None:
    world.owner.prlimit("data", 64 * PAGE)
    world.owner.prlimit("stack", PAGE)
    child = world.adopt(world.owner.fork())
    assert child.prlimit("data") == 64 * PAGE
    assert child.prlimit("stack") == PAGE
    child.prlimit("data", 32 * PAGE)
    assert world.owner.prlimit("data") == 64 * PAGE


@row("LIMIT-EXEC-1")
def test_limits_outlive_exec(world: World) -> None:
    world.owner.prlimit("data", 64 * PAGE)
    world.owner.exec()
    assert world.owner.prlimit("data") == 64 * PAGE
    world.fails("ENOMEM", world.owner.mmap, 0, 65 * PAGE, RW, ANON)


@row("LIMIT-SPACE-1")
def test_a_space_has_no_limit_of_a_task(world: World) -> None:
    """What is mapped inside belongs to the space, whoever maps it."""
    world.owner.prlimit("address_space", 64 * PAGE)
    world.inside()
    at_hand = world.owner.mmap(0, 256 * PAGE, RW, ANON)
    world.owner.write(at_hand + 255 * PAGE, b"x")
