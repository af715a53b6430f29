"""The calls on memory through their routes and in batches: bounds of answers, limits from the settings, exec."""

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import everspace
from app.settings import Settings
from engine import constants
from engine.check import check
from engine.geometry import GEOMETRIES
from engine.regions.limits import RESOURCES
from engine.spaces.attributes import LIFETIMES
from everspace.wire import LIFETIME_NAMES, RESOURCE_NAMES, SHARING_NAMES
from tests.app.support import BASE, PAGE, Site, running

RANGE = {"addr": hex(BASE), "length": PAGE}
TIB = 1 << 40


def test_the_sdk_spells_numbers_and_limits_as_the_engine_does() -> None:
    prefixes = ("PROT_", "MAP_", "MREMAP_", "MADV_", "MLOCK_", "MMVIEW_", "MS_", "O_", "RLIM_")
    ours = {name: value for name, value in vars(constants).items() if name.startswith(prefixes)}
    internal = {"PROT_ALL", "MAP_TYPE", "MAP_COUNT_MAX"}
    assert {name: getattr(everspace, name) for name in ours if name not in internal} == {
        name: value for name, value in ours.items() if name not in internal
    }
    theirs = {name for name in everspace.__all__ if name.startswith(prefixes)}
    assert theirs - {"MAP_ANON"} <= set(ours)
    assert RESOURCE_NAMES == RESOURCES
    assert SHARING_NAMES == constants.SHARING
    assert LIFETIME_NAMES == LIFETIMES


async def test_each_call_in_a_batch_answers_as_its_route_does(site: Site) -> None:
    pid = await site.task()
    await site.mmap(pid, 4)
    answer = await site.batch(
        pid,
        ("madvise", {**RANGE, "advice": 23}),
        ("mincore", {"addr": BASE, "length": 3 * PAGE}),
        ("mlock", {"addr": str(BASE + PAGE), "length": PAGE}),
        ("munlock", {"addr": BASE, "length": 4 * PAGE}),
        ("mremap", {"old_addr": hex(BASE), "old_size": 4 * PAGE, "new_size": 5 * PAGE}),
        ("prlimit", {"resource": "stack", "value": PAGE}),
        ("prlimit", {"resource": "stack"}),
        ("msync", {"addr": BASE, "length": PAGE, "flags": 1}),
        ("exec", {}),
        ("mincore", RANGE),
    )
    values = [result.get("value", result.get("errno")) for result in answer.json["results"]]
    assert values == [0, "AQAA", 0, 0, hex(BASE), 8 << 20, PAGE, 0, 0, "ENOMEM"]


async def test_bad_arguments_of_a_call_in_a_batch_are_its_own_failure(site: Site) -> None:
    pid = await site.task()
    for name, args in (
        ("mremap", {"old_addr": BASE, "old_size": PAGE}),
        ("madvise", {**RANGE, "advice": "huge"}),
        ("mincore", {**RANGE, "vec": 1}),
        ("mlock", {**RANGE, "flags": 2**64}),
        ("exec", {"path": "sh"}),
        ("prlimit", {"resource": "stack", "value": -1}),
        ("prlimit", {"resource": "cpu"}),
    ):
        answer = await site.batch(pid, (name, args), ("active_vas", {}))
        first, second = answer.json["results"]
        assert (first["errno"], second) == ("EINVAL", {"value": 0}), (name, args)


async def test_the_answers_of_a_batch_are_bounded_together(tmp_path: Path) -> None:
    async with running(tmp_path, body_limit=4096) as site:
        pid = await site.task()
        await site.mmap(pid, 3000)
        hundred_and_twenty = {"addr": BASE, "length": 120 * PAGE}  # each page weighs as much as 16 bytes
        answer = await site.batch(
            pid,
            ("mincore", hundred_and_twenty),
            ("read", {"addr": BASE, "length": 2000}),
            ("mincore", hundred_and_twenty),
        )
        results = answer.json["results"]
        assert [result.get("errno") for result in results] == [None, None, "E2BIG"]
        assert len(base64.b64decode(results[0]["value"])) == 120
        answer = await site.call("POST", f"/tasks/{pid}/mincore", {"addr": BASE, "length": 257 * PAGE})
        assert (answer.status, answer.errno) == (413, "E2BIG")


