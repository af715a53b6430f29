"""Routes of clones, roots, heaps, views and slots: whatever is wrong with a request is refused, and nothing happens."""

from typing import Any

import pytest

from app.calls.table import CALLS
from tests.app.support import BASE, JSON, PAGE, Site

RANGE = {"addr": hex(BASE), "length": PAGE}
NAME = {"name": "copy"}

WRONG: dict[str, tuple[Any, ...]] = {
    "name": (5, 1.0, True, [], {}),
    "addr": ("", "0x", "x", "1.0", " 1", 1.0, True, [], {}),
    "length": ("6", 1.5, True, [], {}),
    "len": ("6", 1.5, True, [], {}),
    "prot": ("6", 1.5, True, [], {}),
    "flags": ("6", 1.5, True, [], {}),
    "size": ("6", 1.5, True, [], {}, 2**64),
    "sid": ("1", 1.5, True, []),
    "vid": ("1", 1.5, True, [], {}),
    "tid": ("1", 1.5, True, []),
    "op": ("0", 0.0, True, [], {}),
    "id": ("1", 1.5, True, []),
    "n": ("1", 1.5, True, [], {}),
}
"""Values that a member of that name never takes."""

Row = tuple[str, str, dict[str, Any], tuple[str, ...]]
"""Method, path, a body that could do, and its optional members."""

ROWS: tuple[Row, ...] = (
    ("POST", "/vas/{vid}/clone", NAME, ()),
    ("POST", "/vas/{vid}/snapshot", NAME, ()),
    ("POST", "/vas/{vid}/reset", {}, ()),
    ("POST", "/segments/{sid}/clone", NAME, ()),
    ("POST", "/segments/{sid}/snapshot", NAME, ()),
    ("POST", "/segments/{sid}/reset", {}, ()),
    ("POST", "/vas/{vid}/mmap", {**RANGE, "prot": 3, "flags": 0x32}, ()),
    ("POST", "/vas/{vid}/munmap", RANGE, ()),
    ("POST", "/vas/{vid}/mprotect", {**RANGE, "prot": 1}, ()),
    ("PUT", "/vas/{vid}/roots/first", {"addr": BASE}, ()),
    ("PUT", "/tasks/{pid}/roots/first", {"addr": BASE}, ()),
    ("POST", "/tasks/{pid}/heap", {"size": 8, "sid": None, "tid": None}, ("sid", "tid")),
    ("POST", "/tasks/{pid}/vas_fork", {"name": "image", "tid": None}, ("name", "tid")),
    ("POST", "/tasks/{pid}/vas_exec", {"vid": 1}, ()),
    (
        "POST",
        "/tasks/{pid}/mmview",
        {"op": 2, "id": None, "addr": None, "len": None, "tid": None},
        ("id", "addr", "len", "tid"),
    ),
    ("POST", "/tasks/{pid}/mmview_create", {"tid": None}, ("tid",)),
    ("POST", "/tasks/{pid}/mmview_migrate", {"id": 0, "tid": None}, ("tid",)),
    ("POST", "/tasks/{pid}/mmview_delete", {"id": 1, "tid": None}, ("tid",)),
    ("POST", "/tasks/{pid}/mmview_unshare", {"addr": "0x401000", "len": PAGE, "tid": None}, ("tid",)),
    ("POST", "/tasks/{pid}/new_as", {"tid": None}, ("tid",)),
    ("POST", "/tasks/{pid}/switch_as", {"n": 0, "tid": None}, ("tid",)),
)
BODILESS = frozenset({"reset", "vas_fork", "mmview_create", "new_as"})
READS = (
    "/vas/{vid}/roots", "/vas/{vid}/roots/first", "/vas/{vid}/lineage", "/vas/{vid}/usage", "/segments/{sid}/lineage",
    "/segments/{sid}/usage", "/segments/{sid}/heap",
)  # fmt: skip
IDS = ("0", "-1", "99", "x", "1.0", " 1", "+1", "0x1", "1_0", "9" * 18, "9" * 400, "-", "é")


async def place(site: Site) -> dict[str, Any]:
    """A task inside a space with a segment, for the paths of the rows."""
    vid, pid = await site.space(), await site.task()
    sid = await site.segment("segment", 4, BASE + 0x1000_0000)
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
    await site.mmap(pid, 1)
    return {"vid": vid, "sid": sid, "pid": pid}


async def state(site: Site, names: dict[str, Any]) -> list[Any]:
    """What a refusal must leave as it is."""
    listed = [await site.ok("GET", path) for path in ("/vas", "/segments", "/tasks")]
    roots = await site.ok("GET", f"/vas/{names['vid']}/roots")
    regions = await site.ok("GET", f"/vas/{names['vid']}/regions")
    maps = (await site.send("GET", f"/v1/proc/{names['pid']}/maps")).body
    for task in listed[2]["items"]:
        del task["counters"]
    return [*listed, roots, regions, maps]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
