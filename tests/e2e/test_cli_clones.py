"""The command line tool on clones, snapshots, differences, roots, heaps, images, locks and events."""

import json

import pytest

import everspace
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.events import first_id
from tests.conformance.support.service import Service
from tests.e2e.test_cli import BASE, Tool


@pytest.fixture
def tool(service: Service) -> Tool:
    return Tool(service.url, service.root_token)


@pytest.fixture
def inside(service: Service, tool: Tool) -> HttpTask:
    """A task inside the space "a", which has the segment "s" with some bytes."""
    tool.out("vas", "create", "a", "--sharing", "lockable")
    tool.out("seg", "create", "s", hex(BASE), "+16K", "--sharing", "lockable")
    tool.out("seg", "attach", "s", "a")
    task = HttpTask.spawn(service.http())
    task.vas_attach(0, task.vas_find("a"), everspace.O_RDWR)
    task.vas_switch(task.vas_find("a"))
    task.write(BASE + PAGE, b"bytes")
    return task


def test_clones_on_the_command_line(tool: Tool, inside: HttpTask) -> None:
    clone = int(tool.out("vas", "clone", "a", "b"))
    origin = inside.vas_find("a")
    assert tool.json("vas", "lineage", "b") == {"origins": [origin], "clones": []}
    assert tool.json("vas", "lineage", "a") == {"origins": [], "clones": [clone]}
    assert tool.json("seg", "usage", "b/s") == {"logical": PAGE, "shared": PAGE, "private": 0}
    assert tool.json("seg", "diff", "s", "b/s") == []
    inside.write(BASE, b"later")
    runs = tool.json("seg", "diff", "s", "b/s")
    assert [(run["start"], run["end"], run["kind"]) for run in runs] == [
        (hex(BASE), hex(BASE + PAGE), "changed")
    ]
    assert tool.json("vas", "diff", "a", "b") == runs
    tool.out("seg", "clone", "s", "t")
    tool.out("vas", "rename", "b", "c")
    assert tool.out("vas", "find", "c") == f"{clone}\n"
    tool.out("vas", "reset", "c")
    assert "EINVAL" in tool.refused(1, "vas", "reset", "a")
    assert "EEXIST" in tool.refused(1, "vas", "clone", "a", "c")


def test_snapshots_on_the_command_line(tool: Tool, inside: HttpTask) -> None:
    tool.out("vas", "snapshot", "a", "then")
    tool.out("seg", "snapshot", "s", "s then")
    assert "EPERM" in tool.refused(1, "vas", "reset", "then")
    assert "EPERM" in tool.refused(1, "seg", "reset", "s then")
    (listed,) = [item for item in tool.json("vas", "ls") if item["name"] == "then"]
    assert listed["snapshot"] is True


def test_roots_heaps_and_locks_on_the_command_line(tool: Tool, inside: HttpTask) -> None:
    inside.vas_set_root("head", BASE + 64)
    assert "head" in tool.out("vas", "roots", "a")
    assert hex(BASE + 64) in tool.out("vas", "roots", "a")
    tool.out("seg", "create", "h", hex(BASE + (1 << 30)), "+64K", "--sharing", "lockable")
    tool.out("seg", "attach", "h", "a")
    inside.vas_malloc(100, inside.vas_seg_find("h"))
    assert tool.json("seg", "heap", "h")["blocks"] == 1
    locks = tool.out("vas", "locks", "a")
    assert str(inside.pid) in locks
    assert "exclusive" in locks


def test_images_on_the_command_line(service: Service, tool: Tool) -> None:
    task = HttpTask.spawn(service.http())
    task.mmap(BASE, PAGE, 3, 0x32)
    task.write(BASE, b"checkpoint")
    image = int(tool.out("vas", "fork", str(task.pid)))
    assert task.vas_getattr(image).name == f"CP-{task.pid}-{image}"
    child = int(tool.out("task", "fork", str(task.pid)))
    tool.out("task", "exec", str(child))
    assert f"{BASE:x}-" not in tool.out("maps", str(child))
    tool.out("vas", "exec", str(image), str(child))
    assert f"{BASE:x}-" in tool.out("maps", str(child))
    assert f"{BASE:x}-" in tool.out("task", "smaps", str(child))
    assert "stack" in tool.out("task", "limits", str(child))
    assert "checkpoint" in tool.out("hexdump", "task", str(child), hex(BASE), "--length", "16")


def test_events_on_the_command_line(service: Service, tool: Tool) -> None:
    start = first_id(service.http())
    vid = int(tool.out("vas", "create", "a"))
    tool.out("vas", "rm", "a")
    lines = tool.out("--json", "events", "space.", "--since", start, "--count", "2").splitlines()
    told = [json.loads(line) for line in lines]
    assert [(event["kind"], event["vid"]) for event in told] == [
        ("space.created", vid),
        ("space.deleted", vid),
    ]
    (line,) = tool.out("events", "--since", told[0]["id"], "--count", "1").splitlines()
    assert line.startswith("space.deleted ")
