"""everspace vas and seg: clones and what belongs to them; everspace events."""

import json
from typing import Any

import pytest

LINEAGE = {"origins": [2, 1], "clones": [7]}
USAGE = {"logical": 12288, "shared": 8192, "private": 4096}
RUNS = [
    {"start": "0x100000000000", "end": "0x100000001000", "kind": "changed"},
    {"start": "0x100000003000", "end": "0x100000007000", "kind": "left"},
]


def make(cli: Any, noun: str) -> None:
    cli("vas", "create", "first") if noun == "vas" else cli("seg", "create", "first", "0x100000000000", "+4K")


@pytest.mark.parametrize("noun", ["vas", "seg"])
def test_a_clone_from_its_making_on(cli: Any, fake: Any, noun: str) -> None:
    make(cli, noun)
    what = "space" if noun == "vas" else "segment"
    assert cli(noun, "clone", "first", "copy") == (0, "2\n", "")
    assert cli(noun, "snapshot", "1", "taken") == (0, "3\n", "")
    _, out, _ = cli(noun, "ls")
    assert [line.split()[-2:] for line in out.splitlines()] == [
        ["KIND", "NAME"], ["-", "first"], ["clone:1", "copy"], ["snapshot:1", "taken"],
    ]  # fmt: skip
    assert cli(noun, "reset", "copy") == (0, f"{what} 2 is again as it was cloned from 1\n", "")
    assert cli(noun, "rename", "copy", "new name") == (0, f"{what} 2 is now new name\n", "")
    fake.told |= {"lineage": LINEAGE, "usage": USAGE, "diff": {"items": RUNS, "next": None}}
    assert cli(noun, "lineage", "first") == (0, "cloned from  2 1\nclones       7\n", "")
    assert cli(noun, "usage", "first") == (0, "logical  12K\nshared   8K\nprivate  4K\n", "")
    assert cli(noun, "diff", "first", "3") == (
        0, "0x100000000000-0x100000001000  changed  4K\n0x100000003000-0x100000007000  left     16K\n", "",
    )  # fmt: skip
    fake.told["lineage"] = {"origins": [], "clones": []}
    assert cli(noun, "lineage", "first")[1] == "cloned from  -\nclones       -\n"


@pytest.mark.parametrize("noun", ["vas", "seg"])
def test_the_same_as_json(cli: Any, fake: Any, noun: str) -> None:
    make(cli, noun)
    copy = json.loads(cli(noun, "clone", "first", "copy", "--json")[1])
    assert (copy["id"], copy["origin"], copy["snapshot"], copy["lifetime"]) == (2, 1, False, "persistent")
    assert json.loads(cli(noun, "snapshot", "1", "taken", "--json")[1])["snapshot"]
    assert json.loads(cli(noun, "reset", "2", "--json")[1])["id"] == 2
    assert json.loads(cli(noun, "rename", "2", "x", "--json")[1])["name"] == "x"
    fake.told |= {"lineage": LINEAGE, "usage": USAGE, "diff": {"items": RUNS, "next": None}}
    assert json.loads(cli(noun, "lineage", "2", "--json")[1]) == LINEAGE
    assert json.loads(cli(noun, "usage", "2", "--json")[1]) == USAGE
    assert json.loads(cli(noun, "diff", "1", "2", "--json")[1]) == RUNS


def test_lifetimes_and_images_are_shown(cli: Any, fake: Any) -> None:
    assert cli("vas", "create", "a", "--sharing", "lockable", "--lifetime", "transient") == (0, "1\n", "")
    fake.spaces[1]["image"] = True
    assert cli("vas", "ls")[1].splitlines()[1].split()[-2:] == ["image,transient", "a"]
    assert fake.spaces[1]["sharing"] == "lockable"
    assert cli("seg", "create", "s", "0x100000000000", "+4K", "--lifetime", "transient")[0] == 0
    assert fake.segments[1]["lifetime"] == "transient"