async def test_members_of_the_wrong_kind_unknown_ones_and_missing_ones_are_einval(
    site: Site, row: Row
) -> None:
    method, path, body, optional = row
    names = await place(site)
    target = path.format_map(names)
    before = await state(site, names)
    wrong: list[Any] = [{**body, "extra": 1}, [], 5, "x", True]
    for member in body:
        wrong += [{**body, member: value} for value in WRONG[member]]
        if member not in optional:
            wrong += [{**body, member: None}, {name: body[name] for name in body if name != member}]
    for bad in wrong:
        answer = await site.call(method, target, bad)
        assert (answer.status, answer.errno) == (400, "EINVAL"), (target, bad, answer)
    for raw in (b"{", b"null", b'{"name": "a", "name": "b"}', b"\xff"):
        answer = await site.send(method, f"/v1{target}", [raw], JSON)
        assert (answer.status, answer.errno) == (400, "EINVAL"), (target, raw, answer)
    if target.rpartition("/")[2] not in BODILESS:
        assert (await site.call(method, target)).errno == "EINVAL"
    assert await state(site, names) == before


async def test_unknown_spaces_and_segments_are_einval(site: Site) -> None:
    names = await place(site)
    rows = [(method, path, body) for method, path, body, _ in ROWS if "{pid}" not in path]
    reads = [("GET", path, None) for path in READS]
    for number in IDS:
        for method, path, body in (*rows, *reads, ("DELETE", "/vas/{vid}/roots/first", None)):
            answer = await site.call(method, path.format(vid=number, sid=number), body)
            assert (answer.status, answer.errno) == (400, "EINVAL"), (method, path, number, answer)
    for vid in (0, -1, 99, 2**70):
        answer = await site.call("POST", f"/tasks/{names['pid']}/vas_exec", {"vid": vid})
        assert (answer.status, answer.errno) == (400, "EINVAL"), vid


OF_TASKS = [
    *((method, path, body) for method, path, body, _ in ROWS if "{pid}" in path),
    ("GET", "/tasks/{pid}/roots/first", None),
    ("DELETE", "/tasks/{pid}/heap/0x100010000010", None),
]


async def test_unknown_tasks_and_threads_are_esrch(site: Site) -> None:
    names = await place(site)
    for method, path, body in OF_TASKS:
        for number in IDS:
            answer = await site.call(method, path.format(pid=number), body)
            assert (answer.status, answer.errno) == (404, "ESRCH"), (method, path, number, answer)
        target = path.format_map(names)
        for tid in (99, -1, 2**70):
            if body is None or "roots" in path:
                answer = await site.call(method, f"{target}?tid={tid}", body)
                assert answer.status in (400, 404), (target, tid)  # 2**70 has too many digits for an id
            elif "tid" in body:
                answer = await site.call(method, target, {**body, "tid": tid})
                assert (answer.status, answer.errno) == (404, "ESRCH"), (target, tid, answer)


async def test_tasks_of_others_are_eperm(site: Site) -> None:
    names = await place(site)
    before = await state(site, names)
    stranger = site.account(1001)
    for method, path, body in OF_TASKS:
        answer = await site.call(method, path.format_map(names), body, token=stranger)
        assert (answer.status, answer.errno) == (403, "EPERM"), (method, path, answer)
    assert await state(site, names) == before


async def test_spaces_and_segments_of_others_are_refused(site: Site) -> None:
    names = await place(site)
    await site.ok("PUT", f"/vas/{names['vid']}/roots/first", {"addr": BASE})
    clones = {
        "vid": (await site.ok("POST", f"/vas/{names['vid']}/clone", NAME))["id"],
        "sid": (await site.ok("POST", f"/segments/{names['sid']}/clone", NAME))["id"],
    }
    stranger = site.account(1001)
    open_to_all = ("lineage", "usage")
    rows = [(method, path, {**body, **NAME} if "name" in body else body) for method, path, body, _ in ROWS]
    reads: list[tuple[str, str, Any]] = [("GET", path, None) for path in READS]
    for method, path, body in (*rows, *reads, ("DELETE", "/vas/{vid}/roots/first", None)):
        if "{pid}" in path:
            continue
        answer = await site.call(method, path.format_map(clones), body, token=stranger)
        if path.endswith(open_to_all):
            assert answer.status == 200, (path, answer)
        else:
            errno = "EPERM" if path.endswith("reset") else "EACCES"
            assert (answer.status, answer.errno) == (403, errno), (method, path, answer)


NO_NAMES = (
    "",
    "a" * 256,
    "%C3%A9" * 128,
    "a%00b",
    "a%0Ab",
    "a%0A",
    "%0A",
    "%7F",
    "%C2%85",
    "%FF",
    "a%80",
    "%ED%A0%80",
)