async def test_nobody_waits_for_a_call_on_a_huge_range(site: Site) -> None:
    """What is not there costs nothing, and more than memory can ever hold is refused before it is begun."""
    pid = await site.task()
    mapped = {"addr": 0, "length": TIB, "prot": 3, "flags": 0x22}
    addr = (await site.ok("POST", f"/tasks/{pid}/mmap", mapped))["addr"]
    whole: dict[str, Any] = {"addr": addr, "length": TIB}
    for name, more, errno in (
        ("madvise", {"advice": 3}, None),
        ("madvise", {"advice": 4}, None),
        ("madvise", {"advice": 8}, None),
        ("madvise", {"advice": 21}, None),
        ("madvise", {"advice": 22}, "ENOMEM"),
        ("madvise", {"advice": 23}, "ENOMEM"),
        ("mincore", {}, "E2BIG"),
        ("mlock", {"flags": 1}, None),
        ("mlock", {}, "ENOMEM"),
        ("munlock", {}, None),
        ("mprotect", {"prot": 1}, None),
        ("msync", {}, None),
    ):
        answer = await site.call("POST", f"/tasks/{pid}/{name}", {**whole, **more})
        assert (answer.errno if answer.status >= 400 else None) == errno, (name, more, answer)
    await site.ok("POST", f"/tasks/{pid}/fork", {})
    wanted = {"old_addr": addr, "old_size": TIB, "new_size": TIB + PAGE, "flags": 1}
    moved = (await site.ok("POST", f"/tasks/{pid}/mremap", wanted))["addr"]
    await site.ok("POST", f"/tasks/{pid}/munmap", {"addr": moved, "length": TIB})


async def test_new_tasks_start_with_the_limits_of_the_settings(tmp_path: Path) -> None:
    limits = {
        "address_space": 1 << 30,
        "data": 1 << 20,
        "stack": 1 << 16,
        "locked": 0,
        "map_count": 10,
    }
    settings: dict[str, Any] = {f"limit_{name}": value for name, value in limits.items()}
    async with running(tmp_path, **settings) as site:
        token = site.account(1001)
        pid = (await site.ok("POST", "/tasks", {}, token=token))["pid"]
        assert await site.ok("GET", f"/tasks/{pid}/limits", token=token) == limits
        answer = await site.call(
            "POST", f"/tasks/{pid}/prlimit", {"resource": "data", "value": 2**64 - 1}, token=token
        )
        assert answer.errno == "EPERM"
        wanted = {"addr": 0, "length": 2 << 20, "prot": 3, "flags": 0x22}
        assert (await site.call("POST", f"/tasks/{pid}/mmap", wanted, token=token)).errno == "ENOMEM"
        root = await site.task()
        assert await site.ok("GET", f"/tasks/{root}/limits") == {**limits, "locked": None}


def test_limits_in_the_settings_are_numbers_of_64_bits(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).limits == {}
    assert Settings(data_dir=tmp_path, limit_data=2**64 - 1).limits == {"data": 2**64 - 1}
    for wrong in (-1, 2**64):
        with pytest.raises(ValidationError):
            Settings(data_dir=tmp_path, limit_stack=wrong)


async def test_exec_answers_the_task_as_it_is_now(site: Site) -> None:
    pid, vid = await site.inside()
    tid = (await site.ok("POST", f"/tasks/{pid}/threads"))["tid"]
    task = await site.ok("POST", f"/tasks/{pid}/exec")
    assert (task["pid"], task["threads"], task["attachments"]) == (pid, [{"tid": pid, "active": 0}], [])
    assert (await site.ok("GET", f"/vas/{vid}"))["attach_count"] == 0
    assert (await site.call("GET", f"/tasks/{pid}/threads/{tid}/active")).errno == "ESRCH"
    assert (await site.call("DELETE", f"/vas/{vid}")).status == 204


@pytest.mark.parametrize("arch", sorted(set(GEOMETRIES) - {"toy"}))
async def test_every_geometry_is_served(tmp_path: Path, arch: str) -> None:
    page = GEOMETRIES[arch].page_size
    async with running(tmp_path, arch=arch, memory=1 << 22, swap_bytes=1 << 24) as site:
        pid = await site.task()
        wanted = {"addr": 0, "length": 100 * page, "prot": 3, "flags": 0x22}
        addr = int((await site.ok("POST", f"/tasks/{pid}/mmap", wanted))["addr"], 16)
        assert (await site.write(pid, addr + page - 2, b"across")).status == 204
        told = await site.ok("POST", f"/tasks/{pid}/mincore", {"addr": addr, "length": 3 * page})
        assert base64.b64decode(told["value"]) == bytes([1, 1, 0])
        wanted = {"old_addr": addr, "old_size": 100 * page, "new_size": 120 * page, "flags": 1}
        addr = int((await site.ok("POST", f"/tasks/{pid}/mremap", wanted))["addr"], 16)
        assert (await site.read(pid, addr + page - 2, 6)).body == b"across"
        assert (await site.write(pid, GEOMETRIES[arch].user_end - (1 << 20), b"deep")).status == 204
        assert b"[stack]" in (await site.send("GET", f"/v1/proc/{pid}/maps")).body
        await site.ok("POST", f"/tasks/{pid}/exec")
        assert (await site.read(pid, addr, 1)).errno == "EFAULT"
        await site.service.executor.settled()
        assert list(check(site.service.machine)) == []
