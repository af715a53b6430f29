"""Random requests, half right and half nonsense, at every route: an answer or a problem document, never a 500."""

import json
import random
from typing import Any
from urllib.parse import quote

from tests.conformance.support.calls import PAGE
from tests.conformance.support.http import checked_problem
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

REQUESTS = 1500
STREAMS = ("/v1/events",)
NUMBERS = (
    0,
    1,
    2,
    3,
    -1,
    34,
    4095,
    PAGE,
    BASE,
    BASE + PAGE,
    2**31 - 1,
    2**31,
    2**47,
    2**63,
    2**64 - PAGE,
    2**64,
    2**200,
)
NONSENSE: tuple[Any, ...] = (
    None, True, False, 0.5, -0.0, 1e308, "", "x", "0x", "0x0", hex(BASE), "-1", "ro", "rw", "shared", "relaxed", "\0", "é" * 200,
    "\ud800", [], [[]], {}, {"calls": []}, {"": None}, [1, "2", None],
)  # fmt: skip
SEGMENTS = (
    "0",
    "-1",
    "x",
    "%00",
    "%FF",
    "..",
    "2000000000",
    "9" * 60,
    "1.0",
    "0x1",
    "%20",
    "%2F",
    "%D9%A1",
    "name",
    "mode",
)
MEMBERS = [
    "name",
    "mode",
    "sharing",
    "uid",
    "gid",
    "start",
    "end",
    "type",
    "lazy",
    "vid",
    "sid",
    "pid",
    "tid",
    "timeout_s",
    "lease_s",
    "addr",
    "length",
    "prot",
    "flags",
    "calls",
    "len",
    "offset",
]


def number(rng: random.Random) -> int:
    return rng.choice(NUMBERS) + rng.choice((0, 0, 0, 1, -1, PAGE))


def value(rng: random.Random) -> Any:
    return rng.choice((number(rng), hex(abs(number(rng))), rng.choice(NONSENSE)))


def body(rng: random.Random, schema_members: list[str]) -> bytes | None:
    """JSON of members that the route has, some that it has not, or no JSON at all."""
    kind = rng.random()
    if kind < 0.1:
        return None
    if kind < 0.2:
        return rng.randbytes(rng.randrange(40))
    if kind < 0.3:
        return json.dumps(rng.choice(NONSENSE)).encode()
    names = schema_members if rng.random() < 0.8 else list(MEMBERS)
    chosen = {name: value(rng) for name in names if rng.random() < 0.9}
    if "calls" in chosen and rng.random() < 0.8:
        calls = (
            "vas_create",
            "vas_find",
            "read",
            "write",
            "mmap",
            "brk",
            "vas_switch",
            "vas_seg_create",
            "fork",
            "exit",
            "nonsense",
        )
        chosen["calls"] = [
            {"call": rng.choice(calls), "args": {name: value(rng) for name in rng.sample(MEMBERS, 4)}}
            for _ in range(rng.randrange(4))
        ]
    return json.dumps(chosen).encode()


def members_of(operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """The names of the members of the JSON body that an operation takes."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    for option in [schema, *schema.get("anyOf", [])]:
        if "$ref" in option:
            option = document["components"]["schemas"][option["$ref"].rpartition("/")[2]]
        if "properties" in option:
            return list(option["properties"])
    return []


@row("HTTP-HOSTILE-1", "http")
def test_nonsense_is_answered_with_a_problem_and_never_with_500(world: World, seed: int) -> None:
    rng = random.Random(seed)
    vid, sid = world.inside()
    known = {
        "vid": str(vid),
        "sid": str(sid),
        "pid": str(world.owner.pid),
        "tid": str(world.owner.tid),
        "file": "mode",
    }
    http = world.http("owner")
    document = json.loads(http.request("GET", "/openapi.json").body)
    operations = [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1/") and path not in STREAMS
    ]
    assert len(operations) > 40
    for _ in range(REQUESTS):
        path, method, operation = rng.choice(operations)
        for name, id in known.items():
            path = path.replace(f"{{{name}}}", id if rng.random() < 0.8 else rng.choice(SEGMENTS))
        if "DELETE" in method and path.endswith((f"/{world.owner.pid}", f"/threads/{world.owner.pid}")):
            continue
        wanted = rng.sample(
            ("addr", "len", "tid", "name", "limit", "cursor", "durability", "atomic"), rng.randrange(4)
        )
        query = "&".join(
            f"{name}={quote(str(value(rng)), safe='%', errors='surrogatepass')}" for name in wanted
        )
        headers = {"Content-Type": "application/json"}
        if path.endswith("/data"):
            headers |= {
                "Range": "bytes=0-3",
                "Content-Range": rng.choice(("bytes 0-3/*", "x", "bytes 9-1/*")),
            }
        answer = http.request(
            method, f"{path}?{query}", raw=body(rng, members_of(operation, document)), headers=headers
        )
        if answer.status >= 400:
            checked_problem(answer)
        else:
            assert answer.status in (200, 201, 204, 206), (method, path, answer)
            if answer.status == 201 and path.endswith(("/tasks", "/fork")):
                http.request("DELETE", f"/v1/tasks/{answer.json['pid']}")
    assert http.request("GET", "/healthz").status == 200
    assert world.root.vas_getattr(world.space(by=world.root)).attach_count == 0