async def test_names_that_no_root_can_have_are_einval(site: Site) -> None:
    names = await place(site)
    before = await state(site, names)
    for name in NO_NAMES:
        for method, body in (("PUT", {"addr": BASE}), ("GET", None)):
            for owner in (f"/vas/{names['vid']}", f"/tasks/{names['pid']}"):
                answer = await site.call(method, f"{owner}/roots/{name}", body)
                assert (answer.status, answer.errno) == (400, "EINVAL"), (method, owner, name, answer)
        answer = await site.call("DELETE", f"/vas/{names['vid']}/roots/{name}")
        assert (answer.status, answer.errno) == (400, "EINVAL"), name
    assert await state(site, names) == before


async def test_names_of_clones_follow_the_rule_of_names(site: Site) -> None:
    names = await place(site)
    for path in (
        "/vas/{vid}/clone",
        "/vas/{vid}/snapshot",
        "/segments/{sid}/clone",
        "/segments/{sid}/snapshot",
    ):
        target = path.format_map(names)
        for name in ("", "a" * 256, "é" * 128, "a\0b", "a\nb", "\x7f", "\x85"):
            assert (await site.call("POST", target, {"name": name})).errno == "EINVAL", (target, name)
        taken = "space" if "vas" in path else "segment"
        answer = await site.call("POST", target, {"name": taken})
        assert (answer.status, answer.errno) == (409, "EEXIST"), target


ADDRESSES = ("", "x", "0x", "1.0", "-", "%31x", "0x1_0", hex(2**64), "9" * 60)


async def test_what_is_no_address_cannot_be_freed(site: Site) -> None:
    names = await place(site)
    for text in ADDRESSES[1:]:
        answer = await site.call("DELETE", f"/tasks/{names['pid']}/heap/{text}")
        assert (answer.status, answer.errno) == (400, "EINVAL"), (text, answer)
    for addr in (0, -1, BASE, BASE + 0x1000_0000, BASE + 0x1000_0010):
        answer = await site.call("DELETE", f"/tasks/{names['pid']}/heap/{addr}")
        assert (answer.status, answer.errno) in ((400, "EINVAL"), (422, "EFAULT")), (addr, answer)


OPERATIONS: tuple[tuple[int, frozenset[str]], ...] = (
    (0, frozenset()),
    (1, frozenset({"id"})),
    (2, frozenset()),
    (3, frozenset({"id"})),
    (4, frozenset({"addr", "len"})),
    (5, frozenset({"addr", "len"})),
    (6, frozenset()),
)
VALUES = {"id": 0, "addr": "0x401000", "len": PAGE}


@pytest.mark.parametrize(("op", "taken"), OPERATIONS)
async def test_an_operation_of_mmview_takes_its_own_members_alone(
    site: Site, op: int, taken: frozenset[str]
) -> None:
    pid = await site.task()
    every = [frozenset(name for bit, name in enumerate(VALUES) if bits >> bit & 1) for bits in range(8)]
    for given in every:
        if given != taken:
            body = {"op": op, **{name: VALUES[name] for name in given}}
            answer = await site.call("POST", f"/tasks/{pid}/mmview", body)
            assert (answer.status, answer.errno) == (400, "EINVAL"), (body, answer)
            result = (await site.batch(pid, ("mmview", body))).json["results"][0]
            assert result["errno"] == "EINVAL", body
    for unknown in (7, -1, 99, 2**70):
        answer = await site.call("POST", f"/tasks/{pid}/mmview", {"op": unknown})
        assert (answer.status, answer.errno) == (400, "EINVAL"), unknown


async def test_every_new_call_is_refused_alike_in_a_batch(site: Site) -> None:
    names = await place(site)
    before = await state(site, names)
    rows = [
        (path.rpartition("/")[2], {**body, **({"vid": names["vid"]} if "{vid}" in path else {})})
        for _, path, body, _ in ROWS
        if "segments" not in path and "roots" not in path
    ]
    calls = {"clone": "vas_clone", "snapshot": "vas_snapshot", "reset": "vas_reset", "heap": "vas_malloc"}
    calls |= {"mmap": "vas_mmap", "munmap": "vas_munmap", "mprotect": "vas_mprotect"}
    rows += [("vas_set_root", {"name": "a", "addr": BASE}), ("vas_get_root", {"name": "a"})]
    rows += [("vas_free", {"addr": BASE}), ("vas_roots", {"vid": 1}), ("heap_usage", {"sid": 1})]
    for short, body in rows:
        name = calls.get(short, short)
        assert name in CALLS
        answer = await site.batch(names["pid"], (name, {**body, "extra": 1}))
        assert answer.json["results"][0]["errno"] == "EINVAL", name
        for member in body:
            for value in WRONG[member]:
                answer = await site.batch(names["pid"], (name, {**body, member: value}))
                assert answer.json["results"][0]["errno"] == "EINVAL", (name, member, value)
    assert await state(site, names) == before