def test_roots_locks_and_heaps(cli: Any, fake: Any) -> None:
    make(cli, "vas")
    make(cli, "seg")
    fake.told["roots"] = {"items": [{"name": "a b", "addr": "0x100000000010"}], "next": None}
    assert cli("vas", "roots", "first") == (0, "ADDRESS         NAME\n0x100000000010  a b\n", "")
    assert json.loads(cli("vas", "roots", "1", "--json")[1]) == fake.told["roots"]["items"]
    users = [{"pid": 7, "tid": 8, "vid": 1, "exclusive": exclusive} for exclusive in (True, False)]
    lock = {"kind": "space", "id": 1, "holders": users[:1], "waiters": users[1:]}
    fake.told["lock"] = {"items": [lock], "next": None}
    assert cli("vas", "locks", "first")[1].splitlines() == [
        "LOCK     STATE  HOW        PID  TID  VID",
        "space 1  held   exclusive    7    8    1",
        "space 1  waits  shared       7    8    1",
    ]
    assert json.loads(cli("vas", "locks", "first", "--json")[1]) == [lock]
    fake.told["heap"] = {
        "size": 4096, "overhead": 96, "allocated": 64, "free": 3936, "largest_free": 3920, "blocks": 1, "free_blocks": 1,
    }  # fmt: skip
    assert cli("seg", "heap", "first")[1].splitlines()[:3] == [
        "size         4096", "overhead     96", "allocated    64",
    ]  # fmt: skip
    assert json.loads(cli("seg", "heap", "first", "--json")[1]) == fake.told["heap"]


def test_a_tasks_memory_is_kept_and_run(cli: Any, fake: Any) -> None:
    make(cli, "vas")
    cli("task", "spawn")
    fake.told["vas_fork"] = fake.spaces[1]
    assert cli("vas", "fork", "1") == (0, "1\n", "")
    assert bytes(fake.requests[-1].body) == b"{}"
    assert json.loads(cli("vas", "fork", "1", "image", "--json")[1])["name"] == "first"
    assert cli("vas", "exec", "first", "1") == (0, "task 1 runs what is in space 1\n", "")
    assert bytes(fake.requests[-1].body) == b'{"vid": 1}'
    assert json.loads(cli("vas", "exec", "1", "1", "--json")[1]) == {"pid": 1, "vid": 1}


def frame(number: int, kind: str, **members: Any) -> bytes:
    return f"id: i-{number}\nevent: {kind}\ndata: {json.dumps({'kind': kind, **members})}\n\n".encode()


def test_events(cli: Any, fake: Any) -> None:
    make(cli, "vas")
    make(cli, "seg")
    ranges = [{"start": "0x1000", "end": "0x2000"}, {"start": "0x3000", "end": "0x4000"}]
    fake.events = b"id: i-0\n\n" + frame(1, "space.cloned", vid=2, origin=1, name="größe") + frame(
        2, "segment.written", sid=1, ranges=ranges) + frame(3, "space.changed", vid=1, name="a b")  # fmt: skip
    assert cli("events", "--count", "3")[1].splitlines() == [
        "space.cloned vid=2 origin=1 name=größe",
        "segment.written sid=1 ranges=0x1000-0x2000,0x3000-0x4000",
        'space.changed vid=1 name="a b"',
    ]
    status, out, _ = cli(
        "events", "space.", "task.", "--vas", "first", "--seg", "1", "--pid", "7", "--since", "i-9", "--count", "1", "--json"
    )  # fmt: skip
    assert (status, json.loads(out)) == (
        0, {"id": "i-1", "kind": "space.cloned", "vid": 2, "origin": 1, "name": "größe"},
    )  # fmt: skip
    assert fake.requests[-1].target == "/v1/events?kind=space.,task.&vid=1&sid=1&pid=7"
    assert dict(fake.requests[-1].headers)["Last-Event-ID"] == "i-9"
    assert cli("events", "not a kind") == (2, "", "everspace: not a kind of event: 'not a kind'\n")
    assert cli("events", "--count", "0")[0] == 2
